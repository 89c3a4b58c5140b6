#include "web/kernels.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "web/ended.h"
#include "web/life.h"
#include "web/loop.h"
#include "web/specs.h"

#define NAME_MAX_BYTES 64
#define LOOK_EVERY     30
#define TRIM_BYTES     (1u * 1024 * 1024) /* that passed */

struct kernels {
	struct kernels_options options;
	char *data, *runtime;
	int lock; /* of our directory in the runtime directory */
	struct loop *loop;
	struct specs *specs;
	struct kernel *first, **last; /* in the order of their start */
	struct kernel *leaving;
	struct ended *ended;
	unsigned count;
	struct kernels_totals past; /* of those that are gone */
	unsigned made;		    /* names of private directories */
	struct timer *look;
	uint64_t looked;  /* bytes that had passed then */
	uint64_t trimmed; /* and when memory was given back */
	void (*done)(void *arg);
	void *done_arg;
};

/* ---- the table ---- */

static void append(struct kernels *kernels, struct kernel *kernel)
{
	kernel->next = NULL;
	kernel->link = kernels->last;
	*kernels->last = kernel;
	kernels->last = &kernel->next;
}

static void take_out(struct kernels *kernels, struct kernel *kernel)
{
	*kernel->link = kernel->next;
	if (kernel->next)
		kernel->next->link = kernel->link;
	else if (kernels->last == &kernel->next)
		kernels->last = kernel->link;
}

static void put_leaving(struct kernels *kernels, struct kernel *kernel)
{
	kernel->next = kernels->leaving;
	kernel->link = &kernels->leaving;
	if (kernel->next)
		kernel->next->link = &kernel->next;
	kernels->leaving = kernel;
}

static void add_figures(uint64_t sum[WALL_CHANNELS], const uint64_t figures[WALL_CHANNELS])
{
	for (unsigned i = 0; i < WALL_CHANNELS; i++)
		sum[i] += figures[i];
}

static void add_kernel(struct kernels_totals *totals, const struct kernel *kernel)
{
	const struct bridge_figures *figures = bridge_figures(kernel->bridge);
	struct bridge_figures *traffic = &totals->traffic;

	add_figures(traffic->in, figures->in);
	add_figures(traffic->in_bytes, figures->in_bytes);
	add_figures(traffic->out, figures->out);
	add_figures(traffic->out_bytes, figures->out_bytes);
	traffic->refused += figures->refused;
	tally_add(&totals->walls, kernel->tally);
}

void kernels_sum(const struct kernels *kernels, struct kernels_totals *ret_totals)
{
	const struct kernel *const lists[2] = {kernels->first, kernels->leaving};

	*ret_totals = kernels->past;
	for (size_t i = 0; i < 2; i++)
		for (const struct kernel *kernel = lists[i]; kernel; kernel = kernel->next)
			add_kernel(ret_totals, kernel);
}

static void kernel_gone(struct kernel *kernel)
{
	struct kernels *kernels = kernel->kernels;

	add_kernel(&kernels->past, kernel);
	take_out(kernels, kernel);
	kernels->count--;
	(void)life_free(kernel);
	if (kernels->count == 0 && kernels->done) {
		void (*done)(void *arg) = kernels->done;

		kernels->done = NULL;
		done(kernels->done_arg);
	}
}

struct kernel *kernels_find(const struct kernels *kernels, const char *owner, const char *id)
{
	for (struct kernel *kernel = kernels->first; kernel; kernel = kernel->next)
		if (strcmp(kernel->id, id) == 0 && (!owner || strcmp(kernel->owner, owner) == 0))
			return kernel;
	return NULL;
}

void kernels_each(const struct kernels *kernels, const char *owner,
		  void (*each)(void *arg, struct kernel *kernel), void *arg)
{
	for (struct kernel *kernel = kernels->first, *next; kernel; kernel = next) {
		next = kernel->next;
		if (!owner || strcmp(kernel->owner, owner) == 0)
			each(arg, kernel);
	}
}

void kernels_each_place(const struct kernels *kernels,
			void (*each)(void *arg, struct kernel *kernel), void *arg)
{
	kernels_each(kernels, NULL, each, arg);
	for (struct kernel *kernel = kernels->leaving; kernel; kernel = kernel->next)
		each(arg, kernel);
}

unsigned kernels_count(const struct kernels *kernels)
{
	return kernels->count;
}

static unsigned count_where(const struct kernels *kernels, const char *owner, const char *spec)
{
	const struct kernel *const lists[2] = {kernels->first, kernels->leaving};
	unsigned count = 0;

	for (size_t i = 0; i < 2; i++)
		for (const struct kernel *kernel = lists[i]; kernel; kernel = kernel->next)
			if ((!owner || strcmp(kernel->owner, owner) == 0) &&
			    (!spec || strcmp(kernel->spec_name, spec) == 0))
				count++;
	return count;
}

/* ---- a start ---- */

/* One component of a path and nothing else. */
static bool safe_name(const char *name)
{
	const size_t size = strlen(name);

	if (size == 0 || size > NAME_MAX_BYTES || name[0] == '.')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@") ==
	       size;
}

static unsigned number_in(const json_t *spec, const char *name)
{
	const json_t *metadata = json_object_get(spec, "metadata");
	json_int_t value = json_integer_value(json_object_get(metadata, name));

	return value > 0 && value < 1000000 ? (unsigned)value : 0;
}

static int check_limits(const struct kernels *kernels, const struct kernels_order *order,
			const struct spec_entry *entry, struct err *err)
{
	const unsigned most = number_in(entry->json, "max_kernels");

	if (kernels->done)
		return err_set(err, -EDQUOT, "the server is ending");
	if (kernels->options.max_kernels > 0 && kernels->count >= kernels->options.max_kernels)
		return err_set(err, -EDQUOT, "%u kernels run, more are not allowed",
			       kernels->count);
	if (order->owner_kernels > 0 &&
	    count_where(kernels, order->owner, NULL) >= order->owner_kernels)
		return err_set(err, -EDQUOT,
			       "you have %u kernels, more are not allowed: shut one down first",
			       order->owner_kernels);
	if (most > 0 && count_where(kernels, NULL, entry->name) >= most)
		return err_set(err, -EDQUOT, "%u kernels of %s run, more are not allowed", most,
			       entry->name);
	return 0;
}

static int make_id(char id[KERNELS_ID + 1], struct err *err)
{
	char hex[33];
	int r = random_hex(hex, 16);

	if (r < 0)
		return err_set(err, r, "no random numbers");
	hex[12] = '4';		       /* RFC 4122: version 4, */
	hex[16] = "89ab"[hex[16] & 3]; /* variant 1 */
	(void)snprintf(id, KERNELS_ID + 1, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
		       hex + 16, hex + 20);
	return 0;
}

static int make_places(struct kernels *kernels, struct kernel *kernel, struct err *err)
{
	kernel->folder =
		format_string("%s/users/%s/%s", kernels->data, kernel->owner, kernel->area);
	kernel->directory = format_string("%s/k%u", kernels->runtime, ++kernels->made);
	kernel->connection_file = kernel->directory ? format_string("%s/kernel-%s.json",
								    kernel->directory, kernel->id)
						    : NULL; /* its log has the name in it */
	if (!kernel->folder || !kernel->connection_file)
		return err_set(err, -ENOMEM, "out of memory");
	return make_directories(kernel->folder, 0700, err);
}

static int fill(struct kernels *kernels, const struct kernels_order *order,
		const struct spec_entry *entry, struct kernel *kernel, struct err *err)
{
	const char *mode = json_string_value(json_object_get(entry->json, "interrupt_mode"));

	kernel->kernels = kernels;
	kernel->loop = kernels->loop;
	kernel->gone = kernel_gone;
	kernel->process = (struct start_process){.pidfd = -1, .output = -1};
	kernel->start_timeout_ms = kernels->options.start_timeout_ms;
	kernel->walled = entry->walled;
	kernel->tally_fd = -1;
	kernel->interrupt_by_message = mode && strcmp(mode, "message") == 0;
	kernel->spec = json_incref(entry->json);
	kernel->spec_name = strdup(entry->name);
	kernel->resources = strdup(entry->directory);
	kernel->owner = strdup(order->owner);
	kernel->area = strdup(order->area ? order->area : "default");
	if (!kernel->spec_name || !kernel->resources || !kernel->owner || !kernel->area)
		return err_set(err, -ENOMEM, "out of memory");
	if (start_variables(order->environment, kernels->options.allowed_environment,
			    &kernel->variables, err) < 0 ||
	    make_id(kernel->id, err) < 0)
		return err->code;
	return make_places(kernels, kernel, err);
}

int kernels_start(struct kernels *kernels, const struct kernels_order *order,
		  struct kernel **ret_kernel, struct err *err)
{
	const struct spec_entry *entry = specs_find(kernels->specs, order->spec);
	struct kernel *kernel;
	int r;

	if (!entry)
		return err_set(err, -ENOENT, "there is no such kernelspec");
	if (!safe_name(order->owner) || (order->area && !safe_name(order->area)))
		return err_set(err, -EINVAL,
			       "a name is of letters, digits and - _ . @, and no dot first");
	r = check_limits(kernels, order, entry, err);
	if (r < 0)
		return r;
	kernel = calloc(1, sizeof(*kernel));
	if (!kernel)
		return err_set(err, -ENOMEM, "out of memory");
	r = fill(kernels, order, entry, kernel, err);
	if (r == 0)
		r = life_begin(kernel, err);
	if (r < 0) {
		(void)life_free(kernel);
		return r;
	}
	kernels->count++;
	append(kernels, kernel);
	*ret_kernel = kernel;
	return 0;
}

const struct ended *kernels_ended(const struct kernels *kernels)
{
	return kernels->ended;
}

static void remember(struct kernel *kernel, const char *reason)
{
	struct ended_kernel ended = {.id = kernel->id,
				     .spec = kernel->spec_name,
				     .owner = kernel->owner,
				     .area = kernel->area,
				     .reason = kernel->reason,
				     .restarts = kernel->restarts,
				     .started = kernel->started};

	if (!kernel->reason[0]) /* else it was dead before it was asked to end */
		(void)escape_line(kernel->reason, sizeof(kernel->reason), reason);
	(void)clock_gettime(CLOCK_REALTIME, &ended.ended);
	ended_add(kernel->kernels->ended, &ended);
}

void kernel_shutdown(struct kernel *kernel, const char *reason)
{
	struct kernels *kernels = kernel->kernels;

	if (kernel->terminating)
		return;
	remember(kernel, reason);
	take_out(kernels, kernel);
	put_leaving(kernels, kernel);
	life_end(kernel, reason);
}

/* ---- those that nobody uses ---- */

static void look_at(void *arg, struct kernel *kernel)
{
	const struct kernels *kernels = arg;
	unsigned most = number_in(kernel->spec, "cull_idle_timeout");
	struct timespec now;

	if (most == 0)
		most = kernels->options.idle_timeout;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (most == 0 || now.tv_sec - kernel->last_activity.tv_sec < (time_t)most)
		return;
	if (bridge_listeners(kernel->bridge) > 0 && !kernels->options.cull_connected)
		return;
	if (strcmp(kernel->state, "busy") == 0 && !kernels->options.cull_busy)
		return;
	if (kernel->starting) /* within its start timeout */
		return;
	kernel_shutdown(kernel, "it was idle for too long");
}

/* What a burst of messages took goes back to the system once it is over. */
static void trim(struct kernels *kernels)
{
	struct kernels_totals totals;
	uint64_t bytes = 0;

	kernels_sum(kernels, &totals);
	for (unsigned i = 0; i < WALL_CHANNELS; i++)
		bytes += totals.traffic.in_bytes[i] + totals.traffic.out_bytes[i];
	if (bytes - kernels->looked < TRIM_BYTES && bytes - kernels->trimmed >= TRIM_BYTES) {
		(void)malloc_trim(0);
		kernels->trimmed = bytes;
	}
	kernels->looked = bytes;
}

static void look(void *arg)
{
	struct kernels *kernels = arg;
	const unsigned quarter = kernels->options.idle_timeout / 4 + 1;
	const bool often = kernels->options.idle_timeout > 0 && quarter < LOOK_EVERY;
	unsigned every = often ? quarter : LOOK_EVERY;

	if (kernels->options.cull_interval > 0)
		every = kernels->options.cull_interval;
	kernels->look = NULL;
	kernels_each(kernels, NULL, look_at, kernels);
	trim(kernels);
	(void)loop_after(kernels->loop, (int64_t)every * 1000, look, kernels, &kernels->look, NULL);
}

/* ---- the private directory ---- */

#define RUN_NAME 7 /* "r" and six hex digits */

/* Removes what a server that was killed left: its kernels are gone, their empty directories and
 * sockets are not. Who still lives holds the lock of its directory. */
static void remove_stale(int runtime, const char *name)
{
	cleanup(close_fd) int place =
		openat(runtime, name, O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC);
	DIR *directory;
	const struct dirent *entry;

	if (place < 0 || flock(place, LOCK_EX | LOCK_NB) < 0)
		return;
	directory = fdopendir(fcntl(place, F_DUPFD_CLOEXEC, 0));
	while (directory && (entry = readdir(directory))) {
		if (entry->d_name[0] != 'k')
			continue;
		life_remove_files(place, entry->d_name);
	}
	if (directory)
		(void)closedir(directory);
	(void)unlinkat(runtime, name, AT_REMOVEDIR);
}

static void sweep(const char *runtime)
{
	DIR *directory = opendir(runtime);
	const struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] == 'r' && strlen(entry->d_name) == RUN_NAME)
			remove_stale(dirfd(directory), entry->d_name);
	if (directory)
		(void)closedir(directory);
}

static int make_runtime(struct kernels *kernels, const char *below, struct err *err)
{
	char name[RUN_NAME];

	sweep(below);
	if (random_hex(name, (RUN_NAME - 1) / 2) < 0)
		return err_set(err, -EIO, "no random numbers");
	kernels->runtime = format_string("%s/r%s", below, name);
	if (!kernels->runtime)
		return err_set(err, -ENOMEM, "out of memory");
	if (mkdir(kernels->runtime, 0700) < 0)
		return err_errno(err, "cannot make %s", kernels->runtime);
	kernels->lock = open(kernels->runtime, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (kernels->lock < 0 || flock(kernels->lock, LOCK_EX | LOCK_NB) < 0)
		return err_errno(err, "cannot lock %s", kernels->runtime);
	return 0;
}

/* ---- all of them ---- */

int kernels_new(const struct kernels_options *options, struct loop *loop, struct specs *specs,
		struct kernels **ret_kernels, struct err *err)
{
	struct kernels *kernels = calloc(1, sizeof(*kernels));
	int code;

	if (!kernels)
		return err_set(err, -ENOMEM, "out of memory");
	kernels->options = *options;
	kernels->loop = loop;
	kernels->specs = specs;
	kernels->last = &kernels->first;
	kernels->data = strdup(options->data);
	kernels->ended = ended_new();
	kernels->lock = -1;
	code = kernels->data && kernels->ended ? make_runtime(kernels, options->runtime, err)
					       : err_set(err, -ENOMEM, "out of memory");
	if (code < 0) {
		(void)kernels_free(kernels);
		return code;
	}
	look(kernels);
	*ret_kernels = kernels;
	return 0;
}

static void shut_down(void *arg, struct kernel *kernel)
{
	kernel_shutdown(kernel, arg);
}

void kernels_stop(struct kernels *kernels, void (*done)(void *arg), void *arg)
{
	static char reason[] = "the server is ending";

	kernels->done = done;
	kernels->done_arg = arg;
	kernels_each(kernels, NULL, shut_down, reason);
	if (kernels->count == 0 && kernels->done) {
		kernels->done = NULL;
		done(arg);
	}
}

struct kernels *kernels_free(struct kernels *kernels)
{
	if (!kernels)
		return NULL;
	kernels->look = loop_cancel(kernels->look);
	while (kernels->first) {
		struct kernel *kernel = kernels->first;

		take_out(kernels, kernel);
		(void)life_free(kernel);
	}
	while (kernels->leaving) {
		struct kernel *kernel = kernels->leaving;

		take_out(kernels, kernel);
		(void)life_free(kernel);
	}
	if (kernels->runtime)
		(void)rmdir(kernels->runtime);
	close_fd(&kernels->lock);
	(void)ended_free(kernels->ended);
	free(kernels->data);
	free(kernels->runtime);
	free(kernels);
	return NULL;
}
