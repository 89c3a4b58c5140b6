#include "kernelspec/record.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#define VERSION 1

static bool is_utf8(const char *text)
{
	json_t *value = json_string(text);
	bool valid = value != NULL;

	json_decref(value);
	return valid;
}

char *inputs_encode(const char *text)
{
	static const char digits[] = "0123456789abcdef";
	const bool valid = is_utf8(text);
	char *out = malloc(3 * strlen(text) + 1), *end = out;

	for (const char *p = text; out && *p; p++) {
		unsigned char byte = (unsigned char)*p;

		if (byte == '%' || byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !valid)) {
			*end++ = '%';
			*end++ = digits[byte >> 4];
			*end++ = digits[byte & 15];
		} else {
			*end++ = *p;
		}
	}
	if (out)
		*end = '\0';
	return out;
}

static int hex(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* NULL with errno: EINVAL for what inputs_encode never writes. */
static char *decode(const char *text)
{
	cleanup(free_ptr) char *out = malloc(strlen(text) + 1);
	char *end = out;

	for (const char *p = text; out && *p; p++) {
		if (*p == '%') {
			int high = hex(p[1]), low = high < 0 ? -1 : hex(p[2]);

			if (low < 0 || high * 16 + low == 0) {
				errno = EINVAL;
				return NULL;
			}
			*end++ = (char)(high * 16 + low);
			p += 2;
		} else {
			*end++ = *p;
		}
	}
	if (!out)
		return NULL;
	*end = '\0';
	return steal_ptr(&out);
}

static int set_text(json_t *object, const char *key, const char *text)
{
	cleanup(free_ptr) char *encoded = inputs_encode(text);

	return encoded ? json_object_set_new(object, key, json_string(encoded)) : -1;
}

static json_t *format_input(const struct input *input)
{
	json_t *object = json_object();

	if (!object)
		return NULL;
	if (set_text(object, "name", input->name) < 0 ||
	    (input->source && set_text(object, "source", input->source) < 0) ||
	    set_text(object, "real", input->real) < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

char *record_format(const char *folder, const struct inputs *inputs)
{
	json_t *object = json_pack("{s:i, s:[]}", "version", VERSION, "inputs");
	json_t *list = json_object_get(object, "inputs");
	int code = object ? set_text(object, "folder", folder) : -1;
	char *text = NULL;

	for (size_t i = 0; code == 0 && i < inputs->count; i++)
		code = json_array_append_new(list, format_input(&inputs->items[i]));
	if (code == 0)
		text = json_dumps(object, JSON_INDENT(1) | JSON_SORT_KEYS);
	json_decref(object);
	return text;
}

/* A member's text; NULL with `err` filled. */
static char *take_text(const json_t *object, const char *key, struct err *err)
{
	const char *text = json_string_value(json_object_get(object, key));
	char *decoded = text ? decode(text) : NULL;

	if (!decoded)
		err_set(err, text && errno == ENOMEM ? -ENOMEM : -EINVAL, "no usable \"%s\"", key);
	return decoded;
}

static int parse_input(const json_t *object, struct input *input, struct err *err)
{
	struct err wrong = {.code = -EINVAL};
	int r = 0;

	input->name = take_text(object, "name", &wrong);
	if (input->name)
		input->real = take_text(object, "real", &wrong);
	if (input->real && json_object_get(object, "source"))
		input->source = take_text(object, "source", &wrong);
	if (!input->name || !input->real || (!input->source && json_object_get(object, "source")))
		return err_set(err, wrong.code, "%s", wrong.text);
	if (input->real[0] != '/' || (input->source && input->source[0] != '/'))
		return err_set(err, -EINVAL, "a path in it is not absolute");
	if (input->source ||
	    (strcmp(input->name, INPUTS_ALL) != 0 && !inputs_is_staging(input->name)))
		r = inputs_check_name(input->name, err);
	return r;
}

static int parse_inputs(const json_t *list, struct inputs *inputs, struct err *err)
{
	if (!json_is_array(list))
		return err_set(err, -EINVAL, "no list of inputs");
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct input input = {0};
		int r = parse_input(json_array_get(list, i), &input, err);

		if (r == 0) {
			r = inputs_put(inputs, &input);
			if (r < 0)
				err_set(err, r, "more than %d inputs", INPUTS_MAX);
		}
		input_done(&input);
		if (r < 0)
			return r;
	}
	return 0;
}

int record_parse(const char *text, size_t size, char **ret_folder, struct inputs *ret_inputs,
		 struct err *err)
{
	cleanup(free_ptr) char *folder = NULL;
	struct inputs inputs = {0};
	json_error_t error;
	json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	char shown[160];
	int r = 0;

	if (!json_is_object(object))
		r = object ? err_set(err, -EINVAL, "not a JSON object")
			   : err_set(err, -EINVAL, "line %d: %s", error.line,
				     escape_string(shown, sizeof(shown), error.text));
	else if (json_integer_value(json_object_get(object, "version")) != VERSION)
		r = err_set(err, -EINVAL, "not of version %d", VERSION);
	if (r == 0) {
		folder = take_text(object, "folder", err);
		r = folder ? parse_inputs(json_object_get(object, "inputs"), &inputs, err)
			   : -EINVAL;
	}
	json_decref(object);
	if (r < 0) {
		inputs_done(&inputs);
		return r;
	}
	*ret_folder = steal_ptr(&folder);
	*ret_inputs = inputs;
	return 0;
}
