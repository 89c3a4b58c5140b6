#include "kernelspec/paths.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHEBANG_MAX 2048 /* two lines of a script: far above the 256 bytes execve(2) reads */

int paths_id(const char *path, char out[PATHS_ID + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned size = 0;

	if (EVP_Digest(path, strlen(path), digest, &size, EVP_sha256(), NULL) != 1 ||
	    size * 2 != PATHS_ID)
		return -ENOMEM;
	for (unsigned i = 0; i < size; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

char *paths_parent(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

const char *paths_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool paths_within(const char *path, const char *directory)
{
	size_t size = strlen(directory);

	if (strcmp(directory, "/") == 0)
		return path[0] == '/';
	return strncmp(path, directory, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

/* Is ".." one of the components? */
static bool has_parent_step(const char *path)
{
	for (const char *at = path; (at = strstr(at, "..")); at += 2) {
		bool starts = at == path || at[-1] == '/';

		if (starts && (at[2] == '\0' || at[2] == '/'))
			return true;
	}
	return false;
}

/* Takes "//", "/./" and trailing "/" and "/." out, in place. */
static void squeeze(char *path)
{
	char *out = path;

	for (const char *in = path; *in;) {
		size_t size;

		if (*in == '/') {
			in++;
			continue;
		}
		size = strcspn(in, "/");
		if (!(size == 1 && in[0] == '.')) {
			*out++ = '/';
			memmove(out, in, size);
			out += size;
		}
		in += size;
	}
	if (out == path)
		*out++ = '/';
	*out = '\0';
}

char *paths_absolute(const char *path)
{
	cleanup(free_ptr) char *full = NULL, *parent = NULL, *real = NULL;
	char cwd[PATH_MAX];

	if (path[0] == '/') {
		full = strdup(path);
	} else {
		if (!getcwd(cwd, sizeof(cwd)))
			return NULL;
		full = format_string("%s/%s", cwd, path);
	}
	if (!full)
		return NULL;
	squeeze(full);
	if (!has_parent_step(full))
		return steal_ptr(&full);
	if (strcmp(paths_name(full), "..") == 0)
		return realpath(full, NULL);
	parent = paths_parent(full);
	real = parent ? realpath(parent, NULL) : NULL;
	return real ? path_join(real, paths_name(full)) : NULL;
}

char *paths_real(const char *path)
{
	char *real = realpath(path, NULL);

	return real ? real : strdup(path);
}

bool paths_exists(const char *directory, const char *name)
{
	cleanup(free_ptr) char *path = path_join(directory, name);

	return path && access(path, F_OK) == 0;
}

bool paths_is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *paths_home(void)
{
	const char *home = getenv("HOME");
	const struct passwd *entry;
	char *copy;

	if (!home || home[0] != '/') {
		entry = getpwuid(geteuid());
		home = entry && entry->pw_dir && entry->pw_dir[0] == '/' ? entry->pw_dir : "/";
	}
	copy = strdup(home);
	if (copy)
		squeeze(copy);
	return copy;
}

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *paths_program(const char *directory, const char *name, bool (*accept)(const char *path))
{
	cleanup(free_ptr) char *path = path_join(directory, name);
	cleanup(free_ptr) char *absolute = path ? paths_absolute(path) : NULL;

	return absolute && is_program(absolute) && (!accept || accept(absolute))
		       ? steal_ptr(&absolute)
		       : NULL;
}

char *paths_search(const char *search, const char *name, bool (*accept)(const char *path))
{
	while (search && *search) {
		size_t size = strcspn(search, ":");
		cleanup(free_ptr) char *directory = strndup(search, size);
		char *found = NULL;

		/* An empty entry means the working directory (environ(7)): nothing of ours is taken
		 * from there. */
		if (directory && directory[0] == '/')
			found = paths_program(directory, name, accept);
		if (found)
			return found;
		search += size + (search[size] == ':');
	}
	return NULL;
}

/* The first word of `text`, in double quotes or ended by white space. */
static char *first_word(const char *text)
{
	size_t size;

	text += strspn(text, " \t");
	if (*text == '"') {
		size = strcspn(text + 1, "\"\n");
		return text[1 + size] == '"' ? strndup(text + 1, size) : NULL;
	}
	size = strcspn(text, " \t\r\n");
	return size > 0 ? strndup(text, size) : NULL;
}

/* "#!/bin/sh\n'''exec' /long/path/python "$0" "$@"": what pip and uv write for long paths. */
static char *second_line_exec(const char *text)
{
	static const char mark[] = "'''exec' ";
	const char *line = strchr(text, '\n');

	if (!line || strncmp(line + 1, mark, sizeof(mark) - 1) != 0)
		return NULL;
	return first_word(line + sizeof(mark));
}

int paths_shebang(const char *script, char **ret_interpreter)
{
	cleanup(close_fd) int fd = open(script, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	cleanup(free_ptr) char *word = NULL;
	char text[SHEBANG_MAX + 1];
	ssize_t size;
	const char *rest;

	if (fd < 0)
		return -errno;
	size = read(fd, text, SHEBANG_MAX);
	if (size < 0)
		return -errno;
	text[size] = '\0';
	if (size < 2 || text[0] != '#' || text[1] != '!')
		return 0;
	word = second_line_exec(text);
	if (!word)
		word = first_word(text + 2);
	if (!word)
		return -ENOEXEC;
	if (strcmp(paths_name(word), "env") == 0) {
		rest = strstr(text + 2, word) + strlen(word);
		rest += strspn(rest, " \t");
		if (strncmp(rest, "-S", 2) == 0)
			rest += 2;
		free_ptr(&word);
		word = first_word(rest);
		if (!word)
			return -ENOEXEC;
	}
	*ret_interpreter = steal_ptr(&word);
	return 1;
}

int paths_list_add(struct paths_list *list, const char *text)
{
	char **items;

	if (list->count >= PATHS_LIST_MAX)
		return -E2BIG;
	items = realloc(list->items, (list->count + 2) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	items[list->count] = strdup(text);
	items[list->count + 1] = NULL;
	if (!items[list->count])
		return -ENOMEM;
	list->count++;
	return 0;
}

void paths_list_done(struct paths_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct paths_list){0};
}
