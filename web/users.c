#include "web/users.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX    (4u * 1024 * 1024)
#define ENTRIES_MAX 16384u /* users of a file, and those that a Hub or keys bring */
#define TOKEN_LEAST 16u	   /* characters: what is shorter can be guessed */
#define TOKEN_MOST  1024u
#define SPECS_MAX   256u
#define HASH_SIZE   32u

struct entry {
	struct user user;
	bool from_file;
	bool reserved; /* not to be had by a name alone */
	bool has_token;
	unsigned char hash[HASH_SIZE]; /* SHA-256 of the token */
	char *certificate;
	int64_t uid; /* -1: none */
};

struct users {
	struct entry **entry;
	size_t count, room;
};

static void free_entry(struct entry *entry)
{
	for (char **name = entry->user.kernelspecs; name && *name; name++)
		free(*name);
	free(entry->user.kernelspecs);
	free(entry->certificate);
	free(entry);
}
DEFINE_CLEANUP(struct entry *, free_entry)

int users_new(struct users **ret_users, struct err *err)
{
	*ret_users = calloc(1, sizeof(**ret_users));
	return *ret_users ? 0 : err_set(err, -ENOMEM, "users: no memory");
}

struct users *users_free(struct users *users)
{
	if (!users)
		return NULL;
	for (size_t i = 0; i < users->count; i++)
		free_entry(users->entry[i]);
	free(users->entry);
	free(users);
	return NULL;
}

bool users_name_good(const char *name)
{
	size_t size = strnlen(name, USER_NAME_MAX);

	if (!size || size == USER_NAME_MAX || name[0] == '.' || name[0] == '-')
		return false;
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-@", *c))
			return false;
	return true;
}

bool user_may_start(const struct user *user, const char *kernelspec)
{
	if (!user->kernelspecs)
		return true;
	for (char **name = user->kernelspecs; *name; name++)
		if (strcmp(*name, kernelspec) == 0)
			return true;
	return false;
}

/* ---- tokens ---- */

static bool hash_token(const char *token, size_t size, unsigned char hash[HASH_SIZE])
{
	return EVP_Digest(token, size, hash, NULL, EVP_sha256(), NULL) == 1;
}

static int set_token(struct entry *entry, const char *token, size_t size, struct err *err)
{
	if (size < TOKEN_LEAST || size > TOKEN_MOST)
		return err_set(err, -EINVAL, "a token has %u to %u characters", TOKEN_LEAST,
			       TOKEN_MOST);
	for (size_t i = 0; i < size; i++)
		if (token[i] <= ' ' || token[i] > '~')
			return err_set(err, -EINVAL,
				       "a token is made of printable ASCII without spaces");
	if (!hash_token(token, size, entry->hash))
		return err_set(err, -ENOMEM, "users: no SHA-256");
	entry->has_token = true;
	return 0;
}

static int set_hash(struct entry *entry, const char *text, struct err *err)
{
	for (size_t i = 0; i < HASH_SIZE; i++) {
		char byte[3] = {0};

		if (strlen(text) != 2 * HASH_SIZE || !isxdigit((unsigned char)text[2 * i]) ||
		    !isxdigit((unsigned char)text[2 * i + 1]))
			return err_set(err, -EINVAL,
				       "\"sha256\": 64 hexadecimal digits are needed (printf %%s "
				       "TOKEN | sha256sum)");
		memcpy(byte, text + 2 * i, 2);
		entry->hash[i] = (unsigned char)strtoul(byte, NULL, 16);
	}
	entry->has_token = true;
	return 0;
}

/* ---- the table ---- */

static struct entry *find(const struct users *users, const char *name)
{
	for (size_t i = 0; i < users->count; i++)
		if (strcmp(users->entry[i]->user.name, name) == 0)
			return users->entry[i];
	return NULL;
}

/* Takes the entry; on failure it is the caller's again. */
static int add(struct users *users, struct entry *entry, struct err *err)
{
	if (users->count == ENTRIES_MAX)
		return err_set(err, -E2BIG, "users: more than %u", ENTRIES_MAX);
	if (users->count == users->room) {
		size_t room = users->room ? users->room * 2 : 16;
		struct entry **more = reallocarray(users->entry, room, sizeof(struct entry *));

		if (!more)
			return err_set(err, -ENOMEM, "users: no memory");
		users->entry = more;
		users->room = room;
	}
	users->entry[users->count++] = entry;
	return 0;
}

static struct entry *new_entry(const char *name)
{
	struct entry *entry = calloc(1, sizeof(*entry));

	if (entry) {
		(void)snprintf(entry->user.name, sizeof(entry->user.name), "%s", name);
		entry->uid = -1;
	}
	return entry;
}

/* ---- the file ---- */

static int read_size(const json_t *value, uint64_t *ret_size, struct err *err)
{
	const char *text = json_string_value(value), *unit;
	char digits[24] = "";
	uint64_t size;
	int shift = 0;

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*ret_size = (uint64_t)json_integer_value(value);
		return 0;
	}
	unit = text ? text + strspn(text, "0123456789") : "";
	if (text && unit - text < (ptrdiff_t)sizeof(digits))
		memcpy(digits, text, (size_t)(unit - text));
	if (*unit && strchr("KMGT", *unit) && !unit[1])
		shift = 10 * (int)(strchr("KMGT", *unit) - "KMGT" + 1);
	if (!text || (*unit && !shift) || parse_u64(digits, UINT64_MAX >> shift, &size) < 0)
		return err_set(err, -EINVAL, "\"area_limit\": a number of bytes, or \"2G\"");
	*ret_size = size << shift;
	return 0;
}

static int read_specs(const json_t *list, struct user *user, struct err *err)
{
	size_t count = json_array_size(list);

	if (!json_is_array(list) || count > SPECS_MAX)
		return err_set(err, -EINVAL, "\"kernelspecs\": a list of at most %u names",
			       SPECS_MAX);
	user->kernelspecs = calloc(count + 1, sizeof(char *));
	if (!user->kernelspecs)
		return err_set(err, -ENOMEM, "users: no memory");
	for (size_t i = 0; i < count; i++) {
		const char *name = json_string_value(json_array_get(list, i));

		if (!name)
			return err_set(err, -EINVAL, "\"kernelspecs\": entry %zu is no name", i);
		user->kernelspecs[i] = strdup(name);
		if (!user->kernelspecs[i])
			return err_set(err, -ENOMEM, "users: no memory");
	}
	return 0;
}

/* No members but ours, each of its type; two say themselves what they must be. */
static int check_members(json_t *object, struct err *err)
{
	static const struct {
		const char *name;
		json_type type;
		const char *words;
	} members[] = {{"token", JSON_STRING, "a string"},
		       {"sha256", JSON_STRING, "a string"},
		       {"certificate", JSON_STRING, "a string"},
		       {"admin", JSON_TRUE, "true or false"},
		       {"max_kernels", JSON_INTEGER, "a whole number"},
		       {"uid", JSON_INTEGER, "a whole number"},
		       {"kernelspecs", JSON_NULL, NULL},
		       {"area_limit", JSON_NULL, NULL}};
	const char *name;
	char shown[64];
	json_t *value;

	if (!json_is_object(object))
		return err_set(err, -EINVAL, "an object {...} is needed");
	json_object_foreach(object, name, value)
	{
		const json_type type = json_is_boolean(value) ? JSON_TRUE : json_typeof(value);
		size_t i = 0;

		while (i < sizeof(members) / sizeof(members[0]) &&
		       strcmp(members[i].name, name) != 0)
			i++;
		if (i == sizeof(members) / sizeof(members[0]))
			return err_set(err, -EINVAL,
				       "unknown member \"%s\" (known: token, sha256, certificate, "
				       "uid, admin, max_kernels, kernelspecs, area_limit)",
				       escape_string(shown, sizeof(shown), name));
		if (members[i].words && type != members[i].type)
			return err_set(err, -EINVAL, "\"%s\" must be %s", name, members[i].words);
	}
	return 0;
}

static int read_entry(json_t *object, struct entry *entry, struct err *err)
{
	const char *token = NULL, *hash = NULL, *certificate = NULL;
	json_t *specs = NULL, *limit = NULL;
	int admin = 0, code = check_members(object, err);
	json_int_t kernels = 0, uid = -1;
	json_error_t error;

	if (code < 0)
		return code;
	if (json_unpack_ex(object, &error, JSON_STRICT, "{s?s, s?s, s?s, s?b, s?I, s?I, s?o, s?o}",
			   "token", &token, "sha256", &hash, "certificate", &certificate, "admin",
			   &admin, "max_kernels", &kernels, "uid", &uid, "kernelspecs", &specs,
			   "area_limit", &limit) < 0)
		return err_set(err, -EINVAL, "%s", error.text);
	if (token && hash)
		return err_set(err, -EINVAL, "\"token\" or \"sha256\", not both");
	if (kernels < 0 || kernels > 100000)
		return err_set(err, -EINVAL, "\"max_kernels\": 0 to 100000");
	if (uid < -1 || uid > (json_int_t)UINT32_MAX - 1)
		return err_set(err, -EINVAL, "\"uid\": that is no uid");
	entry->user.admin = admin;
	entry->user.max_kernels = (unsigned)kernels;
	entry->uid = uid;
	if (certificate && !(entry->certificate = strdup(certificate)))
		return err_set(err, -ENOMEM, "users: no memory");
	if (token)
		code = set_token(entry, token, strlen(token), err);
	if (hash)
		code = set_hash(entry, hash, err);
	if (code == 0 && specs)
		code = read_specs(specs, &entry->user, err);
	if (code == 0 && limit)
		code = read_size(limit, &entry->user.area_limit, err);
	return code;
}

/* All entries of a JSON file into an empty table. */
static int read_object(struct users *users, json_t *root, struct err *err)
{
	json_t *list = json_object_get(root, "users"), *object;
	const char *name;

	if (!json_is_object(list) || json_object_size(root) != 1)
		return err_set(err, -EINVAL, "an object with one member \"users\" is needed");
	json_object_foreach(list, name, object)
	{
		cleanup(free_entry_p) struct entry *entry = NULL;
		char escaped[USER_NAME_MAX];

		if (!users_name_good(name))
			return err_set(err, -EINVAL,
				       "\"%s\" is no user's name: up to %d letters, digits, . _ - "
				       "@, not . or - first",
				       escape_string(escaped, sizeof(escaped), name),
				       USER_NAME_MAX - 1);
		entry = new_entry(name);
		if (!entry)
			return err_set(err, -ENOMEM, "users: no memory");
		entry->from_file = true;
		if (read_entry(object, entry, err) < 0)
			return err_wrap(err, "user %s", name);
		for (size_t i = 0; i < users->count; i++)
			if (entry->has_token && users->entry[i]->has_token &&
			    memcmp(users->entry[i]->hash, entry->hash, HASH_SIZE) == 0)
				return err_set(err, -EINVAL, "users %s and %s have the same token",
					       users->entry[i]->user.name, name);
		if (add(users, entry, err) < 0)
			return err->code;
		entry = NULL; /* the table's now */
	}
	return 0;
}

/* A file of nothing but one token. */
static int read_single(struct users *users, const char *text, size_t size, struct err *err)
{
	cleanup(free_entry_p) struct entry *entry = new_entry("admin");
	int code;

	if (!entry)
		return err_set(err, -ENOMEM, "users: no memory");
	while (size && strchr(" \t\r\n", text[size - 1]))
		size--;
	entry->from_file = true;
	entry->reserved = true;
	entry->user.admin = true;
	code = set_token(entry, text, size, err);
	if (code == 0)
		code = add(users, entry, err);
	if (code == 0)
		entry = NULL;
	return code;
}

int users_add_token(struct users *users, const char *token, struct err *err)
{
	return read_single(users, token, strlen(token), err);
}

static int read_text(const char *path, char **ret_text, size_t *ret_size, struct err *err)
{
	cleanup(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat status;
	char link[64];

	if (fd < 0 || fstat(fd, &status) < 0)
		return err_errno(err, "token file %s", path);
	if (!S_ISREG(status.st_mode))
		return err_set(err, -EINVAL, "token file %s: not a regular file", path);
	if ((status.st_uid != 0 && status.st_uid != geteuid()) || (status.st_mode & 077))
		return err_set(err, -EPERM,
			       "token file %s: it must belong to root or to us and be readable by "
			       "nobody else (chmod 600)",
			       path);
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return read_file(AT_FDCWD, link, FILE_MAX, ret_text, ret_size, err);
}

/* What the new file says of a user that is known takes the place of what the old one said. */
static void replace(struct entry *old, struct entry *new)
{
	struct entry held = *old;

	new->user.epoch = old->user.epoch;
	if (old->has_token != new->has_token || memcmp(old->hash, new->hash, HASH_SIZE) != 0)
		new->user.epoch++;
	*old = *new;
	*new = held;
}

static int merge(struct users *users, struct users *fresh, struct err *err)
{
	for (size_t i = 0; i < users->count; i++) {
		struct entry *entry = users->entry[i];

		if (entry->from_file && !find(fresh, entry->user.name)) {
			entry->user.disabled = true;
			entry->has_token = false;
			entry->uid = -1;
			free(steal_ptr(&entry->certificate));
		}
	}
	while (fresh->count) {
		struct entry *entry = fresh->entry[fresh->count - 1];
		struct entry *old = find(users, entry->user.name);

		if (old) {
			replace(old, entry);
			free_entry(entry);
		} else if (add(users, entry, err) < 0) {
			return err->code;
		}
		fresh->count--;
	}
	return 0;
}

int users_read(struct users *users, const char *path, struct err *err)
{
	char *text = NULL;
	size_t size = 0;
	struct users *fresh = NULL;
	json_t *root = NULL;
	json_error_t error;
	int code = read_text(path, &text, &size, err);

	if (code < 0)
		return code;
	code = users_new(&fresh, err);
	if (code < 0)
		goto out;
	if (text[strspn(text, " \t\r\n")] != '{') {
		code = read_single(fresh, text, size, err);
	} else {
		root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
		code = root ? read_object(fresh, root, err)
			    : err_set(err, -EINVAL,
				      "line %d, column %d: this is no JSON, or a "
				      "member twice",
				      error.line, error.column); /* its text may be a token */
	}
	if (code < 0)
		(void)err_wrap(err, "token file %s", path);
	else
		code = merge(users, fresh, err);
out:
	json_decref(root);
	users_free(fresh);
	OPENSSL_cleanse(text, size);
	free(text);
	return code;
}

/* ---- who is it ---- */

bool users_have_tokens(const struct users *users)
{
	for (size_t i = 0; i < users->count; i++)
		if (users->entry[i]->has_token)
			return true;
	return false;
}

bool users_have_certificates(const struct users *users)
{
	for (size_t i = 0; i < users->count; i++)
		if (users->entry[i]->certificate)
			return true;
	return false;
}

bool users_have_uids(const struct users *users)
{
	for (size_t i = 0; i < users->count; i++)
		if (users->entry[i]->uid > 0 && users->entry[i]->uid != (int64_t)geteuid())
			return true;
	return false;
}

static const struct user *enabled(const struct entry *entry)
{
	return entry && !entry->user.disabled ? &entry->user : NULL;
}

const struct user *users_by_token(const struct users *users, const char *token, size_t size)
{
	const struct entry *found = NULL;
	unsigned char hash[HASH_SIZE];

	if (!size || size > TOKEN_MOST || !hash_token(token, size, hash))
		return NULL;
	/* All of them, so that the time says nothing of where it is. */
	for (size_t i = 0; i < users->count; i++)
		if (users->entry[i]->has_token &&
		    CRYPTO_memcmp(users->entry[i]->hash, hash, HASH_SIZE) == 0)
			found = users->entry[i];
	return enabled(found);
}

const struct user *users_by_certificate(const struct users *users, const char *common_name)
{
	for (size_t i = 0; i < users->count; i++)
		if (users->entry[i]->certificate &&
		    strcmp(users->entry[i]->certificate, common_name) == 0)
			return enabled(users->entry[i]);
	return NULL;
}

const struct user *users_by_uid(const struct users *users, unsigned uid)
{
	for (size_t i = 0; i < users->count; i++)
		if (users->entry[i]->uid == (int64_t)uid)
			return enabled(users->entry[i]);
	return NULL;
}

const struct user *users_get(struct users *users, const char *name, bool admin)
{
	struct entry *entry = find(users, name);

	if (entry)
		return entry->reserved ? NULL : enabled(entry);
	if (!users_name_good(name))
		return NULL;
	entry = new_entry(name);
	if (!entry || add(users, entry, NULL) < 0) {
		free(entry);
		return NULL;
	}
	entry->user.admin = admin;
	return &entry->user;
}

const struct user *users_by_hub(struct users *users, const char *name, bool admin)
{
	const struct user *user = users_get(users, name, admin);
	struct entry *entry = user ? find(users, name) : NULL;

	if (entry && !entry->from_file)
		entry->user.admin = admin;
	return user;
}

const struct user *users_local(struct users *users)
{
	struct entry *entry = find(users, "local");

	if (entry)
		return entry->reserved ? &entry->user : NULL;
	if (!users_get(users, "local", true))
		return NULL;
	entry = find(users, "local");
	if (entry)
		entry->reserved = true;
	return entry ? &entry->user : NULL;
}
