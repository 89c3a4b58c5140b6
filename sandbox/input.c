#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/tree.h"

/* NULL: may be staged. A socket or fifo would be a way to a process of the host, a device to its
 * hardware. */
static const char *input_refusal(unsigned char type)
{
	switch (type) {
	case DT_SOCK:
		return "a socket";
	case DT_FIFO:
		return "a fifo";
	case DT_CHR:
	case DT_BLK:
		return "a device";
	default:
		return NULL;
	}
}

static int refuse_input(struct err *err, const char *path, const char *below, const char *what)
{
	char escaped[400];
	cleanup(free_ptr) char *whole = below ? path_join(path, below) : strdup(path);

	escape_string(escaped, sizeof(escaped), whole ? whole : path);
	return err_set(err, -EINVAL, "%s is %s: only files and directories can be staged", escaped,
		       what);
}

/* Directories that cannot be read cannot be read inside either; below the walk's depth nobody
 * looks. */
static int check_tree(const char *path, int directory, uint64_t max_entries, struct err *err)
{
	cleanup(walk_done) struct walk walk;
	struct stat status;
	int r;

	walk_init(&walk);
	walk.across = true;
	r = walk_start(&walk, directory);
	if (r < 0)
		return r == -EACCES ? 0 : err_set(err, r, "%s: %s", path, strerrordesc_np(-r));
	for (uint64_t looked = 0; looked < max_entries && (r = walk_next(&walk)) != 0; looked++) {
		const char *what;

		if (r < 0)
			continue;
		if (walk.type == DT_UNKNOWN && walk_stat(&walk, &status) == 0)
			walk.type = (unsigned char)IFTODT(status.st_mode);
		what = input_refusal(walk.type);
		if (what)
			return refuse_input(err, path, walk.path, what);
		if (walk.type == DT_DIR)
			(void)walk_enter(&walk);
	}
	return 0;
}

int staging_check_input(const char *path, uint64_t max_entries, struct err *err)
{
	cleanup(close_fd) int fd = -1;
	struct stat status;
	const char *what;

	if (stat(path, &status) < 0)
		return err_errno(err, "%s", path);
	what = input_refusal((unsigned char)IFTODT(status.st_mode));
	if (what)
		return refuse_input(err, path, NULL, what);
	if (!S_ISDIR(status.st_mode))
		return 0;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, "%s", path);
	return check_tree(path, fd, max_entries, err);
}
