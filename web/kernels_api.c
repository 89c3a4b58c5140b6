#include "web/kernels_api.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "web/eventlog.h"
#include "web/http.h"
#include "web/kernel_model.h"
#include "web/kernels.h"
#include "web/server.h"
#include "web/socket.h"
#include "web/specs.h"
#include "web/users.h"

/* ---- models ---- */

json_t *kernel_time(struct timespec time)
{
	char text[64], whole[32];
	struct tm tm;

	(void)gmtime_r(&time.tv_sec, &tm);
	(void)strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &tm);
	/* The fraction is not optional: clients parse this form and no other. */
	(void)snprintf(text, sizeof(text), "%s.%06ldZ", whole, time.tv_nsec / 1000);
	return json_string(text);
}

json_t *kernel_model(const struct kernel *kernel)
{
	struct kernel_view view;
	json_t *model;

	kernel_look(kernel, &view);
	model = json_pack("{s:s,s:s,s:o,s:s,s:I}", "id", view.id, "name", view.spec,
			  "last_activity", kernel_time(view.last_activity), "execution_state",
			  view.state, "connections", (json_int_t)view.connections);
	if (model && view.reason[0])
		(void)json_object_set_new(model, "reason", json_string(view.reason));
	return model;
}

/* ---- which kernel ---- */

struct kernel *kernel_named(struct request *request)
{
	const bool wall = strcmp(request->part[1], "wall") == 0;
	const struct user *user = request->user;
	struct kernel *kernel =
		kernels_find(request->server->kernels, wall && user->admin ? NULL : user->name,
			     request->part[wall ? 3 : 2]);

	if (!kernel)
		http_error(request, 404, NULL, "there is no such kernel");
	return kernel;
}

static void add_one(void *arg, struct kernel *kernel)
{
	(void)json_array_append_new(arg, kernel_model(kernel));
}

void kernels_api_list(struct request *request)
{
	json_t *list = json_array();

	if (list)
		kernels_each(request->server->kernels, request->user->name, add_one, list);
	http_json(request, 200, list);
}

void kernels_api_get(struct request *request)
{
	const struct kernel *kernel = kernel_named(request);

	if (kernel)
		http_json(request, 200, kernel_model(kernel));
}

/* ---- starting ---- */

static int status_of(int code)
{
	switch (code) {
	case -ENOENT:
		return 404;
	case -EDQUOT:
	case -EPERM:
		return 403;
	case -EINVAL:
		return 400;
	default:
		return 500;
	}
}

void kernel_refuse(struct request *request, const struct err *err)
{
	const int status = status_of(err->code);

	http_error(request, status, status == 403 ? "Resource Limit" : NULL, "%s", err->text);
}

int kernel_order(struct request *request, const json_t *wanted, struct kernel **ret_kernel,
		 struct err *err)
{
	const struct server *server = request->server;
	const struct user *user = request->user;
	const json_t *environment = json_object_get(wanted, "env");
	const char *name = json_string_value(json_object_get(wanted, "name"));
	struct kernels_order order = {.owner = user->name,
				      .owner_kernels =
					      server_user_kernels(server, user->max_kernels),
				      .environment = environment};
	const struct spec_entry *entry;

	order.area = json_string_value(json_object_get(environment, "KERNEL_STAGING_AREA"));
	entry = specs_find(server->specs, name && name[0] ? name : NULL);
	if (!entry && specs_read(server->specs, err) == 0)
		entry = specs_find(server->specs, name && name[0] ? name : NULL);
	if (!entry)
		return err_set(err, -ENOENT, "there is no such kernelspec here");
	if (!user_may_start(user, entry->name))
		return err_set(err, -EPERM, "you may not start %s", entry->name);
	order.spec = entry->name;
	return kernels_start(server->kernels, &order, ret_kernel, err);
}

void kernels_api_start(struct request *request)
{
	struct kernel *kernel = NULL;
	struct kernel_view view;
	struct err err = {0};
	json_t *wanted = NULL;
	char place[64];

	if (http_body_json(request, &wanted, &err) < 0) {
		http_error(request, 400, NULL, "%s", err.text);
		return;
	}
	if (kernel_order(request, wanted, &kernel, &err) < 0) {
		kernel_refuse(request, &err);
	} else {
		cleanup(free_ptr) char *location = NULL;

		kernel_look(kernel, &view);
		(void)snprintf(place, sizeof(place), "/api/kernels/%s", view.id);
		location = format_string("%s%s", request->server->settings.base_url, place);
		if (location)
			http_add_header(request, "Location", location);
		http_json(request, 201, kernel_model(kernel));
	}
	json_decref(wanted);
}

void kernels_api_delete(struct request *request)
{
	struct kernel *kernel = kernel_named(request);

	if (!kernel)
		return;
	kernel_shutdown(kernel, "shut down by its user");
	http_empty(request, 204);
}

void kernels_api_interrupt(struct request *request)
{
	struct kernel *kernel = kernel_named(request);
	struct err err = {0};

	if (!kernel)
		return;
	if (kernel_interrupt(kernel, &err) < 0)
		http_error(request, 500, NULL, "%s", err.text);
	else
		http_empty(request, 204);
}

void kernels_api_restart(struct request *request)
{
	struct kernel *kernel = kernel_named(request);
	struct err err = {0};

	if (!kernel)
		return;
	if (kernel_restart(kernel, &err) < 0)
		http_error(request, 500, NULL, "%s", err.text);
	else
		http_json(request, 200, kernel_model(kernel));
}

void kernels_api_channels(struct request *request)
{
	struct kernel *kernel = kernel_named(request);

	if (kernel)
		socket_open(request->server->loop, request, kernel);
}

/* ---- kernelspecs ---- */

static bool may_see(const void *arg, const char *name)
{
	return user_may_start(arg, name);
}

void kernels_api_specs(struct request *request)
{
	struct specs *specs = request->server->specs;

	(void)specs_read(specs, NULL); /* one that was installed meanwhile is there at once */
	http_json(request, 200, specs_model(specs, may_see, request->user));
}

void kernels_api_spec(struct request *request)
{
	json_t *model = NULL;

	if (user_may_start(request->user, request->part[2]))
		model = specs_entry_model(request->server->specs, request->part[2]);
	if (model)
		http_json(request, 200, model);
	else
		http_error(request, 404, NULL, "there is no such kernelspec");
}

static const char *type_of(const char *file)
{
	static const char *const types[][2] = {{".png", "image/png"},
					       {".svg", "image/svg+xml"},
					       {".js", "text/javascript"},
					       {".css", "text/css"}};
	const char *dot = strrchr(file, '.');

	for (size_t i = 0; dot && i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(dot, types[i][0]) == 0)
			return types[i][1];
	return "application/octet-stream";
}

void kernels_api_file(struct request *request)
{
	struct stat status;
	int fd = -1;

	if (user_may_start(request->user, request->part[1]))
		fd = specs_open_file(request->server->specs, request->part[1], request->part[2]);
	if (fd >= 0 && fstat(fd, &status) == 0)
		http_file(request, fd, (uint64_t)status.st_size, type_of(request->part[2]), NULL,
			  NULL);
	else
		http_error(request, 404, NULL, "there is no such file");
}

/* ---- the server ---- */

struct sum {
	json_int_t kernels, connections;
	struct timespec last;
};

static void add_up(void *arg, struct kernel *kernel)
{
	struct sum *sum = arg;
	struct kernel_view view;

	kernel_look(kernel, &view);
	sum->kernels++;
	sum->connections += (json_int_t)view.connections;
	if (view.last_activity.tv_sec >= sum->last.tv_sec)
		sum->last = view.last_activity;
}

void kernels_api_status(struct request *request)
{
	struct timespec started;
	struct sum sum = {0};

	(void)clock_gettime(CLOCK_REALTIME, &started);
	started.tv_sec -= (now_ms() - request->server->started) / 1000;
	sum.last = started;
	kernels_each(request->server->kernels, request->user->name, add_up, &sum);
	http_json(request, 200,
		  json_pack("{s:o,s:o,s:I,s:I}", "started", kernel_time(started), "last_activity",
			    kernel_time(sum.last), "connections", sum.connections, "kernels",
			    sum.kernels));
}

/* ---- beginning and end ---- */

/* They may come later: a warning. */
static void tell_missing(const struct server *server)
{
	static const char words[] = "there is none of this name yet: see jupyter kernelspec list";
	const struct settings *settings = &server->settings;
	const char *other = settings->default_kernel;

	for (size_t i = 0; settings->kernelspec[i]; i++)
		if (!specs_find(server->specs, settings->kernelspec[i]))
			event_warning("kernelspec", "name=%s reason=%s", settings->kernelspec[i],
				      words);
	if (other && !specs_find(server->specs, other))
		event_warning("kernelspec", "name=%s reason=%s", other, words);
	if (!settings->kernelspec[0] && !other && !specs_find(server->specs, NULL))
		event_warning("kernelspec", "reason=%s",
			      "there is none behind the wall yet: cellwall install");
}

int kernels_api_begin(struct server *server, struct err *err)
{
	const struct settings *settings = &server->settings;
	const struct specs_options specs = {.names = settings->kernelspec[0] ? settings->kernelspec
									     : NULL,
					    .default_name = settings->default_kernel,
					    .base_url = settings->base_url};
	const struct kernels_options kernels = {.max_kernels = (unsigned)settings->max_kernels,
						.start_timeout_ms =
							(unsigned)settings->start_timeout * 1000,
						.idle_timeout = (unsigned)settings->cull_idle,
						.cull_interval = (unsigned)settings->cull_interval,
						.cull_connected = settings->cull_connected,
						.cull_busy = settings->cull_busy,
						.allowed_environment = settings->allow_env,
						.data = server->data,
						.runtime = server->runtime};
	int code;

	code = specs_new(&specs, &server->specs, err);
	if (code == 0)
		tell_missing(server);
	if (code == 0)
		code = kernels_new(&kernels, server->loop, server->specs, &server->kernels, err);
	return code;
}

void kernels_api_end(struct server *server)
{
	server->kernels = kernels_free(server->kernels);
	server->specs = specs_free(server->specs);
}
