#include "web/frames.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proxy/header.h"

static const char *const channel_names[WALL_CHANNELS] = {
	[WALL_SHELL] = "shell", [WALL_CONTROL] = "control", [WALL_STDIN] = "stdin",
	[WALL_IOPUB] = "iopub", [WALL_HB] = "hb",
};

static const enum wall_channel client_channels[] = {WALL_SHELL, WALL_CONTROL, WALL_STDIN};

static int find_channel(struct iovec name, enum wall_channel *ret_channel)
{
	for (size_t i = 0; i < sizeof(client_channels) / sizeof(client_channels[0]); i++) {
		const char *known = channel_names[client_channels[i]];

		if (name.iov_len == strlen(known) &&
		    memcmp(name.iov_base, known, name.iov_len) == 0) {
			*ret_channel = client_channels[i];
			return 0;
		}
	}
	return -EPROTO;
}

static struct iovec range(const void *data, size_t size)
{
	union {
		const void *constant;
		void *plain;
	} view = {.constant = data};

	return (struct iovec){.iov_base = view.plain, .iov_len = size};
}

/* ---- JSON, as far as its shape goes ---- */

typedef const unsigned char *bytes;

static bytes skip_space(bytes at, bytes end)
{
	while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r'))
		at++;
	return at;
}

/* True when none of the eight bytes ends a run of plain text: all are ASCII from 0x20 on, and no
 * quote and no backslash. */
static bool eight_plain(bytes at)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
	uint64_t word, quote, slash;

	memcpy(&word, at, sizeof(word));
	quote = word ^ (ones * '"');
	slash = word ^ (ones * '\\');
	return ((word | (word - ones * 0x20) | (quote - ones) | (slash - ones)) & high) == 0;
}

static bytes skip_escape(bytes at, bytes end)
{
	if (at == end || !strchr("\"\\/bfnrtu", *at) || *at == 0)
		return NULL;
	if (*at++ != 'u')
		return at;
	if (end - at < 4)
		return NULL;
	for (int i = 0; i < 4; i++, at++)
		if (!((*at >= '0' && *at <= '9') || ((*at | 0x20) >= 'a' && (*at | 0x20) <= 'f')))
			return NULL;
	return at;
}

/* From behind the opening quote to behind the closing one. */
static bytes skip_string(bytes at, bytes end)
{
	for (;;) {
		while (end - at >= 8 && eight_plain(at))
			at += 8;
		if (at == end || *at < 0x20)
			return NULL;
		if (*at == '"')
			return at + 1;
		if (*at == '\\') {
			at = skip_escape(at + 1, end);
			if (!at)
				return NULL;
		} else if (*at < 0x80) {
			at++;
		} else {
			size_t size = json_sequence(at, (size_t)(end - at));

			if (size == 0)
				return NULL;
			at += size;
		}
	}
}

static bytes skip_digits(bytes at, bytes end)
{
	bytes first = at;

	while (at < end && *at >= '0' && *at <= '9')
		at++;
	return at == first ? NULL : at;
}

static bytes skip_number(bytes at, bytes end)
{
	if (*at == '-')
		at++;
	if (at < end && *at == '0')
		at++;
	else
		at = skip_digits(at, end);
	if (at && at < end && *at == '.')
		at = skip_digits(at + 1, end);
	if (at && at < end && (*at | 0x20) == 'e') {
		at++;
		if (at < end && (*at == '+' || *at == '-'))
			at++;
		at = skip_digits(at, end);
	}
	return at;
}

/* A value that holds no others. */
static bytes skip_scalar(bytes at, bytes end)
{
	static const char *const words[] = {"true", "false",	"null",
					    "NaN",  "Infinity", "-Infinity"};

	if (*at == '"')
		return skip_string(at + 1, end);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t size = strlen(words[i]);

		if ((size_t)(end - at) >= size && memcmp(at, words[i], size) == 0)
			return at + size;
	}
	return skip_number(at, end);
}

/* A member's name with its colon. */
static bytes skip_name(bytes at, bytes end)
{
	at = skip_space(at, end);
	if (at == end || *at != '"')
		return NULL;
	at = skip_string(at + 1, end);
	if (!at)
		return NULL;
	at = skip_space(at, end);
	return at < end && *at == ':' ? at + 1 : NULL;
}

/* What is open around the place that is looked at. */
struct nesting {
	unsigned depth;
	bool object[FRAMES_DEPTH];
};

/* After a value: closes what ends here; `*ret_more` when another value follows at the result. */
static bytes skip_ends(struct nesting *nesting, bytes at, bytes end, bool *ret_more)
{
	*ret_more = false;
	while (nesting->depth > 0) {
		const bool object = nesting->object[nesting->depth - 1];

		at = skip_space(at, end);
		if (at == end)
			return NULL;
		if (*at == ',') {
			*ret_more = true;
			return object ? skip_name(at + 1, end) : at + 1;
		}
		if (*at != (object ? '}' : ']'))
			return NULL;
		nesting->depth--;
		at++;
	}
	return at;
}

/* Opens a list or an object; `*ret_empty` when it is closed at once. */
static bytes skip_opening(struct nesting *nesting, bytes at, bytes end, bool *ret_empty)
{
	const bool object = *at == '{';

	at = skip_space(at + 1, end);
	if (at == end)
		return NULL;
	*ret_empty = *at == (object ? '}' : ']');
	if (*ret_empty)
		return at + 1;
	if (nesting->depth == FRAMES_DEPTH)
		return NULL;
	nesting->object[nesting->depth++] = object;
	return object ? skip_name(at, end) : at;
}

/* One value of any kind; NULL when it is none. Without recursion: the text is foreign. */
static bytes skip_value(bytes at, bytes end)
{
	struct nesting nesting;
	bool more = true;

	nesting.depth = 0;
	while (at && more) {
		bool ended = true;

		at = skip_space(at, end);
		if (at == end)
			return NULL;
		if (*at == '{' || *at == '[')
			at = skip_opening(&nesting, at, end, &ended);
		else
			at = skip_scalar(at, end);
		if (at && ended)
			at = skip_ends(&nesting, at, end, &more);
	}
	return at;
}

bool frames_is_json(const void *text, size_t size)
{
	bytes end = (bytes)text + size;
	bytes at = size ? skip_value(text, end) : NULL;

	return at && skip_space(at, end) == end;
}

/* One member of an object: at the first call `*at` is behind the brace. Returns 1; 0 at the end of
 * the object, with *at behind it; -EPROTO. */
static int next_member(bytes *at, bytes end, bool first, struct iovec *ret_name,
		       struct iovec *ret_value)
{
	bytes here = skip_space(*at, end), name, value;

	if (here < end && *here == '}') {
		*at = here + 1;
		return 0;
	}
	if (!first) {
		if (here == end || *here != ',')
			return -EPROTO;
		here = skip_space(here + 1, end);
	}
	name = here;
	here = skip_name(here, end);
	if (!here)
		return -EPROTO;
	value = skip_space(here, end);
	here = skip_value(value, end);
	if (!here)
		return -EPROTO;
	*ret_name = range(name + 1,
			  (size_t)((bytes)memchr(name + 1, '"', (size_t)(end - name)) - name - 1));
	*ret_value = range(value, (size_t)(here - value));
	*at = here;
	return 1;
}

struct iovec frames_member(struct iovec object, const char *wanted)
{
	bytes at = object.iov_base, end = at + object.iov_len;
	struct iovec name, value;
	bool first = true;

	at = skip_space(at, end);
	if (at == end || *at != '{')
		return range(NULL, 0);
	for (at++; next_member(&at, end, first, &name, &value) > 0; first = false) {
		const char *text = value.iov_base;

		if (name.iov_len != strlen(wanted) ||
		    memcmp(name.iov_base, wanted, name.iov_len) != 0)
			continue;
		if (text[0] != '"' || memchr(text, '\\', value.iov_len))
			break;
		return range(text + 1, value.iov_len - 2);
	}
	return range(NULL, 0);
}

/* ---- legacy, from a client ---- */

static int member_place(struct iovec name)
{
	static const char *const places[] = {"header", "parent_header", "metadata", "content",
					     "channel"};

	for (int i = 0; i < 5; i++)
		if (name.iov_len == strlen(places[i]) &&
		    memcmp(name.iov_base, places[i], name.iov_len) == 0)
			return i;
	return -1;
}

static int read_members(bytes at, bytes end, struct iovec place[5], struct err *err)
{
	struct iovec name, value;
	bool first = true;
	int r;

	at = skip_space(at, end);
	if (at == end || *at != '{')
		return err_set(err, -EPROTO, "a message is a JSON object");
	at++;
	while ((r = next_member(&at, end, first, &name, &value)) > 0) {
		int i = member_place(name);

		first = false;
		if (i < 0)
			continue;
		if (place[i].iov_len > 0)
			return err_set(err, -EPROTO, "the message has %.*s twice",
				       (int)name.iov_len, (const char *)name.iov_base);
		place[i] = value;
	}
	if (r < 0 || skip_space(at, end) != end)
		return err_set(err, -EPROTO, "the message is not JSON");
	return 0;
}

static int read_text(bytes text, size_t size, struct frames_message *message, struct err *err)
{
	struct iovec place[5] = {{0}};
	int r = read_members(text, text + size, place, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < 4; i++) {
		if (i > 0 && place[i].iov_len == 0)
			place[i] = range("{}", 2);
		if (place[i].iov_len == 0 || *(bytes)place[i].iov_base != '{')
			return err_set(err, -EPROTO, "a part of the message is not an object");
		message->parts[i] = place[i];
	}
	message->count = 4;
	message->channel = WALL_SHELL; /* what jupyter_server assumes too */
	if (place[4].iov_len >= 2 &&
	    find_channel(range((bytes)place[4].iov_base + 1, place[4].iov_len - 2),
			 &message->channel) < 0)
		return err_set(err, -EPROTO, "the message is for no channel of a client");
	return 0;
}

static uint32_t big32(bytes at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

int frames_read_legacy(const void *data, size_t size, bool binary, struct frames_message *message,
		       struct err *err)
{
	bytes base = data;
	uint32_t count;
	size_t text;
	int r;

	if (!binary)
		return read_text(base, size, message, err);
	count = size >= 8 ? big32(base) : 0;
	if (count == 0 || count > FRAMES_BUFFERS_MAX || size < 4 + 4 * (size_t)count)
		return err_set(err, -EPROTO, "a binary message has a wrong number of parts");
	for (size_t i = 0; i < count; i++) {
		size_t from = big32(base + 4 + 4 * i);
		size_t to = i + 1 < count ? big32(base + 8 + 4 * i) : size;

		if (from < 4 + 4 * (size_t)count || from > to || to > size)
			return err_set(err, -EPROTO, "a binary message has a wrong offset");
		if (i > 0)
			message->parts[3 + i] = range(base + from, to - from);
	}
	text = big32(base + 4);
	r = read_text(base + text, (count > 1 ? big32(base + 8) : size) - text, message, err);
	if (r == 0)
		message->count = 3 + count;
	return r;
}

/* ---- v1, from a client ---- */

static uint64_t little64(bytes at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

int frames_read_v1(const void *data, size_t size, struct frames_message *message, struct err *err)
{
	bytes base = data;
	uint64_t count = size >= 8 ? little64(base) : 0;

	if (count < 6 || count > FRAMES_PARTS_MAX + 2 || size < 8 * (count + 1))
		return err_set(err, -EPROTO, "a message has a wrong number of offsets");
	for (uint64_t i = 0; i + 1 < count; i++) {
		uint64_t from = little64(base + 8 * (i + 1));
		uint64_t to = little64(base + 8 * (i + 2));

		if (from > to || to > size || from < 8 * (count + 1))
			return err_set(err, -EPROTO, "a message has a wrong offset");
		if (i > 0)
			message->parts[i - 1] = range(base + from, to - from);
		else if (find_channel(range(base + from, to - from), &message->channel) < 0)
			return err_set(err, -EPROTO, "the message is for no channel of a client");
	}
	message->count = count - 2;
	return 0;
}

/* ---- from a kernel ---- */

int frames_write_v1(enum wall_channel channel, const struct iovec *parts, size_t count, char *room,
		    struct iovec *vector, size_t *ret_bytes)
{
	const uint64_t offsets = count + 2;
	const size_t name = strlen(channel_names[channel]);
	size_t at = 8 * (offsets + 1);
	uint64_t value = htole64(offsets);

	memcpy(room, &value, 8);
	value = htole64(at);
	memcpy(room + 8, &value, 8);
	memcpy(room + at, channel_names[channel], name);
	vector[0] = range(room, at + name);
	at += name;
	for (size_t i = 0; i <= count; i++) {
		value = htole64(at);
		memcpy(room + 8 * (i + 2), &value, 8);
		if (i < count) {
			vector[1 + i] = parts[i];
			at += parts[i].iov_len;
		}
	}
	*ret_bytes = at;
	return (int)count + 1;
}

/* The beginning of the JSON text, with the two fields of the header that some clients want outside
 * of it. */
static size_t write_opening(char *out, size_t out_size, enum wall_channel channel,
			    struct iovec header)
{
	struct iovec id = frames_member(header, "msg_id");
	struct iovec type = frames_member(header, "msg_type");
	int size;

	if (id.iov_len > 256)
		id.iov_len = 0;
	if (type.iov_len > 256)
		type.iov_len = 0;
	size = snprintf(out, out_size,
			"{\"channel\":\"%s\",\"msg_id\":\"%.*s\",\"msg_type\":\"%.*s\",\"header\":",
			channel_names[channel], (int)id.iov_len,
			id.iov_len ? (const char *)id.iov_base : "", (int)type.iov_len,
			type.iov_len ? (const char *)type.iov_base : "");
	return (size_t)size;
}

/* The offsets of a binary frame; -EPROTO when it would be too long for them. */
static int write_offsets(unsigned char *table, size_t text, const struct iovec *buffers,
			 size_t count, size_t *ret_bytes)
{
	size_t at = 4 * (count + 2);
	uint32_t value = htobe32((uint32_t)count + 1);

	memcpy(table, &value, 4);
	for (size_t i = 0; i <= count; i++) {
		if (at > UINT32_MAX)
			return -EPROTO;
		value = htobe32((uint32_t)at);
		memcpy(table + 4 * (i + 1), &value, 4);
		at += i == 0 ? text : buffers[i - 1].iov_len;
	}
	*ret_bytes = at;
	return 0;
}

int frames_write_legacy(enum wall_channel channel, const struct iovec *parts, size_t count,
			char *room, struct iovec *vector, size_t *ret_bytes, bool *ret_binary)
{
	static const char *const between[4] = {
		",\"parent_header\":", ",\"metadata\":", ",\"content\":", ",\"buffers\":[]}"};
	const bool binary = count > 4;
	size_t text = 0;
	int n = 0;

	for (size_t i = 0; i < 4; i++)
		if (!frames_is_json(parts[i].iov_base, parts[i].iov_len))
			return -EPROTO;
	if (binary)
		vector[n++] = range(room, 4 * (count - 2));
	vector[n++] =
		range(room + 4 * count, write_opening(room + 4 * count, 640, channel, parts[0]));
	for (size_t i = 0; i < 4; i++) {
		vector[n++] = parts[i];
		vector[n++] = range(between[i], strlen(between[i]));
	}
	for (int i = binary ? 1 : 0; i < n; i++)
		text += vector[i].iov_len;
	*ret_binary = binary;
	*ret_bytes = text;
	if (!binary)
		return n;
	for (size_t i = 4; i < count; i++)
		vector[n++] = parts[i];
	if (write_offsets((unsigned char *)room, text, parts + 4, count - 4, ret_bytes) < 0)
		return -EPROTO;
	return n;
}
