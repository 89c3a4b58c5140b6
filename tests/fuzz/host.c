#include "host.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/log.h"
#include "sandbox/tree.h"
#include "web/auth.h"
#include "web/eventlog.h"
#include "web/kernels_api.h"
#include "web/life.h"
#include "web/loop.h"
#include "web/start.h"
#include "web/trail.h"
#include "web/users.h"

#define NO_PROCESS 0x3ffffff0 /* above what pid_max can be (proc(5)) */

const char *const host_token[HOST_USERS] = {"admin-token-0123456789", "anna-token-0123456789",
					    "ben-token-0123456789"};
struct server host_server;
bool host_known[HOST_USERS];
char host_bens_kernel[KERNELS_ID + 1];
unsigned host_drawn;

static const char *const names[HOST_USERS] = {"admin", "anna", "ben"};
static char base[] = "/dev/shm/fuzz-XXXXXX";
static int base_fd = -1;
static int64_t clock_ms;
static bool changed = true; /* the kernels are not what they were at the start */

/* ---- what is wrapped ---- */

int64_t __wrap_now_ms(void);
int __wrap_random_hex(char *out, size_t size);
void __wrap_log_bare(enum log_level level, const char *line);
int __wrap_start_run(const struct start_plan *plan, struct start_process *ret_process,
		     struct err *err);
void __wrap_kernel_shutdown(struct kernel *kernel, const char *reason);
void __real_kernel_shutdown(struct kernel *kernel, const char *reason);
int __wrap_kernel_interrupt(struct kernel *kernel, struct err *err);
int __real_kernel_interrupt(struct kernel *kernel, struct err *err);
int __wrap_kernel_restart(struct kernel *kernel, struct err *err);
int __real_kernel_restart(struct kernel *kernel, struct err *err);
int __wrap_bridge_join(struct bridge *bridge, struct listener *listener);
int __real_bridge_join(struct bridge *bridge, struct listener *listener);

int64_t __wrap_now_ms(void)
{
	return clock_ms;
}

int __wrap_random_hex(char *out, size_t size)
{
	host_drawn++;
	for (size_t i = 0; i < size; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", (unsigned)(host_drawn * 31 + i * 7) & 0xff);
	return 0;
}

/* A line of the log is one object, whatever was asked for. */
void __wrap_log_bare(enum log_level level, const char *line)
{
	json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

	(void)level;
	host_require(json_is_object(object) && !strpbrk(line, "\r\n\x1b\x7f"));
	json_decref(object);
}

void host_check_owner(const char *owner)
{
	bool known = host_known[HOST_ADMIN];

	for (unsigned i = 0; i < HOST_USERS; i++)
		known = known || (host_known[i] && strcmp(owner, names[i]) == 0);
	host_require(known);
}

/* DATA/users/NAME/AREA, of somebody who is there; the list of ben has one kernelspec. */
static void check_folder(const char *folder, const char *spec)
{
	const char *data = host_server.data;
	char owner[64];

	host_require(strncmp(folder, data, strlen(data)) == 0 &&
		     sscanf(folder + strlen(data), "/users/%63[^/]/", owner) == 1);
	folder += strlen(data) + strlen("/users//") + strlen(owner);
	host_require(*folder && *folder != '.' && !strchr(folder, '/'));
	host_check_owner(owner);
	host_require(strcmp(owner, "ben") != 0 || strcmp(spec, "other") == 0);
}

int __wrap_start_run(const struct start_plan *plan, struct start_process *ret_process,
		     struct err *err)
{
	static const char *const allowed[] = {"KERNEL_USERNAME", "KERNEL_LAUNCH_TIMEOUT",
					      HOST_ALLOW};
	union {
		const json_t *constant;
		json_t *plain;
	} view = {.constant = plan->variables};
	const char *name;
	json_t *value;

	changed = true;
	check_folder(plan->folder, strrchr(plan->resources, '/') + 1);
	json_object_foreach(view.plain, name, value)
	{
		bool good = false;

		for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
			good = good || strcmp(name, allowed[i]) == 0;
		host_require(good && json_is_string(value) &&
			     json_string_length(value) == strlen(json_string_value(value)) &&
			     strlen(json_string_value(value)) <= KERNELS_VALUE_MAX &&
			     !strpbrk(json_string_value(value), "\r\n\x1b\x7f"));
	}
	*ret_process = (struct start_process){.pid = NO_PROCESS,
					      .pidfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
					      .output = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	return ret_process->pidfd < 0 || ret_process->output < 0 ? err_errno(err, "eventfd") : 0;
}

void __wrap_kernel_shutdown(struct kernel *kernel, const char *reason)
{
	changed = true;
	host_check_owner(kernel->owner);
	__real_kernel_shutdown(kernel, reason);
}

int __wrap_kernel_interrupt(struct kernel *kernel, struct err *err)
{
	host_check_owner(kernel->owner);
	return __real_kernel_interrupt(kernel, err);
}

int __wrap_kernel_restart(struct kernel *kernel, struct err *err)
{
	changed = true;
	host_check_owner(kernel->owner);
	return __real_kernel_restart(kernel, err);
}

struct joined {
	const struct bridge *bridge;
	bool good;
};

static void look_whose(void *arg, struct kernel *kernel)
{
	struct joined *joined = arg;

	if (kernel->bridge != joined->bridge)
		return;
	for (unsigned i = 0; i < HOST_USERS; i++)
		if (host_known[i] && strcmp(kernel->owner, names[i]) == 0)
			joined->good = true;
}

/* Who is connected to a kernel is its owner, not an administrator. */
int __wrap_bridge_join(struct bridge *bridge, struct listener *listener)
{
	struct joined joined = {.bridge = bridge};

	changed = true;
	kernels_each(host_server.kernels, NULL, look_whose, &joined);
	host_require(joined.good);
	return __real_bridge_join(bridge, listener);
}

/* ---- the host ---- */

static void put(const char *path, const char *text, mode_t mode)
{
	host_require(write_new_file(base_fd, path, mode, text, strlen(text), NULL) == 0);
}

static void make(const char *path)
{
	cleanup(free_ptr) char *whole = path_join(base, path);

	host_require(whole && make_directories(whole, 0700, NULL) == 0);
}

static void remove_all(void)
{
	(void)tree_empty(base_fd);
	(void)rmdir(base);
}

static void put_users(void)
{
	cleanup(free_ptr) char *text = format_string(
		"{\"users\": {\"admin\": {\"token\": \"%s\", \"admin\": true}, "
		"\"anna\": {\"token\": \"%s\", \"certificate\": \"anna-cn\", \"uid\": 70001, "
		"\"max_kernels\": 3, \"area_limit\": \"64K\"}, "
		"\"ben\": {\"token\": \"%s\", \"kernelspecs\": [\"other\"]}}}",
		host_token[HOST_ADMIN], host_token[HOST_ANNA], host_token[HOST_BEN]);
	cleanup(free_ptr) char *path = path_join(base, "users");
	struct err err;

	host_require(text && path);
	put("users", text, 0600);
	host_require(users_new(&host_server.users, &err) == 0 &&
		     users_read(host_server.users, path, &err) == 0);
}

static void put_spec(const char *name)
{
	cleanup(free_ptr) char *directory = format_string("jupyter/kernels/%s", name);
	cleanup(free_ptr) char *file = format_string("%s/kernel.json", directory);
	cleanup(free_ptr) char *logo = format_string("%s/logo-64x64.png", directory);

	host_require(directory && file && logo);
	make(directory);
	put(file,
	    "{\"argv\": [\"/bin/cellwall\", \"kernel\", \"{connection_file}\", \"--\", \"x\"], "
	    "\"display_name\": \"X\", \"language\": \"x\", \"max_kernels\": 5}",
	    0600);
	put(logo, "logo", 0600);
}

/* What is made once. */
static void make_host(void)
{
	static const char *const variables[] = {"HOME", "XDG_STATE_HOME", "XDG_DATA_HOME",
						"XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"};
	struct settings *settings = &host_server.settings;
	cleanup(free_ptr) char *jupyter = NULL;
	struct err err;

	host_require(mkdtemp(base));
	base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	host_require(base_fd >= 0 && atexit(remove_all) == 0);
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		host_require(setenv(variables[i], base, 1) == 0);
	jupyter = path_join(base, "jupyter");
	host_require(jupyter && setenv("JUPYTER_PATH", jupyter, 1) == 0);
	log_setup("fuzz", LOG_LEVEL_DEBUG);
	eventlog_as_json();
	put("secret", HOST_SECRET, 0600);
	put_spec("isolated");
	put_spec("other");
	put_users();
	make("run");
	host_server.data = path_join(base, "data");
	host_server.runtime = path_join(base, "run");
	settings->base_url = "";
	settings->allow_origin[0] = "https://lab.example";
	settings->allow_host[0] = "hub.example";
	settings->trusted_proxy[0] = "10.0.0.1";
	settings->trusted_proxy[1] = "unix";
	settings->allow_env[0] = HOST_ALLOW;
	settings->max_kernels = 6;
	settings->max_user_kernels = 4;
	settings->area_limit = 128 * 1024;
	host_require(loop_new(&host_server.loop, &err) == 0);
	host_server.auth = auth_new(&host_server);
	host_require(host_server.data && host_server.runtime && host_server.auth);
}

static struct kernel *start(const char *owner)
{
	const struct kernels_order order = {.owner = owner, .spec = "other"};
	struct kernel *kernel = NULL;
	struct err err;

	host_require(kernels_start(host_server.kernels, &order, &kernel, &err) == 0);
	return kernel;
}

/* Files of two users; one's leads out. */
static void put_files(void)
{
	make("data/users/anna/default/staging/in");
	make("data/users/anna/default/staging/out");
	make("data/users/ben/default/staging/out");
	put("data/users/anna/default/staging/in/a.txt", "0123456789", 0600);
	put("data/users/ben/default/staging/out/b", HOST_BENS, 0600);
	host_require(symlinkat("../../../../../../secret", base_fd,
			       "data/users/anna/default/staging/out/link") == 0);
}

void host_begin(void)
{
	struct err err;

	if (base_fd < 0) {
		clock_ms = 1000000000;
		make_host();
	}
	clock_ms += 100000;
	host_server.trail = trail_new(host_server.loop);
	host_require(host_server.trail);
	for (unsigned i = 0; i < HOST_USERS; i++)
		host_known[i] = true;
	host_drawn = 0;
	put_files();
	if (changed) {
		kernels_api_end(&host_server);
		host_require(kernels_api_begin(&host_server, &err) == 0);
		(void)start("anna");
		(void)snprintf(host_bens_kernel, sizeof(host_bens_kernel), "%s", start("ben")->id);
		changed = false;
	}
	for (unsigned i = 0; i < HOST_USERS; i++)
		host_known[i] = false;
	host_drawn = 100;
}

void host_end(void)
{
	const char *bens = "data/users/ben/default/staging/out/b";
	char text[64] = "";
	int fd = openat(base_fd, bens, O_RDONLY | O_CLOEXEC);

	host_server.trail = trail_free(host_server.trail); /* who waits for a log gets an answer */
	if (!host_known[HOST_BEN])
		host_require(fd >= 0 && read(fd, text, sizeof(text) - 1) >= 0 &&
			     strcmp(text, HOST_BENS) == 0);
	close_fd(&fd);
	fd = openat(base_fd, "secret", O_RDONLY | O_CLOEXEC);
	host_require(fd >= 0 && read(fd, text, sizeof(text) - 1) == strlen(HOST_SECRET) &&
		     memcmp(text, HOST_SECRET, strlen(HOST_SECRET)) == 0);
	close_fd(&fd);
	fd = openat(base_fd, "data/users", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	host_require(fd >= 0 && tree_empty(fd) == 0);
	close_fd(&fd);
}
