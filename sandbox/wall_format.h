/*
 * wall_format: what both halves of the wall know of a frame's header (wall.h has the format).
 */
#ifndef SANDBOX_WALL_FORMAT_H
#define SANDBOX_WALL_FORMAT_H

#include "sandbox/wall.h"

#define WALL_MAGIC	 "CW01"
#define WALL_MAGIC_SIZE	 4u
#define WALL_HEADER_SIZE 12u
#define WALL_COUNTS_SIZE 16u /* of WALL_DROPPED: two u64 */

/* Whether a frame of this kind may look like this, so that nobody after has to ask before parts[0].
 */
static inline bool wall_shape_ok(unsigned kind, unsigned channel, size_t count, uint64_t total)
{
	if (channel >= WALL_CHANNELS)
		return false;
	switch (kind) {
	case WALL_MESSAGE:
		return count >= 1;
	case WALL_READY:
		return count == 0 && total == 0;
	case WALL_DROPPED:
		return count == 1 && total == WALL_COUNTS_SIZE;
	default:
		return false;
	}
}

#endif
