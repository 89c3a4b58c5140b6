#include "kernelspec/bytecode.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/environment.h"
#include "kernelspec/paths.h"
#include "kernelspec/warm.h"

#define PACKAGES_MAX 1024 /* that are looked at */

/* Where the packages are, and what compiles them. */
struct library {
	char *site;
	char *tag;    /* cpython-311 */
	char *python; /* the system's; NULL: it has none of this version */
};

static void library_done(struct library *library)
{
	free_ptr(&library->site);
	free_ptr(&library->tag);
	free_ptr(&library->python);
}

/* Nobody but root can have put it there. Caller frees; NULL: there is no such program. */
static char *system_python(const char *home, const char *version)
{
	cleanup(free_ptr) char *named = format_string("%s/python3.%s", home, version);
	cleanup(free_ptr) char *real = named ? realpath(named, NULL) : NULL;
	struct stat status;

	if (!real || !paths_within(real, "/usr") || stat(real, &status) < 0 || status.st_uid != 0 ||
	    (status.st_mode & (S_IWGRP | S_IWOTH)) || !S_ISREG(status.st_mode))
		return NULL;
	return steal_ptr(&real);
}

/* ROOT/lib/python3.N/site-packages. Returns 1, 0 when there is none, or -ENOMEM. */
static int find_library(const struct environment *environment, struct library *ret_library)
{
	cleanup(free_ptr) char *top = path_join(environment->root, "lib");
	DIR *directory = top ? opendir(top) : NULL;
	const struct dirent *entry;
	int r = 0;

	while (directory && r == 0 && (entry = readdir(directory))) {
		const char *version = entry->d_name + 8;
		cleanup(library_done) struct library library = {0};

		if (strncmp(entry->d_name, "python3.", 8) != 0 ||
		    strspn(version, "0123456789") != strlen(version) || !*version)
			continue;
		library.site = format_string("%s/%s/site-packages", top, entry->d_name);
		library.tag = format_string("cpython-3%s", version);
		if (!library.site || !library.tag)
			r = -ENOMEM;
		else if (paths_is_directory(library.site)) {
			if (environment->home)
				library.python = system_python(environment->home, version);
			*ret_library = library;
			library = (struct library){0};
			r = 1;
		}
	}
	if (directory)
		closedir(directory);
	return r;
}

/* Is there a package without bytecode? Its first file stands for all. */
static bool is_cold(const struct library *library)
{
	DIR *directory = opendir(library->site);
	const struct dirent *entry;
	bool cold = false;

	for (int i = 0; directory && !cold && i < PACKAGES_MAX && (entry = readdir(directory));
	     i++) {
		char source[NAME_MAX + 16], compiled[NAME_MAX + 64];

		(void)snprintf(source, sizeof(source), "%s/__init__.py", entry->d_name);
		(void)snprintf(compiled, sizeof(compiled), "%s/__pycache__/__init__.%s.pyc",
			       entry->d_name, library->tag);
		cold = faccessat(dirfd(directory), source, R_OK, 0) == 0 &&
		       faccessat(dirfd(directory), compiled, F_OK, 0) < 0;
	}
	if (directory)
		closedir(directory);
	return cold;
}

static _Noreturn void run_it(const struct library *library)
{
	char *argv[] = {library->python,	(char[]){"-I"}, (char[]){"-S"}, (char[]){"-m"},
			(char[]){"compileall"}, (char[]){"-q"}, library->site,	NULL};
	char *environment[] = {(char[]){"LC_ALL=C.UTF-8"}, NULL};
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (chdir("/") == 0 && null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 &&
	    dup2(null, 2) == 2)
		(void)execve(library->python, argv, environment);
	_exit(127);
}

int bytecode_make(const char *interpreter, struct err *err)
{
	cleanup(environment_done) struct environment environment = {0};
	cleanup(library_done) struct library library = {0};
	struct stat status;
	pid_t pid;
	int r = environment_read(interpreter, &environment, err);

	if (r == 0)
		r = find_library(&environment, &library);
	if (r <= 0 || !is_cold(&library))
		return r < 0 ? r : 0;
	if (!library.python || stat(library.site, &status) < 0 || status.st_uid != geteuid() ||
	    access(library.site, W_OK) < 0)
		return err_set(err, -EPERM,
			       "packages without bytecode, which every start compiles; who may "
			       "write there does it once with: %s -m compileall -q %s",
			       interpreter, library.site);
	pid = fork();
	if (pid < 0)
		return err_errno(err, "cannot fork");
	if (pid == 0)
		run_it(&library);
	/* What does not compile is in many packages on purpose: its status says nothing. */
	r = warm_wait(pid, BYTECODE_MAKE_MS, err);
	return r < 0 ? r : 1;
}
