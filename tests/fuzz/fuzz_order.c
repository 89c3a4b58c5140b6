/* Any bytes as frames of four connections of two keys of the link, HELLO with its order among them:
 * each key has the kernels that it ordered and no others, and what is sent are frames. */
#include <stdint.h>
#include <string.h>

#include "host.h"
#include "web/link_frame.h"
#include "web/link_parts.h"
#include "web/link_peers.h"

#define CONNECTIONS 4

enum { LOOK = 0x40, REVOKE = 0x80 }; /* in a record's first byte, besides its connection */

static struct link link_of = {.server = &host_server};
static bool revoked;

static const char *key_of(int fd)
{
	return fd < CONNECTIONS / 2 ? "key of anna" : "key of ben";
}

/* ---- what is wrapped ---- */

int __wrap_link_send_to(struct link *link, const unsigned char routing[LINK_ROUTING],
			const void *bytes, size_t size);
void __wrap_link_retry(struct session *session);
void __wrap_link_run_soon(struct link *link);
void __wrap_link_refuse(struct link *link, const unsigned char routing[LINK_ROUTING], int fd,
			enum link_refusal why, const char *text);
void __wrap_link_peers_serve(struct link_peers *peers, int64_t now);
bool __wrap_link_peers_has(struct link_peers *peers, int fd);
void __wrap_link_peers_keep(struct link_peers *peers, int fd);
void __wrap_link_peers_drop(struct link_peers *peers, int fd, int64_t until);
void __wrap_keys_allowed_look(struct keys_allowed *allowed);
const char *__wrap_keys_allowed_name(const struct keys_allowed *allowed, const char *public_key);

/* One session at most is there for a connection, of the connection's key. */
int __wrap_link_send_to(struct link *link, const unsigned char routing[LINK_ROUTING],
			const void *bytes, size_t size)
{
	const int fd = routing[1];
	struct link_frame frame;
	unsigned sessions = 0;

	host_require(fd < CONNECTIONS && link_frame_parse(bytes, size, &frame, NULL) == 0);
	for (const struct session *session = link->sessions; session; session = session->next) {
		if (!session->there || session->fd != fd)
			continue;
		sessions++;
		host_require(strcmp(session->key, key_of(fd)) == 0);
	}
	host_require(sessions == 1);
	return 0;
}

void __wrap_link_retry(struct session *session)
{
	(void)session;
}

void __wrap_link_run_soon(struct link *link)
{
	(void)link;
}

void __wrap_link_refuse(struct link *link, const unsigned char routing[LINK_ROUTING], int fd,
			enum link_refusal why, const char *text)
{
	(void)link;
	host_require(routing[1] == fd && why >= LINK_NOT_KNOWN && why <= LINK_NOT_ALLOWED && *text);
}

void __wrap_link_peers_serve(struct link_peers *peers, int64_t now)
{
	(void)peers, (void)now;
}

bool __wrap_link_peers_has(struct link_peers *peers, int fd)
{
	(void)peers;
	return fd < CONNECTIONS;
}

void __wrap_link_peers_keep(struct link_peers *peers, int fd)
{
	(void)peers, (void)fd;
}

void __wrap_link_peers_drop(struct link_peers *peers, int fd, int64_t until)
{
	(void)peers, (void)fd, (void)until;
}

void __wrap_keys_allowed_look(struct keys_allowed *allowed)
{
	(void)allowed;
}

const char *__wrap_keys_allowed_name(const struct keys_allowed *allowed, const char *public_key)
{
	(void)allowed;
	if (strcmp(public_key, key_of(0)) == 0)
		return "anna";
	return revoked ? NULL : "ben";
}

/* ---- what comes ---- */

static void take(unsigned how, const uint8_t *bytes, size_t size)
{
	const int fd = how % CONNECTIONS;
	const struct link_origin origin = {
		.key = key_of(fd), .routing = {0, (unsigned char)fd}, .fd = fd};

	host_known[fd < CONNECTIONS / 2 ? HOST_ANNA : HOST_BEN] = true;
	if (how & REVOKE)
		revoked = host_known[HOST_BEN] = true;
	link_take_frame(&link_of, &origin, bytes, size);
	if (how & LOOK)
		link_look_after(&link_of);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	revoked = false;
	host_begin();
	while (size > 3) {
		const unsigned how = data[0];
		size_t length = (size_t)(data[1] | data[2] << 8);

		data += 3;
		size -= 3;
		if (length > size)
			length = size;
		take(how, data, length);
		data += length;
		size -= length;
	}
	while (link_of.sessions) {
		struct session *session = link_of.sessions;

		link_of.sessions = session->next;
		link_session_free(session);
	}
	host_require(link_of.count == 0);
	host_end();
	return 0;
}
