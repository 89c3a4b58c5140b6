/*
 * wsframe: the frames of a WebSocket (RFC 6455, section 5), as a server reads and writes them.
 * Pure.
 */
#ifndef WEB_WSFRAME_H
#define WEB_WSFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WSFRAME_HEAD_MAX 14

enum {
	WSFRAME_MORE = 0,
	WSFRAME_TEXT = 1,
	WSFRAME_BINARY = 2,
	WSFRAME_CLOSE = 8,
	WSFRAME_PING = 9,
	WSFRAME_PONG = 10
};

struct wsframe {
	unsigned opcode;
	bool last;
	unsigned char mask[4];
	uint64_t size;
};

/*
 * Reads the head of a client's frame. Returns its bytes, 0: more are needed, -1: a violation (no
 * mask, reserved bits or opcodes, a length written too long, a control frame that is long or in
 * parts).
 */
int wsframe_read(const void *data, size_t size, struct wsframe *ret_frame);
/* The head of an unmasked frame. Returns its bytes. */
size_t wsframe_write(unsigned char out[WSFRAME_HEAD_MAX], unsigned opcode, uint64_t size);
/* Takes the mask off (or puts it on); `offset` is where in the frame `data` begins. */
void wsframe_mask(const unsigned char mask[4], uint64_t offset, void *data, size_t size);
/* A close code that a client may send. */
bool wsframe_code_good(unsigned code);

#endif
