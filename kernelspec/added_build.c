/*
 * added_build: from what a cell asks for to a generation of what was added, and to the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "kernelspec/added.h"
#include "kernelspec/env.h"
#include "sandbox/process.h"

#define LOCK_BYTES  (1u << 20)
#define BUSY_MS	    200
#define BUSY_ROUNDS 300 /* a minute, for another kernel of the folder */

/* What was asked for before, and now. Caller frees; NULL: no memory. */
static char *all_lines(const char *before, const char *lines)
{
	char *all = strdup(before);

	while (all && *lines) {
		if (env_add_line(&all, lines) < 0)
			free_ptr(&all);
		lines += strcspn(lines, "\n");
		lines += *lines == '\n';
	}
	return all;
}

/* A kernel of an older generation does not take back what was fitted to a newer one. */
static bool is_newest(const struct env_base *base)
{
	struct sealed sealed;
	bool same;

	if (sealed_find(base->name, 0, true, &sealed, NULL) < 0)
		return false;
	same = strcmp(sealed.hash, base->hash) == 0;
	sealed_done(&sealed);
	return same;
}

/* All that was asked for before is resolved anew, under the policy of now. */
static int judge_before(const struct addition *addition, const char *asked, struct err *err)
{
	int r = 0;

	while (r == 0 && *asked) {
		const size_t size = strcspn(asked, "\n");
		cleanup(free_ptr) char *line = strndup(asked, size);

		r = line ? install_judge(&addition->policy->install, line, err)
			 : err_set(err, -ENOMEM, "out of memory");
		asked += size + (asked[size] == '\n');
	}
	return r == -EACCES ? err_wrap(err,
				       "the environment has changed, and what was asked for "
				       "earlier is installed anew (cellwall env remove %s outside "
				       "takes it away)",
				       addition->added->name)
			    : r;
}

static int64_t build(const struct addition *addition, const struct sealed *before,
		     json_t **ret_record, struct err *err)
{
	cleanup(free_ptr) char *tree = NULL, *lock = NULL, *lock_path = NULL, *lines = NULL;
	const char *asked = json_string_value(json_object_get(before->record, "requirements"));
	struct env_base base = addition->base;
	const struct paths_list none = {0};
	struct env_wanted wanted = {
		.name = addition->added->name,
		.requirements = addition->lines,
		.uv = addition->uv,
		.hosts = &none,
		.policy = addition->policy,
		.base = &base,
	};
	int64_t number;

	if (before->directory) {
		tree = path_join(before->directory, "tree");
		lock_path = path_join(before->directory, "lock");
		if (!tree || !lock_path)
			return err_set(err, -ENOMEM, "out of memory");
		if (read_file(AT_FDCWD, lock_path, LOCK_BYTES, &lock, NULL, err) < 0)
			return err->code;
	}
	lines = all_lines(asked ? asked : "", addition->lines);
	if (!lines)
		return err_set(err, -ENOMEM, "out of memory");
	base.number = before->number;
	base.before = tree;
	base.lock = lock;
	base.requirements = lines;
	/* What was asked for before may need more of another base, or less. */
	base.changed = added_base_changed(before, base.hash) && is_newest(&base);
	if (!base.changed)
		return env_build(&wanted, ret_record, err);
	wanted.requirements = lines;
	if (judge_before(addition, asked ? asked : "", err) < 0)
		return err->code;
	number = env_build(&wanted, ret_record, err);
	if (number == -ECHILD)
		printf("what was asked for earlier was to be installed anew too, for the "
		       "environment has changed: cellwall env remove %s outside takes it away\n",
		       addition->added->name);
	return number;
}

/* On top of the newest there is, which another kernel of the folder may just be making. */
static int64_t build_on_newest(const struct addition *addition, json_t **ret_record,
			       struct err *err)
{
	int64_t number = -EBUSY;

	for (int i = 0; i < BUSY_ROUNDS && number == -EBUSY; i++) {
		struct sealed before;
		int r = sealed_find(addition->added->name, 0, false, &before, err);

		if (r < 0 && r != -ENOENT)
			return r;
		if (i > 0)
			(void)poll(NULL, 0, BUSY_MS);
		if (process_interrupted()) {
			sealed_done(&before);
			return err_set(err, -EINTR, "interrupted: nothing was changed");
		}
		json_decref(*ret_record);
		*ret_record = NULL;
		number = build(addition, &before, ret_record, err);
		sealed_done(&before);
	}
	return number;
}

int added_build(const struct addition *addition)
{
	const char *name = addition->added->name;
	struct sealed sealed;
	json_t *record = NULL;
	struct err err = {0};
	int64_t number = build_on_newest(addition, &record, &err);
	int r = 0;

	if (record)
		env_say_reached(record);
	json_decref(record);
	if (number < 0) {
		(void)env_fail("%s", err.text);
		return number == -EINTR ? 130 : 1;
	}
	/* Nothing new may still be new to this kernel: another one of the folder had it installed.
	 */
	if (sealed_find(name, (uint64_t)number, false, &sealed, &err) < 0)
		return number == 0 ? 0 : env_fail("%s", err.text);
	if (number > 0)
		printf("%s: generation %" PRId64 " (outside: cellwall env show %s)\n", name, number,
		       name);
	r = added_publish(addition->added->held, sealed.held, addition->number, &err);
	/* An older generation may go; a build beside this one is no reason to fail. */
	(void)sealed_collect(sealed.store, NULL, NULL);
	sealed_done(&sealed);
	return r < 0 ? env_fail("%s", err.text) : 0;
}
