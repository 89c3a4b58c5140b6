#include "proxy/corridor.h"

#include <stdint.h>
#include <string.h>

#include "proxy/aside.h"
#include "sandbox/log.h"

static const char *const channel_names[] = {"shell", "control", "stdin", "iopub", "hb"};

/* The first few and then every thousandth: a flood must not fill the log. */
static void count_refusal(const struct passage *passage, unsigned *counter, const char *why)
{
	if (++*counter <= 10 || *counter % 1000 == 0)
		log_warning("refused a message from %s on %s: %s (%u so far)",
			    passage->direction == GUARD_INWARD ? "a client" : "the kernel",
			    channel_names[passage->channel], why, *counter);
}

/* Hashing takes 0.6 ms per MB and signature; a thread costs 0.1 ms. */
#define HASHING_LEAST (1024u * 1024)

static void end_hashing(struct hashing *hashing)
{
	hashing->check = aside_free(hashing->check);
	hashing->make = aside_free(hashing->make);
	wall_frame_unref(hashing->frame);
	hashing->frame = NULL;
}

/* One of the two may not begin, or both: then relay_one does it. */
static void begin_hashing(struct hashing *hashing, const struct sign *from, const struct sign *to,
			  const struct iovec parts[4])
{
	if (parts[WIRE_CONTENT].iov_len < HASHING_LEAST)
		return;
	memcpy(hashing->parts, parts, sizeof(hashing->parts));
	hashing->check = aside_new(from, parts);
	hashing->make = aside_new(to, parts);
}

/* What was begun for these parts while they arrived. */
static struct hashing take_hashing(struct corridor *corridor, const struct iovec parts[4])
{
	struct hashing taken = {0};

	if (corridor->arriving.frame &&
	    memcmp(corridor->arriving.parts, parts, sizeof(corridor->arriving.parts)) == 0) {
		taken = corridor->arriving;
		corridor->arriving = (struct hashing){0};
	}
	return taken;
}

static void feed_hashing(const struct hashing *hashing, size_t have)
{
	const uint8_t *body = hashing->frame->parts[0].iov_base;
	const uint8_t *begin = hashing->parts[0].iov_base;
	size_t before = (size_t)(begin - body);

	if (have > before && hashing->check)
		aside_feed(hashing->check, have - before);
	if (have > before && hashing->make)
		aside_feed(hashing->make, have - before);
}

void corridor_arriving(struct corridor *corridor, struct wall_frame *frame, size_t have)
{
	struct hashing *hashing = &corridor->arriving;
	struct wire_msg wire;

	if (!frame || frame->kind != WALL_MESSAGE || frame->channel == WALL_HB)
		return;
	if (hashing->frame != frame) {
		end_hashing(hashing);
		/* Parts that are not there yet are zeroes and no delimiter, and the parts after
		 * the delimiter are told by their sizes. */
		if (wire_parse(frame->parts, frame->count, &wire, NULL) < 0)
			return;
		begin_hashing(hashing, corridor->inner, corridor->outer, wire.signed_part);
		if (!hashing->check && !hashing->make)
			return;
		hashing->frame = wall_frame_ref(frame);
	}
	feed_hashing(hashing, have);
}

bool relay_one(struct corridor *corridor, struct passage *passage)
{
	struct sign *from = passage->direction == GUARD_INWARD ? corridor->outer : corridor->inner;
	struct sign *to = passage->direction == GUARD_INWARD ? corridor->inner : corridor->outer;
	unsigned *malformed = &corridor->malformed[passage->direction];
	struct wire_msg *wire = &passage->wire;
	cleanup(end_hashing) struct hashing hashing = {0};
	enum sign_verdict signature;
	struct err err;
	int signed_size;

	/* frames to struct */
	if (wire_parse(passage->parts, passage->count, wire, &err) < 0) {
		count_refusal(passage, malformed, err.text);
		return false;
	}
	/* the signature, over the raw bytes, before any JSON is read */
	hashing = take_hashing(corridor, wire->signed_part);
	if (!hashing.frame)
		begin_hashing(&hashing, from, to, wire->signed_part);
	signature = hashing.check
			    ? sign_run_check(from, aside_finish(hashing.check), wire->signature)
			    : sign_check(from, wire->signed_part, wire->signature);
	if (signature != SIGN_GOOD) {
		count_refusal(passage, &corridor->refused[passage->direction][signature],
			      sign_verdict_text(signature));
		return false;
	}
	/* a few fields of the header */
	if (header_parse(wire->signed_part[WIRE_HEADER], &passage->header, &err) < 0) {
		count_refusal(passage, malformed, err.text);
		return false;
	}
	/* what its type means here */
	passage->verdict =
		guard_judge(passage->direction, passage->channel, passage->header.msg_type);
	if (passage->verdict == GUARD_DROP)
		return false;
	/* the other side's signature, over the same bytes */
	signed_size = hashing.make ? sign_run_make(aside_finish(hashing.make), passage->signature)
				   : sign_make(to, wire->signed_part, passage->signature);
	if (signed_size < 0) {
		log_error("cannot sign a message: out of memory");
		return false;
	}
	passage->signature_part = wire->identities + 1;
	return true;
}

void corridor_done(struct corridor *corridor)
{
	static const char *const sides[] = {"clients", "the kernel"};

	for (int i = 0; i < 2; i++) {
		const unsigned *counts = corridor->refused[i];

		if (counts[SIGN_MISSING] + counts[SIGN_WRONG] + counts[SIGN_REPEATED] +
		    corridor->malformed[i])
			log_warning("refused from %s: %u unsigned, %u wrongly signed, %u repeated, "
				    "%u malformed",
				    sides[i], counts[SIGN_MISSING], counts[SIGN_WRONG],
				    counts[SIGN_REPEATED], corridor->malformed[i]);
	}
	end_hashing(&corridor->arriving);
	corridor->outer = sign_free(corridor->outer);
	corridor->inner = sign_free(corridor->inner);
}
