#include "proxy/guard.h"

#include <stddef.h>
#include <string.h>

/* clang-format off */
static const struct rule {
	enum guard_direction direction;
	enum wall_channel channel;
	const char *msg_type;
	enum guard_verdict verdict;
} rules[] = {
	{GUARD_INWARD,  WALL_SHELL,   "execute_request",   GUARD_CELL},
	{GUARD_INWARD,  WALL_CONTROL, "execute_request",   GUARD_CELL},
	{GUARD_INWARD,  WALL_CONTROL, "interrupt_request", GUARD_URGENT},
	{GUARD_INWARD,  WALL_CONTROL, "shutdown_request",  GUARD_URGENT},
	{GUARD_INWARD,  WALL_SHELL,   "shutdown_request",  GUARD_URGENT}, /* deprecated there since 5.4 */
	{GUARD_INWARD,  WALL_CONTROL, "debug_request",     GUARD_URGENT},
	{GUARD_OUTWARD, WALL_SHELL,   "execute_reply",     GUARD_RESULT},
	{GUARD_OUTWARD, WALL_CONTROL, "execute_reply",     GUARD_RESULT},
	{GUARD_OUTWARD, WALL_IOPUB,   "status",            GUARD_STATUS},
	{GUARD_OUTWARD, WALL_IOPUB,   "error",             GUARD_ERROR},
	{GUARD_OUTWARD, WALL_IOPUB,   "iopub_welcome",     GUARD_DROP},   /* meant for the relay; the proxy welcomes each subscriber itself */
};
/* clang-format on */

enum guard_verdict guard_judge(enum guard_direction direction, enum wall_channel channel,
			       const char *msg_type)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].direction == direction && rules[i].channel == channel &&
		    strcmp(rules[i].msg_type, msg_type) == 0)
			return rules[i].verdict;
	return GUARD_PASS;
}
