/*
 * env_make: `cellwall env create`, `update`, `export` and `import`.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "kernelspec/env.h"
#include "kernelspec/env_build.h"
#include "kernelspec/sealed.h"
#include "kernelspec/stage.h"

#define REQUIREMENTS_MAX (64u * 1024)

/* ---- what is wanted ---- */

/* The distribution's name, as far as it decides about two requirements being for the same one. */
static size_t name_length(const char *requirement)
{
	return strspn(requirement, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "._-");
}

static bool same_name(const char *left, const char *right)
{
	size_t length = name_length(left);

	return length > 0 && length == name_length(right) && strncasecmp(left, right, length) == 0;
}

/* Is one of the lines for that distribution? */
static bool has_line(const char *lines, const char *requirement)
{
	while (*lines) {
		if (same_name(lines, requirement))
			return true;
		lines += strcspn(lines, "\n");
		lines += *lines == '\n';
	}
	return false;
}

int env_add_line(char **lines, const char *line)
{
	char *out = strdup("");

	for (const char *at = *lines; out && *at;) {
		size_t length = strcspn(at, "\n");

		if (!same_name(at, line)) {
			char *more = format_string("%s%.*s\n", out, (int)length, at);

			free(out);
			out = more;
		}
		at += length;
		at += *at == '\n';
	}
	if (out) {
		char *more = format_string("%s%.*s\n", out, (int)strcspn(line, "\n"), line);

		free(out);
		out = more;
	}
	if (!out)
		return -ENOMEM;
	free(*lines);
	*lines = out;
	return 0;
}

static int check_word(const char *word, struct err *err)
{
	char shown[256];

	if (word[0] != '-' && word[0] != '#' && !strchr(word, '\n') && name_length(word) > 0)
		return 0;
	return err_set(err, -EINVAL,
		       "\"%s\" is no requirement: write a package's name, with a "
		       "version as in \"pandas>=2\" if it matters",
		       escape_string(shown, sizeof(shown), word));
}

/* Words or the file, added to `before` (lent); caller frees. */
static int gather(const struct env *env, const char *before, char **ret_lines, struct err *err)
{
	cleanup(free_ptr) char *lines = NULL;
	int r = 0;

	if (env->file)
		return read_file(AT_FDCWD, env->file, REQUIREMENTS_MAX, ret_lines, NULL, err);
	lines = strdup(before);
	if (!lines)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < env->count; i++) {
		r = check_word(env->words[i], err);
		if (r == 0 && env_add_line(&lines, env->words[i]) < 0)
			r = err_set(err, -ENOMEM, "out of memory");
	}
	if (r == 0)
		*ret_lines = steal_ptr(&lines);
	return r;
}

/* ---- building ---- */

void env_say_reached(const json_t *record)
{
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(record, "reached"), i, one)
	{
		const char *verdict = json_string_value(json_object_get(one, "verdict"));
		const char *host = json_string_value(json_object_get(one, "host"));
		char size[32];

		stage_format_size(size, sizeof(size),
				  (uint64_t)json_integer_value(json_object_get(one, "received")));
		if (strcmp(verdict, "ok") == 0)
			printf("reached %s: %s in %" JSON_INTEGER_FORMAT " connections\n", host,
			       size, json_integer_value(json_object_get(one, "connections")));
		else if (strcmp(verdict, "limit") == 0)
			printf("cut: %s port %" JSON_INTEGER_FORMAT " after %s: a build may fetch "
			       "so much in all (a policy's build.size), and an hour from one "
			       "connection\n",
			       host, json_integer_value(json_object_get(one, "port")), size);
		else
			printf("blocked: the build tried to reach %s port %" JSON_INTEGER_FORMAT
			       " (%s)\n",
			       host, json_integer_value(json_object_get(one, "port")), verdict);
	}
	json_array_foreach(json_object_get(record, "attempts"), i, one)
		printf("blocked: the build tried to %s %s\n",
		       json_string_value(json_object_get(one, "what")),
		       json_string_value(json_object_get(one, "target")));
	if (json_integer_value(json_object_get(record, "unlisted")) > 0)
		printf("blocked: %" JSON_INTEGER_FORMAT " more attempts, for which the list has no "
		       "room\n",
		       json_integer_value(json_object_get(record, "unlisted")));
}

static int build(const struct env *env, const char *python, const char *requirements, bool locked)
{
	cleanup(policy_done) struct policy policy = {0};
	const struct env_wanted wanted = {
		.name = env->name,
		.python = python,
		.requirements = requirements,
		.locked = locked,
		.quiet = env->options & ENV_QUIET,
		.uv = env->options & ENV_UV,
		.hosts = &env->hosts,
		.policy = env->policy ? &policy : NULL,
	};
	struct sealed sealed;
	json_t *record;
	struct err err = {0};
	int64_t number;
	char size[32];

	if (env->policy && policy_read(env->policy, &policy, &err) < 0)
		return env_fail("%s", err.text);
	number = env_build(&wanted, &record, &err);
	if (record)
		env_say_reached(record);
	json_decref(record);
	if (number < 0) {
		env_fail("%s", err.text);
		return number == -EINTR ? 130 : 1;
	}
	if (sealed_find(env->name, (uint64_t)number, false, &sealed, &err) < 0)
		return env_fail("%s", err.text);
	stage_format_size(size, sizeof(size),
			  (uint64_t)json_integer_value(json_object_get(sealed.record, "bytes")));
	printf("%s: generation %" PRId64 ", %" JSON_INTEGER_FORMAT " files, %s, tree %.16s\n",
	       env->name, number, json_integer_value(json_object_get(sealed.record, "files")), size,
	       sealed.hash);
	printf("make a kernel of it: cellwall install --env %s\n", env->name);
	/* An older generation may go; a build beside this one is no reason to fail. */
	(void)sealed_collect(sealed.store, NULL, &err);
	sealed_done(&sealed);
	return 0;
}

int env_create(const struct env *env)
{
	cleanup(free_ptr) char *lines = NULL;
	struct sealed there;
	struct err err = {0};

	if (sealed_check_name(env->name, &err) < 0)
		return env_fail("%s", err.text);
	if (sealed_find(env->name, 0, false, &there, NULL) == 0) {
		sealed_done(&there);
		return env_fail("there is an environment \"%s\" already: cellwall env update %s "
				"changes it, cellwall env remove %s takes it away",
				env->name, env->name, env->name);
	}
	if (gather(env, "", &lines, &err) < 0)
		return env_fail("%s", err.text);
	if (!(env->options & (ENV_BARE | ENV_LOCK)) && !has_line(lines, "ipykernel")) {
		char *more =
			format_string("%s%sipykernel\n", lines,
				      lines[0] && lines[strlen(lines) - 1] != '\n' ? "\n" : "");

		if (!more)
			return env_fail("out of memory");
		free(lines);
		lines = more;
	}
	return build(env, env->python ? env->python : "python3", lines, env->options & ENV_LOCK);
}

int env_update(const struct env *env)
{
	cleanup(free_ptr) char *lines = NULL, *python = NULL;
	struct sealed sealed;
	struct err err = {0};
	const char *before;
	int r = sealed_find(env->name, 0, false, &sealed, &err);

	if (r < 0)
		return env_fail("%s", err.text);
	if (json_object_get(sealed.record, "base")) {
		sealed_done(&sealed);
		return env_fail("\"%s\" is what cells have had installed: %%pip install in a "
				"notebook adds to it, cellwall env remove %s takes it away",
				env->name, env->name);
	}
	before = json_string_value(json_object_get(sealed.record, "requirements"));
	python = strdup(env->python ? env->python : sealed.python);
	r = python ? gather(env, before ? before : "", &lines, &err)
		   : err_set(&err, -ENOMEM, "out of memory");
	sealed_done(&sealed);
	return r < 0 ? env_fail("%s", err.text) : build(env, python, lines, false);
}

/* ---- to a file and back ---- */

static int put_head(FILE *to, char kind, const char *name)
{
	size_t length = strlen(name);

	return fputc(kind, to) == EOF || fputc((int)(length & 0xff), to) == EOF ||
			       fputc((int)(length >> 8), to) == EOF || fputs(name, to) == EOF
		       ? -EIO
		       : 0;
}

static int put_size(FILE *to, uint64_t size)
{
	for (int i = 0; i < 8; i++, size >>= 8) {
		if (fputc((int)(size & 0xff), to) == EOF)
			return -EIO;
	}
	return 0;
}

static int put_text(FILE *to, char kind, const char *name, const char *text)
{
	return put_head(to, kind, name) < 0 || put_size(to, strlen(text)) < 0 ||
			       fputs(text, to) == EOF
		       ? -EIO
		       : 0;
}

/* Exactly `size` bytes of `fd`, which have the digest `wanted`. */
static int put_bytes(FILE *to, int fd, uint64_t size, const char *wanted, EVP_MD_CTX *context)
{
	unsigned char buffer[65536], digest[32];
	char hex[SEALED_HASH + 1];
	ssize_t got;

	if (EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	while ((got = read(fd, buffer, sizeof(buffer))) > 0 && (uint64_t)got <= size) {
		if (EVP_DigestUpdate(context, buffer, (size_t)got) != 1 ||
		    fwrite(buffer, 1, (size_t)got, to) != (size_t)got)
			return -EIO;
		size -= (uint64_t)got;
	}
	if (got < 0 || EVP_DigestFinal_ex(context, digest, NULL) != 1)
		return -EIO;
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return got == 0 && size == 0 && strcmp(hex, wanted) == 0 ? 0 : -EBADMSG;
}

/* `rest`: "SHA256 SIZE PATH" of the manifest. */
static int put_file(FILE *to, int tree, char kind, char *rest)
{
	char *number = strchr(rest, ' '), *path = number ? strchr(number + 1, ' ') : NULL;
	cleanup(close_fd) int fd = -1;
	EVP_MD_CTX *context;
	uint64_t size = 0;
	int r;

	if (!path)
		return -EINVAL;
	*number++ = *path++ = '\0';
	if (parse_u64(number, INT64_MAX, &size) < 0)
		return -EINVAL;
	fd = openat(tree, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -EBADMSG;
	if (put_head(to, kind, path) < 0 || put_size(to, size) < 0)
		return -EIO;
	context = EVP_MD_CTX_new();
	r = context ? put_bytes(to, fd, size, rest, context) : -ENOMEM;
	EVP_MD_CTX_free(context);
	return r;
}

/* A line of the manifest (sealed.h) as a record of a bundle (bundle.h). `lock`: the digest of what
 * was written of it. */
static int put_line(FILE *to, int tree, const char *lock, char *line)
{
	char *tab, *path = line + 2;

	switch (line[0]) {
	case 'd':
		return put_head(to, 'd', path);
	case 'l':
		tab = strchr(path, '\t');
		if (!tab)
			return -EINVAL;
		*tab = '\0';
		return put_text(to, 'l', path, tab + 1);
	case 'f':
	case 'x':
		return put_file(to, tree, line[0], path);
	case 'm': /* the lock is a note of the bundle */
		return strncmp(path, lock, SEALED_HASH) == 0 ? 0 : -EBADMSG;
	default:
		return -EINVAL;
	}
}

static int write_all(FILE *to, const struct sealed *sealed, struct err *err)
{
	cleanup(free_ptr) char *lock_path = path_join(sealed->directory, "lock");
	cleanup(free_ptr) char *record = json_dumps(sealed->record, JSON_COMPACT);
	cleanup(free_ptr) char *lock = NULL, *manifest = NULL;
	char sum[SEALED_HASH + 1], lock_sum[SEALED_HASH + 1];
	int r;

	if (!lock_path || !record || sealed_digest(record, strlen(record), sum) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = read_file(AT_FDCWD, lock_path, 1u << 20, &lock, NULL, err);
	if (r == 0)
		r = sealed_digest(lock, strlen(lock), lock_sum);
	if (r == 0)
		r = sealed_manifest(sealed->directory, sealed->hash, NULL, NULL, &manifest, err);
	if (r == 0 &&
	    (fputs("cellwall bundle 1\n", to) == EOF || put_text(to, 'm', "lock", lock) < 0 ||
	     put_text(to, 'm', "record", record) < 0 ||
	     put_text(to, 'm', "record.sha256", sum) < 0))
		r = -EIO;
	for (char *line = manifest, *end; r == 0 && (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		r = put_line(to, sealed->held, lock_sum, line);
	}
	if (r == 0 && fputc('e', to) == EOF)
		r = -EIO;
	if (r == -EBADMSG)
		return err_set(err, r,
			       "%s is not as it was sealed: cellwall env verify %s says what "
			       "changed",
			       sealed->name, sealed->name);
	return r < 0 ? err_set(err, r, "the environment cannot be written: %s", strerrordesc_np(-r))
		     : 0;
}

int env_export(const struct env *env)
{
	const char *file = env->words[0];
	cleanup(free_ptr) char *fresh = format_string("%s.new-%d", file, (int)getpid());
	struct sealed sealed;
	struct err err = {0};
	FILE *to;
	int r = sealed_find(env->name, 0, true, &sealed, &err);

	if (r < 0)
		return env_fail("%s", err.text);
	to = fresh ? fopen(fresh, "wxe") : NULL;
	if (!to) {
		sealed_done(&sealed);
		return env_fail("%s: %s", file, strerror(errno));
	}
	r = write_all(to, &sealed, &err);
	sealed_done(&sealed);
	if (fclose(to) != 0 && r == 0)
		r = err_errno(&err, "%s", file);
	if (r == 0 && rename(fresh, file) < 0)
		r = err_errno(&err, "%s", file);
	if (r < 0) {
		(void)unlink(fresh);
		return env_fail("%s", err.text);
	}
	printf("wrote %s\n", file);
	return 0;
}

/* The record of a bundle, which is as it was written: its tree is compared when that is known. */
static int take_record(const struct sealed_build *build, json_t **ret_record, struct err *err)
{
	const char *text = build->record_text;
	char sum[SEALED_HASH + 1];

	if (!text || !build->record_sum || !build->lock_text)
		return err_set(err, -EINVAL, "it was not written by cellwall env export");
	if (sealed_digest(text, strlen(text), sum) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (strcmp(sum, build->record_sum) != 0)
		return err_set(err, -EBADMSG, "its record is not the one that was exported");
	*ret_record = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_string(json_object_get(*ret_record, "python")) ||
	    !json_is_string(json_object_get(*ret_record, "tree")))
		return err_set(err, -EINVAL, "it was not written by cellwall env export");
	return 0;
}

static int64_t import(struct sealed_build *build, const char *file, json_t **ret_record,
		      struct err *err)
{
	cleanup(close_fd) int in = open(file, O_RDONLY | O_CLOEXEC);
	struct prefix prefix = {0};
	const char *python;
	bool known;
	int64_t number;
	int r;

	if (in < 0)
		return err_errno(err, "%s", file);
	r = sealed_take(build, in, err);
	if (r == 0)
		r = take_record(build, ret_record, err);
	if (r < 0)
		return err_wrap(err, "%s", file);
	python = json_string_value(json_object_get(*ret_record, "python"));
	r = python[0] == '/' ? prefix_find(python, &prefix, err)
			     : err_set(err, -EINVAL, "its Python is no absolute path");
	if (r < 0)
		return err_wrap(err, "%s was built with a Python that is not on this host", file);
	known = prefix.python && strncmp(paths_name(prefix.executable), "python", 6) == 0;
	prefix_done(&prefix);
	if (!known)
		return err_set(err, -EINVAL, "%s names no Python", file);
	/* The rest of another host's record is its word alone. */
	if (env_record_sign(*ret_record) < 0 ||
	    json_object_set_new(*ret_record, "imported", json_true()) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	number = sealed_commit(build, *ret_record, err);
	return number == -EBADMSG ? err_wrap(err, "%s", file) : number;
}

int env_import(const struct env *env)
{
	struct sealed_build build;
	json_t *record = NULL;
	struct err err = {0};
	int64_t number = sealed_begin(env->name, &build, &err);

	if (number == 0) {
		number = import(&build, env->words[0], &record, &err);
		sealed_abandon(&build);
	}
	if (number > 0)
		printf("%s: generation %" PRId64 ", tree %.16s\n", env->name, number,
		       json_string_value(json_object_get(record, "tree")));
	json_decref(record);
	return number < 0 ? env_fail("%s", err.text) : 0;
}
