#include <errno.h>
#include <string.h>

#include "kernelspec/remote.h"

#define AREA_MAX 64

/* What web/areas.h takes for the name of one: printable as it is. */
static bool area_good(const char *name)
{
	size_t size = strlen(name);

	return size > 0 && size <= AREA_MAX && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
		       size;
}

bool remote_path_good(const char *path)
{
	size_t parts = 0, size = strlen(path);

	if (size == 0 || size > REMOTE_PATH_MAX)
		return false;
	for (const char *at = path; at; parts++) {
		size_t length = strcspn(at, "/");

		if (length == 0 || length > 255 || parts == REMOTE_PARTS_MAX ||
		    (at[0] == '.' && (length == 1 || (length == 2 && at[1] == '.'))))
			return false;
		for (size_t i = 0; i < length; i++)
			if ((unsigned char)at[i] < ' ' || at[i] == 0x7f)
				return false;
		at = at[length] ? at + length + 1 : NULL;
	}
	return true;
}

/* ---- which area ---- */

/* The area of the one kernel of ours whose ID begins so; borrowed. */
static const char *area_of(const json_t *answer, const char *id, struct err *err)
{
	const char *user = json_string_value(json_object_get(answer, "user")), *found = NULL;
	const json_t *kernels = json_object_get(answer, "kernels");
	json_t *kernel;
	size_t index;
	unsigned count = 0;

	json_array_foreach(kernels, index, kernel)
	{
		const char *name = json_string_value(json_object_get(kernel, "id"));
		const char *owner = json_string_value(json_object_get(kernel, "owner"));
		const char *area = json_string_value(json_object_get(kernel, "area"));

		if (!name || !area || !user || !owner || strcmp(owner, user) != 0 ||
		    strncmp(name, id, strlen(id)) != 0)
			continue;
		found = area;
		count++;
	}
	if (count == 1)
		return found;
	err_set(err, -ENOENT,
		count ? "more than one kernel of yours begins so" : "no kernel of yours begins so");
	return NULL;
}

int remote_find_area(struct remote *remote, struct err *err)
{
	static char name[AREA_MAX + 1];
	json_t *answer = NULL;
	const char *area;
	int code;

	if (remote->kernel) {
		code = remote_json(remote, "/api/wall/kernels", &answer, err);
		if (code < 0)
			return code;
		area = area_of(answer, remote->kernel, err);
		if (area)
			(void)snprintf(name, sizeof(name), "%s", area);
		json_decref(answer);
		if (!area)
			return -ENOENT;
		remote->area = name;
	}
	if (!remote->area)
		remote->area = "default";
	return area_good(remote->area)
		       ? 0
		       : err_set(err, -EINVAL,
				 "an area's name is of letters, digits, \"-\", \"_\" and \".\"");
}

/* ---- what is there ---- */

int remote_files(struct remote *remote, const char *area, json_t **ret_files, bool *ret_all,
		 struct err *err)
{
	cleanup(free_ptr) char *path = remote_path(remote, "areas", area, NULL);
	json_t *answer = NULL, *files;
	int code = remote_json(remote, path, &answer, err);

	if (code < 0)
		return code;
	files = json_object_get(answer, "files");
	if (json_is_array(files)) {
		*ret_files = json_incref(files);
		*ret_all = json_is_true(json_object_get(answer, "all"));
	} else {
		code = err_set(err, -EPROTO, "the server's answer is no list of files");
	}
	json_decref(answer);
	return code;
}

/* Whatever a server says is a size or a time is one, or left out. */
static json_t *file_json(const json_t *file)
{
	const char *path = json_string_value(json_object_get(file, "path"));
	const char *modified = json_string_value(json_object_get(file, "modified"));
	json_int_t size = json_integer_value(json_object_get(file, "size"));

	return path ? json_pack("{s:s, s:I, s:s}", "path", path, "size", size > 0 ? size : 0,
				"modified", modified ? modified : "")
		    : NULL;
}

static void print_files(const char *area, const json_t *files, bool all)
{
	char path[STAGE_SHOWN], when[64], size[32];
	json_t *file;
	size_t index;

	printf("area %s\n", area);
	json_array_foreach(files, index, file)
	{
		json_t *one = file_json(file);

		if (!one)
			continue;
		stage_format_size(size, sizeof(size),
				  (uint64_t)json_integer_value(json_object_get(one, "size")));
		escape_string(when, sizeof(when),
			      json_string_value(json_object_get(one, "modified")));
		printf("  %10s  %-16.16s  %s\n", size, when,
		       escape_string(path, sizeof(path),
				     json_string_value(json_object_get(one, "path"))));
		json_decref(one);
	}
	if (json_array_size(files) == 0)
		printf("  nothing is in it\n");
	if (!all)
		printf("  and more than these\n");
}

static json_t *area_json(const char *area, const json_t *files, bool all)
{
	json_t *list = json_array(), *file;
	size_t index;

	json_array_foreach(files, index, file)
	{
		json_t *one = file_json(file);

		if (one)
			(void)json_array_append_new(list, one);
	}
	return json_pack("{s:s, s:b, s:o}", "name", area, "more", !all, "files", list);
}

/* One area, as text or into `list`. Returns the exit code. */
static int show_area(struct remote *remote, const char *area, json_t *list)
{
	json_t *files = NULL;
	struct err err;
	bool all = true;

	if (remote_files(remote, area, &files, &all, &err) < 0)
		return stage_fail("%s", err.text);
	if (list)
		(void)json_array_append_new(list, area_json(area, files, all));
	else
		print_files(area, files, all);
	json_decref(files);
	return 0;
}

static int show_all(struct remote *remote, json_t *list)
{
	json_t *answer = NULL, *area;
	struct err err;
	size_t index, shown = 0;
	int code = 0;

	if (remote_json(remote, "/api/areas", &answer, &err) < 0)
		return stage_fail("%s", err.text);
	json_array_foreach(json_object_get(answer, "areas"), index, area)
	{
		const char *name = json_string_value(json_object_get(area, "name"));

		if (code == 0 && name && area_good(name)) {
			code = show_area(remote, name, list);
			shown++;
		}
	}
	json_decref(answer);
	if (code == 0 && shown == 0 && !list)
		printf("there is no area yet: put makes one, or a kernel that starts\n");
	return code;
}

int remote_ls(struct remote *remote)
{
	json_t *list = remote->json ? json_array() : NULL, *whole;
	struct err err;
	int code;

	if (!remote->area && !remote->kernel) {
		code = show_all(remote, list);
	} else if (remote_find_area(remote, &err) < 0) {
		code = stage_fail("%s", err.text);
	} else {
		code = show_area(remote, remote->area, list);
	}
	if (code || !list) {
		json_decref(list);
		return code;
	}
	whole = json_pack("{s:o}", "areas", list);
	if (!whole || stage_json_path(whole, "server", remote->server) < 0)
		return stage_fail("out of memory");
	return stage_json_print(whole);
}
