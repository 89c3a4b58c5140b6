#include "proxy/content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/comms.h"
#include "proxy/header.h"
#include "proxy/limits.h"
#include "proxy/outputs.h"
#include "proxy/replies.h"

#define COMM_ID_MAX 256
#define FLAGS_OUT   (JSON_COMPACT | JSON_REAL_PRECISION(17))

/* A rule that is not here refuses. */
static enum content_verdict (*const rules[CONTENT_RULES])(struct content *content) = {
	[CONTENT_STREAM] = outputs_stream,
	[CONTENT_DISPLAY] = outputs_display,
	[CONTENT_RESULT] = outputs_result,
	[CONTENT_UPDATE] = outputs_update,
	[CONTENT_CLEAR] = outputs_clear,
	[CONTENT_ERROR] = outputs_error,
	[CONTENT_DEBUG_EVENT] = replies_debug_event,
	[CONTENT_COMM_OPEN] = comms_open,
	[CONTENT_COMM_MSG] = comms_msg,
	[CONTENT_COMM_CLOSE] = comms_close,
	[CONTENT_EXECUTE_REPLY] = replies_execute,
	[CONTENT_INSPECT_REPLY] = replies_inspect,
	[CONTENT_COMPLETE_REPLY] = replies_complete,
	[CONTENT_HISTORY_REPLY] = replies_history,
	[CONTENT_IS_COMPLETE_REPLY] = replies_is_complete,
	[CONTENT_KERNEL_INFO_REPLY] = replies_kernel_info,
	[CONTENT_COMM_INFO_REPLY] = replies_comm_info,
	[CONTENT_DEBUG_REPLY] = replies_debug,
	[CONTENT_USAGE_REPLY] = replies_usage,
	[CONTENT_SUBSHELL_REPLY] = replies_subshell,
	[CONTENT_STATUS_REPLY] = replies_status,
	[CONTENT_INPUT_REQUEST] = replies_input_request,
	[CONTENT_CLIENT_COMM_OPEN] = comms_client_open,
	[CONTENT_CLIENT_COMM_CLOSE] = comms_client_close,
};

enum content_verdict content_judge(enum content_rule rule, struct content *content)
{
	if (rule == CONTENT_EXTRA)
		return CONTENT_KEEP;
	if ((unsigned)rule >= CONTENT_RULES || !rules[rule]) {
		blocked_add(&content->blocked, "message", 0, "nothing says what may be in it");
		return CONTENT_DROP;
	}
	return rules[rule](content);
}

/* ---- text that Python writes and JSON does not know ---- */

static int hex4(const unsigned char *at, const unsigned char *end)
{
	int value = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		const unsigned char c = at[i];
		const int digit = c >= '0' && c <= '9'	 ? c - '0'
				  : c >= 'a' && c <= 'f' ? c - 'a' + 10
				  : c >= 'A' && c <= 'F' ? c - 'A' + 10
							 : -1;

		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/*
 * How much of an escape at `at` (a backslash) is fine as it is: 2, 6 or 12 bytes; 0 for half of a
 * surrogate pair and for NUL, which would end a C string: those become U+FFFD.
 */
static size_t fine_escape(const unsigned char *at, const unsigned char *end)
{
	int first, second;

	if (end - at < 2 || at[1] != 'u')
		return 2;
	first = hex4(at + 2, end);
	if (first == 0 || (first >= 0xdc00 && first <= 0xdfff))
		return 0;
	if (first < 0xd800 || first > 0xdfff)
		return 6;
	second = end - at >= 8 && at[6] == '\\' && at[7] == 'u' ? hex4(at + 8, end) : -1;
	return second >= 0xdc00 && second <= 0xdfff ? 12 : 0;
}

static bool well_formed(struct iovec text)
{
	const unsigned char *at = text.iov_base, *end = at + text.iov_len;

	while (at < end) {
		size_t length =
			*at == '\\' ? fine_escape(at, end) : json_sequence(at, (size_t)(end - at));

		if (length == 0)
			return false;
		at += length;
	}
	return true;
}

/* JSON text whose malformed UTF-8, halves of surrogate pairs and NULs became U+FFFD (caller frees).
 * NULL: there are none, or no memory. */
static char *content_repair(struct iovec text, size_t *ret_size)
{
	const unsigned char *at = text.iov_base, *end = at + text.iov_len;
	char *fresh, *to;

	*ret_size = 0;
	if (well_formed(text))
		return NULL;
	fresh = to = malloc(3 * text.iov_len + 1);
	if (!fresh)
		return NULL;
	while (at < end) {
		const bool escape = *at == '\\';
		size_t length =
			escape ? fine_escape(at, end) : json_sequence(at, (size_t)(end - at));

		if (length > (size_t)(end - at))
			length = (size_t)(end - at);
		memcpy(to,
		       length	? (const char *)at
		       : escape ? "\\ufffd"
				: "\xef\xbf\xbd",
		       length	? length
		       : escape ? 6
				: 3);
		to += length ? length : escape ? 6 : 3;
		at += length ? length : escape ? 6 : 1;
	}
	*to = '\0';
	*ret_size = (size_t)(to - fresh);
	return fresh;
}

/* ---- parsing ---- */

static const char *problem(const json_error_t *error)
{
	switch (json_error_code(error)) {
	case json_error_numeric_overflow:
		return "a number in it is too large";
	case json_error_duplicate_key:
		return "a key in it comes twice";
	case json_error_out_of_memory:
		return "it needs too much memory";
	default:
		return "it is not valid JSON (NaN and Infinity are not)";
	}
}

/* An object, or NULL with the reason in `blocked`. */
static json_t *parse(struct iovec text, struct blocked *blocked)
{
	const size_t bytes = text.iov_len;
	cleanup(free_ptr) char *repaired = NULL;
	json_error_t error;
	json_t *object;

	if (bytes == 0 || bytes > EXAMINE_CONTENT_MAX ||
	    !json_shallow(text.iov_base, bytes, CONTENT_DEPTH)) {
		blocked_add(blocked, "content", 0,
			    bytes > EXAMINE_CONTENT_MAX ? "too large"
			    : bytes			? "nested too deep"
							: "empty");
		return NULL;
	}
	repaired = content_repair(text, &text.iov_len);
	if (repaired)
		text.iov_base = repaired;
	else
		text.iov_len = bytes;
	object = json_loadb(text.iov_base, text.iov_len, JSON_REJECT_DUPLICATES, &error);
	if (object && json_is_object(object))
		return object;
	blocked_add(blocked, "content", 0, object ? "it is no object" : problem(&error));
	json_decref(object);
	return NULL;
}

static bool dangerous(const char *key)
{
	return strcmp(key, "__proto__") == 0 || strcmp(key, "constructor") == 0 ||
	       strcmp(key, "prototype") == 0;
}

/* Keys that mean something to every JavaScript object. As deep as parse() lets anything be. */
static size_t remove_keys(json_t *value)
{
	size_t removed = 0, index;
	const char *key;
	json_t *member;
	void *next;

	if (json_is_array(value))
		json_array_foreach(value, index, member) removed += remove_keys(member);
	if (!json_is_object(value))
		return removed;
	json_object_foreach_safe(value, next, key, member)
	{
		if (dangerous(key)) {
			removed++;
			json_object_del(value, key);
		} else {
			removed += remove_keys(member);
		}
	}
	return removed;
}

/* What the kernel is told of a comm that may not be. */
static int close_comm(struct content *content)
{
	const char *id = json_string_value(json_object_get(content->content, "comm_id"));
	json_t *made = id && strlen(id) <= COMM_ID_MAX
			       ? json_pack("{s:s, s:{}}", "comm_id", id, "data")
			       : NULL;

	if (!made)
		return -EINVAL;
	json_decref(content->content);
	content->content = made;
	return 0;
}

static enum content_verdict judge(enum content_rule rule, struct content *content)
{
	enum content_verdict verdict;
	size_t removed = remove_keys(content->content) + remove_keys(content->metadata);

	if (removed)
		blocked_add(&content->blocked, "keys", 0, "names of JavaScript's own");
	verdict = content_judge(rule, content);
	if (verdict == CONTENT_KEEP && removed)
		verdict = CONTENT_CHANGED;
	if (verdict == CONTENT_DROP_COMM && close_comm(content) < 0)
		verdict = CONTENT_DROP;
	return verdict;
}

enum content_verdict content_examine(enum content_rule rule, struct iovec metadata,
				     struct iovec text, struct content *content,
				     char **ret_metadata, char **ret_content)
{
	enum content_verdict verdict = CONTENT_DROP;

	*ret_metadata = *ret_content = NULL;
	content->content = parse(text, &content->blocked);
	content->metadata = content->content ? parse(metadata, &content->blocked) : NULL;
	if (content->metadata)
		verdict = judge(rule, content);
	if (verdict == CONTENT_KEEP && !well_formed(text))
		verdict = CONTENT_CHANGED;
	if (verdict == CONTENT_CHANGED || verdict == CONTENT_DROP_COMM) {
		*ret_metadata = json_dumps(content->metadata, FLAGS_OUT);
		*ret_content = json_dumps(content->content, FLAGS_OUT);
		if (!*ret_metadata || !*ret_content) {
			blocked_add(&content->blocked, "content", 0, "it needs too much memory");
			verdict = CONTENT_DROP;
		}
	}
	json_decref(content->content);
	json_decref(content->metadata);
	content->content = content->metadata = NULL;
	return verdict;
}
