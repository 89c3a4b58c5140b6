/* web/link_client.c with kernels and connections that the tests make: what one host takes at the
 * most. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "web/eventlog.h"
#include "web/kernels.h"
#include "web/link.h"
#include "web/link_parts.h"
#include "web/server.h"
#include "web/specs.h"
#include "web/users.h"

static struct {
	unsigned started, stopped, taken;
	size_t taken_bytes;
	enum link_refusal refusal;
	char text[256];
} seen;

static struct server server;
static struct link link_of;
static struct user anna = {.name = "anna"};
static int kernel_of; /* stands for a kernel and its bridge */

/* ---- what it calls ---- */

void bridge_pause(struct listener *listener)
{
	(void)listener;
}
void bridge_resume(struct listener *listener)
{
	(void)listener;
}
int bridge_join(struct bridge *bridge, struct listener *listener)
{
	(void)bridge, (void)listener;
	return 0;
}
void bridge_leave(struct listener *listener)
{
	(void)listener;
}
int bridge_send(struct listener *listener, enum wall_channel channel, const struct iovec *parts,
		size_t count)
{
	(void)listener, (void)channel;
	seen.taken++;
	for (size_t i = 0; i < count; i++)
		seen.taken_bytes += parts[i].iov_len;
	return 0;
}
struct bridge *kernel_bridge(struct kernel *kernel)
{
	return (struct bridge *)kernel;
}
int kernel_interrupt(struct kernel *kernel, struct err *err)
{
	(void)kernel, (void)err;
	return 0;
}
void kernel_shutdown(struct kernel *kernel, const char *reason)
{
	(void)kernel, (void)reason;
	seen.stopped++;
}
int kernels_start(struct kernels *kernels, const struct kernels_order *order,
		  struct kernel **ret_kernel, struct err *err)
{
	(void)kernels, (void)order, (void)err;
	seen.started++;
	*ret_kernel = (struct kernel *)&kernel_of;
	return 0;
}
unsigned server_user_kernels(const struct server *one, unsigned own)
{
	(void)one;
	return own;
}
int specs_read(struct specs *specs, struct err *err)
{
	(void)specs, (void)err;
	return 0;
}
const struct spec_entry *specs_find(const struct specs *specs, const char *name)
{
	static const struct spec_entry entry = {.name = "isolated"};

	(void)specs, (void)name;
	return &entry;
}
const struct user *users_get(struct users *users, const char *name, bool admin)
{
	(void)users, (void)name, (void)admin;
	return &anna;
}
bool user_may_start(const struct user *user, const char *kernelspec)
{
	(void)kernelspec;
	return !user->kernelspecs;
}
void keys_allowed_look(struct keys_allowed *allowed)
{
	(void)allowed;
}
const char *keys_allowed_name(const struct keys_allowed *allowed, const char *public_key)
{
	(void)allowed, (void)public_key;
	return "anna";
}
int link_send_to(struct link *link, const unsigned char routing[LINK_ROUTING], const void *frame,
		 size_t size)
{
	(void)link, (void)routing, (void)frame, (void)size;
	return 0;
}
void link_retry(struct session *session)
{
	(void)session;
}
void link_run_soon(struct link *link)
{
	(void)link;
}
void link_refuse(struct link *link, const unsigned char routing[LINK_ROUTING], int fd,
		 enum link_refusal why, const char *text)
{
	(void)link, (void)routing, (void)fd;
	seen.refusal = why;
	(void)snprintf(seen.text, sizeof(seen.text), "%s", text);
}
void link_peers_serve(struct link_peers *peers, int64_t now)
{
	(void)peers, (void)now;
}
bool link_peers_has(struct link_peers *peers, int fd)
{
	(void)peers, (void)fd;
	return true;
}
void link_peers_keep(struct link_peers *peers, int fd)
{
	(void)peers, (void)fd;
}
void link_peers_drop(struct link_peers *peers, int fd, int64_t until)
{
	(void)peers, (void)fd, (void)until;
}
struct packet *packet_ref(struct packet *packet)
{
	return packet;
}
void packet_unref(struct packet *packet)
{
	(void)packet;
}
void eventlog_line(enum log_level level, const char *event, const char *format, ...)
{
	(void)level, (void)event, (void)format;
}

/* ---- the tests ---- */

static int begin(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	link_of = (struct link){.server = &server};
	return 0;
}

static int finish(void **state)
{
	(void)state;
	while (link_of.sessions) {
		struct session *session = link_of.sessions;

		link_of.sessions = session->next;
		link_session_free(session);
	}
	return link_of.count == 0 ? 0 : -1;
}

/* A frame of the connection with this descriptor. */
static void send_frame(int fd, enum link_type type, unsigned a, unsigned b, uint64_t number,
		       const void *body, size_t size)
{
	static unsigned char bytes[LINK_FRAME];
	struct link_origin origin = {.key = "key", .fd = fd};

	memcpy(origin.routing + 1, &fd, sizeof(fd));
	link_frame_header(bytes, type, a, b, number);
	memcpy(bytes + LINK_HEADER, body, size);
	link_take_frame(&link_of, &origin, bytes, LINK_HEADER + size);
}

static void hello(int fd)
{
	unsigned char body[LINK_ID + 2] = {0};

	memcpy(body, &fd, sizeof(fd)); /* a place and an id of its own */
	memcpy(body + LINK_ID, "{}", 2);
	send_frame(fd, LINK_HELLO, 0, 0, 0, body, sizeof(body));
}

static void no_more_sessions_than_there_may_be(void **state)
{
	(void)state;
	for (int fd = 1; fd <= LINK_SESSIONS_MAX; fd++)
		hello(fd);
	assert_int_equal(seen.started, LINK_SESSIONS_MAX);
	assert_int_equal(link_of.count, LINK_SESSIONS_MAX);
	assert_int_equal(seen.refusal, 0);
	hello(LINK_SESSIONS_MAX + 1);
	assert_int_equal(seen.started, LINK_SESSIONS_MAX);
	assert_int_equal(seen.refusal, LINK_NOT_STARTED);
	assert_string_equal(seen.text, "too many kernels");
	/* One that is over makes room. */
	struct session *first = link_of.sessions;

	link_of.sessions = first->next;
	link_session_free(first);
	hello(LINK_SESSIONS_MAX + 2);
	assert_int_equal(seen.started, LINK_SESSIONS_MAX + 1);
}

/* A message of so many bytes with its table of parts, in pieces. Returns the number of the next. */
static uint64_t send_message(int fd, uint64_t number, size_t bytes)
{
	static unsigned char piece[LINK_PIECE];
	/* Five parts; numbers are little-endian on the machines that this runs on. */
	const uint32_t table[6] = {5, 2, 2, 2, 2, (uint32_t)(bytes - 6 * sizeof(uint32_t) - 8)};

	memcpy(piece, table, sizeof(table));
	while (bytes > 0) {
		const size_t size = bytes < sizeof(piece) ? bytes : sizeof(piece);

		bytes -= size;
		send_frame(fd, LINK_DATA, WALL_SHELL, bytes == 0, number++, piece, size);
	}
	return number;
}

static void no_larger_message_than_there_may_be(void **state)
{
	const struct session *session;
	uint64_t number;

	(void)state;
	hello(1);
	session = link_of.sessions;
	number = send_message(1, 1, LINK_MESSAGE_MAX);
	assert_int_equal(seen.refusal, 0);
	assert_int_equal(seen.taken, 1);
	assert_int_equal(seen.taken_bytes, LINK_MESSAGE_MAX - 6 * sizeof(uint32_t));
	(void)send_message(1, number, LINK_MESSAGE_MAX + 1);
	assert_int_equal(seen.taken, 1);
	assert_int_equal(seen.refusal, LINK_NOT_STARTED);
	assert_non_null(strstr(seen.text, "bytes"));
	assert_false(session->there); /* what it still sends is nobody's */
	assert_int_equal(seen.stopped, 0);
}

/* Of another version link_frame_parse checks the header alone, and HELLO is all that may be said.
 */
static void no_frame_of_another_version(void **state)
{
	static const unsigned char channels[] = {WALL_SHELL, LINK_EVENTS, LINK_CHANNELS, 250};
	unsigned char bytes[LINK_HEADER + 1] = {0};

	(void)state;
	for (int fd = 1; fd <= (int)sizeof(channels); fd++) {
		struct link_origin origin = {.key = "key", .fd = fd};
		const struct session *session;

		memcpy(origin.routing + 1, &fd, sizeof(fd));
		hello(fd);
		session = link_of.sessions;
		link_frame_header(bytes, LINK_DATA, channels[fd - 1], 1, 1);
		bytes[0] = LINK_VERSION + 1;
		memset(&seen, 0, sizeof(seen));
		link_take_frame(&link_of, &origin, bytes, sizeof(bytes));
		assert_int_equal(seen.refusal, LINK_NOT_STARTED);
		assert_string_equal(seen.text, "a frame of another version");
		assert_false(session->there);
		assert_int_equal(link_stream_received(session->stream), 0);
		assert_int_equal(seen.taken + seen.stopped, 0);
	}
}

static void no_kernelspec_that_its_user_may_not_start(void **state)
{
	char *none[] = {NULL};

	(void)state;
	anna.kernelspecs = none;
	hello(1);
	anna.kernelspecs = NULL;
	assert_int_equal(seen.refusal, LINK_NOT_STARTED);
	assert_string_equal(seen.text, "you may not start isolated");
	assert_int_equal(seen.started, 0);
	assert_int_equal(link_of.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_more_sessions_than_there_may_be, begin, finish),
		cmocka_unit_test_setup_teardown(no_larger_message_than_there_may_be, begin, finish),
		cmocka_unit_test_setup_teardown(no_frame_of_another_version, begin, finish),
		cmocka_unit_test_setup_teardown(no_kernelspec_that_its_user_may_not_start, begin,
						finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
