#include "proxy/guard.h"

#include <stddef.h>
#include <string.h>

/* clang-format off */
static const struct rule {
	enum guard_direction direction;
	unsigned channels;
	const char *msg_type;
	enum guard_verdict verdict;
	enum content_rule rule;
} rules[] = {
#define SHELL	(1u << WALL_SHELL)
#define CONTROL	(1u << WALL_CONTROL)
#define STDIN	(1u << WALL_STDIN)
#define IOPUB	(1u << WALL_IOPUB)
#define BOTH	(SHELL | CONTROL)
	{GUARD_INWARD,  BOTH,    "execute_request",       GUARD_CELL,   CONTENT_NONE},
	{GUARD_INWARD,  CONTROL, "interrupt_request",     GUARD_URGENT, CONTENT_NONE},
	{GUARD_INWARD,  BOTH,    "shutdown_request",      GUARD_URGENT, CONTENT_NONE}, /* on shell deprecated since 5.4 */
	{GUARD_INWARD,  CONTROL, "debug_request",         GUARD_URGENT, CONTENT_NONE},
	{GUARD_INWARD,  SHELL,   "comm_open",             GUARD_PASS,   CONTENT_CLIENT_COMM_OPEN},
	{GUARD_INWARD,  SHELL,   "comm_close",            GUARD_PASS,   CONTENT_CLIENT_COMM_CLOSE},

	{GUARD_OUTWARD, IOPUB,   "status",                GUARD_STATUS, CONTENT_NONE},
	{GUARD_OUTWARD, IOPUB,   "stream",                GUARD_PASS,   CONTENT_STREAM},
	{GUARD_OUTWARD, IOPUB,   "display_data",          GUARD_PASS,   CONTENT_DISPLAY},
	{GUARD_OUTWARD, IOPUB,   "execute_input",         GUARD_PASS,   CONTENT_NONE},
	{GUARD_OUTWARD, IOPUB,   "execute_result",        GUARD_PASS,   CONTENT_RESULT},
	{GUARD_OUTWARD, IOPUB,   "update_display_data",   GUARD_PASS,   CONTENT_UPDATE},
	{GUARD_OUTWARD, IOPUB,   "clear_output",          GUARD_PASS,   CONTENT_CLEAR},
	{GUARD_OUTWARD, IOPUB,   "error",                 GUARD_ERROR,  CONTENT_ERROR},
	{GUARD_OUTWARD, IOPUB,   "comm_msg",              GUARD_PASS,   CONTENT_COMM_MSG},
	{GUARD_OUTWARD, IOPUB,   "comm_open",             GUARD_PASS,   CONTENT_COMM_OPEN},
	{GUARD_OUTWARD, IOPUB,   "comm_close",            GUARD_PASS,   CONTENT_COMM_CLOSE},
	{GUARD_OUTWARD, IOPUB,   "debug_event",           GUARD_PASS,   CONTENT_DEBUG_EVENT},
	{GUARD_OUTWARD, IOPUB,   "shutdown_reply",        GUARD_PASS,   CONTENT_STATUS_REPLY}, /* ipykernel tells everybody */
	{GUARD_OUTWARD, IOPUB,   "iopub_welcome",         GUARD_DROP,   CONTENT_NONE}, /* meant for the relay; the proxy welcomes each subscriber itself */

	{GUARD_OUTWARD, BOTH,    "execute_reply",         GUARD_RESULT, CONTENT_EXECUTE_REPLY},
	{GUARD_OUTWARD, BOTH,    "inspect_reply",         GUARD_PASS,   CONTENT_INSPECT_REPLY},
	{GUARD_OUTWARD, BOTH,    "complete_reply",        GUARD_PASS,   CONTENT_COMPLETE_REPLY},
	{GUARD_OUTWARD, BOTH,    "history_reply",         GUARD_PASS,   CONTENT_HISTORY_REPLY},
	{GUARD_OUTWARD, BOTH,    "is_complete_reply",     GUARD_PASS,   CONTENT_IS_COMPLETE_REPLY},
	{GUARD_OUTWARD, BOTH,    "kernel_info_reply",     GUARD_PASS,   CONTENT_KERNEL_INFO_REPLY},
	{GUARD_OUTWARD, BOTH,    "comm_info_reply",       GUARD_PASS,   CONTENT_COMM_INFO_REPLY},
	{GUARD_OUTWARD, BOTH,    "connect_reply",         GUARD_PASS,   CONTENT_STATUS_REPLY},
	{GUARD_OUTWARD, BOTH,    "shutdown_reply",        GUARD_PASS,   CONTENT_STATUS_REPLY},
	{GUARD_OUTWARD, BOTH,    "interrupt_reply",       GUARD_PASS,   CONTENT_STATUS_REPLY},
	{GUARD_OUTWARD, BOTH,    "usage_reply",           GUARD_PASS,   CONTENT_USAGE_REPLY},
	{GUARD_OUTWARD, BOTH,    "debug_reply",           GUARD_PASS,   CONTENT_DEBUG_REPLY},
	{GUARD_OUTWARD, BOTH,    "create_subshell_reply", GUARD_PASS,   CONTENT_SUBSHELL_REPLY},
	{GUARD_OUTWARD, BOTH,    "delete_subshell_reply", GUARD_PASS,   CONTENT_SUBSHELL_REPLY},
	{GUARD_OUTWARD, BOTH,    "list_subshell_reply",   GUARD_PASS,   CONTENT_SUBSHELL_REPLY},

	{GUARD_OUTWARD, STDIN,   "input_request",         GUARD_PASS,   CONTENT_INPUT_REQUEST},
};
/* clang-format on */

struct guard guard_judge(enum guard_direction direction, enum wall_channel channel,
			 const char *msg_type, char *const *extra_types)
{
	const enum guard_verdict unknown = direction == GUARD_INWARD ? GUARD_PASS : GUARD_REFUSE;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].direction == direction && rules[i].channels & (1u << channel) &&
		    strcmp(rules[i].msg_type, msg_type) == 0)
			return (struct guard){rules[i].verdict, rules[i].rule, rules[i].msg_type};
	if (direction == GUARD_OUTWARD && channel == WALL_IOPUB)
		for (char *const *extra = extra_types; extra && *extra; extra++)
			if (strcmp(*extra, msg_type) == 0)
				return (struct guard){GUARD_PASS, CONTENT_EXTRA, *extra};
	return (struct guard){unknown, CONTENT_NONE, NULL};
}
