/*
 * state: where private directories are. Apart from what works in one: a statically linked program,
 * as the sandbox is, must not ask for users by name.
 */
#include <errno.h>
#include <pwd.h>
#include <unistd.h>

#include "sandbox/staging.h"

int staging_state_directory(char **ret, struct err *err)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	struct passwd entry, *found = NULL;
	char buffer[4096], *path;

	/* a relative path is to be ignored (XDG Base Directory Specification) */
	if (state && state[0] == '/') {
		path = format_string("%s/cellwall/kernels", state);
	} else {
		if ((!home || home[0] != '/') &&
		    getpwuid_r(geteuid(), &entry, buffer, sizeof(buffer), &found) == 0 && found)
			home = found->pw_dir;
		if (!home || home[0] != '/')
			return err_set(err, -ENOENT, "no home directory: set XDG_STATE_HOME");
		path = format_string("%s/.local/state/cellwall/kernels", home);
	}
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	*ret = path;
	return 0;
}
