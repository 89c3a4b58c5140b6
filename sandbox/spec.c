#include "sandbox/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

#define ARITY_MAX 3

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3; required where vm.memfd_noexec is 2 */
#endif

/* What a record is: how it is written, how it is read, and where its values live. */
struct record {
	const char *key;
	size_t arity;
	void (*put)(FILE *out, const struct record *record, const struct spec *spec);
	int (*get)(const struct record *record, struct spec *spec, const char *const *values);
	size_t offset;	     /* of the value, or of the list */
	size_t count_offset; /* of the list's length; 0: not a list, the key comes once */
	bool required;
};

static void *at(struct spec *spec, size_t offset)
{
	return (char *)spec + offset;
}

static const void *at_const(const struct spec *spec, size_t offset)
{
	return (const char *)spec + offset;
}

/*
 * Room for one more element and one zeroed element behind it. The capacity is implied: it grows
 * when the count is 0 or a power of two. Returns the new element or NULL.
 */
static void *grow(void *list, size_t count, size_t element)
{
	void *larger;
	char *base;

	memcpy(&larger, list, sizeof(larger));
	if ((count & (count - 1)) == 0 || count == 0) {
		larger = reallocarray(larger, (count > 0 ? 2 * count : 1) + 1, element);
		if (!larger)
			return NULL;
		memcpy(list, &larger, sizeof(larger));
	}
	base = larger;
	memset(base + count * element, 0, 2 * element);
	return base + count * element;
}

static int add_text(char ***list, size_t *count, const char *text)
{
	char **slot = grow(list, *count, sizeof(*slot));

	if (!slot)
		return -ENOMEM;
	*slot = strdup(text);
	if (!*slot)
		return -ENOMEM;
	(*count)++;
	return 0;
}

static int add_bind(struct spec_bind **list, size_t *count, const char *source, const char *target,
		    bool required)
{
	struct spec_bind *slot = grow(list, *count, sizeof(*slot));

	if (!slot)
		return -ENOMEM;
	slot->required = required;
	slot->source = strdup(source);
	slot->target = strdup(target);
	if (!slot->source || !slot->target) {
		free_ptr(&slot->source);
		free_ptr(&slot->target);
		return -ENOMEM;
	}
	(*count)++;
	return 0;
}

int spec_add_argv(struct spec *spec, const char *text)
{
	return add_text(&spec->argv, &spec->argc, text);
}

int spec_add_env(struct spec *spec, const char *text)
{
	return add_text(&spec->env, &spec->envc, text);
}

int spec_add_bind(struct spec *spec, const char *source, const char *target, bool required)
{
	return add_bind(&spec->binds, &spec->bind_count, source, target, required);
}

int spec_add_stage(struct spec *spec, const char *source, const char *target, bool required)
{
	return add_bind(&spec->stages, &spec->stage_count, source, target, required);
}

int spec_add_overlay(struct spec *spec, const char *source, const char *target, bool required)
{
	return add_bind(&spec->overlays, &spec->overlay_count, source, target, required);
}

int spec_add_out_name(struct spec *spec, const char *name)
{
	return add_text(&spec->out_names, &spec->out_name_count, name);
}

/* With the NUL. Errors stay in the stream and are asked for once, at its end. */
static void put_text(FILE *out, const char *text)
{
	(void)fwrite(text, 1, strlen(text) + 1, out);
}

static void put_list(FILE *out, const struct record *record, const struct spec *spec)
{
	char *const *const *list = at_const(spec, record->offset);
	const size_t *count = at_const(spec, record->count_offset);

	for (size_t i = 0; i < *count; i++) {
		put_text(out, record->key);
		put_text(out, (*list)[i]);
	}
}

static int get_list(const struct record *record, struct spec *spec, const char *const *values)
{
	return add_text(at(spec, record->offset), at(spec, record->count_offset), values[0]);
}

static void put_binds(FILE *out, const struct record *record, const struct spec *spec)
{
	const struct spec_bind *const *list = at_const(spec, record->offset);
	const size_t *count = at_const(spec, record->count_offset);

	for (size_t i = 0; i < *count; i++) {
		put_text(out, record->key);
		put_text(out, (*list)[i].source);
		put_text(out, (*list)[i].target);
		put_text(out, (*list)[i].required ? "1" : "0");
	}
}

static int get_binds(const struct record *record, struct spec *spec, const char *const *values)
{
	uint64_t required;

	if (parse_u64(values[2], 1, &required) < 0)
		return -EINVAL;
	return add_bind(at(spec, record->offset), at(spec, record->count_offset), values[0],
			values[1], required == 1);
}

static void put_string(FILE *out, const struct record *record, const struct spec *spec)
{
	char *const *value = at_const(spec, record->offset);

	if (!*value)
		return;
	put_text(out, record->key);
	put_text(out, *value);
}

static int get_string(const struct record *record, struct spec *spec, const char *const *values)
{
	char **value = at(spec, record->offset);

	*value = strdup(values[0]);
	return *value ? 0 : -ENOMEM;
}

static void put_number(FILE *out, const struct record *record, const struct spec *spec)
{
	const uint64_t *value = at_const(spec, record->offset);
	char text[24];

	(void)snprintf(text, sizeof(text), "%ju", (uintmax_t)*value);
	put_text(out, record->key);
	put_text(out, text);
}

static int get_number(const struct record *record, struct spec *spec, const char *const *values)
{
	return parse_u64(values[0], UINT64_MAX, at(spec, record->offset));
}

#define AT(field) offsetof(struct spec, field)

static const struct record records[] = {
	{"argv", 1, put_list, get_list, AT(argv), AT(argc), true},
	{"env", 1, put_list, get_list, AT(env), AT(envc), false},
	{"bind", 3, put_binds, get_binds, AT(binds), AT(bind_count), false},
	{"stage", 3, put_binds, get_binds, AT(stages), AT(stage_count), false},
	{"overlay", 3, put_binds, get_binds, AT(overlays), AT(overlay_count), false},
	{"out_name", 1, put_list, get_list, AT(out_names), AT(out_name_count), false},
	{"history", 1, put_string, get_string, AT(history), 0, false},
	{"relay", 1, put_string, get_string, AT(relay), 0, true},
	{"connection", 1, put_string, get_string, AT(connection), 0, true},
	{"state", 1, put_string, get_string, AT(state), 0, true},
	{"out", 1, put_string, get_string, AT(out), 0, true},
	{"out_bytes", 1, put_number, get_number, AT(out_bytes), 0, true},
	{"out_files", 1, put_number, get_number, AT(out_files), 0, true},
	{"tmp_bytes", 1, put_number, get_number, AT(tmp_bytes), 0, true},
	{"memory", 1, put_number, get_number, AT(memory), 0, true},
	{"data", 1, put_number, get_number, AT(data), 0, false},
	{"disk", 1, put_number, get_number, AT(disk), 0, false},
	{"cpus", 1, put_number, get_number, AT(cpus), 0, false},
	{"cgroup_only", 1, put_number, get_number, AT(cgroup_only), 0, false},
	{"pids", 1, put_number, get_number, AT(pids), 0, true},
	{"open_files", 1, put_number, get_number, AT(open_files), 0, true},
	{"landlock", 1, put_number, get_number, AT(landlock), 0, false},
	{"egress", 1, put_number, get_number, AT(egress), 0, false},
};

#define RECORDS (sizeof(records) / sizeof(records[0]))

_Static_assert(RECORDS <= 32, "a bit for each record");

/* An absolute path without empty, "." and ".." components: nothing that could lead elsewhere than
 * it reads. */
static bool plain_path(const char *path)
{
	if (path[0] != '/')
		return false;
	while (*path == '/') {
		size_t length = strcspn(++path, "/");

		if (length == 0 || (length == 1 && path[0] == '.') ||
		    (length == 2 && !strncmp(path, "..", 2)))
			return false;
		path += length;
	}
	return true;
}

static int check_binds(const struct spec_bind *binds, size_t count, const char *below,
		       struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		char text[256];

		if (binds[i].source[0] != '/')
			return err_set(err, -EINVAL, "spec: source %s is not absolute",
				       escape_string(text, sizeof(text), binds[i].source));
		if (!plain_path(binds[i].target) ||
		    strncmp(binds[i].target, below, strlen(below)) != 0)
			return err_set(err, -EINVAL,
				       "spec: target %s is not a plain absolute path below %s",
				       escape_string(text, sizeof(text), binds[i].target), below);
	}
	return 0;
}

/* What must hold on either side of the pipe: the writer hears of its slip, the reader believes
 * nobody. */
static int check(const struct spec *spec, struct err *err)
{
	const char *const paths[] = {spec->relay, spec->state, spec->out};
	int r;

	if (spec->argc == 0 || spec->argv[0][0] != '/')
		return err_set(err, -EINVAL, "spec: argv[0] must be an absolute path");
	if (!spec->connection)
		return err_set(err, -EINVAL, "spec: no connection");
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (!paths[i] || paths[i][0] != '/')
			return err_set(err, -EINVAL,
				       "spec: relay, state and out must be absolute paths");
	}
	if (spec->egress > UINT16_MAX || (spec->egress > 0 && spec->landlock))
		return err_set(err, -EINVAL, "spec: egress is a port, behind namespaces alone");
	for (size_t i = 0; i < spec->envc; i++) {
		const char *equals = strchr(spec->env[i], '=');

		if (!equals || equals == spec->env[i])
			return err_set(err, -EINVAL,
				       "spec: environment entry %zu is not NAME=VALUE", i);
	}
	r = check_binds(spec->binds, spec->bind_count, "/", err);
	if (r == 0)
		r = check_binds(spec->overlays, spec->overlay_count, "/", err);
	if (r < 0)
		return r;
	return check_binds(spec->stages, spec->stage_count, INSIDE_WORK "/", err);
}

static const struct record *find_record(const char *key)
{
	for (size_t i = 0; i < RECORDS; i++) {
		if (strcmp(records[i].key, key) == 0)
			return &records[i];
	}
	return NULL;
}

/* The string at *next, which moves behind its NUL; NULL when there is none before `end`. */
static const char *take_string(const char **next, const char *end)
{
	const char *text = *next;
	const char *nul = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;

	if (!nul)
		return NULL;
	*next = nul + 1;
	return text;
}

/* Reads one record. `seen` has a bit for each key that came. */
static int take_record(const char **next, const char *end, struct spec *spec, uint32_t *seen,
		       struct err *err)
{
	const char *key = take_string(next, end), *values[ARITY_MAX];
	const struct record *record;
	char text[64];
	uint32_t bit;
	int r;

	if (!key)
		return err_set(err, -EINVAL, "spec: a key is cut off");
	record = find_record(key);
	if (!record)
		return err_set(err, -EINVAL, "spec: unknown key %s",
			       escape_string(text, sizeof(text), key));
	for (size_t i = 0; i < record->arity; i++) {
		values[i] = take_string(next, end);
		if (!values[i])
			return err_set(err, -EINVAL, "spec: %s is cut off", record->key);
	}
	bit = 1u << (record - records);
	if ((*seen & bit) && record->count_offset == 0)
		return err_set(err, -EINVAL, "spec: %s comes twice", record->key);
	*seen |= bit;
	r = record->get(record, spec, values);
	if (r < 0)
		return err_set(err, r, "spec: bad value for %s: %s", record->key,
			       strerrordesc_np(-r));
	return 0;
}

int spec_parse(const void *data, size_t size, struct spec *ret_spec, struct err *err)
{
	const char *next = data, *end = next + size;
	struct spec spec = {0};
	uint32_t seen = 0;
	int r = 0;

	if (size > SPEC_MAX)
		return err_set(err, -E2BIG, "spec: %zu bytes, at most %u allowed", size, SPEC_MAX);
	while (r == 0 && next < end)
		r = take_record(&next, end, &spec, &seen, err);
	for (size_t i = 0; r == 0 && i < RECORDS; i++) {
		if (records[i].required && !(seen & 1u << i))
			r = err_set(err, -EINVAL, "spec: %s is missing", records[i].key);
	}
	if (r == 0)
		r = check(&spec, err);
	if (r < 0) {
		spec_done(&spec);
		return r;
	}
	*ret_spec = spec;
	return 0;
}

int spec_read(int fd, struct spec *ret_spec, struct err *err)
{
	cleanup(free_ptr) char *data = NULL;
	struct stat status;
	size_t size, have = 0;
	int seals;

	/* Sealed, so that what is checked is what is used. */
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS)
		return err_set(err, -EINVAL, "spec: not a sealed memfd");
	if (fstat(fd, &status) < 0)
		return err_errno(err, "spec: cannot stat");
	if (status.st_size <= 0 || (uint64_t)status.st_size > SPEC_MAX)
		return err_set(err, -E2BIG, "spec: %jd bytes, 1 to %u allowed",
			       (intmax_t)status.st_size, SPEC_MAX);
	size = (size_t)status.st_size;
	data = malloc(size);
	if (!data)
		return err_set(err, -ENOMEM, "spec: out of memory");
	while (have < size) { /* pread: the offset is shared with whoever wrote it */
		ssize_t got = pread(fd, data + have, size - have, (off_t)have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(err, "spec: cannot read");
		if (got == 0)
			return err_set(err, -EIO, "spec: shorter than its size");
		have += (size_t)got;
	}
	return spec_parse(data, size, ret_spec, err);
}

/* All records as one text. Returns 0 or a negative errno. */
static int serialise(const struct spec *spec, char **ret_data, size_t *ret_size, struct err *err)
{
	cleanup(free_ptr) char *data = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&data, &size);
	bool failed;

	if (!out)
		return err_errno(err, "spec: cannot serialise");
	for (size_t i = 0; i < RECORDS; i++)
		records[i].put(out, &records[i], spec);
	failed = ferror(out) != 0;
	if (fclose(out) != 0 || failed)
		return err_set(err, -ENOMEM, "spec: out of memory");
	if (size > SPEC_MAX)
		return err_set(
			err, -E2BIG,
			"spec: arguments, environment and paths are %zu bytes, at most %u allowed",
			size, SPEC_MAX);
	*ret_data = steal_ptr(&data);
	*ret_size = size;
	return 0;
}

int spec_write(const struct spec *spec, struct err *err)
{
	cleanup(free_ptr) char *data = NULL;
	cleanup(close_fd) int fd = -1;
	size_t size = 0;
	int r;

	r = check(spec, err);
	if (r < 0)
		return r;
	r = serialise(spec, &data, &size, err);
	if (r < 0)
		return r;
	fd = memfd_create("spec", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_errno(err, "spec: cannot create a memfd");
	r = write_full(fd, data, size);
	if (r < 0)
		return err_set(err, r, "spec: cannot write: %s", strerrordesc_np(-r));
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return err_errno(err, "spec: cannot seal");
	return steal_fd(&fd);
}

void spec_done(struct spec *spec)
{
	struct spec_bind *lists[] = {spec->binds, spec->stages, spec->overlays};
	const size_t counts[] = {spec->bind_count, spec->stage_count, spec->overlay_count};
	char **texts[] = {spec->argv, spec->env, spec->out_names};
	const size_t text_counts[] = {spec->argc, spec->envc, spec->out_name_count};

	for (size_t list = 0; list < sizeof(texts) / sizeof(texts[0]); list++) {
		for (size_t i = 0; i < text_counts[list]; i++)
			free(texts[list][i]);
		free(texts[list]);
	}
	for (size_t list = 0; list < sizeof(lists) / sizeof(lists[0]); list++) {
		for (size_t i = 0; i < counts[list]; i++) {
			free(lists[list][i].source);
			free(lists[list][i].target);
		}
		free(lists[list]);
	}
	free(spec->history);
	free(spec->relay);
	free(spec->connection);
	free(spec->state);
	free(spec->out);
	*spec = (struct spec){0};
}
