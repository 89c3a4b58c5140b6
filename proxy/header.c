#include "proxy/header.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

/* jansson recurses per level and allocates per value, so size and depth are bounded before it sees
 * a byte. */
bool json_shallow(const void *text, size_t size, size_t depth)
{
	const unsigned char *bytes = text;
	bool in_string = false;
	size_t level = 0;

	for (size_t i = 0; i < size; i++) {
		unsigned char c = bytes[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++level > depth)
				return false;
		} else if ((c == '}' || c == ']') && level > 0) {
			level--;
		}
	}
	return true;
}

static int scan_depth(const void *text, size_t size, struct err *err)
{
	if (size > HEADER_MAX)
		return err_set(err, -EPROTO, "header of %zu bytes, at most %d", size, HEADER_MAX);
	if (!json_shallow(text, size, HEADER_DEPTH))
		return err_set(err, -EPROTO, "header nested deeper than %d", HEADER_DEPTH);
	return 0;
}

/* Copies a string field; absent or null is an error only when it is required. */
static int copy_field(json_t *object, const char *name, bool required, char out[HEADER_TEXT],
		      struct err *err)
{
	const json_t *value = json_object_get(object, name);

	out[0] = '\0';
	if (!required && (!value || json_is_null(value)))
		return 0;
	if (!value)
		return err_set(err, -EPROTO, "header without %s", name);
	if (!json_is_string(value))
		return err_set(err, -EPROTO, "%s in the header is not a string", name);
	if (json_string_length(value) >= HEADER_TEXT)
		return err_set(err, -EPROTO, "%s in the header has %zu bytes, at most %d", name,
			       json_string_length(value), HEADER_TEXT - 1);
	memcpy(out, json_string_value(value), json_string_length(value) + 1);
	return 0;
}

static void take_version(const char *text, size_t size, char out[8])
{
	if (size == 3 && memcmp(text, "5.", 2) == 0 && text[2] >= '0' && text[2] <= '9')
		memcpy(out, text, size);
}

static int read_fields(json_t *object, struct header *header, struct err *err)
{
	const json_t *version;
	int r;

	r = copy_field(object, "msg_id", true, header->msg_id, err);
	if (r == 0)
		r = copy_field(object, "msg_type", true, header->msg_type, err);
	if (r == 0)
		r = copy_field(object, "session", false, header->session, err);
	if (r == 0)
		r = copy_field(object, "subshell_id", false, header->subshell_id, err);
	version = json_object_get(object, "version");
	if (r == 0 && json_is_string(version))
		take_version(json_string_value(version), json_string_length(version),
			     header->version);
	return r;
}

/* ---- as they mostly are ---- */

struct word {
	const char *text;
	size_t size;
};

/* A string of printable ASCII without escapes: its end, or NULL. */
static const char *plain_string(const char *at, const char *end, struct word *ret_word)
{
	const char *c = at + 1;

	if (at == end || *at != '"')
		return NULL;
	while (c < end && *c >= ' ' && *c <= '~' && *c != '"' && *c != '\\')
		c++;
	if (c == end || *c != '"')
		return NULL;
	*ret_word = (struct word){at + 1, (size_t)(c - at - 1)};
	return c + 1;
}

enum { MSG_ID, MSG_TYPE, SESSION, SUBSHELL_ID, VERSION, USERNAME, DATE, MEMBERS };

/* Each once at the most. */
static bool take_member(struct header *header, struct word name, struct word value, unsigned *seen)
{
	static const char *const names[MEMBERS] = {"msg_id",  "msg_type", "session", "subshell_id",
						   "version", "username", "date"};
	char *const fields[MEMBERS] = {header->msg_id, header->msg_type, header->session,
				       header->subshell_id};
	unsigned i = 0;

	while (i < MEMBERS &&
	       (strlen(names[i]) != name.size || memcmp(names[i], name.text, name.size) != 0))
		i++;
	if (i == MEMBERS || *seen & (1u << i) || value.size >= HEADER_TEXT)
		return false;
	*seen |= 1u << i;
	if (i == VERSION)
		take_version(value.text, value.size, header->version);
	if (fields[i])
		memcpy(fields[i], value.text, value.size);
	return true;
}

/*
 * Whether it is a flat object of plain strings, these members alone, with at most one space after a
 * colon or a comma, as Session and front ends write both headers of each message. What it takes it
 * reads as jansson would; everything else is for jansson, which costs ten times as much. `header`
 * is zeroes, and whatever it likes after false.
 */
static bool recognise(struct iovec raw, struct header *header)
{
	const char *at = raw.iov_base, *const end = at + raw.iov_len;
	struct word name, value;
	unsigned seen = 0;

	if (raw.iov_len == 0 || *at != '{')
		return false;
	do {
		at++;
		at += seen && at < end && *at == ' ';
		at = plain_string(at, end, &name);
		if (!at || at == end || *at != ':')
			return false;
		at++;
		at += at < end && *at == ' ';
		at = plain_string(at, end, &value);
		if (!at || at == end || !take_member(header, name, value, &seen))
			return false;
	} while (*at == ',');
	return *at == '}' && at + 1 == end && seen & (1u << MSG_ID) && seen & (1u << MSG_TYPE);
}

/* ---- any ---- */

/*
 * Integers are read as reals because jansson refuses those beyond 64 bits, which Python writes
 * freely. What it also refuses stays refused: NaN, Infinity and lone surrogates are no JSON (RFC
 * 8259), and a NUL ends a C string.
 */
int header_parse(struct iovec raw, struct header *ret_header, struct err *err)
{
	struct header header = {0};
	json_error_t error;
	json_t *object;
	char shown[160];
	int r;

	if (recognise(raw, &header)) {
		*ret_header = header;
		return 0;
	}
	header = (struct header){0};
	r = scan_depth(raw.iov_base, raw.iov_len, err);
	if (r < 0)
		return r;
	object = json_loadb(raw.iov_len ? raw.iov_base : "", raw.iov_len,
			    JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
	if (!object) {
		escape_string(shown, sizeof(shown), error.text);
		return err_set(err, -EPROTO, "header is not valid JSON: %s", shown);
	}
	if (!json_is_object(object)) {
		r = err_set(err, -EPROTO, "header is not a JSON object");
	} else if (json_object_size(object) == 0) {
		r = -ENOENT;
		if (err) {
			err->code = r;
			err->text[0] = '\0';
		}
	} else {
		r = read_fields(object, &header, err);
	}
	json_decref(object);
	if (r == 0)
		*ret_header = header;
	return r;
}

/* "YYYY-MM-DDTHH:MM:SS.ffffffZ", the form that every client parses. */
static int format_now(char *out, size_t size)
{
	static _Thread_local char seconds[32];
	static _Thread_local time_t of;
	struct timespec now;
	struct tm utc;

	if (clock_gettime(CLOCK_REALTIME, &now) < 0)
		return -errno;
	if (now.tv_sec != of) {
		if (!gmtime_r(&now.tv_sec, &utc) ||
		    strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &utc) == 0)
			return -ERANGE;
		of = now.tv_sec;
	}
	(void)snprintf(out, size, "%s.%06dZ", seconds, (int)(now.tv_nsec / 1000 % 1000000));
	return 0;
}

char *header_make(const char *msg_type, const char *session)
{
	cleanup(free_ptr) char *type_text = json_literal(msg_type, strlen(msg_type));
	cleanup(free_ptr) char *session_text = json_literal(session, strlen(session));
	char id[33], date[64];

	if (!type_text || !session_text || random_hex(id, 16) < 0 ||
	    format_now(date, sizeof(date)) < 0)
		return NULL;
	return format_string("{\"msg_id\":\"%s\",\"msg_type\":%s,\"username\":\"cellwall\","
			     "\"session\":%s,\"date\":\"%s\",\"version\":\"5.4\"}",
			     id, type_text, session_text, date);
}

static bool plain(const char *text, size_t most)
{
	size_t size = 0;

	for (; text[size]; size++) {
		const char c = text[size];

		if (size == most || !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				      (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-'))
			return false;
	}
	return size > 0;
}

int header_rebuild(const struct header *from, const char *msg_type, const char *session,
		   char out[HEADER_REBUILT])
{
	char date[64];
	int size;

	if (!plain(from->msg_id, 128) || !plain(msg_type, 128) || !plain(session, 128) ||
	    format_now(date, sizeof(date)) < 0)
		return -EINVAL;
	size = snprintf(out, HEADER_REBUILT,
			"{\"msg_id\": \"%s\", \"msg_type\": \"%s\", \"username\": \"kernel\", "
			"\"session\": \"%s\", \"date\": \"%s\", \"version\": \"%s\"}",
			from->msg_id, msg_type, session, date,
			from->version[0] ? from->version : "5.4");
	return size > 0 && size < HEADER_REBUILT ? size : -EINVAL;
}

size_t json_sequence(const unsigned char *text, size_t size)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t length;

	if (size == 0)
		return 0;
	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		length = 2;
	else if ((text[0] & 0xf0) == 0xe0)
		length = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (text[0] == 0xe0)
		low = 0xa0;
	else if (text[0] == 0xed)
		high = 0x9f;
	else if (text[0] == 0xf0)
		low = 0x90;
	else if (text[0] == 0xf4)
		high = 0x8f;
	if (length > size || text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

/* One character of `text` as it stands in a JSON string. Returns the bytes written to `out`, at
 * most 6. */
static size_t put_character(const unsigned char *text, size_t length, char out[8])
{
	static const char named[] = "\bb\ff\nn\rr\tt\"\"\\\\";

	if (length == 0) {
		memcpy(out, "\xef\xbf\xbd", 3); /* U+FFFD */
		return 3;
	}
	for (size_t i = 0; length == 1 && i + 1 < sizeof(named); i += 2) {
		if (text[0] == (unsigned char)named[i]) {
			out[0] = '\\';
			out[1] = named[i + 1];
			return 2;
		}
	}
	if (length == 1 && (text[0] < 0x20 || text[0] == 0x7f))
		return (size_t)snprintf(out, 8, "\\u%04x", (unsigned int)text[0]);
	/* U+2028 and U+2029 end a line in JavaScript before ES2019: a literal may end up in a
	 * script. */
	if (length == 3 && text[0] == 0xe2 && text[1] == 0x80 && (text[2] & 0xfe) == 0xa8)
		return (size_t)snprintf(out, 8, "\\u202%c", text[2] == 0xa8 ? '8' : '9');
	memcpy(out, text, length);
	return length;
}

/* Writes the literal without its quotes to `out`, or only counts when it is NULL. */
static size_t put_text(const unsigned char *text, size_t size, char *out)
{
	char one[8];
	size_t total = 0;

	for (size_t i = 0; i < size;) {
		size_t length = json_sequence(text + i, size - i);
		size_t written = put_character(text + i, length, one);

		if (out)
			memcpy(out + total, one, written);
		total += written;
		i += length ? length : 1;
	}
	return total;
}

char *json_literal(const void *text, size_t size)
{
	size_t length;
	char *out;

	if (size > (SIZE_MAX - 3) / 6)
		return NULL;
	length = put_text(text, size, NULL);
	out = malloc(length + 3);
	if (!out)
		return NULL;
	out[0] = '"';
	put_text(text, size, out + 1);
	out[length + 1] = '"';
	out[length + 2] = '\0';
	return out;
}
