#include "proxy/corridor.h"

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

bool relay_one(struct corridor *corridor, struct passage *passage)
{
	struct sign *from = passage->direction == GUARD_INWARD ? corridor->outer : corridor->inner;
	struct sign *to = passage->direction == GUARD_INWARD ? corridor->inner : corridor->outer;
	unsigned *malformed = &corridor->malformed[passage->direction];
	struct wire_msg *wire = &passage->wire;
	enum sign_verdict signature;
	struct err err;

	/* frames to struct */
	if (wire_parse(passage->parts, passage->count, wire, &err) < 0) {
		count_refusal(passage, malformed, err.text);
		return false;
	}
	/* the signature, over the raw bytes, before any JSON is read */
	signature = sign_check(from, wire->signed_part, wire->signature);
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
	if (sign_make(to, wire->signed_part, passage->signature) < 0) {
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
	corridor->outer = sign_free(corridor->outer);
	corridor->inner = sign_free(corridor->inner);
}
