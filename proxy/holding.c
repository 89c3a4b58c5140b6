#include "proxy/holding.h"

#include <stdlib.h>
#include <string.h>

static void clear(struct hold *hold)
{
	for (size_t i = 0; i < hold->frames; i++)
		wall_frame_unref(hold->frame[i].frame);
	free(hold->parent);
	*hold = (struct hold){0};
}

struct hold *holding_enter(struct holding *holding, const char *msg_id, const char *parent,
			   size_t parent_size, int64_t now, bool *ret_fresh)
{
	struct hold *hold;

	*ret_fresh = false;
	for (size_t i = 0; i < HOLD_MAX; i++)
		if (holding->hold[i].used && strcmp(holding->hold[i].msg_id, msg_id) == 0)
			return &holding->hold[i];
	hold = &holding->hold[holding->next];
	if (strlen(msg_id) >= sizeof(hold->msg_id) || (hold->used && !hold->released))
		return NULL;
	holding->next = (holding->next + 1) % HOLD_MAX;
	clear(hold);
	hold->used = true;
	hold->sequence = ++holding->sequence;
	hold->deadline = now + HOLD_MS;
	memcpy(hold->msg_id, msg_id, strlen(msg_id) + 1);
	hold->parent = strndup(parent, parent_size);
	*ret_fresh = true;
	return hold;
}

bool holding_output(struct holding *holding, const struct hold *hold, struct wall_frame *frame)
{
	struct held_output *held;

	if (!holding->first && (!hold || hold->released))
		return false;
	held = calloc(1, sizeof(*held));
	if (!held)
		return false;
	held->frame = frame;
	if (hold && !hold->released) {
		held->sequence = hold->sequence;
		held->deadline = hold->deadline;
	}
	if (!holding->first)
		holding->last = &holding->first;
	*holding->last = held;
	holding->last = &held->next;
	holding->bytes += frame->total;
	return true;
}

void holding_flush(struct holding *holding, struct channels *channels, uint64_t done, int64_t now)
{
	if (holding->bytes > HOLD_BYTES)
		done = UINT64_MAX;
	while (holding->first) {
		struct held_output *held = holding->first;

		if (held->sequence > done && held->deadline > now)
			return;
		holding->first = held->next;
		holding->bytes -= held->frame->total;
		channels_send(channels, WALL_IOPUB, held->frame);
		free(held);
	}
}

bool holding_keep(struct hold *hold, enum wall_channel channel, struct wall_frame *frame)
{
	if (hold->released || hold->frames == HOLD_FRAMES)
		return false;
	hold->frame[hold->frames].channel = channel;
	hold->frame[hold->frames].frame = frame;
	hold->frames++;
	return true;
}

struct hold *holding_due(struct holding *holding, uint64_t done, int64_t now)
{
	for (size_t i = 0; i < HOLD_MAX; i++) {
		struct hold *hold =
			&holding->hold[(holding->next + i) % HOLD_MAX]; /* oldest first */

		if (hold->used && !hold->released &&
		    (hold->sequence <= done || hold->deadline <= now))
			return hold;
	}
	return NULL;
}

void holding_release(struct hold *hold, struct channels *channels)
{
	for (size_t i = 0; i < hold->frames; i++)
		channels_send(channels, hold->frame[i].channel, hold->frame[i].frame);
	hold->frames = 0;
	hold->released = true;
}

int holding_timeout(const struct holding *holding, int64_t now)
{
	int64_t first = -1;

	for (size_t i = 0; i < HOLD_MAX; i++) {
		const struct hold *hold = &holding->hold[i];

		if (hold->used && !hold->released && (first < 0 || hold->deadline < first))
			first = hold->deadline;
	}
	if (first < 0)
		return -1;
	return first > now ? (int)(first - now) : 0;
}

void holding_done(struct holding *holding)
{
	while (holding->first) {
		struct held_output *held = holding->first;

		holding->first = held->next;
		wall_frame_unref(held->frame);
		free(held);
	}
	for (size_t i = 0; i < HOLD_MAX; i++)
		clear(&holding->hold[i]);
}
