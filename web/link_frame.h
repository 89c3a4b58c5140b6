/*
 * link_frame: the link's protocol, version 1, between `cellwall kernel --host` (the near end) and
 * `cellwall serve --listen curve://` (the host).
 *
 * One kernel is one session over one TCP connection of a ZeroMQ DEALER (near) to the ROUTER (host),
 * encrypted and authenticated by CURVE (ZeroMQ RFC 26); the host knows a client by its public key
 * alone. ZMTP's own PINGs (RFC 37) end a connection whose other end is silent. A session outlives
 * its connections: what the other end has not acknowledged is kept, within a window, and is sent
 * again. Every ZeroMQ message is one frame:
 *
 *   offset 0  u8   version  LINK_VERSION
 *          1  u8   type     enum link_type
 *          2  u8   a        see below
 *          3  u8   b
 *          4  u64  number
 *         12  ..   body
 *
 *   type      from  a              b     number    body
 *   HELLO     near  0 new 1 again  0     received  the session's id, LINK_ID bytes; when new, the
 *                                                  order as JSON: {"kernel": name, "area": name,
 *                                                  "environment": {name: value}}, each optional
 *   WELCOME   host  0              0     received  nothing
 *   DATA      both  channel        last  sequence  a piece of a message, at most LINK_PIECE bytes
 *   ACK       both  0              0     received  nothing
 *   REFUSE    host  enum           0     0         why, as text for people
 *
 * All integers little-endian. The first frame of a connection is HELLO, answered by WELCOME or
 * REFUSE; both say what they have received, the other sends the rest again and goes on. `sequence`
 * counts DATA frames of a session and direction from 1; `received` is the last that has arrived and
 * been taken (so ACK is also the credit: who takes nothing more does not acknowledge). One that
 * arrives twice is passed over; a gap is an error and ends the connection. ACK comes after frames
 * were taken, and every LINK_QUIET_MS: who says nothing for LINK_AWAY_MS is away.
 *
 * The first LINK_PLACE bytes of an id say for which connection file it is: a new session ends an
 * older one of the same place, whose near end was killed. The rest is random.
 *
 * A message is cut into pieces; `last` is 1 on its final one. Pieces of different channels may
 * alternate, those of one may not: control before shell and stdin before iopub, so that a large
 * output delays nothing. Together they are:
 *
 *   u32 count, u32 size[count], the parts' bytes
 *
 * On shell, control, stdin and iopub the parts are a Jupyter message without identities and
 * signature: header, parent_header, metadata, content, buffers. Each end signs for its own side. On
 * LINK_EVENTS part 0 is a word, part 1 a text:
 *
 *   near: "interrupt"   "shutdown"          host: "state" TEXT   "gone" TEXT   "notice" TEXT
 *
 * Both ends treat the other as hostile: what breaks a rule ends the connection. Another version in
 * HELLO is answered by REFUSE and ends the connection in any other frame: of that nothing but the
 * header was checked. Later versions may add types and words, which are passed over here.
 * Pure functions; never logs, never allocates.
 */
#ifndef WEB_LINK_FRAME_H
#define WEB_LINK_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "sandbox/base.h"
#include "sandbox/wall.h"

#define LINK_VERSION 1
#define LINK_HEADER  12
#define LINK_ID	     32
#define LINK_PLACE   16
/* Small enough that a connection of 10 MB/s takes 6 ms for one, large enough for CURVE to be fast.
 */
#define LINK_PIECE    (64u * 1024)
#define LINK_FRAME    (LINK_HEADER + LINK_PIECE)
#define LINK_CURVE    64u   /* what CURVE adds to a frame: its MESSAGE command (RFC 26) */
#define LINK_ORDER    8192u /* bytes of an order */
#define LINK_TEXT     1024u
#define LINK_QUIET_MS 2000
#define LINK_AWAY_MS  8000

/* The channels of the wall, and one for what is said about the kernel. */
enum { LINK_EVENTS = WALL_HB, LINK_CHANNELS = WALL_CHANNELS };

enum link_type { LINK_HELLO = 1, LINK_WELCOME = 2, LINK_DATA = 3, LINK_ACK = 4, LINK_REFUSE = 5 };

enum link_refusal {
	LINK_NOT_KNOWN = 1,   /* there is no such session: its kernel is gone */
	LINK_NOT_SPOKEN = 2,  /* another version */
	LINK_NOT_STARTED = 3, /* no such kernelspec, a limit, a failure */
	LINK_NOT_ALLOWED = 4  /* the key was revoked */
};

/* A view into the bytes it was read from. */
struct link_frame {
	uint8_t version;
	uint8_t type; /* may be one that is not known */
	uint8_t a, b;
	uint64_t number;
	const unsigned char *body;
	size_t size;
};

/* Returns 0, or -EPROTO. Checks everything that the table above says of a frame by itself; of
 * another version or an unknown type the header alone. */
int link_frame_parse(const void *bytes, size_t size, struct link_frame *ret_frame, struct err *err);
/* Writes a header. */
void link_frame_header(unsigned char out[LINK_HEADER], enum link_type type, unsigned a, unsigned b,
		       uint64_t number);

#endif
