#include "proxy/corridor.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "proxy/joining.h"
#include "proxy/limits.h"
#include "sandbox/log.h"

const char *corridor_channel(const struct passage *passage)
{
	static const char *const names[] = {"shell", "control", "stdin", "iopub", "hb"};

	return names[passage->channel];
}

/* Of all its parts, whatever they are. */
static size_t bytes_of(const struct passage *passage)
{
	size_t bytes = 0;

	for (size_t i = 0; i < passage->count; i++)
		bytes += passage->parts[i].iov_len;
	return bytes;
}

static const char *const refusal_names[REFUSALS] = {
	[REFUSED_TYPE] = "no type of a kernel's",
	[REFUSED_ID] = "a msg_id with other characters than A-Z a-z 0-9 _ . -",
	[REFUSED_REPEATED] = "a msg_id that was there before",
	[REFUSED_PARENT] = "no such request waits for it",
	[REFUSED_STATE] = "a state other than busy, idle and starting",
	[REFUSED_INPUT] = "nobody has to be asked for input",
	[REFUSED_CONTENT] = "its content",
	[REFUSED_SIZE] = "too much output of one cell",
};

/* The first few and then every thousandth: a flood must not fill the log. */
static void count_refusal(const struct corridor *corridor, const struct passage *passage,
			  unsigned *counter, const char *why)
{
	audit_refused(corridor->audit, passage->direction == GUARD_INWARD,
		      corridor_channel(passage), passage->header.msg_type, bytes_of(passage),
		      "dropped", why);
	tally_message(corridor->tally, passage->direction == GUARD_INWARD, passage->channel,
		      TALLY_DROPPED, bytes_of(passage));
	if (++*counter <= 10 || *counter % 1000 == 0)
		log_warning("refused a message from %s on %s: %s (%u so far)",
			    passage->direction == GUARD_INWARD ? "a client" : "the kernel",
			    corridor_channel(passage), why, *counter);
}

/* Hashing takes 0.6 ms per MB and signature; a thread costs 0.1 ms. */
#define ASIDE_LEAST (1024u * 1024)
#define ASIDE_STACK (256u * 1024)

/* A large message's own signature is checked while the other side's is made. Not sooner: while it
 * arrives, two processors have enough to do with copying it. */
struct check {
	pthread_t thread;
	bool begun;
	struct sign *from;
	struct passage *passage;
	enum sign_verdict verdict;
};

static void *run_check(void *arg)
{
	struct check *check = arg;
	const struct wire_msg *wire = &check->passage->wire;

	check->verdict = sign_check(check->from, wire->signed_part, wire->signature);
	return NULL;
}

static void begin_check(struct check *check, struct sign *from, struct passage *passage)
{
	pthread_attr_t attr;

	*check = (struct check){.from = from, .passage = passage};
	if (passage->wire.signed_part[WIRE_CONTENT].iov_len >= ASIDE_LEAST &&
	    pthread_attr_init(&attr) == 0) {
		if (pthread_attr_setstacksize(&attr, ASIDE_STACK) == 0)
			check->begun = pthread_create(&check->thread, &attr, run_check, check) == 0;
		(void)pthread_attr_destroy(&attr);
	}
	if (!check->begun)
		(void)run_check(check);
}

/* Waits for it. Nothing of a message is remembered or answered before. */
static bool end_check(struct corridor *corridor, struct check *check)
{
	struct passage *passage = check->passage;

	if (check->begun)
		(void)pthread_join(check->thread, NULL);
	check->begun = false;
	if (check->verdict == SIGN_GOOD)
		return true;
	count_refusal(corridor, passage, &corridor->refused[passage->direction][check->verdict],
		      sign_verdict_text(check->verdict));
	return false;
}

static bool sign_for(struct sign *to, const struct iovec parts[4], struct passage *passage)
{
	if (sign_make(to, parts, passage->signature) >= 0)
		return true;
	log_error("cannot sign a message: out of memory");
	return false;
}

static bool relay_inward(struct corridor *corridor, struct passage *passage)
{
	const struct wire_msg *wire = &passage->wire;
	struct check check;
	struct err err;
	bool made;

	/* the signature, over the raw bytes, before any JSON is read; the other side's is over the
	 * same */
	begin_check(&check, corridor->outer, passage);
	made = (check.begun || check.verdict == SIGN_GOOD) &&
	       sign_for(corridor->inner, wire->signed_part, passage);
	if (!end_check(corridor, &check) || !made)
		return false;
	/* a few fields of the header, and what its type means here */
	if (header_parse(wire->signed_part[WIRE_HEADER], &passage->header, &err) < 0) {
		count_refusal(corridor, passage, &corridor->malformed[GUARD_INWARD], err.text);
		return false;
	}
	passage->guard =
		guard_judge(GUARD_INWARD, passage->channel, passage->header.msg_type, NULL);
	passage->verdict = passage->guard.verdict;
	/* for the answers to come */
	outward_expect(corridor, passage);
	return true;
}

/* A refusal is counted once its signature is known to be good. */
static bool refuse(struct corridor *corridor, struct passage *passage, struct check *check,
		   enum refusal refusal)
{
	char type[80];
	char why[256];

	if (!end_check(corridor, check) || refusal == REFUSED_SILENTLY)
		return false;
	(void)snprintf(why, sizeof(why), "%s: %s",
		       escape_string(type, sizeof(type), passage->header.msg_type),
		       refusal_names[refusal]);
	count_refusal(corridor, passage, &corridor->kept_back[refusal], why);
	return false;
}

/* A small clean piece of a stream, of which there are many. */
static bool joins(const struct corridor *corridor, const struct passage *passage)
{
	return corridor->joining && passage->text.iov_base &&
	       joining_wants(corridor->joining, now_ms()) && passage->text.iov_len <= JOIN_PIECE &&
	       !passage->said && !passage->moved && !passage->topic &&
	       passage->wire.identities == 1 && passage->fresh[WIRE_METADATA].iov_len == 2;
}

static bool relay_outward(struct corridor *corridor, struct passage *passage)
{
	enum refusal refusal;
	struct check check;
	bool examine = false, made;
	struct err err;

	/* the signature, over the raw bytes */
	begin_check(&check, corridor->inner, passage);
	if (!check.begun && check.verdict != SIGN_GOOD)
		return end_check(corridor, &check);
	/* a few fields of the header */
	if (header_parse(passage->wire.signed_part[WIRE_HEADER], &passage->header, &err) < 0) {
		if (end_check(corridor, &check))
			count_refusal(corridor, passage, &corridor->malformed[GUARD_OUTWARD],
				      err.text);
		return false;
	}
	/* what its type means here, what it belongs to, new headers, harmless content */
	refusal = outward_prepare(corridor, passage, &examine);
	if (refusal != REFUSED_NOT)
		return refuse(corridor, passage, &check, refusal);
	/* other content, in its own process */
	if (examine) {
		if (!end_check(corridor, &check))
			return false;
		refusal = outward_examine(corridor, passage);
		if (refusal != REFUSED_NOT)
			return refuse(corridor, passage, &check, refusal);
	}
	/* the other side's signature */
	passage->joins = joins(corridor, passage);
	made = passage->joins || sign_for(corridor->outer, passage->fresh, passage);
	if (!end_check(corridor, &check) || !made)
		return false;
	refusal = outward_commit(corridor, passage);
	return refusal == REFUSED_NOT || refuse(corridor, passage, &check, refusal);
}

bool relay_one(struct corridor *corridor, struct passage *passage)
{
	struct err err;

	/* frames to struct */
	if (wire_parse(passage->parts, passage->count, &passage->wire, &err) < 0) {
		count_refusal(corridor, passage, &corridor->malformed[passage->direction],
			      err.text);
		return false;
	}
	passage->signature_part = passage->wire.identities + 1;
	if (passage->direction == GUARD_INWARD ? !relay_inward(corridor, passage)
					       : !relay_outward(corridor, passage))
		return false;
	tally_message(corridor->tally, passage->direction == GUARD_INWARD, passage->channel,
		      passage->changed ? TALLY_CHANGED : TALLY_PASSED, bytes_of(passage));
	if (passage->joins)
		return true;
	audit_message(corridor->audit, passage->direction == GUARD_INWARD,
		      corridor_channel(passage), passage->header.msg_type,
		      passage->direction == GUARD_INWARD ? passage->wire.signed_part[WIRE_CONTENT]
							 : passage->fresh[WIRE_CONTENT]);
	return true;
}

/* ---- the frame that goes on ---- */

static struct iovec put(char **at, const void *bytes, size_t size)
{
	const struct iovec part = {*at, size};

	if (size)
		memcpy(*at, bytes, size);
	*at += size;
	return part;
}

/* IRkernel publishes under all routing identities of the request. */
static void leave_one_topic(struct wall_frame *frame, size_t topics)
{
	memmove(frame->parts + 1, frame->parts + topics,
		(frame->count - topics) * sizeof(frame->parts[0]));
	frame->count = (uint16_t)(frame->count - (topics - 1));
}

int passage_dress(const struct passage *passage, struct wall_frame *frame)
{
	const size_t signature_size = strlen(passage->signature), first = passage->signature_part;
	size_t size = signature_size + (passage->topic ? strlen(passage->topic) : 0) + 1;
	uint64_t total = 0;
	char *at;

	for (size_t i = 0; i < 4; i++)
		if (passage->fresh[i].iov_base != passage->wire.signed_part[i].iov_base)
			size += passage->fresh[i].iov_len;
	at = frame->added = malloc(size);
	if (!at)
		return -ENOMEM;
	if (passage->topic)
		frame->parts[0] = put(&at, passage->topic, strlen(passage->topic));
	frame->parts[first] = put(&at, passage->signature, signature_size);
	for (size_t i = 0; i < 4; i++)
		if (passage->fresh[i].iov_base != passage->wire.signed_part[i].iov_base)
			frame->parts[first + 1 + i] =
				put(&at, passage->fresh[i].iov_base, passage->fresh[i].iov_len);
	frame->count = (uint16_t)passage->fresh_count;
	if (passage->topic)
		leave_one_topic(frame, passage->wire.identities);
	for (size_t i = 0; i < frame->count; i++)
		total += frame->parts[i].iov_len;
	frame->total = total < UINT32_MAX ? (uint32_t)total : UINT32_MAX;
	return 0;
}

void passage_done(struct passage *passage)
{
	free_ptr(&passage->content);
	free_ptr(&passage->metadata);
	free_ptr(&passage->comm_close);
	free_ptr(&passage->said);
}

void corridor_interrupted(struct corridor *corridor)
{
	corridor->asking = 0;
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
	for (int i = REFUSED_TYPE; i < REFUSALS; i++)
		if (corridor->kept_back[i])
			log_warning("refused from the kernel: %u for %s", corridor->kept_back[i],
				    refusal_names[i]);
	if (corridor->blocked)
		log_warning("something was taken out of %u messages of the kernel",
			    corridor->blocked);
	corridor->outer = sign_free(corridor->outer);
	corridor->inner = sign_free(corridor->inner);
	corridor->requests = requests_free(corridor->requests);
	corridor->ids = recent_free(corridor->ids);
}
