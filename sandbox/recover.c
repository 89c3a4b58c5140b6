/*
 * Theory of operation
 *
 * What a run left behind is recognised by its lock: nobody holds it. The record of what was brought
 * out is in the private directory, so that a recovery goes on where the collector was killed and
 * does not mistake its results for changes that the host made.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "sandbox/collect.h"

/* Nobody writes there any more: once is enough, unless the host changes OUT meanwhile. */
#define ROUNDS 3
/* Seconds after which a directory that was never finished is nobody's. */
#define UNFINISHED_AGE 60

DEFINE_CLEANUP(struct staging *, staging_free)

struct recovery {
	int state_fd;
	const char *state;
	const char *out;
	uint64_t max_bytes, max_files;
	staging_refused_fn *refused;
	staging_refused_fn *flagged;
	staging_found_fn *found;
	void *arg;
	uint64_t refusals;
	int first; /* error */
	struct err *err;
};

static void note(struct recovery *recovery, int error, const struct err *err)
{
	if (recovery->first != 0)
		return;
	recovery->first = error;
	if (recovery->err)
		*recovery->err = *err;
}

bool recover_is_id(const char *name)
{
	return strlen(name) == STAGING_ID && strspn(name, "0123456789abcdef") == STAGING_ID;
}

/* Two paths of one directory. */
static bool same_place(const char *a, const char *b)
{
	struct stat one, other;

	if (strcmp(a, b) == 0)
		return true;
	return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

/* Never finished, or half removed: without "out" nothing in it is waited for. */
static void remove_remains(struct recovery *recovery, const char *name)
{
	cleanup(close_fd) int fd = tree_step(recovery->state_fd, name, O_RDONLY | O_DIRECTORY);
	cleanup(close_fd) int lock = -1;
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0 || status.st_uid != geteuid())
		return;
	lock = openat(fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0)
		return;
	/* one in the making may not have its lock yet; one with its final name has lost it again */
	if (lock < 0 && !recover_is_id(name) && time(NULL) - status.st_mtim.tv_sec < UNFINISHED_AGE)
		return;
	/* it may have been finished since the look that brought us here */
	if (recover_is_id(name) && faccessat(fd, "out", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	if (tree_empty(fd) == 0 && unlinkat(recovery->state_fd, name, AT_REMOVEDIR) == 0)
		return;
	close_fd(&lock); /* NFS keeps it while it is open */
	(void)tree_remove(recovery->state_fd, name, fd);
}

static void count_refusal(void *arg, const char *path, const char *reason)
{
	struct recovery *recovery = arg;

	recovery->refusals++;
	if (recovery->refused)
		recovery->refused(recovery->arg, path, reason);
}

static bool is_empty(struct staging *staging)
{
	struct staging_report report = {0};
	uint64_t other = 0;

	return collect_survey(staging, &report, &other) == 0 && report.files == 0 &&
	       report.left == 0 && other == 0;
}

/* Collects everything. Returns 0 when nothing is left. */
static int bring_in(struct recovery *recovery, struct staging *staging)
{
	struct staging_report all = {0};
	struct err err;
	int r = 0;

	recovery->refusals = 0;
	if (recovery->flagged)
		staging_on_flagged(staging, recovery->flagged, recovery->arg);
	for (int round = 0; round < ROUNDS; round++) {
		struct staging_report report = {0};

		r = staging_collect(staging, 0, count_refusal, recovery, &report, &err);
		all.files += report.files;
		all.bytes += report.bytes;
		all.flagged += report.flagged;
		all.left = report.left;
		if (r < 0 || report.left == 0)
			break;
	}
	if (r < 0)
		note(recovery, r, &err);
	if (recovery->found && all.files > 0)
		recovery->found(recovery->arg, staging_directory(staging), staging_out(staging),
				&all);
	/* refusals that nobody was told of are kept for somebody who is */
	return r < 0 || all.left > 0 || (recovery->refusals > 0 && !recovery->refused) ? -EAGAIN
										       : 0;
}

static void recover_one(struct recovery *recovery, const char *name)
{
	cleanup(free_ptr) char *path = path_join(recovery->state, name);
	cleanup(staging_free_p) struct staging *staging = NULL;
	struct err err;
	int r;

	if (!path) {
		err_set(&err, -ENOMEM, "out of memory");
		note(recovery, -ENOMEM, &err);
		return;
	}
	r = staging_open(path, recovery->max_bytes, recovery->max_files, &staging, &err);
	if (r == 0 && recovery->out && !same_place(recovery->out, staging_out(staging)) &&
	    !is_empty(staging))
		return;
	if (r == -ENOENT)
		remove_remains(recovery, name);
	else if (r < 0 && r != -EBUSY)
		note(recovery, r, &err);
	if (r < 0)
		return;
	/* what another kernel kept since is newer: that is no failure */
	(void)staging_history_back(staging, NULL);
	if (!is_empty(staging) && bring_in(recovery, staging) < 0)
		return;
	r = staging_remove(staging, &err);
	/* what is still open goes the next time; nothing waits in it */
	if (r < 0 && r != -EBUSY && r != -ENOTEMPTY)
		note(recovery, r, &err);
}

/* Opens the state directory; 0 without one (nothing was ever left). */
static int open_entries(const char *state, DIR **ret_entries, struct err *err)
{
	*ret_entries = opendir(state);
	if (!*ret_entries && errno != ENOENT)
		return err_errno(err, "%s", state);
	return 0;
}

int staging_recover(const char *state, const char *out, uint64_t max_bytes, uint64_t max_files,
		    staging_refused_fn *refused, staging_refused_fn *flagged,
		    staging_found_fn *found, void *arg, struct err *err)
{
	struct recovery recovery = {.state = state,
				    .out = out,
				    .max_bytes = max_bytes,
				    .max_files = max_files,
				    .refused = refused,
				    .flagged = flagged,
				    .found = found,
				    .arg = arg,
				    .err = err};
	const struct dirent *entry;
	DIR *entries = NULL;
	int r = open_entries(state, &entries, err);

	if (r < 0 || !entries)
		return r;
	recovery.state_fd = dirfd(entries);
	while ((entry = readdir(entries))) {
		if (recover_is_id(entry->d_name))
			recover_one(&recovery, entry->d_name);
		else if (strncmp(entry->d_name, STAGING_NEW, strlen(STAGING_NEW)) == 0)
			remove_remains(&recovery, entry->d_name);
	}
	closedir(entries);
	return recovery.first;
}

bool staging_waits(const char *state)
{
	const struct dirent *entry;
	DIR *entries = NULL;
	bool found = false;

	if (open_entries(state, &entries, NULL) < 0)
		return true; /* staging_recover says why */
	if (!entries)
		return false;
	while (!found && (entry = readdir(entries)))
		found = entry->d_name[0] != '.' ||
			strncmp(entry->d_name, STAGING_NEW, strlen(STAGING_NEW)) == 0;
	closedir(entries);
	return found;
}

bool recover_is_held(int state, const char *name)
{
	cleanup(close_fd) int fd = tree_step(state, name, O_RDONLY | O_DIRECTORY);
	cleanup(close_fd) int lock =
		fd < 0 ? -1 : openat(fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	return lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

int staging_survey(const char *state, staging_info_fn *info, void *arg, struct err *err)
{
	const struct dirent *entry;
	DIR *entries = NULL;
	int r = open_entries(state, &entries, err), first = 0;

	if (r < 0 || !entries)
		return r;
	while ((entry = readdir(entries))) {
		cleanup(free_ptr) char *path = NULL;
		cleanup(staging_free_p) struct staging *staging = NULL;
		struct staging_info one = {0};
		struct staging_report report = {0};

		if (!recover_is_id(entry->d_name))
			continue;
		path = path_join(state, entry->d_name);
		r = path ? staging_peek(path, &staging, first ? NULL : err) : -ENOMEM;
		if (r == 0)
			r = collect_survey(staging, &report, &one.others);
		if (r < 0 && r != -ENOENT && first == 0)
			first = r;
		if (r < 0)
			continue;
		one.directory = staging_directory(staging);
		one.out = staging_out(staging);
		one.held = recover_is_held(dirfd(entries), entry->d_name);
		one.files = report.files;
		one.bytes = report.bytes;
		info(arg, &one);
	}
	closedir(entries);
	return first;
}
