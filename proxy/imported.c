#include "proxy/imported.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/log.h"

#define NAME_MAX_BYTES 64
#define LOCK_TRIES     50
#define LOCK_WAIT      ((struct timespec){.tv_nsec = 10 * 1000 * 1000})

void imported_open(struct imported *imported, const char *path)
{
	cleanup(free_ptr) char *parent = strdup(path);
	char *slash = parent ? strrchr(parent, '/') : NULL;

	*imported = (struct imported)IMPORTED_NONE;
	if (!slash || slash == parent)
		return;
	*slash = '\0';
	imported->modules = json_object();
	if (imported->modules && make_directories(parent, 0755, NULL) == 0)
		imported->file =
			open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
}

bool imported_note(struct imported *imported, const struct status *status)
{
	const char *at;

	if (status->fields < 4 || strcmp(status->field[2], "imported") != 0)
		return false;
	if (!imported || !imported->modules)
		return true;
	for (at = status->field[3]; *at;) {
		size_t size = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789_");
		char name[NAME_MAX_BYTES];

		if (size > 0 && size < sizeof(name) && (at[size] == ' ' || at[size] == '\0') &&
		    json_object_size(imported->modules) < IMPORTED_MAX) {
			memcpy(name, at, size);
			name[size] = '\0';
			(void)json_object_set_new(imported->modules, name, json_true());
		}
		at += strcspn(at, " ");
		at += strspn(at, " ");
	}
	return true;
}

/* Anything else than what was written here is as good as nothing. */
static json_t *parse(const char *text, size_t size)
{
	json_t *said = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_object(json_object_get(said, "modules")) &&
	    json_is_integer(json_object_get(said, "runs")))
		return said;
	json_decref(said);
	return NULL;
}

static json_t *read_said(int file)
{
	cleanup(free_ptr) char *text = NULL;
	struct stat status;

	if (fstat(file, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size == 0 ||
	    status.st_size > IMPORTED_FILE_MAX)
		return NULL;
	text = malloc((size_t)status.st_size);
	if (!text || pread(file, text, (size_t)status.st_size, 0) != status.st_size)
		return NULL;
	return parse(text, (size_t)status.st_size);
}

static bool lock(int file)
{
	for (int i = 0; flock(file, LOCK_EX | LOCK_NB) < 0; i++) {
		const struct timespec wait = LOCK_WAIT;

		if (errno != EWOULDBLOCK || i == LOCK_TRIES)
			return false;
		nanosleep(&wait, NULL);
	}
	return true;
}

static void add(json_t *said, json_t *modules)
{
	json_t *known = json_object_get(said, "modules");
	const time_t now = time(NULL);
	const char *name;
	const json_t *one;
	struct tm tm;
	char day[16];

	(void)strftime(day, sizeof(day), "%Y-%m-%d", gmtime_r(&now, &tm));
	(void)json_object_set_new(
		said, "runs", json_integer(json_integer_value(json_object_get(said, "runs")) + 1));
	json_object_foreach(modules, name, one)
	{
		if (json_is_true(one) &&
		    (json_object_get(known, name) || json_object_size(known) < IMPORTED_MAX))
			(void)json_object_set_new(known, name, json_string(day));
	}
}

void imported_close(struct imported *imported)
{
	cleanup(free_ptr) char *text = NULL;
	json_t *said = NULL;

	if (imported->file >= 0 && json_object_size(imported->modules) > 0 &&
	    lock(imported->file)) {
		said = read_said(imported->file);
		if (!said)
			said = json_pack("{s:i, s:{}}", "runs", 0, "modules");
		add(said, imported->modules);
		text = json_dumps(said, JSON_COMPACT | JSON_SORT_KEYS);
		/* Cut short it is none, and the next kernel's is the first. */
		if (text && ftruncate(imported->file, 0) == 0 &&
		    pwrite(imported->file, text, strlen(text), 0) < 0)
			log_warning("what this kernel imported cannot be kept: %s",
				    strerrordesc_np(errno));
	}
	json_decref(said);
	json_decref(imported->modules);
	close_fd(&imported->file);
	*imported = (struct imported)IMPORTED_NONE;
}

int imported_read(const char *path, json_t **ret_said)
{
	cleanup(close_fd) int file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (file < 0)
		return -errno;
	*ret_said = read_said(file);
	return *ret_said ? 0 : -EINVAL;
}
