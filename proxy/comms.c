#include "proxy/comms.h"

#include <errno.h>
#include <string.h>

#include "proxy/known.h"
#include "proxy/tidy.h"
#include "proxy/widgets.h"

#define BUFFERS_MAX	 1024
#define BUFFER_BYTES_MAX ((size_t)64 << 20)
#define CONTROL		 "jupyter.widget.control"

bool comms_target_ok(const struct outputs_rules *rules, const char *target)
{
	const bool widgets = strcmp(target, WIDGETS_TARGET) == 0;

	if (widgets && rules->mode == OUTPUTS_TEXT)
		return false;
	for (size_t i = 0; rules->comm_targets && rules->comm_targets[i]; i++)
		if (strcmp(rules->comm_targets[i], target) == 0)
			return true;
	return !rules->comm_targets && widgets;
}

static enum content_verdict refuse(struct content *content, enum content_verdict verdict,
				   const char *what, const char *why)
{
	blocked_add(&content->blocked, what, 0, why);
	return verdict;
}

/* The comm_id, or NULL when it has not the form of one. */
static const char *comm_id(const struct content *content)
{
	const json_t *id = json_object_get(content->content, "comm_id");

	return json_is_string(id) && known_id_ok(json_string_value(id), json_string_length(id))
		       ? json_string_value(id)
		       : NULL;
}

/* What is wrong with the buffers, or NULL. */
static const char *odd_buffers(const struct content *content)
{
	size_t bytes = 0;

	if (content->buffer_count > BUFFERS_MAX)
		return "more than 1,024 buffers";
	for (size_t i = 0; i < content->buffer_count; i++) {
		if (content->buffers[i].iov_len > BUFFER_BYTES_MAX - bytes)
			return "more than 64 MiB in buffers";
		bytes += content->buffers[i].iov_len;
	}
	return NULL;
}

/* Of the metadata a front end looks at the version of the widgets' protocol alone. */
static void tidy_metadata(struct tidy *tidy)
{
	static const char *const keys[] = {"version", NULL};
	json_t *metadata = tidy->content->metadata;

	tidy_keys(tidy, metadata, keys);
	if (!tidy_version(json_object_get(metadata, "version"), 32))
		tidy_drop(tidy, metadata, "version");
}

static enum content_verdict open_widget(struct tidy *tidy, const char *id)
{
	struct known_comm comm = {.kind = KNOWN_WIDGET, .open = true};
	struct known_comm before;
	struct content *content = tidy->content;

	comm.model = widgets_open(tidy, json_object_get(content->content, "data"));
	if (comm.model == 0)
		return CONTENT_DROP_COMM;
	if (known_comm_get(content->known, id, &before) &&
	    (before.kind != KNOWN_WIDGET || (before.model != 0 && before.model != comm.model)))
		return refuse(content, CONTENT_DROP, "comm_open", "the comm was something else");
	if (known_comm_set(content->known, id, &comm) < 0)
		return refuse(content, CONTENT_DROP_COMM, "comm_open", "too many open comms");
	return tidy_verdict(tidy);
}

static enum content_verdict open_other(struct tidy *tidy, const char *id)
{
	const struct known_comm comm = {.kind = KNOWN_OTHER, .open = true};
	struct content *content = tidy->content;
	struct known_comm before;

	if (known_comm_get(content->known, id, &before) && before.kind != KNOWN_OTHER)
		return refuse(content, CONTENT_DROP, "comm_open", "the comm was something else");
	if (known_comm_set(content->known, id, &comm) < 0)
		return refuse(content, CONTENT_DROP_COMM, "comm_open", "too many open comms");
	return tidy_verdict(tidy);
}

enum content_verdict comms_open(struct content *content)
{
	static const char *const keys[] = {"comm_id", "target_name", "target_module", "data", NULL};
	const char *target = json_string_value(json_object_get(content->content, "target_name"));
	const json_t *module = json_object_get(content->content, "target_module");
	const char *id = comm_id(content), *odd = odd_buffers(content);
	struct tidy tidy = {.content = content};

	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	if (!id || !target)
		return refuse(content, CONTENT_DROP, "comm_open", "comm_id or target_name is odd");
	if (module && !json_is_null(module))
		return refuse(content, CONTENT_DROP_COMM, "comm_open", "names a target_module");
	if (!comms_target_ok(content->rules, target))
		return refuse(content, CONTENT_DROP_COMM, target,
			      content->rules->mode == OUTPUTS_TEXT &&
					      strcmp(target, WIDGETS_TARGET) == 0
				      ? "no widgets in mode text"
				      : "comm target is not in outputs.comm_targets");
	if (odd)
		return refuse(content, CONTENT_DROP_COMM, "comm_open", odd);
	tidy_keys(&tidy, content->content, keys);
	tidy_metadata(&tidy);
	return strcmp(target, WIDGETS_TARGET) == 0 ? open_widget(&tidy, id) : open_other(&tidy, id);
}

enum content_verdict comms_msg(struct content *content)
{
	static const char *const keys[] = {"comm_id", "data", NULL};
	json_t *data = json_object_get(content->content, "data");
	const char *id = comm_id(content), *odd = odd_buffers(content);
	struct tidy tidy = {.content = content};
	struct known_comm comm;
	bool passes;

	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	if (!id || !known_comm_get(content->known, id, &comm) || !comm.open)
		return refuse(content, CONTENT_DROP, "comm_msg", "no such comm is open");
	if (odd)
		return refuse(content, CONTENT_DROP, "comm_msg", odd);
	tidy_keys(&tidy, content->content, keys);
	tidy_metadata(&tidy);
	if (comm.kind == KNOWN_WIDGET)
		passes = widgets_msg(&tidy, id, &comm, data);
	else if (comm.kind == KNOWN_CONTROL)
		passes = widgets_control(&tidy, data);
	else
		passes = comm.kind == KNOWN_OTHER;
	return passes ? tidy_verdict(&tidy) : CONTENT_DROP;
}

enum content_verdict comms_close(struct content *content)
{
	static const char *const keys[] = {"comm_id", "data", NULL};
	struct tidy tidy = {.content = content};
	const char *id = comm_id(content);
	struct known_comm comm;

	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	if (!id || !known_comm_get(content->known, id, &comm))
		return refuse(content, CONTENT_DROP, "comm_close", "no such comm");
	tidy_keys(&tidy, content->content, keys);
	tidy_metadata(&tidy);
	/* nothing reads a closing's data */
	if (json_object_size(json_object_get(content->content, "data")) != 0 ||
	    !json_is_object(json_object_get(content->content, "data")))
		tidy_set(&tidy, content->content, "data", json_object());
	known_comm_close(content->known, id);
	return tidy_verdict(&tidy);
}

enum content_verdict comms_client_open(struct content *content)
{
	const char *target = json_string_value(json_object_get(content->content, "target_name"));
	struct known_comm comm = {.open = true, .by_client = true};
	const char *id = comm_id(content);
	struct known_comm before;

	if (!id || !target)
		return CONTENT_KEEP;
	if (strcmp(target, CONTROL) == 0 && comms_target_ok(content->rules, WIDGETS_TARGET))
		comm.kind = KNOWN_CONTROL;
	else if (comms_target_ok(content->rules, target))
		comm.kind = strcmp(target, WIDGETS_TARGET) == 0 ? KNOWN_WIDGET : KNOWN_OTHER;
	else
		return CONTENT_KEEP; /* what the kernel answers is for no comm that is known */
	if (known_comm_get(content->known, id, &before)) {
		/* a front end that is loaded anew opens the kernel's own comm once more */
		if (before.kind != comm.kind)
			return CONTENT_KEEP;
		comm.model = before.model;
	}
	if (known_comm_set(content->known, id, &comm) < 0)
		blocked_add(&content->blocked, "comm_open", 0, "too many open comms");
	return CONTENT_KEEP;
}

enum content_verdict comms_client_close(struct content *content)
{
	const char *id = comm_id(content);

	if (id)
		known_comm_close(content->known, id);
	return CONTENT_KEEP;
}
