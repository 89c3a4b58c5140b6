#include <string.h>

#include "proxy/known.h"
#include "proxy/plain.h"
#include "proxy/replies.h"
#include "proxy/tidy.h"

/*
 * Of the Debug Adapter Protocol, with which a debugger answers: all text is text. Lab shows the
 * data of richInspectVariables as outputs that it trusts, whatever the command was called.
 */
static void tidy_body(struct tidy *tidy, json_t *message)
{
	json_t *body;

	tidy_tree(tidy, message, PLAIN_LINKS);
	body = json_object_get(message, "body"); /* text was put in the place of text */
	if (json_is_object(json_object_get(body, "data")))
		tidy_plain_bundle(tidy, body, "data");
	if (json_object_size(json_object_get(body, "metadata")) != 0)
		tidy_set(tidy, body, "metadata", json_object());
}

static void tidy_name(struct tidy *tidy, json_t *message, const char *key)
{
	if (!tidy_word(json_object_get(message, key), "_/-", 64))
		tidy_drop(tidy, message, key);
}

static enum content_verdict debugger(struct content *content, const char *const *keys)
{
	struct tidy tidy = {.content = content};

	tidy_keys(&tidy, content->content, keys);
	if (json_object_size(content->metadata) != 0) {
		json_object_clear(content->metadata);
		tidy.changed = true;
	}
	tidy_name(&tidy, content->content, "type");
	tidy_name(&tidy, content->content, "command");
	tidy_name(&tidy, content->content, "event");
	tidy_integer(&tidy, content->content, "seq");
	tidy_integer(&tidy, content->content, "request_seq");
	tidy_boolean(&tidy, content->content, "success");
	tidy_body(&tidy, content->content);
	return tidy_verdict(&tidy);
}

enum content_verdict replies_debug(struct content *content)
{
	static const char *const keys[] = {"request_seq", "seq",     "type", "success",
					   "command",	  "message", "body", NULL};

	return debugger(content, keys);
}

enum content_verdict replies_debug_event(struct content *content)
{
	static const char *const keys[] = {"seq", "type", "event", "body", NULL};

	if (!known_debugging(content->known)) {
		blocked_add(&content->blocked, "debug_event", 0, "nobody has asked the debugger");
		return CONTENT_DROP;
	}
	return debugger(content, keys);
}
