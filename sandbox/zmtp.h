/*
 * zmtp: ZeroMQ's bytes on a stream (ZMTP 3.0, rfc.zeromq.org/spec/23), mechanism NULL, the side
 * that connects.
 *
 *   greeting  64 bytes: FF, 8 of padding, 7F, major, minor, mechanism[20], as-server, 31 of zero
 *   frame     flags (more, long, command), size (u8, or u64 big-endian when long), body
 *   READY     the first frame of each side, a command: properties, of them the socket's type
 *
 * In: bytes of a hostile peer; a message is taken from where it lies. Out: views into them. Pure
 * functions: no memory of their own, no I/O, never log.
 */
#ifndef SANDBOX_ZMTP_H
#define SANDBOX_ZMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define ZMTP_GREETING_SIZE 64u
#define ZMTP_FRAME_MAX	   9u /* of a frame: all but its body */
/* A command's body, ours or a peer's: READY has an identity of 255 bytes at the most. */
#define ZMTP_COMMAND_MAX 1024u
#define ZMTP_HELLO_MAX	 (ZMTP_GREETING_SIZE + ZMTP_FRAME_MAX + 64u)

struct zmtp_frame {
	uint64_t size; /* of the body */
	size_t front;  /* bytes before it */
	bool more;     /* another frame of the same message follows */
	bool command;
};

/* The frame that begins at `bytes`. Returns 1, 0 when bytes are missing, -EPROTO when it is none.
 */
int zmtp_frame(const uint8_t *bytes, size_t size, struct zmtp_frame *ret_frame);
/* What goes before a body of `size` bytes. Returns its length. */
size_t zmtp_front(uint8_t out[ZMTP_FRAME_MAX], size_t size, bool more);

/* Our greeting and READY of a socket of this type ("DEALER", "SUB"); `identity` of at most 16
 * bytes, or "". Returns their length. */
size_t zmtp_hello(uint8_t out[ZMTP_HELLO_MAX], const char *type, const char *identity);
/* Whether a peer's greeting is one that can be answered. */
bool zmtp_greeting_ok(const uint8_t greeting[ZMTP_GREETING_SIZE]);
/* Whether this command's body is a well-formed READY. */
bool zmtp_ready_ok(const uint8_t *body, size_t size);
/* The answer to a PING: a whole frame, in `out`. Returns its length; 0: it is no PING, or a
 * malformed one. */
size_t zmtp_pong(uint8_t out[ZMTP_FRAME_MAX + 32], const uint8_t *body, size_t size);

enum zmtp_found {
	ZMTP_BROKEN = -1,
	ZMTP_PART = 0, /* more bytes are needed: *ret_size in all, at the least */
	ZMTP_WHOLE,    /* a message of *ret_size bytes with its frames */
	ZMTP_MIXED,    /* a command is before it or between its frames, or it has more than `most`
			  parts: it is to be taken frame by frame */
};

/* Looks for a whole message at `bytes`. *ret_count: parts that were found. */
enum zmtp_found zmtp_message(uint8_t *bytes, size_t size, struct iovec *parts, size_t most,
			     size_t *ret_count, size_t *ret_size);

#endif
