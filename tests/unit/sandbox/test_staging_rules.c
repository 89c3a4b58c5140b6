/* What is a result and what is not: names, what was there before, what was copied in, history. */
#include "staging_world.h"

#include <sys/sysmacros.h>

#include "sandbox/names.h"
#include "sandbox/running.h"

static struct world world, flags;

static void log_flag(void *arg, const char *path, const char *reason)
{
	world_log(arg, path, reason);
}

static int setup(void **state)
{
	(void)state;
	world_new(&world, BYTES, FILES);
	memset(&flags, 0, sizeof(flags));
	staging_on_flagged(world.staging, log_flag, &flags);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_forget(&flags);
	world_end(&world);
	return 0;
}

/* ---- names ---- */

static void keeps_names_that_tools_act_on(void **state)
{
	static const char *const kept[] = {
		".envrc",
		".git",
		".vscode",
		".ipynb_checkpoints",
		"conftest.py",
		"Conftest.PY",
		"conftest.py. .",
		"test_it.py",
		"it_test.py",
		"sitecustomize.py",
		"usercustomize",
		"sitecustomize.abi3.so",
		"HEAD",
		"matplotlibrc",
		"pylintrc",
		"jupyter_server_config.py",
		"ipython_config.py",
		"eslint.config.mjs",
		"node_modules",
		"pyvenv.cfg",
		"desktop.ini",
		"profile_default",
		"jupyter_config.json",
	};
	static const char *const out[] = {
		"test_results.csv", "contest.py",     "header",	   "profile_report.html",
		"Makefile",	    "model.pth",      "graph.dot", "a.json",
		"config.json",	    "sitecustomizer", "mytest.py", "results",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (!name_refusal(kept[i], NULL))
			fail_msg("%s is let out", kept[i]);
	for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++)
		if (name_refusal(out[i], NULL))
			fail_msg("%s: %s", out[i], name_refusal(out[i], NULL));
}

static void lets_out_what_the_policy_names(void **state)
{
	char conftest[] = "conftest.py", hidden[] = ".env", cache[] = "__pycache__",
	     liar[] = "a\nb", ours[] = ".cellwall-0123456789abcdef0123456789abcdef";
	char *const names[] = {conftest, hidden, cache, liar, ours, NULL};

	(void)state;
	assert_null(name_refusal(conftest, names));
	assert_null(name_refusal(hidden, names));
	assert_non_null(name_refusal(".envrc", names));
	assert_non_null(name_refusal(liar, names));
	assert_non_null(name_refusal(ours, names));
	assert_true(name_is_cache(cache, NULL));
	assert_false(name_is_cache(cache, names));
	put(&world, "w:conftest.py", "1");
	put(&world, "w:.env", "2");
	put(&world, "w:__pycache__/x.pyc", "3");
	put(&world, "w:.other", "4");
	assert_collects(&world, 0);
	assert_refused(&world, "conftest.py", "pytest");
	assert_refused(&world, ".env", "hidden");
	assert_null(world_reason(&world, "__pycache__"));
	assert_int_equal(staging_let_out(world.staging, NULL), 0);
	assert_int_equal(staging_let_out(world.staging, names), 0);
	assert_collects(&world, 3);
	assert_content(&world, "o:.env", "2");
	assert_content(&world, "o:__pycache__/x.pyc", "3");
	assert_false(exists(&world, "o:.other"));
}

/* A recovery goes by what the policy of the run said. */
static void remembers_names_for_a_recovery(void **state)
{
	char conftest[] = "conftest.py";
	char *const names[] = {conftest, NULL};

	(void)state;
	assert_int_equal(staging_let_out(world.staging, names), 0);
	put(&world, "w:conftest.py", "1");
	put(&world, "w:page.html", "<script>");
	world.staging = staging_free(world.staging);
	assert_int_equal(staging_recover(world.state, world.out, 0, 0, world_log, NULL, NULL,
					 &world, &world.err),
			 0);
	assert_content(&world, "o:conftest.py", "1");
	assert_int_equal(world.refused, 0);
	assert_int_equal(staging_create(world.state, world.out, world_owner(), BYTES, FILES,
					&world.staging, &world.err),
			 0);
}

static void flags_what_runs_when_opened(void **state)
{
	static const char *const active[] = {"a.html", "b.SVG",	   "c.ipynb",  "m.pkl",
					     "m.pt",   "x.js",	   "Makefile", "t.xlsm",
					     "u.py",   "m.pkl.gz", "x.desktop"};
	static const char *const plain[] = {"a.csv", "b.png", "c.parquet", "d.npy",
					    "e.txt", "html",  "f.dot",	   "g.xlsx"};

	(void)state;
	for (size_t i = 0; i < sizeof(active) / sizeof(active[0]); i++)
		if (!name_flag(active[i], 0644))
			fail_msg("%s is not flagged", active[i]);
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (name_flag(plain[i], 0644))
			fail_msg("%s: %s", plain[i], name_flag(plain[i], 0644));
	put(&world, "w:page.html", "<script>");
	put(&world, "w:data.csv", "1");
	put(&world, "w:tool", "ELF");
	assert_int_equal(chmod(at(&world, "w:tool"), 0755), 0);
	assert_collects(&world, 3);
	assert_int_equal(world.report.flagged, 2);
	assert_int_equal(world.refused, 0);
	assert_int_equal(flags.refused, 2);
	assert_refused(&flags, "page.html", "script");
	assert_refused(&flags, "tool", "program");
	put(&world, "w:page.html", "<script> again");
	assert_collects(&world, 1);
	assert_int_equal(flags.refused, 2);
}

/* ---- what was there before ---- */

/* World with results of an earlier run, older than the private directory. */
static void begin_again(void)
{
	world.staging = staging_free(world.staging);
	settle();
	if (staging_create(world.state, world.out, world_owner(), BYTES, 4, &world.staging,
			   &world.err) < 0)
		fail_msg("%s", world.err.text);
}

static void takes_no_copy_for_a_result(void **state)
{
	struct stat before, after;

	(void)state;
	put(&world, "o:old.csv", "yesterday");
	put(&world, "o:d/large.csv", "the same size");
	begin_again();
	assert_int_equal(stat(at(&world, "o:old.csv"), &before), 0);
	put(&world, "w:staging/out/old.csv", "yesterday");
	put(&world, "w:staging/out/d/large.csv", "the SAME size");
	assert_collects(&world, 1);
	assert_content(&world, "o:d/large.csv", "the SAME size");
	assert_int_equal(stat(at(&world, "o:old.csv"), &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(world.refused, 0);
	assert_collects(&world, 0);
	/* and then it is changed */
	put(&world, "w:staging/out/old.csv", "yesterday, and today");
	assert_collects(&world, 1);
	assert_content(&world, "o:old.csv", "yesterday, and today");
}

/* Four files are allowed: those that were there are not among them. */
static void counts_only_what_is_new(void **state)
{
	char name[32];

	(void)state;
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "o:old%d", i);
		put(&world, name, "yesterday");
	}
	begin_again();
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "w:staging/out/old%d", i);
		put(&world, name, "yesterday");
	}
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 0);
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "w:staging/out/%s%d", i % 2 ? "new" : "old", i);
		put(&world, name, "today");
	}
	assert_collects(&world, 4);
	assert_int_equal(world.refused, 2);
}

/* What the host changed while the kernel had its copy is not overwritten. */
static void keeps_what_the_host_changed_meanwhile(void **state)
{
	(void)state;
	put(&world, "o:old.csv", "yesterday");
	begin_again();
	put(&world, "w:staging/out/old.csv", "yesterday");
	assert_collects(&world, 0);
	settle();
	put(&world, "o:old.csv", "by hand!!");
	put(&world, "w:staging/out/old.csv", "inside!!!");
	assert_collects(&world, 1);
	assert_content(&world, "o:old.csv", "by hand!!");
	assert_content(&world, "o:old (cellwall 1).csv", "inside!!!");
}

/* A comparison that a deadline cuts short goes on where it was: else it would never end. */
static void compares_on_after_a_deadline(void **state)
{
	const size_t size = (size_t)40 * 1024 * 1024;
	char *data = calloc(1, size);
	int turns = 0;

	(void)state;
	assert_non_null(data);
	assert_int_equal(mkdir(at(&world, "project/staging"), 0755), 0);
	assert_int_equal(mkdir(world.out, 0755), 0);
	put_bytes(at(&world, "o:big"), data, size);
	begin_again();
	put_bytes(at(&world, "w:staging/out/big"), data, size);
	give(at(&world, "w:staging/out/big"));
	settle();
	do {
		assert_true(turns++ < 2000);
		memset(&world.report, 0, sizeof(world.report));
		assert_int_equal(staging_collect(world.staging, now_ms() + 2, world_log, &world,
						 &world.report, &world.err),
				 0);
	} while (world.report.left > 0);
	assert_int_equal(world.report.files, 0);
	free(data);
}

/* Every mknod(2) of 0:0 is a whiteout: no privilege is needed for it (since Linux 5.8). */
static void takes_whiteouts_as_deletions(void **state)
{
	(void)state;
	put(&world, "o:old.csv", "yesterday");
	put(&world, "o:older.csv", "yesterday");
	begin_again();
	if (mknod(at(&world, "w:staging/out/old.csv"), S_IFCHR | 0600, makedev(0, 0)) < 0)
		skip();
	assert_int_equal(
		mknod(at(&world, "w:staging/out/older.csv"), S_IFCHR | 0600, makedev(0, 0)), 0);
	assert_int_equal(mknod(at(&world, "w:elsewhere"), S_IFCHR | 0600, makedev(0, 0)), 0);
	assert_collects(&world, 0);
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 2);
	assert_refused(&world, "elsewhere", "device");
	assert_true(world_reason(&world, "staging/out/old.csv") ||
		    world_reason(&world, "staging/out/older.csv"));
	assert_content(&world, "o:old.csv", "yesterday");
}

/* overlayfs writes without an event: then every cell is waited for. */
static void trusts_no_silence_below_out(void **state)
{
	(void)state;
	put(&world, "w:a.csv", "1");
	assert_collects(&world, 1);
	if (!world.report.watched)
		skip();
	put(&world, "w:staging/out/b.csv", "2");
	assert_collects(&world, 1);
	assert_false(world.report.watched);
}

/* ---- what was copied in ---- */

static void takes_nothing_given_for_a_result(void **state)
{
	struct stat status;

	(void)state;
	put(&world, "w:given.csv", "from the host");
	assert_int_equal(lstat(at(&world, "w:given.csv"), &status), 0);
	assert_int_equal(staging_given(world.staging, &status), 0);
	assert_collects(&world, 0);
	assert_false(exists(&world, "project/staging"));
	settle();
	put(&world, "w:given.csv", "changed here!");
	assert_collects(&world, 1);
	assert_content(&world, "o:given.csv", "changed here!");
}

/* ---- history ---- */

static const char *history(void)
{
	return at(&world, "folders/history.sqlite");
}

static void bring_history_back(void)
{
	if (staging_history_back(world.staging, &world.err) < 0)
		fail_msg("%s", world.err.text);
}

static void keeps_the_history(void **state)
{
	struct stat status;

	(void)state;
	assert_int_equal(staging_history(world.staging, history(), &world.err), 0);
	bring_history_back();
	assert_false(exists(&world, "folders"));
	put(&world, "w:.cellwall-history.sqlite", "first");
	put(&world, "w:.cellwall-history.sqlite-journal", "");
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 0);
	bring_history_back();
	assert_content(&world, "folders/history.sqlite", "first");
	assert_int_equal(stat(history(), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(status.st_uid, geteuid());
	begin_again();
	assert_int_equal(staging_history(world.staging, history(), &world.err), 0);
	assert_content(&world, "w:.cellwall-history.sqlite", "first");
	assert_int_equal(stat(at(&world, "w:.cellwall-history.sqlite"), &status), 0);
	assert_int_equal(status.st_uid, geteuid() == 0 ? FOREIGN : geteuid());
	put(&world, "w:.cellwall-history.sqlite", "first, second");
	/* killed: the recovery brings it back */
	world.staging = staging_free(world.staging);
	assert_int_equal(
		staging_recover(world.state, world.out, 0, 0, NULL, NULL, NULL, NULL, &world.err),
		0);
	assert_content(&world, "folders/history.sqlite", "first, second");
	begin_again();
}

static void keeps_the_history_of_another_kernel(void **state)
{
	struct staging *other = NULL;
	char path[PATH_MAX];

	(void)state;
	put(&world, "folders/history.sqlite", "before");
	assert_int_equal(staging_create(world.state, world.out, world_owner(), BYTES, FILES, &other,
					&world.err),
			 0);
	assert_int_equal(staging_history(world.staging, history(), &world.err), 0);
	assert_int_equal(staging_history(other, history(), &world.err), 0);
	put(&world, "w:.cellwall-history.sqlite", "of one");
	snprintf(path, sizeof(path), "%s/.cellwall-history.sqlite", staging_work(other));
	put_bytes(path, "of the other", 12);
	bring_history_back();
	assert_int_equal(staging_history_back(other, &world.err), -EBUSY);
	assert_content(&world, "folders/history.sqlite", "of one");
	assert_int_equal(staging_remove(other, &world.err), 0);
	(void)staging_free(other);
}

static void takes_no_bad_history(void **state)
{
	char inside[PATH_MAX];
	struct stat status;
	int fd;

	(void)state;
	put(&world, "folders/history.sqlite", "before");
	put(&world, "secret", "not for the kernel");
	assert_int_equal(staging_history(world.staging, history(), &world.err), 0);
	snprintf(inside, sizeof(inside), "%s", at(&world, "w:.cellwall-history.sqlite"));
	/* a link of the kernel's */
	assert_int_equal(unlink(inside), 0);
	assert_int_equal(symlink(at(&world, "secret"), inside), 0);
	assert_true(staging_history_back(world.staging, &world.err) < 0);
	assert_content(&world, "folders/history.sqlite", "before");
	/* too large, sparse */
	assert_int_equal(unlink(inside), 0);
	put(&world, "w:.cellwall-history.sqlite", "x");
	assert_int_equal(truncate(inside, (off_t)HISTORY_MAX + 1), 0);
	assert_int_equal(staging_history_back(world.staging, &world.err), -EFBIG);
	/* cut short */
	put(&world, "w:.cellwall-history.sqlite", "half");
	put(&world, "w:.cellwall-history.sqlite-journal", "rollback");
	assert_int_equal(staging_history_back(world.staging, &world.err), -EINPROGRESS);
	assert_content(&world, "folders/history.sqlite", "before");
	assert_int_equal(unlink(at(&world, "w:.cellwall-history.sqlite-journal")), 0);
	/* a fifo, which must not hang anybody */
	assert_int_equal(unlink(inside), 0);
	assert_int_equal(mkfifo(inside, 0666), 0);
	assert_true(staging_history_back(world.staging, &world.err) < 0);
	if (geteuid() == 0) {
		/* somebody else's file under that name */
		assert_int_equal(unlink(inside), 0);
		put_bytes(inside, "theirs", 6);
		assert_int_equal(staging_history_back(world.staging, &world.err), -EINVAL);
	}
	assert_content(&world, "folders/history.sqlite", "before");
	assert_int_equal(lstat(history(), &status), 0);
	/* on the way in */
	begin_again();
	assert_int_equal(unlink(history()), 0);
	assert_int_equal(symlink(at(&world, "secret"), history()), 0);
	assert_int_equal(staging_history(world.staging, history(), &world.err), -ELOOP);
	assert_int_equal(unlink(history()), 0);
	fd = open(history(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, (off_t)HISTORY_MAX + 1), 0);
	close(fd);
	assert_int_equal(staging_history(world.staging, history(), &world.err), -EFBIG);
	assert_false(exists(&world, "w:.cellwall-history.sqlite"));
	bring_history_back();
}

/* ---- a kernel that runs ---- */

struct kernels {
	size_t count;
	char id[64];
};

static void log_kernel(void *arg, const struct running_kernel *kernel)
{
	struct kernels *kernels = arg;

	kernels->count++;
	snprintf(kernels->id, sizeof(kernels->id), "%s", kernel->id);
	assert_string_equal(kernel->out, world.out);
	assert_true(kernel->started > 1000000000);
}

static const char *running_id(void)
{
	static struct kernels kernels;

	memset(&kernels, 0, sizeof(kernels));
	assert_int_equal(running_list(world.state, world.out, log_kernel, &kernels, &world.err), 0);
	assert_int_equal(kernels.count, 1);
	return kernels.id;
}

static void log_file(void *arg, const struct running_file *file)
{
	char line[400];

	snprintf(line, sizeof(line), "%d %d %s", (int)file->kind, (int)file->size,
		 file->origin ? file->origin : "");
	world_log(arg, file->path, line);
}

#define assert_kind(files, name, kind) assert_refused(files, name, kind)

static void lists_what_is_inside(void **state)
{
	struct world files = {0};
	char expected[64];

	(void)state;
	put(&world, "data/x", "12345");
	assert_int_equal(staging_place(world.staging, "staging/in/x", false, &world.err), 0);
	assert_int_equal(staging_note(world.staging, "staging/in/x", at(&world, "data/x")), 0);
	assert_int_equal(staging_place(world.staging, "data", true, &world.err), 0);
	assert_int_equal(staging_note(world.staging, "data", at(&world, "data")), 0);
	put(&world, "w:old.csv", "1");
	put(&world, "w:changed.csv", "12");
	assert_collects(&world, 2);
	put(&world, "w:changed.csv", "1234");
	put(&world, "w:sub/new.csv", "123");
	put(&world, "w:__pycache__/x.pyc", "123");
	put(&world, "w:.cellwall-history.sqlite", "123");
	put(&world, "w:.hidden/x", "123");
	assert_int_equal(symlink("/etc", at(&world, "w:link")), 0);
	assert_int_equal(
		running_files(world.state, running_id(), 100, log_file, &files, &world.err), 0);
	assert_int_equal(files.refused, 7);
	snprintf(expected, sizeof(expected), "%d 5 ", RUNNING_STAGED);
	assert_kind(&files, "staging/in/x", expected);
	assert_kind(&files, "staging/in/x", at(&world, "data/x"));
	snprintf(expected, sizeof(expected), "%d 1 ", RUNNING_COLLECTED);
	assert_kind(&files, "old.csv", expected);
	snprintf(expected, sizeof(expected), "%d 4 ", RUNNING_CHANGED);
	assert_kind(&files, "changed.csv", expected);
	snprintf(expected, sizeof(expected), "%d 3 ", RUNNING_NEW);
	assert_kind(&files, "sub/new.csv", expected);
	assert_kind(&files, ".hidden", "hidden");
	assert_kind(&files, "link", "symbolic link");
	assert_non_null(world_reason(&files, "data"));
	world_forget(&files);
	assert_int_equal(running_files(world.state, running_id(), 3, log_file, &files, &world.err),
			 -E2BIG);
	world_forget(&files);
	assert_int_equal(running_files(world.state, "../x", 3, log_file, &files, NULL), -EINVAL);
	/* nobody holds it: no kernel */
	world.staging = staging_free(world.staging);
	files.refused = 0;
	assert_int_equal(running_list(world.state, NULL, NULL, NULL, &world.err), 0);
	begin_again();
}

static bool stop_at_once(void *arg, uint64_t done, uint64_t size)
{
	(void)arg;
	assert_true(done <= size);
	return false;
}

static int get_to(const char *path, int target, const char *name)
{
	return running_get(world.state, running_id(), path, target, name, NULL, NULL, &world.err);
}

static void gets_one_file(void **state)
{
	int target = open(world.project, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;

	(void)state;
	put(&world, "w:sub/r.csv", "result");
	put(&world, "secret", "not for the kernel");
	assert_int_equal(symlink(at(&world, "secret"), at(&world, "w:link")), 0);
	assert_int_equal(symlink(world.base, at(&world, "w:dirlink")), 0);
	assert_int_equal(mkfifo(at(&world, "w:fifo"), 0666), 0);
	assert_int_equal(staging_place(world.staging, "staged", false, &world.err), 0);
	settle();
	assert_int_equal(get_to("sub/r.csv", target, "mine.csv"), 0);
	assert_content(&world, "project/mine.csv", "result");
	assert_int_equal(get_to("sub/r.csv", target, "mine.csv"), -EEXIST);
	assert_int_equal(get_to("link", target, "x"), -ELOOP);
	assert_true(get_to("dirlink/secret", target, "x") < 0);
	assert_int_equal(get_to("fifo", target, "x"), -EINVAL);
	assert_true(get_to("sub", target, "x") < 0);
	assert_int_equal(get_to("staged", target, "x"), -ENOENT);
	assert_int_equal(get_to("../out", target, "x"), -EINVAL);
	assert_int_equal(get_to("/etc/passwd", target, "x"), -EINVAL);
	assert_int_equal(get_to("", target, "x"), -EINVAL);
	assert_int_equal(get_to("sub//r.csv", target, "x"), -EINVAL);
	assert_int_equal(running_get(world.state, running_id(), "sub/r.csv", target, "x",
				     stop_at_once, NULL, &world.err),
			 -ECANCELED);
	fd = open(at(&world, "w:sub/r.csv"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(get_to("sub/r.csv", target, "x"), -EBUSY);
	close(fd);
	if (geteuid() == 0) {
		put_bytes(at(&world, "w:theirs"), "1", 1);
		assert_int_equal(get_to("theirs", target, "x"), -EPERM);
	}
	assert_false(exists(&world, "project/x"));
	assert_int_equal(count_names(world.project, COPY_PREFIX), 0);
	close(target);
}

static int put_from(const char *source, const char *path)
{
	int fd = open(at(&world, source), O_RDONLY | O_CLOEXEC);
	int r = running_put(world.state, running_id(), fd, path, NULL, NULL, &world.err);

	close(fd);
	return r;
}

static void puts_one_file(void **state)
{
	struct stat status;

	(void)state;
	put(&world, "input.csv", "from the host");
	assert_int_equal(symlink(world.base, at(&world, "w:link")), 0);
	assert_int_equal(put_from("input.csv", "new/dir/input.csv"), 0);
	assert_content(&world, "w:new/dir/input.csv", "from the host");
	assert_int_equal(lstat(at(&world, "w:new/dir/input.csv"), &status), 0);
	assert_int_equal(status.st_uid, geteuid() == 0 ? FOREIGN : geteuid());
	assert_int_equal(lstat(at(&world, "w:new/dir"), &status), 0);
	assert_int_equal(status.st_uid, geteuid() == 0 ? FOREIGN : geteuid());
	/* it is no result, until the kernel changes it */
	assert_collects(&world, 0);
	assert_int_equal(put_from("input.csv", "new/dir/input.csv"), -EEXIST);
	assert_true(put_from("input.csv", "link/planted") < 0);
	assert_false(exists(&world, "planted"));
	assert_int_equal(put_from("input.csv", "link"), -EEXIST);
	assert_int_equal(put_from("input.csv", "a/../../x"), -EINVAL);
	assert_int_equal(put_from("input.csv", "/x"), -EINVAL);
	put(&world, "w:new/dir/input.csv", "changed");
	assert_collects(&world, 1);
	assert_content(&world, "o:new/dir/input.csv", "changed");
}

#define fresh(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

static int run_group(const char *name)
{
	const struct CMUnitTest tests[] = {
		fresh(keeps_names_that_tools_act_on),
		fresh(lets_out_what_the_policy_names),
		fresh(remembers_names_for_a_recovery),
		fresh(flags_what_runs_when_opened),
		fresh(takes_no_copy_for_a_result),
		fresh(counts_only_what_is_new),
		fresh(keeps_what_the_host_changed_meanwhile),
		fresh(compares_on_after_a_deadline),
		fresh(takes_whiteouts_as_deletions),
		fresh(trusts_no_silence_below_out),
		fresh(takes_nothing_given_for_a_result),
		fresh(keeps_the_history),
		fresh(keeps_the_history_of_another_kernel),
		fresh(takes_no_bad_history),
		fresh(lists_what_is_inside),
		fresh(gets_one_file),
		fresh(puts_one_file),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	return world_run(run_group);
}
