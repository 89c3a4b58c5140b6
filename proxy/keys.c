#include "proxy/keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <zmq.h>

#define SUFFIX ".key"

bool keys_name(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char others[] = "0123456789-_.@";

	if (name[0] == '\0' || name[0] == '.' || strlen(name) >= KEYS_NAME)
		return false;
	for (const char *at = name; *at; at++)
		if (!strchr(letters, *at) && !strchr(others, *at))
			return false;
	return true;
}

int keys_directory(const char *directory, char **ret_path, struct err *err)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char *path = NULL;

	if (directory)
		path = strdup(directory);
	else if (config && config[0] == '/')
		path = path_join(config, "cellwall");
	else if (home && home[0] == '/')
		path = path_join(home, ".config/cellwall");
	else
		return err_set(err, -ENOENT, "no home directory: say where the keys are");
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	*ret_path = path;
	return 0;
}

int keys_make(struct key *ret_key, struct err *err)
{
	if (zmq_curve_keypair(ret_key->public_key, ret_key->secret_key) < 0)
		return err_set(err, -ENOTSUP, "this libzmq was built without CURVE");
	return 0;
}

void keys_done(struct key *key)
{
	explicit_bzero(key, sizeof(*key));
}

int keys_write(const char *path, const struct key *key, const char *name, bool secret,
	       struct err *err)
{
	char *text = format_string(
		"#   ZeroMQ CURVE %s Certificate\n"
		"#   %s\n\n"
		"metadata\n    name = \"%s\"\ncurve\n    public-key = \"%s\"\n",
		secret ? "**Secret**" : "Public",
		secret ? "DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its permissions."
		       : "Exchange securely, or verify its contents after exchange.",
		name, key->public_key);
	char *whole = text && secret
			      ? format_string("%s    secret-key = \"%s\"\n", text, key->secret_key)
			      : NULL;
	const char *out = secret ? whole : text;
	int code = out ? write_new_file(AT_FDCWD, path, secret ? 0600 : 0644, out, strlen(out), err)
		       : err_set(err, -ENOMEM, "out of memory");

	if (whole)
		explicit_bzero(whole, strlen(whole));
	free(whole);
	free(text);
	return code;
}

/* ---- reading ---- */

/* "    NAME = "VALUE"", quotes and blanks around it as one likes. Returns the value, cut out of the
 * line, when it is this name. */
static char *entry_value(char *line, const char *name)
{
	char *at = line + strspn(line, " \t");
	size_t length = strlen(name);

	if (strncmp(at, name, length) != 0)
		return NULL;
	at += length;
	at += strspn(at, " \t");
	if (*at != '=')
		return NULL;
	at++;
	at += strspn(at, " \t");
	if (*at == '"' || *at == '\'') {
		char *end = strchr(at + 1, *at);

		if (end)
			*end = '\0';
		return at + 1;
	}
	at[strcspn(at, " \t\r#")] = '\0';
	return at;
}

static void take_key(char *line, const char *name, char out[KEYS_TEXT])
{
	const char *value = entry_value(line, name);
	unsigned char bytes[KEYS_BYTES];

	if (!value || strlen(value) != KEYS_TEXT - 1 || !zmq_z85_decode(bytes, value))
		return;
	memcpy(out, value, KEYS_TEXT);
	explicit_bzero(bytes, sizeof(bytes));
}

static void parse_text(char *text, struct key *key)
{
	char *rest = text, *line;
	bool curve = false;

	while ((line = strsep(&rest, "\n"))) {
		if (line[0] == '#' || line[strspn(line, " \t\r")] == '\0')
			continue;
		if (line[0] != ' ' && line[0] != '\t') {
			curve = strncmp(line, "curve", 5) == 0;
			continue;
		}
		if (!curve)
			continue;
		take_key(line, "public-key", key->public_key);
		take_key(line, "secret-key", key->secret_key);
	}
}

/* Regular, ours or root's, and closed to others. */
static int check_private(const char *path, struct err *err)
{
	struct stat status;

	if (stat(path, &status) < 0)
		return err_errno(err, "cannot read the key %s", path);
	if (!S_ISREG(status.st_mode))
		return err_set(err, -EINVAL, "%s is not a regular file", path);
	if (status.st_uid != geteuid() && status.st_uid != 0)
		return err_set(err, -EACCES, "%s belongs to another user", path);
	if (status.st_mode & 077)
		return err_set(err, -EACCES,
			       "%s can be read by others: chmod 600 it, or make a new "
			       "key if somebody may have",
			       path);
	return 0;
}

int keys_read(const char *path, bool secret, struct key *ret_key, struct err *err)
{
	char derived[KEYS_TEXT];
	struct key key = {0};
	char *text = NULL;
	size_t size = 0;
	int code = secret ? check_private(path, err) : 0;

	if (code == 0)
		code = read_file(AT_FDCWD, path, KEYS_FILE_MAX, &text, &size, err);
	if (code < 0)
		return code;
	parse_text(text, &key);
	explicit_bzero(text, size);
	free(text);
	if (!key.public_key[0])
		code = err_set(err, -EINVAL, "%s is no certificate: it has no public-key", path);
	else if (secret && !key.secret_key[0])
		code = err_set(err, -EINVAL,
			       "%s has no secret-key: name the file that ends with " KEYS_SECRET,
			       path);
	else if (key.secret_key[0] && (zmq_curve_public(derived, key.secret_key) < 0 ||
				       strcmp(derived, key.public_key) != 0))
		code = err_set(err, -EINVAL, "the two keys in %s do not belong together", path);
	if (!secret)
		explicit_bzero(key.secret_key, sizeof(key.secret_key));
	if (code == 0)
		*ret_key = key;
	keys_done(&key);
	return code;
}

/* ---- who is allowed ---- */

struct entry {
	char name[KEYS_NAME];
	char public_key[KEYS_TEXT]; /* "": none that can be read */
	struct stat seen;
};

struct keys_allowed {
	char *directory;
	time_t newest; /* change of what was seen; 0: to be read again */
	struct stat seen;
	size_t count, room;
	struct entry *entries; /* in the directory's order */
};

int keys_allowed_new(const char *directory, struct keys_allowed **ret_allowed, struct err *err)
{
	struct keys_allowed *allowed = calloc(1, sizeof(*allowed));

	if (allowed)
		allowed->directory = strdup(directory);
	if (!allowed || !allowed->directory) {
		keys_allowed_free(allowed);
		return err_set(err, -ENOMEM, "out of memory");
	}
	*ret_allowed = allowed;
	return 0;
}

struct keys_allowed *keys_allowed_free(struct keys_allowed *allowed)
{
	if (!allowed)
		return NULL;
	free(allowed->directory);
	free(allowed->entries);
	free(allowed);
	return NULL;
}

static bool has_suffix(const char *name, char stem[KEYS_NAME])
{
	const size_t length = strlen(name), end = sizeof(SUFFIX) - 1;

	if (length <= end || length - end >= KEYS_NAME || strcmp(name + length - end, SUFFIX) != 0)
		return false;
	memcpy(stem, name, length - end);
	stem[length - end] = '\0';
	return keys_name(stem);
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The next certificate of the directory. Returns false at its end. */
static bool next_file(DIR *directory, struct entry *ret_entry)
{
	struct dirent *found;

	while ((found = readdir(directory))) {
		if (!has_suffix(found->d_name, ret_entry->name))
			continue;
		if (fstatat(dirfd(directory), found->d_name, &ret_entry->seen, 0) == 0)
			return true;
	}
	return false;
}

static bool unchanged(const struct keys_allowed *allowed, DIR *directory, const struct stat *now)
{
	struct entry entry;
	size_t i = 0;

	if (!allowed->newest || !same(now, &allowed->seen))
		return false;
	for (; next_file(directory, &entry) && i < KEYS_ALLOWED_MAX; i++)
		if (i >= allowed->count || !same(&entry.seen, &allowed->entries[i].seen) ||
		    strcmp(entry.name, allowed->entries[i].name) != 0)
			return false;
	return i == allowed->count;
}

static int add_entry(struct keys_allowed *allowed, struct entry *entry)
{
	cleanup(free_ptr) char *file =
		format_string("%s/%s" SUFFIX, allowed->directory, entry->name);
	struct key key = {0};

	if (!file)
		return -ENOMEM;
	if (allowed->count == allowed->room) {
		const size_t room = allowed->room ? 2 * allowed->room : 16;
		struct entry *larger = reallocarray(allowed->entries, room, sizeof(*larger));

		if (!larger)
			return -ENOMEM;
		allowed->entries = larger;
		allowed->room = room;
	}
	(void)keys_read(file, false, &key, NULL);
	memcpy(entry->public_key, key.public_key, KEYS_TEXT);
	allowed->entries[allowed->count++] = *entry;
	if (entry->seen.st_ctim.tv_sec > allowed->newest)
		allowed->newest = entry->seen.st_ctim.tv_sec;
	return 0;
}

void keys_allowed_look(struct keys_allowed *allowed)
{
	DIR *directory = opendir(allowed->directory);
	struct timespec clock;
	struct entry entry;
	struct stat now;
	int code = 0;

	if (!directory || fstat(dirfd(directory), &now) < 0) {
		allowed->count = 0;
		allowed->newest = 0;
	} else if (!unchanged(allowed, directory, &now)) {
		rewinddir(directory);
		allowed->count = 0;
		allowed->newest = now.st_ctim.tv_sec;
		allowed->seen = now;
		while (code == 0 && allowed->count < KEYS_ALLOWED_MAX &&
		       next_file(directory, &entry))
			code = add_entry(allowed, &entry);
		/* What was changed just now can be once more within the same tick of the clock. */
		(void)clock_gettime(CLOCK_REALTIME, &clock);
		if (code < 0 || clock.tv_sec <= allowed->newest + 1)
			allowed->newest = 0;
	}
	if (directory)
		closedir(directory);
}

const char *keys_allowed_name(const struct keys_allowed *allowed, const char *public_key)
{
	for (size_t i = 0; public_key[0] && i < allowed->count; i++)
		if (strcmp(allowed->entries[i].public_key, public_key) == 0)
			return allowed->entries[i].name;
	return NULL;
}
