#include "proxy/enclose.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/confine.h"
#include "sandbox/ruleset.h"

#define OURS (RULESET_READ | RULESET_CHANGE | RULESET_MAKE)

static int allow_parent(int ruleset, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	cleanup(free_ptr) char *parent =
		slash ? strndup(path, slash > path ? (size_t)(slash - path) : 1) : strdup(".");

	if (!parent)
		return err_set(err, -ENOMEM, "out of memory");
	return ruleset_allow(ruleset, parent, OURS, err);
}

int enclose_sockets(int ruleset, const struct connection *connection, struct err *err)
{
	for (int i = 0; i < WALL_CHANNELS; i++) {
		const char *colon = strrchr(connection->endpoint[i], ':');
		uint64_t port = 0;
		int r = 0;

		if (connection->ipc_path[i])
			r = allow_parent(ruleset, connection->ipc_path[i], err);
		else if (colon && parse_u64(colon + 1, UINT16_MAX, &port) == 0)
			r = ruleset_allow_bind(ruleset, (uint16_t)port, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* For bringing results in, should the supervisor be killed: staging/out may still have to be made.
 */
static int allow_results(int ruleset, const struct spec *spec, struct err *err)
{
	cleanup(free_ptr) char *staging = strdup(spec->out);
	char *slash = staging ? strrchr(staging, '/') : NULL;
	int r;

	if (!slash || slash == staging)
		return err_set(err, -ENOMEM, "out of memory");
	*slash = '\0';
	r = ruleset_allow(ruleset, spec->state, OURS, err);
	if (r == 0)
		r = ruleset_allow(ruleset, spec->out, OURS, err);
	if (r == 0 && access(staging, F_OK) == 0)
		return ruleset_allow(ruleset, staging, OURS, err);
	return r == 0 ? allow_parent(ruleset, staging, err) : r;
}

int enclose_files(const struct session_plan *plan, struct err *err)
{
	cleanup(close_fd) int ruleset = -1;

#ifdef CELLWALL_LEAKS
	return 0; /* what looks for leaks reads /proc */
#endif
	/* A plan that failed names no places, and starts nothing that could be attacked. */
	if (plan->failure || !ruleset_abi())
		return 0;
	ruleset = ruleset_new(true, RULESET_ABSTRACT, err);
	if (ruleset < 0)
		return ruleset;
	if (enclose_sockets(ruleset, plan->connection, err) < 0 ||
	    allow_results(ruleset, plan->spec, err) < 0)
		return err->code;
	if (install_directory(plan->install) &&
	    ruleset_allow(ruleset, install_directory(plan->install), OURS, err) < 0)
		return err->code;
	if (audit_directory(plan->audit) &&
	    ruleset_allow(ruleset, audit_directory(plan->audit), OURS, err) < 0)
		return err->code;
	return ruleset_enter(ruleset, err);
}

int enclose_calls(struct err *err)
{
	return confine_enter(CONFINE_PROXY, err);
}

struct enclosed enclose_measure(void)
{
	struct enclosed enclosed = {0};
	cleanup(close_fd) int peer = -1, directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	enclosed.files = directory < 0 && errno == EACCES;
	peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	enclosed.calls = peer < 0 && errno == EPERM;
	return enclosed;
}
