#include "web/parse.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	enum http_method method;
} methods[] = {
	{"GET", HTTP_GET},	   {"HEAD", HTTP_HEAD},	    {"POST", HTTP_POST},
	{"PUT", HTTP_PUT},	   {"DELETE", HTTP_DELETE}, {"PATCH", HTTP_PATCH},
	{"OPTIONS", HTTP_OPTIONS},
};

/* RFC 9110, 5.6.2: what a field name or a method is made of. */
static bool token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

size_t parse_head_size(const char *data, size_t size)
{
	const char *end = memmem(data, size, "\r\n\r\n", 4);

	return end ? (size_t)(end - data) + 4 : 0;
}

/* ---- the request line ---- */

static int parse_target(char *target, struct parse_head *head)
{
	if (*target != '/')
		return 400;
	for (const char *c = target; *c; c++)
		if (*c <= ' ' || *c >= 0x7f || *c == '#')
			return 400;
	head->path = target;
	head->query = strchr(target, '?');
	if (head->query)
		*head->query++ = '\0';
	return 0;
}

static int parse_request_line(char *line, struct parse_head *head)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version)
		return 400;
	*target++ = '\0';
	*version++ = '\0';
	if (strcmp(version, "HTTP/1.1") == 0)
		head->keep = true;
	else if (strcmp(version, "HTTP/1.0") != 0)
		return strncmp(version, "HTTP/", 5) == 0 ? 505 : 400;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(line, methods[i].name) == 0)
			head->method = methods[i].method;
	if (!head->method)
		return 501;
	return parse_target(target, head);
}

/* ---- header fields ---- */

static int parse_field(char *line, struct parse_head *head)
{
	char *colon = strchr(line, ':');
	char *value, *end;

	if (!colon || colon == line)
		return 400;
	if (head->headers == HTTP_HEADERS_MAX)
		return 431;
	for (char *c = line; c < colon; c++) {
		if (!token_char(*c))
			return 400;
		*c = (char)tolower((unsigned char)*c);
	}
	*colon = '\0';
	value = colon + 1 + strspn(colon + 1, " \t");
	for (end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t');)
		*--end = '\0';
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c < ' ' ? *c != '\t' : *c == 0x7f)
			return 400;
	head->header[head->headers++] = (struct http_pair){line, value};
	return 0;
}

const char *parse_find(const struct http_pair *pairs, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(pairs[i].name, name) == 0)
			return pairs[i].value;
	return NULL;
}

bool parse_list_has(const char *list, const char *token)
{
	size_t size = strlen(token);

	while (list && *list) {
		size_t item;

		list += strspn(list, " \t,");
		item = strcspn(list, ", \t");
		if (item == size && strncasecmp(list, token, size) == 0)
			return true;
		list += item;
	}
	return false;
}

static size_t count_of(const struct parse_head *head, const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < head->headers; i++)
		count += strcmp(head->header[i].name, name) == 0;
	return count;
}

/* How the body is framed; RFC 9112, 6.3. */
static int parse_framing(struct parse_head *head)
{
	const char *length = parse_find(head->header, head->headers, "content-length");
	const char *coding = parse_find(head->header, head->headers, "transfer-encoding");
	const char *expect = parse_find(head->header, head->headers, "expect");

	if (count_of(head, "content-length") > 1 || count_of(head, "transfer-encoding") > 1 ||
	    count_of(head, "host") > 1 || (length && coding))
		return 400;
	if (coding) {
		if (strcasecmp(coding, "chunked") != 0 || !head->keep)
			return 501;
		head->chunked = true;
	}
	if (length) {
		if (parse_u64(length, (uint64_t)INT64_MAX, &head->length) < 0)
			return 400;
		head->has_length = true;
	}
	if (expect) {
		if (strcasecmp(expect, "100-continue") != 0)
			return 417;
		head->expects = true;
	}
	return 0;
}

/* Ends a line of the head where its CR LF is, and returns what follows; NULL: it has none, or a CR
 * of its own. */
static char *end_line(char *line)
{
	char *end = strchr(line, '\n');

	if (!end || end == line || end[-1] != '\r' || memchr(line, '\r', (size_t)(end - line - 1)))
		return NULL;
	end[-1] = '\0';
	return end + 1;
}

/* The request line, then the fields. */
static int parse_lines(char *line, struct parse_head *head)
{
	char *next = end_line(line);
	int status = next ? parse_request_line(line, head) : 400;

	while (!status && *(line = next)) {
		next = end_line(line);
		status = next ? parse_field(line, head) : 400;
	}
	return status;
}

static bool asks_to_close(const struct parse_head *head)
{
	for (size_t i = 0; i < head->headers; i++)
		if (strcmp(head->header[i].name, "connection") == 0 &&
		    parse_list_has(head->header[i].value, "close"))
			return true;
	return false;
}

int parse_head(char *data, size_t size, struct parse_head *head)
{
	int status;

	memset(head, 0, sizeof(*head));
	if (size < 4 || memchr(data, '\0', size))
		return 400;
	data[size - 2] = '\0'; /* the empty line */
	status = parse_lines(data, head);
	if (!status)
		status = parse_framing(head);
	if (!status && head->keep && !parse_find(head->header, head->headers, "host"))
		status = 400;
	if (!status && asks_to_close(head))
		head->keep = false;
	return status;
}

/* ---- the target ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decodes %XX in place. False for what is no such thing and for control characters. */
static bool decode(char *text, bool plus)
{
	char *out = text;

	for (const char *c = text; *c; c++) {
		char byte = *c;

		if (byte == '%') {
			int high = hex_digit(c[1]), low = high < 0 ? -1 : hex_digit(c[2]);

			if (low < 0)
				return false;
			byte = (char)(high * 16 + low);
			c += 2;
		} else if (plus && byte == '+') {
			byte = ' ';
		}
		if ((unsigned char)byte < ' ' || byte == 0x7f)
			return false;
		*out++ = byte;
	}
	*out = '\0';
	return parse_utf8(text, (size_t)(out - text));
}

int parse_parts(char *path, char *part[HTTP_PARTS_MAX])
{
	int parts = 0;

	if (*path++ != '/')
		return -1;
	while (*path) {
		char *end = strchrnul(path, '/');
		bool last = *end == '\0';

		if (parts == HTTP_PARTS_MAX || end == path)
			return -1;
		*end = '\0';
		if (!decode(path, false) || strchr(path, '/') || strcmp(path, ".") == 0 ||
		    strcmp(path, "..") == 0)
			return -1;
		part[parts++] = path;
		path = last ? end : end + 1; /* one slash at the end says nothing */
	}
	return parts;
}

int parse_query(char *query, struct http_pair pair[HTTP_QUERY_MAX])
{
	int pairs = 0;

	while (query && *query) {
		char *end = strchrnul(query, '&');
		bool last = *end == '\0';
		char *value;

		*end = '\0';
		if (*query) {
			value = strchr(query, '=');
			if (value)
				*value++ = '\0';
			else
				value = query + strlen(query);
			if (pairs == HTTP_QUERY_MAX || !decode(query, true) || !decode(value, true))
				return -1;
			pair[pairs++] = (struct http_pair){query, value};
		}
		query = last ? end : end + 1;
	}
	return pairs;
}

/* ---- chunks ---- */

#define CHUNK_LINE_MAX	  256u /* a size and its extensions, which say nothing to us */
#define CHUNK_TRAILER_MAX 4096u

/* One byte of a size line. False: refused. */
static bool size_byte(struct parse_chunks *chunks, char c)
{
	int digit = hex_digit(c);

	if (chunks->cr) {
		if (c != '\n' || !chunks->digits)
			return false;
		chunks->state = chunks->left ? CHUNK_DATA : CHUNK_TRAILER;
		chunks->cr = false;
		chunks->digits = chunks->line = 0;
		return true;
	}
	if (++chunks->line > CHUNK_LINE_MAX)
		return false;
	if (c == '\r') {
		chunks->cr = true;
		return true;
	}
	if (digit >= 0 && chunks->line == chunks->digits + 1) {
		chunks->left = chunks->left * 16 + (uint64_t)digit;
		return ++chunks->digits <= 15;
	}
	return chunks->digits && (chunks->line > chunks->digits + 1 || c == ';') &&
	       (unsigned char)c >= ' ' && c != 0x7f;
}

static bool trailer_byte(struct parse_chunks *chunks, char c)
{
	if (chunks->cr) {
		if (c != '\n')
			return false;
		chunks->cr = false;
		if (chunks->digits == 0)
			chunks->state = CHUNK_DONE;
		chunks->digits = 0;
		return true;
	}
	if (++chunks->line > CHUNK_TRAILER_MAX || c == '\n')
		return false;
	if (c == '\r')
		chunks->cr = true;
	else
		chunks->digits = 1; /* this line is not empty */
	return true;
}

static bool end_byte(struct parse_chunks *chunks, char c)
{
	if (!chunks->cr) {
		chunks->cr = true;
		return c == '\r';
	}
	chunks->cr = false;
	chunks->state = CHUNK_SIZE;
	return c == '\n';
}

ptrdiff_t parse_chunk(struct parse_chunks *chunks, const char *data, size_t size,
		      const char **ret_out, size_t *ret_out_size)
{
	size_t taken = 0;

	*ret_out = NULL;
	*ret_out_size = 0;
	while (taken < size && chunks->state != CHUNK_DONE) {
		bool good = true;

		if (chunks->state == CHUNK_DATA) {
			size_t part = size - taken;

			if (part > chunks->left)
				part = (size_t)chunks->left;
			*ret_out = data + taken;
			*ret_out_size = part;
			chunks->left -= part;
			if (!chunks->left)
				chunks->state = CHUNK_DATA_END;
			return (ptrdiff_t)(taken + part);
		}
		if (chunks->state == CHUNK_SIZE)
			good = size_byte(chunks, data[taken]);
		else if (chunks->state == CHUNK_DATA_END)
			good = end_byte(chunks, data[taken]);
		else
			good = trailer_byte(chunks, data[taken]);
		if (!good)
			return -1;
		taken++;
	}
	return (ptrdiff_t)taken;
}

/* ---- ranges ---- */

/* Takes the digits at the front of the text, 20 at the most. False: there are none. */
static bool take_digits(const char **text, char out[24])
{
	size_t size = strspn(*text, "0123456789");

	size = size > 20 ? 20 : size;
	memcpy(out, *text, size);
	out[size] = '\0';
	*text += size;
	return size > 0;
}

/* What of `size` bytes it is, by which of its ends was said. False: nothing of them. */
static bool cut_range(uint64_t size, bool first, bool last, uint64_t *from, uint64_t *to)
{
	if (!first) { /* the last bytes */
		if (*to == 0 || size == 0)
			return false;
		*from = *to > size ? 0 : size - *to;
		*to = size - 1;
	} else if (!last || *to >= size) {
		*to = size ? size - 1 : 0;
	}
	return *from < size && *from <= *to;
}

int parse_range(const char *text, uint64_t size, uint64_t *ret_from, uint64_t *ret_count)
{
	char first[24], last[24];
	uint64_t from = 0, to = 0;
	bool has_first, has_last;

	if (!text || strncmp(text, "bytes=", 6) != 0)
		return 0;
	text += 6;
	has_first = take_digits(&text, first);
	if (*text++ != '-')
		return 0;
	has_last = take_digits(&text, last);
	if (*text != '\0' || (!has_first && !has_last))
		return 0; /* several ranges: all of it is a correct answer */
	if ((has_first && parse_u64(first, UINT64_MAX, &from) < 0) ||
	    (has_last && parse_u64(last, UINT64_MAX, &to) < 0) ||
	    !cut_range(size, has_first, has_last, &from, &to))
		return -1;
	*ret_from = from;
	*ret_count = to - from + 1;
	return 1;
}

bool parse_copy(char *out, size_t room, const char *text, size_t size)
{
	if (size >= room)
		return false;
	memcpy(out, text, size);
	out[size] = '\0';
	return true;
}

/* ---- UTF-8 ---- */

static bool ascii(const unsigned char c[8])
{
	uint64_t word;

	memcpy(&word, c, 8);
	return !(word & 0x8080808080808080u);
}

/* How many bytes follow this one, and what the first of them may be (RFC 3629, section 4); -1: none
 * is a character. */
static int followers(unsigned char first, unsigned char *ret_least, unsigned char *ret_most)
{
	*ret_least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
	*ret_most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
	if (first >= 0xc2 && first <= 0xdf)
		return 1;
	if (first >= 0xe0 && first <= 0xef)
		return 2;
	return first >= 0xf0 && first <= 0xf4 ? 3 : -1;
}

ptrdiff_t parse_utf8_whole(const void *data, size_t size)
{
	const unsigned char *begin = data, *c = begin, *end = c + size;

	while (c < end) {
		unsigned char least, most;
		int more;

		if (*c < 0x80) {
			c += end - c >= 8 && ascii(c) ? 8 : 1;
			continue;
		}
		more = followers(*c, &least, &most);
		if (more < 0)
			return -1;
		for (int i = 1; i <= more; i++) {
			if (c + i == end)
				return c - begin;
			if (c[i] < least || c[i] > most)
				return -1;
			least = 0x80;
			most = 0xbf;
		}
		c += more + 1;
	}
	return c - begin;
}

bool parse_utf8(const void *data, size_t size)
{
	return parse_utf8_whole(data, size) == (ptrdiff_t)size;
}
