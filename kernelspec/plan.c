#include "kernelspec/plan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/files.h"
#include "kernelspec/search.h"

#define REMOVE_DEPTH_MAX 4 /* a kernelspec is flat; its resources may be a small tree */

static const char *const logos[] = {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"};

void plan_done(struct plan *plan)
{
	free_ptr(&plan->name);
	free_ptr(&plan->display_name);
	free_ptr(&plan->language);
	free_ptr(&plan->interrupt_mode);
	free_ptr(&plan->wraps);
	free_ptr(&plan->policy);
	free_ptr(&plan->environment);
	paths_list_done(&plan->shows);
	paths_list_done(&plan->setenv);
	paths_list_done(&plan->argv);
	paths_list_done(&plan->notices);
	*plan = (struct plan){0};
}

void plan_notice(struct plan *plan, const char *format, ...)
{
	char *line = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&line, format, args) >= 0) {
		(void)paths_list_add(&plan->notices, line);
		free(line);
	}
	va_end(args);
}

int plan_check_names(const struct plan *plan, struct err *err)
{
	static const char *const taken[] = {"python", "python2", "python3"};
	char shown[128];

	if (!search_valid_name(plan->name))
		return err_set(err, -EINVAL,
			       "%s cannot be the name of a kernelspec: letters, digits, '.', '_' "
			       "and '-' only",
			       escape_string(shown, sizeof(shown), plan->name));
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (strcasecmp(plan->name, taken[i]) == 0)
			return err_set(err, -EINVAL,
				       "%s is the name of Jupyter's own kernel, which clients "
				       "replace: choose "
				       "another, for example %s-isolated",
				       plan->name, plan->name);
	if (strcasecmp(plan->display_name, "Python 3 (ipykernel)") == 0 ||
	    strcasecmp(plan->display_name, "Python 3") == 0)
		return err_set(err, -EINVAL,
			       "%s is how Jupyter's own kernel is shown: choose another",
			       plan->display_name);
	return 0;
}

/* Appends `text` to the command; a placeholder of Jupyter's in it would be replaced behind our
 * back. */
static int add_word(json_t *argv, const char *text, struct err *err)
{
	static const char *const placeholders[] = {"{connection_file}", "{prefix}",
						   "{resource_dir}"};
	char shown[200];

	for (size_t i = 0; i < sizeof(placeholders) / sizeof(placeholders[0]); i++)
		if (strstr(text, placeholders[i]))
			return err_set(err, -EINVAL, "%s: Jupyter would replace %s in it",
				       escape_string(shown, sizeof(shown), text), placeholders[i]);
	if (json_array_append_new(argv, json_string(text)) < 0)
		return err_set(err, -EILSEQ, "%s is not UTF-8, which kernel.json needs",
			       escape_string(shown, sizeof(shown), text));
	return 0;
}

static int add_words(json_t *argv, const char *option, const struct paths_list *words,
		     struct err *err)
{
	int code = 0;

	for (size_t i = 0; i < words->count && code == 0; i++) {
		if (option)
			code = add_word(argv, option, err);
		if (code == 0)
			code = add_word(argv, words->items[i], err);
	}
	return code;
}

static int make_argv(const struct plan *plan, const char *cellwall, json_t *argv, struct err *err)
{
	int code = add_word(argv, cellwall, err);

	if (code == 0)
		code = add_word(argv, "kernel", err);
	if (code == 0)
		code = add_word(argv, "-f", err);
	if (code == 0 && json_array_append_new(argv, json_string("{connection_file}")) < 0)
		code = err_set(err, -ENOMEM, "out of memory");
	if (code == 0 && plan->policy) {
		code = add_word(argv, "--policy", err);
		if (code == 0)
			code = add_word(argv, plan->policy, err);
	}
	if (code == 0 && plan->environment) {
		code = add_word(argv, "--env", err);
		if (code == 0)
			code = add_word(argv, plan->environment, err);
	}
	if (code == 0 && plan->verify)
		code = add_word(argv, "--verify", err);
	if (code == 0 && plan->shared_environment)
		code = add_word(argv, "--shared-environment", err);
	if (code == 0)
		code = add_words(argv, "--show", &plan->shows, err);
	if (code == 0)
		code = add_words(argv, "--setenv", &plan->setenv, err);
	if (code == 0 && !plan->elsewhere)
		code = add_word(argv, "--", err);
	return code == 0 ? add_words(argv, NULL, &plan->argv, err) : code;
}

/* The object of kernel.json; `cellwall` is the absolute path of the executable. 0 or a negative
 * errno. */
static int plan_json(const struct plan *plan, const char *cellwall, json_t **ret_json,
		     struct err *err)
{
	json_t *argv = json_array(), *json;
	int code = argv ? make_argv(plan, cellwall, argv, err)
			: err_set(err, -ENOMEM, "out of memory");

	if (code < 0) {
		json_decref(argv);
		return code;
	}
	/* env is never empty, as VS Code takes a spec without one for its own. */
	json = json_pack("{s:o, s:s, s:s, s:s, s:{s:s}, s:{s:b, s:{s:s, s:s*}}}", "argv", argv,
			 "display_name", plan->display_name, "language", plan->language,
			 "interrupt_mode", plan->interrupt_mode, "env", "CELLWALL_KERNELSPEC",
			 plan->name, "metadata", "debugger", plan->debugger, "cellwall", "version",
			 CELLWALL_VERSION, "wraps", plan->wraps);
	if (!json)
		return err_set(err, -EILSEQ,
			       "the kernelspec cannot be written as JSON: a name is not UTF-8");
	*ret_json = json;
	return 0;
}

/* One file of a kernelspec: NAME from `source`, when it is there. Returns 1, 0 or a negative errno.
 */
static int copy_logo(const char *source, const char *target, const char *name, struct err *err)
{
	cleanup(free_ptr) char *from = path_join(source, name), *to = path_join(target, name),
			       *data = NULL;
	struct stat st;
	size_t size;
	int code;

	if (!from || !to)
		return err_set(err, -ENOMEM, "out of memory");
	if (stat(from, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > PLAN_LOGO_MAX)
		return 0;
	code = read_file(AT_FDCWD, from, PLAN_LOGO_MAX, &data, &size, err);
	if (code == 0)
		code = write_new_file(AT_FDCWD, to, 0644, data, size, err);
	if (code == 0 && chmod(to, 0644) < 0)
		code = err_errno(err, "cannot set the mode of %s", to);
	return code < 0 ? code : 1;
}

/* The wrapped kernel's logos, else ours. */
static int copy_logos(const struct plan *plan, const char *target, struct err *err)
{
	cleanup(free_ptr) char *logo = NULL, *share = NULL;
	int found = 0, code = 0;

	for (size_t i = 0; plan->wraps && i < sizeof(logos) / sizeof(logos[0]); i++) {
		code = copy_logo(plan->wraps, target, logos[i], err);
		if (code < 0)
			return code;
		found += code;
	}
	if (found)
		return 0;
	code = files_share(logos[0], &logo, err);
	share = code == 0 ? paths_parent(logo) : NULL;
	for (size_t i = 0; code >= 0 && share && i < sizeof(logos) / sizeof(logos[0]); i++)
		code = copy_logo(share, target, logos[i], err);
	return code < 0 ? code : 0;
}

static int fill(const struct plan *plan, const char *cellwall, const char *target, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(target, "kernel.json"), *dump = NULL, *text = NULL;
	mode_t mode = plan->mode_private ? 0600 : 0644;
	json_t *json = NULL;
	int code;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	code = plan_json(plan, cellwall, &json, err);
	if (code < 0)
		return code;
	dump = json_dumps(json, JSON_INDENT(1));
	json_decref(json);
	text = dump ? format_string("%s\n", dump) : NULL;
	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	code = write_new_file(AT_FDCWD, path, mode, text, strlen(text), err);
	if (code == 0 && chmod(path, mode) < 0)
		code = err_errno(err, "cannot set the mode of %s", path);
	if (code == 0)
		code = copy_logos(plan, target, err);
	if (code == 0 && chmod(target, 0755) < 0) /* mkdtemp(3) makes 0700 */
		code = err_errno(err, "cannot set the mode of %s", target);
	return code;
}

/* What is at the place now: 0 nothing, 1 a kernelspec of ours, or a negative errno. */
static int look_at(const char *target, struct err *err)
{
	struct search_spec spec;
	struct stat st;
	bool ours;

	if (lstat(target, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, "%s", target);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -EEXIST, "%s exists and is no directory: choose another --name",
			       target);
	if (rmdir(target) == 0)
		return 0; /* it was empty */
	if (search_read(target, &spec, NULL) < 0)
		return err_set(err, -EEXIST,
			       "%s exists and was not made by cellwall: choose another --name",
			       target);
	ours = search_is_ours(&spec);
	search_done(&spec);
	if (!ours)
		return err_set(err, -EEXIST,
			       "%s exists and was not made by cellwall: choose another --name",
			       target);
	return 1;
}

/* Puts the finished directory in its place; what was there is then in `fresh`, to be removed. */
static int put(const char *fresh, const char *target, bool replace, struct err *err)
{
	if (!replace) {
		if (rename(fresh, target) < 0)
			return err_errno(err, "cannot write %s", target);
		return 0;
	}
	if (renameat2(AT_FDCWD, fresh, AT_FDCWD, target, RENAME_EXCHANGE) == 0)
		return plan_remove(fresh, err);
	/* A file system that cannot exchange, as NFS: a moment without the old one. */
	if (errno != EINVAL && errno != ENOSYS)
		return err_errno(err, "cannot replace %s", target);
	if (plan_remove(target, err) < 0)
		return err ? err->code : -EIO;
	return rename(fresh, target) < 0 ? err_errno(err, "cannot write %s", target) : 0;
}

int plan_write(const struct plan *plan, const char *cellwall, const char *directory,
	       char **ret_path, struct err *err)
{
	cleanup(free_ptr) char *target = path_join(directory, plan->name);
	cleanup(free_ptr) char *fresh = path_join(directory, ".cellwall-XXXXXX");
	int code, there;

	if (!target || !fresh)
		return err_set(err, -ENOMEM, "out of memory");
	code = plan_check_names(plan, err);
	if (code == 0)
		code = make_directories(directory, 0755, err);
	if (code < 0)
		return code;
	there = look_at(target, err);
	if (there < 0)
		return there;
	if (!mkdtemp(fresh))
		return err_errno(err, "cannot write to %s", directory);
	code = fill(plan, cellwall, fresh, err);
	if (code == 0)
		code = put(fresh, target, there == 1, err);
	if (code < 0) {
		(void)plan_remove(fresh, NULL);
		return code;
	}
	*ret_path = steal_ptr(&target);
	return 0;
}

/* Everything in an open directory; links are removed, never followed. */
static int empty_directory(int fd, unsigned depth, struct err *err)
{
	int copy = dup(fd);
	DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *entry;
	int code = 0;

	if (!directory) {
		code = err_errno(err, "cannot list a directory");
		close_fd(&copy);
		return code;
	}
	while (code == 0 && (entry = readdir(directory))) {
		cleanup(close_fd) int child = -1;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, entry->d_name, 0) == 0)
			continue;
		child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child < 0)
			code = err_errno(err, "cannot remove a file of the kernelspec");
		else if (depth >= REMOVE_DEPTH_MAX)
			code = err_set(err, -ELOOP, "it is deeper than a kernelspec");
		else
			code = empty_directory(child, depth + 1, err);
		if (code == 0 && unlinkat(fd, entry->d_name, AT_REMOVEDIR) < 0)
			code = err_errno(err, "cannot remove a directory of the kernelspec");
	}
	closedir(directory);
	return code;
}

int plan_remove(const char *directory, struct err *err)
{
	cleanup(close_fd) int fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int code;

	if (fd < 0)
		return err_errno(err, "cannot open %s", directory);
	/* First the file that makes it a kernelspec: half removed, it is none. */
	if (unlinkat(fd, "kernel.json", 0) < 0 && errno != ENOENT)
		return err_errno(err, "cannot remove %s/kernel.json", directory);
	code = empty_directory(fd, 0, err);
	if (code < 0) {
		err_wrap(err, "%s", directory);
		return code;
	}
	return rmdir(directory) < 0 ? err_errno(err, "cannot remove %s", directory) : 0;
}
