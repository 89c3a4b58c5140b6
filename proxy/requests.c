/*
 * Theory of operation
 *
 * A ring of pointers in the order of arrival and a table of chains over the msg_id, each with
 * REQUESTS_MAX places. A request is one block with everything but its code. Where the ring is full,
 * or the bytes are, the oldest goes; one that waits for its reply is put back in front instead, as
 * often as SPARED_MAX for each that comes.
 */
#include "proxy/requests.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "proxy/limits.h"
#include "sandbox/siphash.h"

#define SPARED_MAX 16

_Static_assert((REQUESTS_MAX & (REQUESTS_MAX - 1)) == 0, "a mask picks the bucket");

struct requests {
	uint64_t key[2];
	uint64_t first, end; /* of the ring, counted on for ever */
	size_t bytes;
	struct request *newest;
	bool forgot;
	struct request *ring[REQUESTS_MAX];
	struct request *bucket[REQUESTS_MAX];
};

/* ---- hashing ---- */

uint64_t requests_hash(const struct requests *requests, const void *data, size_t size)
{
	return siphash(requests->key, data, size);
}

static struct request **bucket_of(struct requests *requests, const char *msg_id)
{
	return &requests->bucket[requests_hash(requests, msg_id, strlen(msg_id)) &
				 (REQUESTS_MAX - 1)];
}

/* ---- keeping ---- */

struct requests *requests_new(void)
{
	struct requests *requests = mmap(NULL, sizeof(*requests), PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (requests == MAP_FAILED)
		return NULL;
	if (random_bytes(requests->key, sizeof(requests->key)) < 0)
		return requests_free(requests);
	return requests;
}

void requests_drop_code(struct requests *requests, struct request *request)
{
	if (!request->code)
		return;
	requests->bytes -= strlen(request->code);
	request->size -= strlen(request->code);
	free_ptr(&request->code);
}

static void forget(struct requests *requests, struct request *request)
{
	struct request **link = bucket_of(requests, request->msg_id);

	while (*link && *link != request)
		link = &(*link)->next;
	if (*link)
		*link = request->next;
	if (requests->newest == request)
		requests->newest = NULL;
	requests->bytes -= request->size;
	free(request->code);
	free(request);
}

struct requests *requests_free(struct requests *requests)
{
	if (!requests)
		return NULL;
	while (requests->first < requests->end)
		forget(requests, requests->ring[requests->first++ & (REQUESTS_MAX - 1)]);
	munmap(requests, sizeof(*requests));
	return NULL;
}

/* Until one more of `size` bytes has room. */
static void make_room(struct requests *requests, size_t size)
{
	unsigned spared = 0;

	while (requests->first < requests->end &&
	       (requests->end - requests->first >= REQUESTS_MAX ||
		requests->bytes + size > REQUESTS_BYTES)) {
		struct request *oldest = requests->ring[requests->first++ & (REQUESTS_MAX - 1)];

		if (oldest->waits && spared++ < SPARED_MAX) {
			requests->ring[requests->end++ & (REQUESTS_MAX - 1)] = oldest;
			continue;
		}
		forget(requests, oldest);
		requests->forgot = true;
	}
}

static char *put(char **at, const void *bytes, size_t size)
{
	char *begin = *at;

	if (size)
		memcpy(begin, bytes, size);
	begin[size] = '\0';
	*at += size + 1;
	return begin;
}

/* A block with copies of all that is not code. */
static struct request *copy(struct iovec identity, struct iovec header, const struct header *fields)
{
	const size_t size = sizeof(struct request) + identity.iov_len + header.iov_len +
			    strlen(fields->msg_id) + strlen(fields->msg_type) +
			    strlen(fields->session) + 5;
	struct request *request = calloc(1, size);
	char *at;

	if (!request)
		return NULL;
	at = (char *)(request + 1);
	request->size = size;
	request->identity =
		(struct iovec){put(&at, identity.iov_base, identity.iov_len), identity.iov_len};
	request->header = (struct iovec){put(&at, header.iov_base, header.iov_len), header.iov_len};
	request->msg_id = put(&at, fields->msg_id, strlen(fields->msg_id));
	request->msg_type = put(&at, fields->msg_type, strlen(fields->msg_type));
	request->session = put(&at, fields->session, strlen(fields->session));
	return request;
}

static bool ends_with(const char *text, const char *end)
{
	const size_t size = strlen(text), tail = strlen(end);

	return size > tail && strcmp(text + size - tail, end) == 0;
}

/* What only an execute_request says. A cell too large to keep is run, and not shown to others. */
static void read_content(struct request *request, struct iovec content)
{
	const struct iovec code = requests_member(content, "code");
	const struct iovec stdin_word = requests_member(content, "allow_stdin");

	if (code.iov_len >= 2 && code.iov_len < REQUESTS_BYTES / 2 &&
	    *(const char *)code.iov_base == '"')
		request->code = strndup(code.iov_base, code.iov_len);
	if (request->code)
		request->size += strlen(request->code);
	request->allows_stdin =
		stdin_word.iov_len == 4 && memcmp(stdin_word.iov_base, "true", 4) == 0;
}

struct request *requests_add(struct requests *requests, enum wall_channel channel,
			     struct iovec identity, struct iovec header,
			     const struct header *fields, struct iovec content)
{
	struct request *request = copy(identity, header, fields);
	struct request **bucket;

	if (!request)
		return NULL;
	request->channel = channel;
	request->waits = ends_with(fields->msg_type, "_request");
	if (strcmp(fields->msg_type, "execute_request") == 0)
		read_content(request, content);
	make_room(requests, request->size);
	bucket = bucket_of(requests, request->msg_id);
	request->next = *bucket;
	*bucket = request;
	requests->ring[requests->end++ & (REQUESTS_MAX - 1)] = request;
	requests->bytes += request->size;
	if (!requests->newest || !requests->newest->waits ||
	    strcmp(request->msg_type, "execute_request") == 0)
		requests->newest = request;
	return request;
}

/* ---- finding ---- */

static struct request *chain(const struct requests *requests, const char *msg_id)
{
	return requests
		->bucket[requests_hash(requests, msg_id, strlen(msg_id)) & (REQUESTS_MAX - 1)];
}

struct request *requests_find(const struct requests *requests, const char *msg_id,
			      const char *session)
{
	struct request *any = NULL;

	for (struct request *request = chain(requests, msg_id); request; request = request->next) {
		if (strcmp(request->msg_id, msg_id) != 0)
			continue;
		if (!session || strcmp(request->session, session) == 0)
			return request;
		if (!any)
			any = request;
	}
	return any;
}

struct request *requests_asked(const struct requests *requests, const char *msg_id,
			       enum wall_channel channel, struct iovec identity)
{
	for (struct request *request = chain(requests, msg_id); request; request = request->next)
		if (request->waits && request->channel == channel &&
		    request->identity.iov_len == identity.iov_len &&
		    memcmp(request->identity.iov_base, identity.iov_base, identity.iov_len) == 0 &&
		    strcmp(request->msg_id, msg_id) == 0)
			return request;
	return NULL;
}

struct request *requests_instead(const struct requests *requests)
{
	return requests->forgot ? requests->newest : NULL;
}

/* ---- a member of an object ---- */

/* The end of the string that begins at `at`, or NULL. */
static const char *string_end(const char *at, const char *end)
{
	for (at++; at < end; at++) {
		if (*at == '\\')
			at++;
		else if (*at == '"')
			return at + 1;
	}
	return NULL;
}

static const char *blank_end(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at;
}

/* The end of the value that begins at `at`: a comma or a closing bracket of the object around it.
 */
static const char *value_end(const char *at, const char *end)
{
	size_t depth = 0;

	while (at < end) {
		if (*at == '"') {
			at = string_end(at, end);
			if (!at)
				return NULL;
			continue;
		}
		if (depth == 0 && (*at == ',' || *at == '}'))
			return at;
		if (*at == '{' || *at == '[')
			depth++;
		else if (*at == '}' || *at == ']')
			depth--;
		at++;
	}
	return NULL;
}

struct iovec requests_member(struct iovec text, const char *name)
{
	const char *at = text.iov_base, *end = at + text.iov_len;
	struct iovec found = {0};

	at = blank_end(at, end);
	if (at == end || *at != '{')
		return found;
	do {
		const char *key = blank_end(at + 1, end), *after, *value;

		if (key == end || *key != '"' || !(after = string_end(key, end)))
			return found;
		value = blank_end(after, end);
		if (value == end || *value != ':')
			return found;
		value = blank_end(value + 1, end);
		at = value_end(value, end);
		if (!at)
			return found;
		if ((size_t)(after - key) == strlen(name) + 2 &&
		    memcmp(key + 1, name, strlen(name)) == 0) {
			const char *last = at;
			union {
				const void *constant;
				void *plain;
			} view = {.constant = value};

			while (last > value && (last[-1] == ' ' || last[-1] == '\t' ||
						last[-1] == '\n' || last[-1] == '\r'))
				last--;
			found = (struct iovec){view.plain, (size_t)(last - value)};
		}
	} while (*at == ',');
	return found;
}
