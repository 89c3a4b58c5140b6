/*
 * pressure: when to pause a kernel that produces more than its clients take.
 *
 * A kernel's PUB socket drops at its high-water mark and cannot be slowed by not reading it, so the
 * proxy always reads, counts what is on its way, and has the whole sandbox stopped past OUTPUT_HIGH
 * and continued below OUTPUT_LOW. Not at once: one large output that a client is reading is no
 * pressure, and a pause would only make its end late. A client that takes nothing for STALL_MS
 * while the kernel stands still for it is to be cut off. A pure state machine: no clock, no I/O, no
 * memory.
 */
#ifndef PROXY_PRESSURE_H
#define PROXY_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

struct pressure {
	bool paused;
	int64_t over;		/* since when there is more than OUTPUT_HIGH, ms; 0: there is not */
	unsigned long progress; /* channels_progress when last looked at */
	int64_t moved;		/* when progress last changed, ms */
	int64_t exempt; /* no pause before this time: a request that must reach the kernel is on its
			   way */
};

enum pressure_action { PRESSURE_NONE, PRESSURE_PAUSE, PRESSURE_RESUME, PRESSURE_CUT };

/* One look at the figures; returns what is to be done now. */
enum pressure_action pressure_step(struct pressure *pressure, long outstanding,
				   unsigned long progress, int64_t now);
/* An interrupt, a shutdown or a debug request comes: run for a while. Returns PRESSURE_RESUME when
 * it was paused. */
enum pressure_action pressure_exempt(struct pressure *pressure, int64_t now);

#endif
