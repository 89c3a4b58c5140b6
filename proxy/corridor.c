#include "proxy/corridor.h"

#include <pthread.h>

#include "sandbox/log.h"

static const char *const channel_names[] = {"shell", "control", "stdin", "iopub", "hb"};

/* The first few and then every thousandth: a flood must not fill the log. */
static void count_refusal(const struct corridor *corridor, const struct passage *passage,
			  unsigned *counter, const char *why)
{
	audit_note(corridor->audit, "refused", channel_names[passage->channel], NULL, 0,
		   passage->direction == GUARD_INWARD ? "of a client" : "of the kernel", why);
	if (++*counter <= 10 || *counter % 1000 == 0)
		log_warning("refused a message from %s on %s: %s (%u so far)",
			    passage->direction == GUARD_INWARD ? "a client" : "the kernel",
			    channel_names[passage->channel], why, *counter);
}

/* Hashing takes 0.6 ms per MB and signature; a thread costs 0.1 ms. */
#define ASIDE_LEAST (1024u * 1024)
#define ASIDE_STACK (256u * 1024)

/* The other side's signature of a large message, made while its own is checked. */
struct aside {
	pthread_t thread;
	bool begun;
	struct sign *to;
	struct passage *passage;
	int code;
};

static void *make_aside(void *arg)
{
	struct aside *aside = arg;
	struct passage *passage = aside->passage;

	aside->code = sign_make(aside->to, passage->wire.signed_part, passage->signature);
	return NULL;
}

static void begin_aside(struct aside *aside, struct sign *to, struct passage *passage)
{
	const struct iovec *parts = passage->wire.signed_part;
	pthread_attr_t attr;

	*aside = (struct aside){.to = to, .passage = passage};
	if (parts[WIRE_CONTENT].iov_len < ASIDE_LEAST || pthread_attr_init(&attr) != 0)
		return;
	if (pthread_attr_setstacksize(&attr, ASIDE_STACK) == 0)
		aside->begun = pthread_create(&aside->thread, &attr, make_aside, aside) == 0;
	(void)pthread_attr_destroy(&attr);
}

/* Waits for it; true when the signature is there. */
static bool end_aside(struct aside *aside)
{
	return aside->begun && pthread_join(aside->thread, NULL) == 0 && aside->code >= 0;
}

bool relay_one(struct corridor *corridor, struct passage *passage)
{
	struct sign *from = passage->direction == GUARD_INWARD ? corridor->outer : corridor->inner;
	struct sign *to = passage->direction == GUARD_INWARD ? corridor->inner : corridor->outer;
	unsigned *malformed = &corridor->malformed[passage->direction];
	struct wire_msg *wire = &passage->wire;
	enum sign_verdict signature;
	struct aside aside;
	bool signed_aside;
	struct err err;

	/* frames to struct */
	if (wire_parse(passage->parts, passage->count, wire, &err) < 0) {
		count_refusal(corridor, passage, malformed, err.text);
		return false;
	}
	/* the signature, over the raw bytes, before any JSON is read */
	begin_aside(&aside, to, passage);
	signature = sign_check(from, wire->signed_part, wire->signature);
	signed_aside = end_aside(&aside);
	if (signature != SIGN_GOOD) {
		count_refusal(corridor, passage, &corridor->refused[passage->direction][signature],
			      sign_verdict_text(signature));
		return false;
	}
	/* a few fields of the header */
	if (header_parse(wire->signed_part[WIRE_HEADER], &passage->header, &err) < 0) {
		count_refusal(corridor, passage, malformed, err.text);
		return false;
	}
	/* what its type means here */
	passage->verdict =
		guard_judge(passage->direction, passage->channel, passage->header.msg_type);
	if (passage->verdict == GUARD_DROP)
		return false;
	/* the other side's signature, over the same bytes */
	if (!signed_aside && sign_make(to, wire->signed_part, passage->signature) < 0) {
		log_error("cannot sign a message: out of memory");
		return false;
	}
	passage->signature_part = wire->identities + 1;
	audit_message(corridor->audit, passage->direction == GUARD_INWARD,
		      channel_names[passage->channel], passage->header.msg_type,
		      wire->signed_part[WIRE_CONTENT]);
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
