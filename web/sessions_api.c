#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "web/http.h"
#include "web/kernel_model.h"
#include "web/kernels.h"
#include "web/kernels_api.h"
#include "web/server.h"
#include "web/users.h"

#define SESSIONS_MAX	  4096 /* of all users; each has a kernel, or had one */
#define SESSIONS_USER_MAX 256  /* of one */
#define TEXT_MAX	  1024

struct named {
	struct named *next;
	char id[37];
	char kernel[KERNELS_ID + 1];
	char owner[USER_NAME_MAX];
	char *path, *name, *type;
};

static struct named *first;

static struct named *named_free(struct named *named)
{
	if (named) {
		free(named->path);
		free(named->name);
		free(named->type);
		free(named);
	}
	return NULL;
}

static struct kernel *kernel_of(const struct request *request, const struct named *named)
{
	return kernels_find(request->server->kernels, named->owner, named->kernel);
}

/* Those whose kernel is gone go too. Returns how many are left. */
static size_t tidy(const struct request *request)
{
	size_t count = 0;

	for (struct named **place = &first; *place;) {
		struct named *named = *place;

		if (kernel_of(request, named)) {
			place = &named->next;
			count++;
			continue;
		}
		*place = named->next;
		(void)named_free(named);
	}
	return count;
}

static bool too_many(const struct request *request)
{
	size_t all = tidy(request), own = 0;

	for (const struct named *named = first; named; named = named->next)
		if (strcmp(named->owner, request->user->name) == 0)
			own++;
	return all >= SESSIONS_MAX || own >= SESSIONS_USER_MAX;
}

static json_t *model(const struct request *request, const struct named *named)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:o,s:{s:s,s:s}}", "id", named->id, "path", named->path,
			 "name", named->name, "type", named->type, "kernel",
			 kernel_model(kernel_of(request, named)), "notebook", "path", named->path,
			 "name", named->name);
}

static struct named *find(struct request *request)
{
	(void)tidy(request);
	for (struct named *named = first; named; named = named->next)
		if (strcmp(named->id, request->part[2]) == 0 &&
		    strcmp(named->owner, request->user->name) == 0)
			return named;
	http_error(request, 404, NULL, "there is no such session");
	return NULL;
}

void sessions_api_list(struct request *request)
{
	json_t *list = json_array();

	(void)tidy(request);
	for (const struct named *named = first; list && named; named = named->next)
		if (strcmp(named->owner, request->user->name) == 0)
			(void)json_array_append_new(list, model(request, named));
	http_json(request, 200, list);
}

void sessions_api_get(struct request *request)
{
	const struct named *named = find(request);

	if (named)
		http_json(request, 200, model(request, named));
}

/* Sets a text when the client gives one. */
static int take_text(char **text, const json_t *body, const char *key, struct err *err)
{
	const json_t *value = json_object_get(body, key);
	char *copy;

	if (!json_is_string(value))
		return 0;
	if (json_string_length(value) > TEXT_MAX)
		return err_set(err, -EINVAL, "%s is too long", key);
	copy = strdup(json_string_value(value));
	if (!copy)
		return err_set(err, -ENOMEM, "no memory");
	free(*text);
	*text = copy;
	return 0;
}

/* The kernel that the body names by id, or a new one of the kernelspec that it names. */
static int take_kernel(struct request *request, struct named *named, const json_t *body,
		       struct err *err)
{
	const json_t *wanted = json_object_get(body, "kernel");
	const char *id = json_string_value(json_object_get(wanted, "id"));
	struct kernel *kernel = NULL;
	struct kernel_view view;

	if (id)
		kernel = kernels_find(request->server->kernels, request->user->name, id);
	if (id && !kernel)
		return err_set(err, -ENOENT, "there is no such kernel");
	if (!kernel && kernel_order(request, wanted, &kernel, err) < 0)
		return err->code;
	kernel_look(kernel, &view);
	(void)snprintf(named->kernel, sizeof(named->kernel), "%s", view.id);
	return 0;
}

static int fill(struct request *request, struct named *named, const json_t *body, struct err *err)
{
	if (take_text(&named->path, body, "path", err) < 0 ||
	    take_text(&named->name, body, "name", err) < 0 ||
	    take_text(&named->type, body, "type", err) < 0)
		return err->code;
	if (json_object_get(body, "kernel") || named->kernel[0] == '\0')
		return take_kernel(request, named, body, err);
	return 0;
}

static struct named *make(const struct request *request)
{
	struct named *named = calloc(1, sizeof(*named));
	char hex[33];

	if (!named)
		return NULL;
	named->path = strdup("");
	named->name = strdup("");
	named->type = strdup("notebook");
	if (!named->path || !named->name || !named->type || random_hex(hex, 16) < 0)
		return named_free(named);
	(void)snprintf(named->id, sizeof(named->id), "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8,
		       hex + 12, hex + 16, hex + 20);
	(void)snprintf(named->owner, sizeof(named->owner), "%s", request->user->name);
	return named;
}

void sessions_api_start(struct request *request)
{
	struct named *named = NULL;
	struct err err = {0};
	json_t *body = NULL;
	int code = http_body_json(request, &body, &err);

	if (code == 0 && too_many(request))
		code = err_set(&err, -EDQUOT, "there are too many sessions");
	if (code == 0) {
		named = make(request);
		code = named ? fill(request, named, body, &err)
			     : err_set(&err, -ENOMEM, "no memory");
	}
	json_decref(body);
	if (code < 0 || !named) {
		(void)named_free(named);
		kernel_refuse(request, &err);
		return;
	}
	named->next = first;
	first = named;
	http_json(request, 201, model(request, named));
}

void sessions_api_change(struct request *request)
{
	struct named *named = find(request);
	struct err err = {0};
	json_t *body = NULL;

	if (!named)
		return;
	if (http_body_json(request, &body, &err) < 0 || fill(request, named, body, &err) < 0)
		kernel_refuse(request, &err);
	else
		http_json(request, 200, model(request, named));
	json_decref(body);
}

void sessions_api_delete(struct request *request)
{
	struct named *named = find(request);

	if (!named)
		return;
	kernel_shutdown(kernel_of(request, named), "its session was closed");
	(void)tidy(request);
	http_empty(request, 204);
}
