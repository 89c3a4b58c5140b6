#include "kernelspec/sealed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "kernelspec/sealed_parts.h"
#include "sandbox/spec.h"

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

int sealed_store(char **ret_store, struct err *err)
{
	const char *data = getenv("XDG_DATA_HOME");
	cleanup(free_ptr) char *home = NULL, *own = NULL;

	if (data && data[0] != '/')
		data = NULL;
	if (!data && geteuid() == 0) {
		*ret_store = strdup(SEALED_SHARED);
		return *ret_store ? 0 : no_memory(err);
	}
	if (!data) {
		home = paths_home();
		own = home ? path_join(home, ".local/share") : NULL;
		data = own;
	}
	*ret_store = data ? path_join(data, "cellwall/environments") : NULL;
	return *ret_store ? 0 : no_memory(err);
}

int sealed_check_name(const char *name, struct err *err)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "0123456789._-");
	char shown[128];

	if (length > 0 && length <= SEALED_NAME_MAX && name[length] == '\0' && name[0] != '.' &&
	    name[0] != '-')
		return 0;
	return err_set(err, -EINVAL,
		       "\"%s\" is no name for an environment: letters, digits, \".\", \"_\" and "
		       "\"-\", at most %d, the first no \".\" or \"-\"",
		       escape_string(shown, sizeof(shown), name), SEALED_NAME_MAX);
}

/* ---- records ---- */

/* STORE/names/NAME; caller frees. */
static char *name_directory(const char *store, const char *name)
{
	return format_string("%s/names/%s", store, name);
}

/* A file that decides what runs: nobody else's. */
static int read_own(const char *path, size_t limit, char **ret_text, struct err *err)
{
	cleanup(close_fd) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat status;

	if (fd < 0)
		return err_errno(err, "%s", path);
	if (fstat(fd, &status) < 0)
		return err_errno(err, "%s", path);
	if (!S_ISREG(status.st_mode) || (status.st_uid != geteuid() && status.st_uid != 0) ||
	    (status.st_mode & (S_IWGRP | S_IWOTH)))
		return err_set(err, -EPERM, "%s can be written by others: it is not used", path);
	return read_file(AT_FDCWD, path, limit, ret_text, NULL, err);
}

static int current_number(const char *store, const char *name, uint64_t *ret_number,
			  struct err *err)
{
	cleanup(free_ptr) char *path = format_string("%s/names/%s/current", store, name);
	cleanup(free_ptr) char *text = NULL;
	int r = path ? read_own(path, 32, &text, err) : no_memory(err);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	if (parse_u64(text, INT64_MAX, ret_number) < 0)
		return err_set(err, -EINVAL, "%s holds no number", path);
	return 0;
}

static bool is_hash(const char *text)
{
	return text && strlen(text) == SEALED_HASH &&
	       strspn(text, "0123456789abcdef") == SEALED_HASH;
}

static int read_record(const char *store, const char *name, uint64_t number, json_t **ret_record,
		       struct err *err)
{
	cleanup(free_ptr) char *path =
		format_string("%s/names/%s/%" PRIu64 ".json", store, name, number);
	cleanup(free_ptr) char *text = NULL;
	json_t *record;
	int r = path ? read_own(path, RECORD_BYTES, &text, err) : no_memory(err);

	if (r < 0)
		return r;
	record = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	if (!is_hash(json_string_value(json_object_get(record, "tree"))) ||
	    !json_is_string(json_object_get(record, "python"))) {
		json_decref(record);
		return err_set(err, -EINVAL, "%s is no record of an environment", path);
	}
	*ret_record = record;
	return 0;
}

void sealed_done(struct sealed *sealed)
{
	free(sealed->store);
	free(sealed->name);
	free(sealed->directory);
	json_decref(sealed->record);
	close_fd(&sealed->held);
	close_fd(&sealed->guard);
	*sealed = (struct sealed){.held = -1, .guard = -1};
}

static int fill(struct sealed *sealed, const char *store, const char *name, uint64_t number,
		struct err *err)
{
	cleanup(free_ptr) char *tree = NULL, *manifest = NULL;
	int r = 0;

	sealed->store = strdup(store);
	sealed->name = strdup(name);
	if (!sealed->store || !sealed->name)
		return no_memory(err);
	if (number == 0)
		r = current_number(store, name, &number, err);
	sealed->number = number;
	if (r == 0)
		r = read_record(store, name, number, &sealed->record, err);
	if (r < 0)
		return r;
	sealed->hash = json_string_value(json_object_get(sealed->record, "tree"));
	sealed->python = json_string_value(json_object_get(sealed->record, "python"));
	sealed->directory = format_string("%s/trees/%s", store, sealed->hash);
	tree = sealed->directory ? path_join(sealed->directory, "tree") : NULL;
	if (!tree)
		return no_memory(err);
	sealed->held = open(tree, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	manifest = path_join(sealed->directory, "manifest");
	sealed->guard = manifest ? open(manifest, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (sealed->held < 0 || sealed->guard < 0 ||
	    fcntl(sealed->guard, F_OFD_SETLK, &(struct flock){.l_type = F_RDLCK}) < 0)
		return err_errno(err, "the tree of the environment \"%s\"", name);
	return 0;
}

int sealed_find(const char *name, uint64_t number, bool shared, struct sealed *ret_sealed,
		struct err *err)
{
	cleanup(free_ptr) char *own = NULL;
	int r = sealed_check_name(name, err);

	*ret_sealed = (struct sealed){.held = -1, .guard = -1};
	if (r == 0)
		r = sealed_store(&own, err);
	if (r < 0)
		return r;
	r = fill(ret_sealed, own, name, number, err);
	if (r == -ENOENT && shared && strcmp(own, SEALED_SHARED) != 0) {
		sealed_done(ret_sealed);
		r = fill(ret_sealed, SEALED_SHARED, name, number, err);
	}
	if (r < 0)
		sealed_done(ret_sealed);
	if (r == -ENOENT && number > 0)
		return err_set(err, r,
			       "the environment \"%s\" has no generation %" PRIu64
			       ": see cellwall env show %s",
			       name, number, name);
	if (r == -ENOENT)
		return err_set(
			err, r,
			"there is no environment \"%s\": cellwall env list shows those there "
			"are, cellwall env create %s PACKAGE... makes it",
			name, name);
	return r;
}

char *sealed_usage(const char *name)
{
	cleanup(free_ptr) char *store = NULL;

	return sealed_store(&store, NULL) < 0 ? NULL
					      : format_string("%s/usage/%s.json", store, name);
}

int sealed_prefix(const struct sealed *sealed, const char *program, struct prefix *ret_prefix,
		  struct err *err)
{
	const size_t length = strlen(INSIDE_ENVIRONMENT "/");
	struct prefix prefix;
	int r;

	if (strncmp(program, INSIDE_ENVIRONMENT "/", length) != 0)
		return err_set(err, -EINVAL,
			       "with --env the kernel's program is one of the environment, as "
			       "in " INSIDE_ENVIRONMENT "/bin/python");
	if (faccessat(sealed->held, program + length, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, -ENOENT, "the environment \"%s\" has no %s", sealed->name,
			       program);
	r = prefix_find(sealed->python, &prefix, err);
	if (r < 0)
		return err_wrap(err,
				"the environment \"%s\" was built with a Python that is not "
				"there any more",
				sealed->name);
	free(prefix.executable);
	prefix.executable = strdup(program);
	if (!prefix.executable) {
		prefix_done(&prefix);
		return no_memory(err);
	}
	*ret_prefix = prefix;
	return 0;
}

/* ---- all of them ---- */

static int compare_numbers(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

/* The generations there are, in order; caller frees. Returns their count. */
static size_t list_generations(const char *directory, uint64_t **ret_numbers)
{
	DIR *scan = opendir(directory);
	struct dirent *entry;
	uint64_t *numbers = NULL;
	size_t count = 0;

	while (scan && (entry = readdir(scan))) {
		char *dot = strchr(entry->d_name, '.');
		uint64_t number;

		if (!dot || strcmp(dot, ".json") != 0)
			continue;
		*dot = '\0';
		if (parse_u64(entry->d_name, INT64_MAX, &number) < 0)
			continue;
		if ((count & (count - 1)) == 0) {
			uint64_t *more =
				reallocarray(numbers, count > 0 ? 2 * count : 1, sizeof(*numbers));

			if (!more)
				break;
			numbers = more;
		}
		numbers[count++] = number;
	}
	if (scan)
		closedir(scan);
	if (count > 0)
		qsort(numbers, count, sizeof(*numbers), compare_numbers);
	*ret_numbers = numbers;
	return count;
}

static int each_generation(const char *store, const char *name, sealed_found_fn *found, void *arg)
{
	cleanup(free_ptr) char *directory = name_directory(store, name);
	cleanup(free_ptr) uint64_t *numbers = NULL;
	uint64_t current = 0;
	size_t count = directory ? list_generations(directory, &numbers) : 0;
	int r = 0;

	(void)current_number(store, name, &current, NULL);
	for (size_t i = 0; i < count && r >= 0; i++) {
		json_t *record = NULL;

		if (read_record(store, name, numbers[i], &record, NULL) < 0)
			continue;
		r = found(arg, name, numbers[i], numbers[i] == current, record);
		json_decref(record);
	}
	return r;
}

static int compare_names(const void *left, const void *right)
{
	const char *const *a = left, *const *b = right;

	return strcmp(*a, *b);
}

int sealed_each(const char *store, const char *name, sealed_found_fn *found, void *arg)
{
	cleanup(free_ptr) char *directory = NULL;
	struct paths_list names = {0};
	struct dirent *entry;
	DIR *scan;
	int r = 0;

	if (name)
		return each_generation(store, name, found, arg);
	directory = path_join(store, "names");
	scan = directory ? opendir(directory) : NULL;
	while (scan && (entry = readdir(scan))) {
		if (sealed_check_name(entry->d_name, NULL) == 0)
			(void)paths_list_add(&names, entry->d_name);
	}
	if (scan)
		closedir(scan);
	if (names.count > 0)
		qsort(names.items, names.count, sizeof(*names.items), compare_names);
	for (size_t i = 0; i < names.count && r >= 0; i++)
		r = each_generation(store, names.items[i], found, arg);
	paths_list_done(&names);
	return r;
}

/* ---- names ---- */

int sealed_choose(const char *store, const char *name, uint64_t number, struct err *err)
{
	cleanup(free_ptr) char *path = format_string("%s/names/%s/current", store, name);
	SEALED_UMASK(store);
	cleanup(free_ptr) char *fresh = NULL;
	char text[32], random[17];
	int r = random_hex(random, 8);

	if (r < 0)
		return err_set(err, r, "no random numbers");
	fresh = format_string("%s/names/%s/.current-%s", store, name, random);
	if (!path || !fresh)
		return no_memory(err);
	(void)snprintf(text, sizeof(text), "%" PRIu64 "\n", number);
	r = write_new_file(AT_FDCWD, fresh, 0644, text, strlen(text), err);
	if (r == 0 && rename(fresh, path) < 0)
		r = err_errno(err, "%s", path);
	if (r < 0)
		(void)unlink(fresh);
	return r;
}

int sealed_forget(const char *store, const char *name, struct err *err)
{
	cleanup(free_ptr) char *path = name_directory(store, name), *current = NULL;
	DIR *scan;
	struct dirent *entry;
	int r = 0;

	current = path ? path_join(path, "current") : NULL;
	if (!current)
		return no_memory(err);
	/* Without it nobody finds the name any more. */
	if (unlink(current) < 0 && errno != ENOENT)
		return err_errno(err, "%s", current);
	scan = opendir(path);
	if (!scan)
		return err_errno(err, "%s", path);
	while ((entry = readdir(scan))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    unlinkat(dirfd(scan), entry->d_name, 0) < 0 && r == 0)
			r = err_errno(err, "%s/%s", path, entry->d_name);
	}
	closedir(scan);
	if (r == 0 && rmdir(path) < 0)
		r = err_errno(err, "%s", path);
	return r;
}
