/*
 * Theory of operation
 *
 * What a kernel says of where its message belongs is taken for one thing alone: the msg_id of a
 * request, which is looked up among those that clients have sent. Everything else of both headers
 * is written here. A message that only the state of a request allows (a reply, a question, the
 * echo of a cell) is checked against the request; the state changes in outward_commit, when the
 * message is sure to go on.
 */
#include <errno.h>
#include <string.h>

#include "proxy/corridor.h"
#include "proxy/known.h"
#include "proxy/limits.h"
#include "proxy/plain.h"
#include "proxy/portions.h"
#include "proxy/scan.h"
#include "sandbox/log.h"

/* Read only: iovec is for both directions. */
static struct iovec text_part(const char *text)
{
	union {
		const void *constant;
		void *plain;
	} view = {.constant = text};

	return (struct iovec){view.plain, strlen(text)};
}

static bool trusted(const struct corridor *corridor)
{
	return !corridor->rules || corridor->rules->mode == OUTPUTS_OFF;
}

/* ---- what it belongs to ---- */

/* Output: of a request that was forgotten it goes to the newest. */
static bool may_move(const struct passage *passage)
{
	switch (passage->guard.rule) {
	case CONTENT_STREAM:
	case CONTENT_DISPLAY:
	case CONTENT_RESULT:
	case CONTENT_UPDATE:
	case CONTENT_ERROR:
		return true;
	default:
		return false;
	}
}

static struct request *parent_of(const struct corridor *corridor, struct passage *passage)
{
	const struct iovec raw = passage->wire.signed_part[WIRE_PARENT];
	struct request *request;
	struct header parent;

	if (!corridor->requests || header_parse(raw, &parent, NULL) < 0)
		return NULL;
	if (passage->channel == WALL_IOPUB) {
		request = requests_find(corridor->requests, parent.msg_id, parent.session);
		if (!request && may_move(passage)) {
			request = requests_instead(corridor->requests);
			passage->moved = request != NULL;
		}
		return request;
	}
	if (passage->channel != WALL_STDIN)
		return requests_asked(corridor->requests, parent.msg_id, passage->channel,
				      passage->parts[0]);
	request = requests_asked(corridor->requests, parent.msg_id, WALL_SHELL, passage->parts[0]);
	return request ? request
		       : requests_asked(corridor->requests, parent.msg_id, WALL_CONTROL,
					passage->parts[0]);
}

/* "execute_reply" for "execute_request". */
static bool answers(const char *reply, const char *request)
{
	const size_t stem = strlen(reply) - strlen("_reply");

	return strncmp(reply, request, stem) == 0 && strcmp(request + stem, "_request") == 0;
}

static enum refusal check_place(const struct corridor *corridor, const struct passage *passage)
{
	const struct request *request = passage->request;
	const char *type = passage->guard.msg_type;

	switch (passage->channel) {
	case WALL_SHELL:
	case WALL_CONTROL:
		return request && answers(type, request->msg_type) ? REFUSED_NOT : REFUSED_PARENT;
	case WALL_STDIN:
		return request && request->allows_stdin && !corridor->asking ? REFUSED_NOT
									     : REFUSED_INPUT;
	default:
		break;
	}
	if (passage->guard.rule == CONTENT_DEBUG_EVENT)
		return corridor->known && known_debugging(corridor->known) ? REFUSED_NOT
									   : REFUSED_SILENTLY;
	if (passage->guard.rule == CONTENT_CLEAR)
		return request ? REFUSED_NOT : REFUSED_PARENT;
	if (passage->guard.rule == CONTENT_STATUS_REPLY)
		return request && answers(type, request->msg_type) ? REFUSED_NOT : REFUSED_PARENT;
	return REFUSED_NOT;
}

/* ---- what it becomes ---- */

static bool is_comm(enum content_rule rule)
{
	return rule == CONTENT_COMM_OPEN || rule == CONTENT_COMM_MSG || rule == CONTENT_COMM_CLOSE;
}

static bool plain_topic(struct iovec topic)
{
	const char *c = topic.iov_base;

	for (size_t i = 0; i < topic.iov_len; i++)
		if (c[i] < '!' || c[i] > '~')
			return false;
	return topic.iov_len <= WIRE_IDENTITY_MAX;
}

/* status and execute_input have nothing in them but what is known here. */
static enum refusal make_content(struct passage *passage)
{
	const struct iovec content = passage->wire.signed_part[WIRE_CONTENT];
	const struct request *request = passage->request;
	const char *state;
	struct iovec count;

	if (passage->verdict == GUARD_STATUS) {
		state = scan_state(content);
		if (!state)
			return REFUSED_STATE;
		passage->content = format_string("{\"execution_state\": \"%s\"}", state);
	} else {
		if (!request || !request->code)
			return REFUSED_PARENT;
		count = scan_count(content);
		if (count.iov_len == 0)
			return REFUSED_CONTENT;
		passage->content =
			format_string("{\"code\": %s, \"execution_count\": %.*s}", request->code,
				      (int)count.iov_len, (const char *)count.iov_base);
	}
	if (!passage->content)
		return REFUSED_CONTENT;
	passage->fresh[WIRE_CONTENT] = text_part(passage->content);
	return REFUSED_NOT;
}

static enum refusal make_headers(const struct corridor *corridor, struct passage *passage)
{
	const int size = header_rebuild(&passage->header, passage->guard.msg_type,
					corridor->session, passage->header_text);

	if (size < 0)
		return REFUSED_ID;
	passage->fresh[WIRE_HEADER] = (struct iovec){passage->header_text, (size_t)size};
	passage->fresh[WIRE_PARENT] = passage->request ? passage->request->header : text_part("{}");
	if (!scan_metadata(passage->guard.rule, passage->fresh[WIRE_METADATA]))
		passage->fresh[WIRE_METADATA] = text_part("{}");
	if (!is_comm(passage->guard.rule))
		passage->fresh_count = passage->wire.first_buffer;
	if (passage->channel == WALL_IOPUB && passage->wire.identities > 0 &&
	    (passage->wire.identities > 1 || !plain_topic(passage->parts[0])))
		passage->topic = passage->guard.msg_type;
	return REFUSED_NOT;
}

/* ---- what is said of it ---- */

/* Once for each kind and cell. */
static void say(struct corridor *corridor, struct passage *passage, unsigned kind, char *text)
{
	unsigned *told = passage->request ? &passage->request->told : &corridor->told;

	if (*told & (1u << kind)) {
		free(text);
		return;
	}
	*told |= 1u << kind;
	free(passage->said);
	passage->said = text;
}

_Static_assert(CONTENT_RULES < 31, "a bit for each rule, one for the size");
#define KIND_SIZE 31

/* ---- how much ---- */

static uint64_t bytes_of(const struct passage *passage)
{
	uint64_t bytes = passage->wire.signed_part[WIRE_CONTENT].iov_len;

	for (size_t i = passage->wire.first_buffer; i < passage->count; i++)
		bytes += passage->parts[i].iov_len;
	return bytes;
}

static bool is_output(const struct passage *passage)
{
	return passage->channel == WALL_IOPUB && passage->guard.rule != CONTENT_NONE &&
	       passage->guard.rule != CONTENT_ERROR && passage->guard.rule != CONTENT_CLEAR &&
	       passage->guard.rule != CONTENT_STATUS_REPLY;
}

static bool too_much(const struct corridor *corridor, const struct passage *passage)
{
	const uint64_t so_far = passage->request ? passage->request->output : corridor->output;

	return is_output(passage) && so_far + bytes_of(passage) > CELL_OUTPUT_MAX;
}

/* A number for a client, not 0. */
static uint64_t client_of(const struct corridor *corridor, struct iovec identity)
{
	return requests_hash(corridor->requests, identity.iov_base, identity.iov_len) | 1;
}

static bool keeps(const struct corridor *corridor, struct passage *passage)
{
	const struct iovec content = passage->fresh[WIRE_CONTENT];

	if (passage->guard.rule == CONTENT_STREAM)
		return scan_stream(content, corridor->rules->links, &passage->stream,
				   &passage->text);
	return scan_keeps(passage->guard.rule, content, corridor->rules->links);
}

/* ---- the rooms ---- */

enum refusal outward_prepare(struct corridor *corridor, struct passage *passage, bool *ret_examine)
{
	const enum wall_channel channel = passage->channel;
	enum refusal refusal;

	passage->guard = guard_judge(GUARD_OUTWARD, channel, passage->header.msg_type,
				     corridor->rules ? corridor->rules->extra_types : NULL);
	passage->verdict = passage->guard.verdict;
	memcpy(passage->fresh, passage->wire.signed_part, sizeof(passage->fresh));
	passage->fresh_count = passage->count;
	if (passage->verdict == GUARD_DROP)
		return REFUSED_SILENTLY;
	if (trusted(corridor)) {
		if (passage->verdict == GUARD_REFUSE)
			passage->verdict = GUARD_PASS;
		if (passage->verdict != GUARD_PASS)
			passage->request = parent_of(corridor, passage);
		return REFUSED_NOT;
	}
	if (passage->verdict == GUARD_REFUSE)
		return REFUSED_TYPE;
	if (channel != WALL_IOPUB && passage->wire.identities != 1)
		return REFUSED_PARENT;
	passage->request = parent_of(corridor, passage);
	refusal = check_place(corridor, passage);
	if (refusal == REFUSED_NOT && too_much(corridor, passage))
		refusal = REFUSED_SIZE;
	if (refusal == REFUSED_SIZE)
		say(corridor, passage, KIND_SIZE,
		    format_string("this cell has put out %u MiB: what follows is dropped, first a "
				  "%s of %llu bytes",
				  (unsigned)(CELL_OUTPUT_MAX >> 20), passage->guard.msg_type,
				  (unsigned long long)bytes_of(passage)));
	if (refusal == REFUSED_NOT)
		refusal = make_headers(corridor, passage);
	if (refusal == REFUSED_NOT && passage->guard.rule == CONTENT_NONE)
		return make_content(passage);
	*ret_examine = !keeps(corridor, passage);
	return refusal;
}

#define FILE_INSTEAD "; written to a file it is in staging/out afterwards"
_Static_assert(EXAMINE_CONTENT_MAX == 64u * 1024 * 1024, "as the text says");

static const char *failure(int code)
{
	switch (code) {
	case -EMSGSIZE:
		return "more than the 64 MiB that are looked at in one message" FILE_INSTEAD;
	case -ETIMEDOUT:
		return "looking at it took too long" FILE_INSTEAD;
	case -ENOMEM:
		return "out of memory";
	default:
		return "the process that looked at it ended";
	}
}

static void report(struct corridor *corridor, const struct passage *passage, bool goes,
		   const char *what)
{
	audit_note(corridor->audit, "blocked", corridor_channel(passage), passage->guard.msg_type,
		   passage->wire.signed_part[WIRE_CONTENT].iov_len, goes ? "changed" : "dropped",
		   what);
	if (++corridor->blocked <= 10 || corridor->blocked % 1000 == 0)
		log_warning("blocked in a %s of %llu bytes: %s (%u so far)",
			    passage->guard.msg_type, (unsigned long long)bytes_of(passage), what,
			    corridor->blocked);
}

static void take_answer(struct passage *passage, struct examination *examination)
{
	if (examination->verdict == CONTENT_DROP_COMM) {
		passage->comm_close = steal_ptr(&examination->new_content);
		return;
	}
	if (examination->verdict != CONTENT_CHANGED)
		return;
	passage->content = steal_ptr(&examination->new_content);
	passage->metadata = steal_ptr(&examination->new_metadata);
	passage->fresh[WIRE_CONTENT] =
		(struct iovec){passage->content, examination->new_content_size};
	passage->fresh[WIRE_METADATA] =
		(struct iovec){passage->metadata, examination->new_metadata_size};
}

/* That can be of any length. */
static bool has_text(enum content_rule rule)
{
	return rule == CONTENT_STREAM || rule == CONTENT_DISPLAY || rule == CONTENT_RESULT ||
	       rule == CONTENT_UPDATE;
}

static int ask(const struct corridor *corridor, const struct passage *passage,
	       struct examination *examination)
{
	int code = -EINVAL;

	if (!corridor->examine)
		return -EPIPE;
	if (has_text(passage->guard.rule) && examination->content.iov_len >= PORTIONS_LEAST)
		code = portions_examine(corridor->examine, examination, corridor->rules->links);
	return code == -EINVAL ? examine(corridor->examine, examination) : code;
}

/* A client waits for a reply: what may not be in it does not leave it without one. */
static bool make_reply(struct passage *passage, const char *why)
{
	cleanup(free_ptr) char *text = format_string("the kernel's reply was blocked: %s", why);
	cleanup(free_ptr) char *clean = NULL;
	cleanup(free_ptr) char *literal = NULL;
	size_t size = text ? strlen(text) : 0;
	/* jupyter_console counts on it */
	const char *count =
		passage->guard.rule == CONTENT_EXECUTE_REPLY ? ", \"execution_count\": 0" : "";

	if (text && plain_clean(text, size, PLAIN_PROMPT, &clean, &size) >= 0)
		literal = json_literal(clean ? clean : text, size);
	passage->content = literal ? format_string("{\"status\": \"error\", \"ename\": "
						   "\"Blocked\", \"evalue\": %s, "
						   "\"traceback\": []%s}",
						   literal, count)
				   : NULL;
	if (!passage->content)
		return false;
	passage->fresh[WIRE_CONTENT] = text_part(passage->content);
	passage->fresh[WIRE_METADATA] = text_part("{}");
	return true;
}

enum refusal outward_examine(struct corridor *corridor, struct passage *passage)
{
	struct examination examination = {.rule = passage->guard.rule,
					  .metadata = passage->fresh[WIRE_METADATA],
					  .content = passage->fresh[WIRE_CONTENT],
					  .buffers = passage->parts + passage->wire.first_buffer,
					  .buffer_count = passage->fresh_count -
							  passage->wire.first_buffer};
	const int code = ask(corridor, passage, &examination);
	const char *what = code < 0		    ? failure(code)
			   : examination.blocked[0] ? examination.blocked
						    : NULL;
	const bool waited = passage->channel == WALL_SHELL || passage->channel == WALL_CONTROL;
	bool goes = code == 0 &&
		    (examination.verdict == CONTENT_KEEP || examination.verdict == CONTENT_CHANGED);

	if (code == 0)
		take_answer(passage, &examination);
	if (!goes && !what)
		what = "not for front ends";
	if (what)
		report(corridor, passage, goes, what);
	passage->changed = what != NULL;
	if (!goes) {
		say(corridor, passage, passage->guard.rule,
		    format_string("blocked: %s, %llu bytes: %s", passage->guard.msg_type,
				  (unsigned long long)bytes_of(passage), what));
		goes = waited && make_reply(passage, what);
	}
	if (goes && passage->guard.rule == CONTENT_STREAM &&
	    passage->fresh[WIRE_CONTENT].iov_len <= JOIN_PIECE)
		(void)keeps(corridor, passage); /* as it is now */
	free(examination.new_content);
	free(examination.new_metadata);
	return goes ? REFUSED_NOT : REFUSED_CONTENT;
}

enum refusal outward_commit(struct corridor *corridor, struct passage *passage)
{
	struct request *request = passage->request;
	const char *id = passage->header.msg_id;
	uint64_t client;

	if (trusted(corridor))
		return REFUSED_NOT;
	if (!corridor->ids && recent_new(&corridor->ids, NULL) < 0)
		return REFUSED_REPEATED;
	if (!recent_add(corridor->ids, requests_hash(corridor->requests, id, strlen(id))))
		return REFUSED_REPEATED;
	if (is_output(passage))
		*(request ? &request->output : &corridor->output) += bytes_of(passage);
	if (!request)
		return REFUSED_NOT;
	client = client_of(corridor, request->identity);
	if (passage->channel == WALL_STDIN)
		corridor->asking = client;
	if (passage->channel == WALL_SHELL || passage->channel == WALL_CONTROL) {
		request->waits = false;
		if (passage->verdict == GUARD_RESULT && corridor->asking == client)
			corridor->asking = 0;
	}
	if (passage->guard.rule == CONTENT_NONE && passage->verdict == GUARD_PASS)
		requests_drop_code(corridor->requests, request); /* execute_input comes once */
	if (passage->moved && !corridor->forgot) {
		corridor->forgot = true;
		passage->said = format_string("this cell may show output of older ones: the %u "
					      "newest requests are remembered",
					      REQUESTS_MAX);
	}
	return REFUSED_NOT;
}

void outward_expect(struct corridor *corridor, struct passage *passage)
{
	const struct iovec identity = passage->parts[0];
	const struct wire_msg *wire = &passage->wire;
	uint64_t client;

	if (!corridor->requests || wire->identities != 1)
		return;
	client = client_of(corridor, identity);
	if (passage->channel == WALL_STDIN) {
		if (client == corridor->asking)
			corridor->asking = 0;
		return;
	}
	if (strcmp(passage->header.msg_type, "interrupt_request") == 0)
		corridor_interrupted(corridor);
	if (corridor->known && strcmp(passage->header.msg_type, "debug_request") == 0)
		known_debug(corridor->known);
	passage->request = requests_add(corridor->requests, passage->channel, identity,
					wire->signed_part[WIRE_HEADER], &passage->header,
					wire->signed_part[WIRE_CONTENT]);
	if (!trusted(corridor) && passage->guard.rule != CONTENT_NONE && corridor->examine) {
		struct examination examination = {.rule = passage->guard.rule,
						  .metadata = text_part("{}"),
						  .content = wire->signed_part[WIRE_CONTENT]};

		(void)examine(corridor->examine, &examination);
		free(examination.new_content);
		free(examination.new_metadata);
	}
}
