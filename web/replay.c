#include "web/replay.h"

#include <stdlib.h>

#include "sandbox/base.h"
#include "web/packet.h"

#define PACKET_COST 256 /* of one that waits, besides its bytes */

struct queued {
	struct queued *next;
	struct packet *packet;
	uint64_t number;    /* when it was sent: of the messages on this connection */
	unsigned long more; /* a line that tells of lost ones: how many, less itself */
};

void replay_init(struct replay *replay)
{
	*replay = (struct replay){0};
	replay->last = &replay->first;
	replay->sent_last = &replay->sent;
}

void replay_done(struct replay *replay)
{
	replay_take_back(replay);
	while (replay->first)
		replay_remove(replay);
}

/* In front of what is at `place`. False: no memory. */
static bool put_at(struct replay *replay, struct queued **place, struct packet *packet,
		   unsigned long more)
{
	struct queued *queued = malloc(sizeof(*queued));

	if (!queued)
		return false;
	*queued = (struct queued){.next = *place, .packet = packet_ref(packet), .more = more};
	*place = queued;
	if (!queued->next)
		replay->last = &queued->next;
	replay->count++;
	replay->bytes += packet->bytes + PACKET_COST;
	return true;
}

static void remove_at(struct replay *replay, struct queued **place)
{
	struct queued *queued = *place;

	*place = queued->next;
	if (!queued->next)
		replay->last = place;
	replay->count--;
	replay->bytes -= queued->packet->bytes + PACKET_COST;
	packet_unref(queued->packet);
	free(queued);
}

void replay_put(struct replay *replay, struct packet *packet)
{
	if (!put_at(replay, replay->last, packet, 0))
		replay->lost++;
}

/* The line goes before all that waits, and is sent again like it until it has arrived. */
static void tell_lost(struct replay *replay)
{
	cleanup(free_ptr) char *content = format_string(
		"{\"name\":\"stderr\",\"text\":\"cellwall: %lu messages of this kernel "
		"were dropped: the connection was lost, and more came than is "
		"kept\\n\"}",
		replay->lost);
	struct packet *packet =
		content ? packet_make(WALL_IOPUB, "stream", (struct iovec){0}, content) : NULL;

	if (packet && put_at(replay, &replay->first, packet, replay->lost - 1))
		replay->lost = 0;
	packet_unref(packet);
}

const struct packet *replay_next(struct replay *replay)
{
	if (replay->first && replay->lost > 0)
		tell_lost(replay);
	return replay->first ? replay->first->packet : NULL;
}

void replay_remove(struct replay *replay)
{
	remove_at(replay, &replay->first);
}

static void forget_first(struct replay *replay)
{
	struct queued *queued = replay->sent;

	replay->sent = queued->next;
	if (!replay->sent)
		replay->sent_last = &replay->sent;
	replay->sent_bytes -= queued->packet->bytes + PACKET_COST;
	packet_unref(queued->packet);
	free(queued);
}

void replay_sent(struct replay *replay)
{
	struct queued *queued = replay->first;
	const size_t bytes = queued->packet->bytes + PACKET_COST;

	replay->first = queued->next;
	if (!replay->first)
		replay->last = &replay->first;
	replay->count--;
	replay->bytes -= bytes;
	queued->next = NULL;
	queued->number = ++replay->total;
	*replay->sent_last = queued;
	replay->sent_last = &queued->next;
	replay->sent_bytes += bytes;
	while (replay->sent_bytes > REPLAY_BYTES && replay->sent->next) {
		replay->forgotten = replay->sent->number; /* no ping was answered meanwhile */
		replay->more += replay->sent->more;
		forget_first(replay);
	}
}

bool replay_unasked(const struct replay *replay)
{
	return replay->sent && !replay->asked;
}

uint64_t replay_ask(struct replay *replay)
{
	replay->asked = replay->total;
	return replay->total;
}

void replay_arrived(struct replay *replay, uint64_t number)
{
	while (replay->sent && replay->sent->number <= number)
		forget_first(replay);
	if (number > replay->answered)
		replay->answered = number;
	if (replay->answered >= replay->forgotten)
		replay->more = 0;
	if (number >= replay->asked)
		replay->asked = 0;
}

void replay_take_back(struct replay *replay)
{
	for (const struct queued *queued = replay->sent; queued; queued = queued->next)
		replay->count++;
	replay->bytes += replay->sent_bytes;
	if (replay->sent) {
		*replay->sent_last = replay->first;
		if (!replay->first)
			replay->last = replay->sent_last;
		replay->first = replay->sent;
	}
	replay->sent = NULL;
	replay->sent_last = &replay->sent;
	replay->sent_bytes = 0;
	if (replay->forgotten > replay->answered)
		replay->lost += replay->forgotten - replay->answered + replay->more;
	replay->total = replay->asked = replay->answered = replay->forgotten = 0;
	replay->more = 0;
}

/* States and replies are few, and front ends wait for them: they go when they alone are too many.
 */
void replay_shorten(struct replay *replay)
{
	for (int all = 0; all < 2; all++) {
		for (struct queued **place = &replay->first;
		     *place && (replay->bytes > REPLAY_BYTES || replay->count > REPLAY_COUNT);) {
			const struct packet *packet = (*place)->packet;

			if (!all && (packet->status || packet->channel != WALL_IOPUB)) {
				place = &(*place)->next;
				continue;
			}
			replay->lost += 1 + (*place)->more;
			remove_at(replay, place);
		}
	}
}
