#include "web/overview.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/files.h"
#include "proxy/policy.h"
#include "sandbox/base.h"
#include "web/bridge.h"
#include "web/ended.h"
#include "web/http.h"
#include "web/kernel_model.h"
#include "web/kernels.h"
#include "web/server.h"
#include "web/specs.h"
#include "web/trail.h"
#include "web/usage_tree.h"
#include "web/users.h"

#define COUNTED_NOW (128u * 1024) /* bytes of logs that one answer waits for */

/* ---- kernels ---- */

struct listing {
	struct server *server;
	json_t *kernels;
	size_t room; /* of COUNTED_NOW */
};

static void add_figures(struct kernel *kernel, json_t *model)
{
	const struct bridge_figures *figures = bridge_figures(kernel_bridge(kernel));
	uint64_t in = 0, out = 0, out_bytes = 0;

	for (unsigned i = 0; i < WALL_CHANNELS; i++) {
		in += figures->in[i];
		out += figures->out[i];
		out_bytes += figures->out_bytes[i];
	}
	(void)json_object_set_new(model, "messages_in", json_integer((json_int_t)in));
	(void)json_object_set_new(model, "messages_out", json_integer((json_int_t)out));
	(void)json_object_set_new(model, "bytes_out", json_integer((json_int_t)out_bytes));
}

static void add_kernel(void *arg, struct kernel *kernel)
{
	struct listing *listing = arg;
	struct kernel_view view;
	struct usage_tree usage;
	const char *last;
	uint64_t blocked;
	json_t *model;

	kernel_look(kernel, &view);
	usage = usage_tree_look(view.pid);
	blocked = trail_blocked(listing->server->trail, view.id, &listing->room, &last);
	model = kernel_model(kernel);
	if (!model)
		return;
	(void)json_object_update_new(
		model, json_pack("{s:s, s:s, s:o, s:i, s:i, s:I, s:f, s:i, s:I, s:s}", "owner",
				 view.owner, "area", view.area, "started",
				 kernel_time(view.started), "start_ms", (int)view.start_ms,
				 "restarts", (int)view.restarts, "memory", (json_int_t)usage.memory,
				 "seconds", usage.seconds, "processes", (int)usage.processes,
				 "blocked", (json_int_t)blocked, "last_blocked", last));
	add_figures(kernel, model);
	(void)json_array_append_new(listing->kernels, model);
}

static const char *owner_of(const struct request *request)
{
	return request->user->admin ? NULL : request->user->name;
}

static json_t *list_ended(struct listing *listing, const char *owner)
{
	const struct ended *ended = kernels_ended(listing->server->kernels);
	const struct ended_kernel *kernel = NULL;
	json_t *list = json_array();
	const char *last;

	while ((kernel = ended_next(ended, owner, kernel))) {
		uint64_t blocked =
			trail_blocked(listing->server->trail, kernel->id, &listing->room, &last);

		(void)json_array_append_new(
			list,
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:i, s:I, s:s}", "id",
				  kernel->id, "name", kernel->spec, "owner", kernel->owner, "area",
				  kernel->area, "reason", kernel->reason, "started",
				  kernel_time(kernel->started), "ended", kernel_time(kernel->ended),
				  "restarts", (int)kernel->restarts, "blocked", (json_int_t)blocked,
				  "last_blocked", last));
	}
	return list;
}

void overview_kernels(struct request *request)
{
	struct server *server = request->server;
	struct listing listing = {server, json_array(), COUNTED_NOW};
	json_t *ended;

	kernels_each(server->kernels, owner_of(request), add_kernel, &listing);
	ended = list_ended(&listing, owner_of(request));
	http_json(request, 200,
		  json_pack("{s:o, s:o, s:s, s:b, s:I, s:I, s:s}", "kernels", listing.kernels,
			    "ended", ended, "user", request->user->name, "admin",
			    request->user->admin, "max_kernels",
			    (json_int_t)server_user_kernels(server, request->user->max_kernels),
			    "max_kernels_all", (json_int_t)server->settings.max_kernels, "version",
			    CELLWALL_VERSION));
}

/* The kernel that the path names, one that has ended too: its ID and kernelspec, which stay until
 * the answer. Answers 404 and returns false when there is none. */
static bool find_either(struct request *request, const char **ret_id, const char **ret_spec)
{
	const struct kernels *kernels = request->server->kernels;
	const char *owner = owner_of(request), *id = request->part[3];
	const struct ended_kernel *ended = ended_find(kernels_ended(kernels), owner, id);
	const struct kernel *kernel = ended ? NULL : kernels_find(kernels, owner, id);
	struct kernel_view view;

	if (ended) {
		*ret_id = ended->id;
		*ret_spec = ended->spec;
		return true;
	}
	if (!kernel) {
		http_error(request, 404, NULL, "there is no such kernel");
		return false;
	}
	kernel_look(kernel, &view);
	*ret_id = view.id;
	*ret_spec = view.spec;
	return true;
}

static void log_found(void *arg, json_t *answer)
{
	if (answer)
		http_json(arg, 200, answer);
	else
		http_error(arg, 503, NULL, "the logs cannot be read now");
}

static void log_unwanted(void *arg)
{
	struct request *request = arg;

	trail_stop(request->server->trail, request);
}

void overview_log(struct request *request)
{
	const char *blocked = http_query(request, "blocked"), *spec;
	struct trail_wanted wanted = {.user = request->user->name,
				      .blocked = blocked && *blocked == '1',
				      .words = http_query(request, "q"),
				      .since = http_query(request, "since")};
	int code;

	if (!find_either(request, &wanted.kernel, &spec))
		return; /* the request is gone */
	http_on_gone(request, log_unwanted, request);
	code = trail_search(request->server->trail, &wanted, log_found, request);
	if (code == 0)
		return; /* it is not ours any more */
	http_on_gone(request, NULL, NULL);
	http_error(request, code == -EDQUOT ? 429 : 503, NULL,
		   code == -EDQUOT ? "you search in too many logs at the same time" : "no memory");
}

/* The FILE of `cellwall kernel … --policy FILE … -- COMMAND`; NULL: none. */
static const char *policy_file(const json_t *argv)
{
	const char *last = "", *text;
	size_t index;
	json_t *word;

	json_array_foreach(argv, index, word)
	{
		text = json_string_value(word);
		if (!text || strcmp(text, "--") == 0)
			break;
		if (strcmp(last, "--policy") == 0 || strcmp(last, "-p") == 0)
			return text;
		if (strncmp(text, "--policy=", 9) == 0)
			return text + 9;
		last = text;
	}
	return NULL;
}

/* What `cellwall policy show` says of a kernelspec's policy; NULL when it cannot be read. */
static json_t *policy_of(const struct spec_entry *entry)
{
	const char *file = policy_file(json_object_get(entry->json, "argv"));
	cleanup(free_ptr) char *text = NULL;
	struct policy policy;

	if ((file ? policy_read(file, &policy, NULL) : policy_default(&policy)) < 0)
		return NULL;
	text = policy_show(&policy);
	policy_done(&policy);
	return text ? json_loads(text, 0, NULL) : NULL;
}

void overview_policy(struct request *request)
{
	const struct spec_entry *entry;
	const char *id, *spec;
	json_t *policy = NULL;

	if (!find_either(request, &id, &spec))
		return;
	entry = specs_find(request->server->specs, spec);
	if (entry && entry->walled)
		policy = policy_of(entry);
	http_json(request, 200,
		  json_pack("{s:b, s:o}", "walled", entry && entry->walled, "policy",
			    policy ? policy : json_null()));
}

void overview_stop(struct request *request)
{
	struct kernel *kernel = kernel_named(request);

	if (!kernel)
		return;
	kernel_shutdown(kernel, "stopped from the page");
	http_empty(request, 204);
}

/* ---- the page itself ---- */

static const struct {
	const char *name, *type;
} files[] = {
	{"index.html", "text/html; charset=utf-8"},
	{"page.css", "text/css; charset=utf-8"},
	{"page.js", "text/javascript; charset=utf-8"},
	{"icon.svg", "image/svg+xml"},
};

void overview_page(struct request *request)
{
	const char *name = request->parts == 2 ? request->part[1] : "index.html", *type = NULL;
	cleanup(free_ptr) char *path = NULL, *local = NULL;
	cleanup(close_fd) int fd = -1;
	struct stat status;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (strcmp(files[i].name, name) == 0)
			type = files[i].type;
	local = type ? path_join("page", name) : NULL;
	if (local && files_share(local, &path, NULL) == 0)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &status) < 0) {
		http_error(request, 404, NULL, "there is nothing of this name");
		return;
	}
	http_add_header(request, "Content-Security-Policy",
			"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
			"connect-src 'self'; base-uri 'none'; form-action 'none'; "
			"frame-ancestors 'none'; require-trusted-types-for 'script'");
	http_add_header(request, "Cache-Control", "no-cache");
	http_file(request, steal_fd(&fd), (uint64_t)status.st_size, type, NULL, NULL);
}
