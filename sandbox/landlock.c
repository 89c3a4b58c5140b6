#include "sandbox/landlock.h"

#include "sandbox/build.h"
#include "sandbox/ruleset.h"

#define OWN (RULESET_READ | RULESET_CHANGE | RULESET_MAKE)

/* The places that are always there. Everything else that is mounted is read-only, and in the spec.
 */
static const struct {
	const char *path;
	uint64_t access;
} places[] = {
	/* Not the root: what may be listed there may be listed everywhere. */
	{"/usr", RULESET_READ},
	{"/bin", RULESET_READ},
	{"/sbin", RULESET_READ},
	{"/lib", RULESET_READ},
	{"/lib32", RULESET_READ},
	{"/lib64", RULESET_READ},
	{"/libx32", RULESET_READ},
	{"/etc", RULESET_READ},
	/* read-only by its mount; this is for descriptors of pipes by name */
	{"/proc", RULESET_READ | RULESET_CHANGE},
	/* terminals are asked by ioctl(2); the filter says which */
	{"/dev", RULESET_READ | RULESET_CHANGE | RULESET_IOCTL},
	{"/dev/shm", OWN},
	{"/tmp", OWN},
	{INSIDE_HOME, OWN},
	{INSIDE_SOCKETS, OWN},
	{INSIDE_WORK, OWN},
};

static int allow_all(int ruleset, const struct spec *spec, struct err *err)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (ruleset_allow(ruleset, places[i].path, places[i].access, err) < 0)
			return err->code;
	}
	/* What is staged or copied up lies in /work or in the home. */
	for (size_t i = 0; i < spec->bind_count; i++) {
		if (ruleset_allow(ruleset, spec->binds[i].target, RULESET_READ, err) < 0)
			return err->code;
	}
	return 0;
}

int landlock_kernel(struct build *build, struct err *err)
{
	cleanup(close_fd) int ruleset = -1;

	if (!ruleset_abi())
		return 0;
	ruleset = ruleset_new(false, RULESET_ABSTRACT | RULESET_SIGNALS, err);
	if (ruleset < 0)
		return ruleset;
	if (allow_all(ruleset, build->spec, err) < 0)
		return err->code;
	if (ruleset_enter(ruleset, err) < 0)
		return err->code;
	build->landlock = ruleset_abi();
	return 0;
}
