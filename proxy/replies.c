#include "proxy/replies.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/comms.h"
#include "proxy/known.h"
#include "proxy/plain.h"
#include "proxy/tidy.h"
#include "proxy/widgets.h"
#include "sandbox/base.h"

#define MATCHES_MAX	10000
#define HISTORY_MAX	100000
#define EXPRESSIONS_MAX 1024
#define INDENT_MAX	64
#define PROMPT_LABEL	"[isolated kernel] "
#define PROMPT_MAX	8192 /* bytes; a menu of choices fits */

/* What every reply may have beside its own fields. */
#define COMMON "status", "ename", "evalue", "traceback"

static void tidy_status(struct tidy *tidy, json_t *object)
{
	static const char *const known[] = {"ok",	"error",      "aborted", "abort",
					    "complete", "incomplete", "invalid", "unknown"};
	const char *status = json_string_value(json_object_get(object, "status"));

	for (size_t i = 0; status && i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(status, known[i]) == 0)
			return;
	tidy_drop(tidy, object, "status");
}

/* Lab writes `started` into the notebook. */
static void tidy_metadata(struct tidy *tidy)
{
	static const char *const keys[] = {"started", "dependencies_met", "engine", "status", NULL};
	json_t *metadata = tidy->content->metadata;

	tidy_keys(tidy, metadata, keys);
	if (!tidy_word(json_object_get(metadata, "started"), ":.+-", 40))
		tidy_drop(tidy, metadata, "started");
	if (!tidy_word(json_object_get(metadata, "engine"), "-", 64))
		tidy_drop(tidy, metadata, "engine");
	tidy_boolean(tidy, metadata, "dependencies_met");
	tidy_status(tidy, metadata);
}

/* The start of every rule: the wanted fields, and those that all replies have. */
static struct tidy start(struct content *content, const char *const *keys)
{
	struct tidy tidy = {.content = content};

	tidy_keys(&tidy, content->content, keys);
	tidy_metadata(&tidy);
	tidy_status(&tidy, content->content);
	tidy_error(&tidy, content->content);
	return tidy;
}

static void tidy_expressions(struct tidy *tidy, json_t *expressions)
{
	static const char *const keys[] = {COMMON, "data", "metadata", NULL};
	size_t count = 0;
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(expressions, next, key, value)
	{
		if (++count > EXPRESSIONS_MAX || tidy_prototype(key) || !json_is_object(value)) {
			tidy_drop(tidy, expressions, key);
			continue;
		}
		tidy_keys(tidy, value, keys);
		tidy_status(tidy, value);
		tidy_error(tidy, value);
		tidy_plain_bundle(tidy, value, "data");
		if (json_object_size(json_object_get(value, "metadata")) != 0)
			tidy_set(tidy, value, "metadata", json_object());
	}
}

/* A page is text. Returns whether the payload stays. */
static bool page(struct tidy *tidy, json_t *payload)
{
	static const char *const keys[] = {"source", "data", "start", NULL};

	tidy_keys(tidy, payload, keys);
	tidy_plain_bundle(tidy, payload, "data");
	tidy_integer(tidy, payload, "start");
	return json_object_get(payload, "data") != NULL;
}

/* What %load writes comes as a new cell below: the user's own is never written over. */
static bool next_input(struct tidy *tidy, json_t *payload)
{
	static const char *const keys[] = {"source", "text", "replace", NULL};

	tidy_keys(tidy, payload, keys);
	tidy_text(tidy, payload, "text", PLAIN_LINKS | PLAIN_PROMPT);
	if (!json_is_false(json_object_get(payload, "replace")))
		tidy_set(tidy, payload, "replace", json_false());
	return json_object_get(payload, "text") != NULL;
}

/* One page and one next input; nothing else is a front end to do at the kernel's word. */
static void tidy_payload(struct tidy *tidy, json_t *list)
{
	bool had_page = false, had_input = false;

	for (size_t i = 0; i < json_array_size(list);) {
		json_t *payload = json_array_get(list, i);
		const char *source = json_string_value(json_object_get(payload, "source"));
		bool stays = false;

		if (source && strcmp(source, "page") == 0 && !had_page) {
			stays = had_page = page(tidy, payload);
		} else if (source && strcmp(source, "set_next_input") == 0 && !had_input) {
			stays = had_input = next_input(tidy, payload);
		}
		if (stays) {
			i++;
			continue;
		}
		blocked_add(&tidy->content->blocked, source ? source : "payload", 0,
			    "a front end would act on it");
		json_array_remove(list, i);
		tidy->changed = true;
	}
}

enum content_verdict replies_execute(struct content *content)
{
	static const char *const keys[] = {COMMON, "execution_count", "user_expressions", "payload",
					   NULL};
	struct tidy tidy = start(content, keys);
	json_t *payload = json_object_get(content->content, "payload");

	if (!tidy_count(json_object_get(content->content, "execution_count")))
		tidy_drop(&tidy, content->content, "execution_count");
	if (json_is_object(json_object_get(content->content, "user_expressions")))
		tidy_expressions(&tidy, json_object_get(content->content, "user_expressions"));
	else
		tidy_drop(&tidy, content->content, "user_expressions");
	if (json_is_array(payload))
		tidy_payload(&tidy, payload);
	else
		tidy_drop(&tidy, content->content, "payload");
	return tidy_verdict(&tidy);
}

enum content_verdict replies_inspect(struct content *content)
{
	static const char *const keys[] = {COMMON, "found", "data", "metadata", NULL};
	struct tidy tidy = start(content, keys);

	tidy_boolean(&tidy, content->content, "found");
	tidy_plain_bundle(&tidy, content->content, "data");
	if (json_object_size(json_object_get(content->content, "metadata")) != 0 ||
	    !json_is_object(json_object_get(content->content, "metadata")))
		tidy_set(&tidy, content->content, "metadata", json_object());
	return tidy_verdict(&tidy);
}

/* It is written into the user's code: one line, no controls. */
static bool match_ok(const json_t *match)
{
	const char *text = json_string_value(match);

	if (!text || json_string_length(match) > 4096 ||
	    !plain_is_clean(text, json_string_length(match), PLAIN_LINKS | PLAIN_PROMPT))
		return false;
	return !strpbrk(text, "\n\t") && strlen(text) == json_string_length(match);
}

/* A word for an icon and a class; jedi writes "<unknown>". */
static bool type_ok(const json_t *type)
{
	const char *text = json_string_value(type);

	return tidy_word(type, " _-", 64) || (text && strcmp(text, "<unknown>") == 0);
}

static void tidy_types(struct tidy *tidy, json_t *list)
{
	static const char *const keys[] = {"start", "end", "text", "type", "signature", NULL};

	for (size_t i = json_array_size(list); i-- > 0;) {
		json_t *entry = json_array_get(list, i);

		if (i >= MATCHES_MAX || !match_ok(json_object_get(entry, "text"))) {
			json_array_remove(list, i);
			tidy->changed = true;
			continue;
		}
		tidy_keys(tidy, entry, keys);
		tidy_integer(tidy, entry, "start");
		tidy_integer(tidy, entry, "end");
		tidy_text(tidy, entry, "signature", PLAIN_LINKS | PLAIN_PROMPT);
		if (!type_ok(json_object_get(entry, "type")))
			tidy_drop(tidy, entry, "type");
	}
}

enum content_verdict replies_complete(struct content *content)
{
	static const char *const keys[] = {COMMON,	 "matches",  "cursor_start",
					   "cursor_end", "metadata", NULL};
	static const char *const kept[] = {"_jupyter_types_experimental", NULL};
	struct tidy tidy = start(content, keys);
	json_t *matches = json_object_get(content->content, "matches");
	json_t *metadata = json_object_get(content->content, "metadata");

	for (size_t i = json_array_size(matches); i-- > 0;)
		if (i >= MATCHES_MAX || !match_ok(json_array_get(matches, i))) {
			json_array_remove(matches, i);
			tidy.changed = true;
		}
	if (!json_is_array(matches))
		tidy_drop(&tidy, content->content, "matches");
	tidy_integer(&tidy, content->content, "cursor_start");
	tidy_integer(&tidy, content->content, "cursor_end");
	if (!json_is_object(metadata)) {
		tidy_drop(&tidy, content->content, "metadata");
		return tidy_verdict(&tidy);
	}
	tidy_keys(&tidy, metadata, kept);
	if (json_is_array(json_object_get(metadata, kept[0])))
		tidy_types(&tidy, json_object_get(metadata, kept[0]));
	else
		tidy_drop(&tidy, metadata, kept[0]);
	return tidy_verdict(&tidy);
}

/* [session, line, input] or [session, line, [input, output]], the output null when there is none.
 */
static bool history_ok(const json_t *entry)
{
	const json_t *text = json_array_get(entry, 2);
	const json_t *output = json_array_get(text, 1);

	return json_array_size(entry) == 3 && json_is_integer(json_array_get(entry, 0)) &&
	       json_is_integer(json_array_get(entry, 1)) &&
	       (json_is_string(text) ||
		(json_array_size(text) > 0 && json_array_size(text) <= 2 &&
		 json_is_string(json_array_get(text, 0)) &&
		 (!output || json_is_string(output) || json_is_null(output))));
}

enum content_verdict replies_history(struct content *content)
{
	static const char *const keys[] = {COMMON, "history", NULL};
	struct tidy tidy = start(content, keys);
	json_t *history = json_object_get(content->content, "history");

	if (!json_is_array(history)) {
		tidy_drop(&tidy, content->content, "history");
		return tidy_verdict(&tidy);
	}
	for (size_t i = json_array_size(history); i-- > 0;)
		if (i >= HISTORY_MAX || !history_ok(json_array_get(history, i))) {
			json_array_remove(history, i);
			tidy.changed = true;
		}
	tidy_tree(&tidy, history, PLAIN_LINKS);
	return tidy_verdict(&tidy);
}

enum content_verdict replies_is_complete(struct content *content)
{
	static const char *const keys[] = {COMMON, "indent", NULL};
	struct tidy tidy = start(content, keys);
	const char *indent = json_string_value(json_object_get(content->content, "indent"));

	if (!indent || strlen(indent) > INDENT_MAX || strspn(indent, " \t") != strlen(indent))
		tidy_drop(&tidy, content->content, "indent");
	return tidy_verdict(&tidy);
}

/* A front end asks for the state of each comm that is named here. */
enum content_verdict replies_comm_info(struct content *content)
{
	static const char *const keys[] = {COMMON, "comms", NULL};
	static const char *const wanted[] = {"target_name", NULL};
	struct tidy tidy = start(content, keys);
	json_t *comms = json_object_get(content->content, "comms");
	struct known_comm comm;
	const char *id;
	json_t *value;
	void *next;

	if (!json_is_object(comms)) {
		tidy_drop(&tidy, content->content, "comms");
		return tidy_verdict(&tidy);
	}
	json_object_foreach_safe(comms, next, id, value)
	{
		const char *target = json_string_value(json_object_get(value, "target_name"));

		known_comm_get(content->known, id, &comm);
		if (!comm.open || !target || !comms_target_ok(content->rules, target) ||
		    (comm.kind == KNOWN_WIDGET) != (strcmp(target, WIDGETS_TARGET) == 0))
			tidy_drop(&tidy, comms, id);
		else
			tidy_keys(&tidy, value, wanted);
	}
	return tidy_verdict(&tidy);
}

/* The figures of the host are nobody's business in the wall. */
enum content_verdict replies_usage(struct content *content)
{
	static const char *const keys[] = {COMMON,	 "hostname",	  "pid",
					   "kernel_cpu", "kernel_memory", NULL};
	struct tidy tidy = start(content, keys);
	json_t *usage = content->content;

	if (!tidy_word(json_object_get(usage, "hostname"), "_.-", 64))
		tidy_drop(&tidy, usage, "hostname");
	tidy_integer(&tidy, usage, "pid");
	if (!json_is_number(json_object_get(usage, "kernel_cpu")))
		tidy_drop(&tidy, usage, "kernel_cpu");
	if (!json_is_number(json_object_get(usage, "kernel_memory")))
		tidy_drop(&tidy, usage, "kernel_memory");
	return tidy_verdict(&tidy);
}

enum content_verdict replies_subshell(struct content *content)
{
	static const char *const keys[] = {COMMON, "subshell_id", NULL};
	struct tidy tidy = start(content, keys);
	json_t *ids = json_object_get(content->content, "subshell_id");

	for (size_t i = json_array_size(ids); i-- > 0;)
		if (i >= MATCHES_MAX || !tidy_word(json_array_get(ids, i), "_.-", 128)) {
			json_array_remove(ids, i);
			tidy.changed = true;
		}
	if (!json_is_array(ids) && !tidy_word(ids, "_.-", 128))
		tidy_drop(&tidy, content->content, "subshell_id");
	return tidy_verdict(&tidy);
}

enum content_verdict replies_status(struct content *content)
{
	static const char *const keys[] = {COMMON, "restart", NULL};
	struct tidy tidy = start(content, keys);

	tidy_boolean(&tidy, content->content, "restart");
	return tidy_verdict(&tidy);
}

/* The bytes of `text` that are asked: whole characters. */
static int prompt_size(const char *text)
{
	size_t size = strlen(text);

	if (size > PROMPT_MAX)
		for (size = PROMPT_MAX; size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80;)
			size--;
	return (int)size;
}

/* A question of the kernel looks like one of the kernel. */
enum content_verdict replies_input_request(struct content *content)
{
	static const char *const keys[] = {"prompt", "password", NULL};
	struct tidy tidy = {.content = content};
	cleanup(free_ptr) char *prompt = NULL;
	const char *text;

	tidy_keys(&tidy, content->content, keys);
	tidy_metadata(&tidy);
	tidy_boolean(&tidy, content->content, "password");
	tidy_text(&tidy, content->content, "prompt", PLAIN_PROMPT);
	text = json_string_value(json_object_get(content->content, "prompt"));
	text = text ? text : "";
	prompt = format_string("%s%.*s%s", PROMPT_LABEL, prompt_size(text), text,
			       strlen(text) > PROMPT_MAX ? " (cut) " : "");
	tidy_set(&tidy, content->content, "prompt", prompt ? json_string(prompt) : NULL);
	return tidy_verdict(&tidy);
}
