#include "web/link_frame.h"

#include <errno.h>

static uint64_t get_u64(const unsigned char *bytes)
{
	uint64_t value = 0;

	for (unsigned i = 8; i-- > 0;)
		value = value << 8 | bytes[i];
	return value;
}

/* What a type allows: the highest a and b, and how long its body may be. */
static const struct rule {
	uint8_t a_least, a_most, b_most;
	size_t least, most;
} rules[] = {
	[LINK_HELLO] = {0, 1, 0, LINK_ID, LINK_ID + LINK_ORDER},
	[LINK_WELCOME] = {0, 0, 0, 0, 0},
	[LINK_DATA] = {0, LINK_CHANNELS - 1, 1, 1, LINK_PIECE},
	[LINK_ACK] = {0, 0, 0, 0, 0},
	[LINK_REFUSE] = {LINK_NOT_KNOWN, LINK_NOT_ALLOWED, 0, 0, LINK_TEXT},
};

int link_frame_parse(const void *bytes, size_t size, struct link_frame *ret_frame, struct err *err)
{
	const unsigned char *at = bytes;
	const struct rule *rule;
	struct link_frame frame;

	if (size < LINK_HEADER || size > LINK_FRAME)
		return err_set(err, -EPROTO, "a frame of %zu bytes", size);
	frame = (struct link_frame){.version = at[0],
				    .type = at[1],
				    .a = at[2],
				    .b = at[3],
				    .number = get_u64(at + 4),
				    .body = at + LINK_HEADER,
				    .size = size - LINK_HEADER};
	*ret_frame = frame;
	if (frame.version != LINK_VERSION || frame.type == 0 ||
	    frame.type >= sizeof(rules) / sizeof(rules[0]))
		return 0;
	rule = &rules[frame.type];
	if (frame.a < rule->a_least || frame.a > rule->a_most || frame.b > rule->b_most ||
	    frame.size < rule->least || frame.size > rule->most)
		return err_set(err, -EPROTO, "a frame of type %u with %u, %u and %zu bytes",
			       frame.type, frame.a, frame.b, frame.size);
	if (frame.type == LINK_HELLO && frame.a == 1 && frame.size != LINK_ID)
		return err_set(err, -EPROTO, "a second order for one session");
	if (frame.type == LINK_DATA && frame.number == 0)
		return err_set(err, -EPROTO, "sequence 0");
	return 0;
}

void link_frame_header(unsigned char out[LINK_HEADER], enum link_type type, unsigned a, unsigned b,
		       uint64_t number)
{
	out[0] = LINK_VERSION;
	out[1] = (unsigned char)type;
	out[2] = (unsigned char)a;
	out[3] = (unsigned char)b;
	for (unsigned i = 0; i < 8; i++)
		out[4 + i] = (unsigned char)(number >> (8 * i));
}
