#include "kernelspec/server.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "kernelspec/search.h"

#define NAME	 "jupyter_config.json"
#define FILE_MAX (1024 * 1024)

static const char note[] = "written by cellwall install --server-config, which replaces it as long "
			   "as this member is there";

/*
 * Connection-Allowlist (Chrome 152): nothing but this server can be reached, not by WebRTC and not
 * by looking up a name either. A login form answers with a redirect, which it would block.
 * X-DNS-Prefetch-Control: no name is looked up because a link to it is shown (Firefox).
 * Referrer-Policy: not no-referrer, the server wants to see where a download was asked for.
 * Content-Security-Policy: replaces the server's own, whose frame-ancestors is repeated. JupyterLab
 * needs inline scripts and eval; so do frames in interactive mode, which inherit it.
 */
static const char *const headers[][2] = {
	{"Connection-Allowlist", "(response-origin);redirects=allow;webrtc=block"},
	{"X-DNS-Prefetch-Control", "off"},
	{"Referrer-Policy", "same-origin"},
	{"Content-Security-Policy",
	 "frame-ancestors 'self'; default-src 'self'; script-src 'self' 'unsafe-inline' "
	 "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src "
	 "'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
	 "frame-src 'self' blob:; object-src 'self' blob:; form-action 'self'; base-uri 'self'"},
};

char *server_text(void)
{
	json_t *set = json_object(), *whole;
	char *text;

	for (size_t i = 0; set && i < sizeof(headers) / sizeof(headers[0]); i++)
		(void)json_object_set_new(set, headers[i][0], json_string(headers[i][1]));
	whole = json_pack("{s:s, s:{s:{s:o}}}", "cellwall", note, "ServerApp", "tornado_settings",
			  "headers", set);
	text = whole ? json_dumps(whole, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
	json_decref(whole);
	return text;
}

char *server_directory(const char *prefix)
{
	const char *named = getenv("JUPYTER_CONFIG_DIR"),
		   *platform = getenv("JUPYTER_PLATFORM_DIRS");
	const char *config = getenv("XDG_CONFIG_HOME");
	cleanup(free_ptr) char *home = NULL;

	if (prefix)
		return path_join(prefix, "etc/jupyter");
	if (named && *named)
		return paths_absolute(named);
	home = paths_home();
	if (!home)
		return NULL;
	/* jupyter_core's envset: anything but these */
	if (!platform || !*platform || strcasecmp(platform, "no") == 0 ||
	    strcasecmp(platform, "n") == 0 || strcasecmp(platform, "false") == 0 ||
	    strcasecmp(platform, "off") == 0 || strcmp(platform, "0") == 0 ||
	    strcmp(platform, "0.0") == 0)
		return path_join(home, ".jupyter");
	return config && config[0] == '/' ? path_join(config, "jupyter")
					  : path_join(home, ".config/jupyter");
}

/* Returns 1 when the file is ours, 0 when it is another, -ENOENT when there is none. */
static int look(const char *path)
{
	cleanup(free_ptr) char *text = NULL;
	json_t *whole;
	size_t size;
	int ours;

	if (access(path, F_OK) < 0 && errno == ENOENT)
		return -ENOENT;
	if (read_file(AT_FDCWD, path, FILE_MAX, &text, &size, NULL) < 0)
		return 0;
	whole = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	ours = json_is_string(json_object_get(whole, "cellwall"));
	json_decref(whole);
	return ours;
}

static int refuse(const char *path, struct err *err)
{
	return err_set(err, -EEXIST,
		       "%s is not of cellwall and stays as it is: put into it what cellwall "
		       "install --server-config=- prints",
		       path);
}

int server_write(const char *directory, char **ret_path, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(directory, NAME), *text = server_text();
	cleanup(free_ptr) char *line = text ? format_string("%s\n", text) : NULL;
	cleanup(free_ptr) char *fresh =
		path ? format_string("%s.%d.new", path, (int)getpid()) : NULL;
	int code;

	if (!line || !fresh)
		return err_set(err, -ENOMEM, "out of memory");
	if (look(path) == 0)
		return refuse(path, err);
	code = make_directories(directory, 0755, err);
	if (code == 0)
		code = write_new_file(AT_FDCWD, fresh, 0644, line, strlen(line), err);
	if (code < 0)
		return code;
	if (rename(fresh, path) < 0) {
		code = err_errno(err, "cannot write %s", path);
		(void)unlink(fresh);
		return code;
	}
	*ret_path = steal_ptr(&path);
	return 0;
}

int server_remove(const char *directory, char **ret_path, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(directory, NAME);
	int ours;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	ours = look(path);
	if (ours < 0)
		return err_set(err, -ENOENT, "there is no %s", path);
	if (!ours)
		return err_set(err, -EEXIST, "%s is not of cellwall and stays as it is", path);
	if (unlink(path) < 0)
		return err_errno(err, "cannot remove %s", path);
	*ret_path = steal_ptr(&path);
	return 0;
}

/* Is one of ours in this directory? Takes `directory`. Returns 1, 0 or -ENOMEM. */
static int find_in(char *directory, char **ret_path)
{
	cleanup(free_ptr) char *held = directory;
	cleanup(free_ptr) char *path = held ? path_join(held, NAME) : NULL;

	if (!path)
		return -ENOMEM;
	if (look(path) != 1)
		return 0;
	*ret_path = steal_ptr(&path);
	return 1;
}

int server_find(char **ret_path)
{
	static const char *const shared[] = {"/usr/local/etc/jupyter", "/etc/jupyter"};
	const char *search = getenv("JUPYTER_CONFIG_PATH");
	cleanup(free_ptr) char *prefix = NULL;
	int code = find_in(server_directory(NULL), ret_path);

	while (code == 0 && search && *search) {
		const size_t size = strcspn(search, ":");

		if (size > 0)
			code = find_in(strndup(search, size), ret_path);
		search += size + (search[size] == ':');
	}
	if (code == 0 && search_jupyter_prefix(&prefix, NULL) == 0)
		code = find_in(server_directory(prefix), ret_path);
	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]) && code == 0; i++)
		code = find_in(strdup(shared[i]), ret_path);
	return code;
}
