#include "web/near_enclose.h"

#include "proxy/enclose.h"
#include "sandbox/confine.h"
#include "sandbox/ruleset.h"

int near_enclose_files(const struct connection *connection, uint16_t port, struct err *err)
{
	cleanup(close_fd) int ruleset = -1;

#ifdef CELLWALL_LEAKS
	return 0; /* what looks for leaks reads /proc */
#endif
	if (!ruleset_abi())
		return 0;
	ruleset = ruleset_new(true, RULESET_ABSTRACT | RULESET_SIGNALS, err);
	if (ruleset < 0)
		return ruleset;
	if (enclose_sockets(ruleset, connection, err) < 0 ||
	    ruleset_allow_connect(ruleset, port, err) < 0)
		return err->code;
	return ruleset_enter(ruleset, err);
}

int near_enclose_calls(struct err *err)
{
	return confine_enter(CONFINE_NEAR, err);
}
