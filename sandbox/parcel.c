#include "sandbox/parcel.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <zmq.h>

#include "sandbox/relay.h"

struct parcel {
	size_t *held; /* the counter that includes `cost` */
	size_t cost;
	size_t size; /* bytes of all parts */
	size_t count, room;
	zmq_msg_t parts[];
};

#define ROOM_FIRST 8 /* a Jupyter message without buffers */

/* What a message costs besides its bytes: the structures of libzmq, the writer and the allocator.
 */
#define COST_MESSAGE 256
#define COST_PART    32

static struct parcel *parcel_new(size_t room)
{
	struct parcel *parcel = malloc(sizeof(*parcel) + room * sizeof(parcel->parts[0]));

	if (parcel) {
		parcel->held = NULL;
		parcel->cost = 0;
		parcel->size = 0;
		parcel->count = 0;
		parcel->room = room;
	}
	return parcel;
}

void parcel_free(struct parcel *parcel)
{
	if (parcel->held)
		*parcel->held -= parcel->cost;
	for (size_t i = 0; i < parcel->count; i++)
		(void)zmq_msg_close(&parcel->parts[i]);
	free(parcel);
}

static void parcel_written(void *arg)
{
	parcel_free(arg);
}

/* zmq_msg_t must not be copied, so no realloc(3). Returns false when out of memory. */
static bool make_room(struct parcel **parcel)
{
	struct parcel *old = *parcel;
	struct parcel *grown;

	if (old->count < old->room)
		return true;
	grown = parcel_new(old->room * 8);
	if (!grown)
		return false;
	for (size_t i = 0; i < old->count; i++) {
		(void)zmq_msg_init(&grown->parts[i]);
		(void)zmq_msg_move(&grown->parts[i], &old->parts[i]);
	}
	grown->count = old->count;
	parcel_free(old);
	*parcel = grown;
	return true;
}

/* One part into the parcel, or nowhere. Returns false when it has no place. */
static bool add_part(struct parcel **parcel, zmq_msg_t *part, size_t size)
{
	if (size > WALL_TOTAL_MAX || (*parcel)->count == WALL_PARTS_MAX || !make_room(parcel))
		return false;
	(void)zmq_msg_init(&(*parcel)->parts[(*parcel)->count]);
	(void)zmq_msg_move(&(*parcel)->parts[(*parcel)->count++], part);
	return true;
}

int parcel_take(void *socket, struct parcel **ret_parcel, size_t *ret_size)
{
	struct parcel *parcel = parcel_new(ROOM_FIRST);
	bool whole = true;
	bool more = true;
	size_t size = 0;

	if (!parcel)
		return 0; /* later, perhaps */
	for (bool first = true; more; first = false) {
		zmq_msg_t part;
		int r;

		(void)zmq_msg_init(&part);
		do
			r = zmq_msg_recv(&part, socket, ZMQ_DONTWAIT);
		while (r < 0 && errno == EINTR);
		if (r <
		    0) { /* libzmq shows a message when all of it is there: the first, or none */
			parcel_free(parcel);
			return first ? 0 : -EIO;
		}
		more = zmq_msg_more(&part);
		size += zmq_msg_size(&part);
		whole = whole && add_part(&parcel, &part, size);
		(void)zmq_msg_close(&part); /* empty when it was added */
	}
	*ret_size = size;
	if (!whole) {
		parcel_free(parcel);
		return -EMSGSIZE;
	}
	parcel->size = size;
	*ret_parcel = parcel;
	return 1;
}

/* See RELAY_COMPACT_MIN. What cannot be copied stays as it is. */
static void compact(struct parcel *parcel)
{
	for (size_t i = 0; i < parcel->count; i++) {
		size_t size = zmq_msg_size(&parcel->parts[i]);
		zmq_msg_t copy;

		if (size > RELAY_COMPACT_PART || zmq_msg_init_size(&copy, size) < 0)
			continue;
		memcpy(zmq_msg_data(&copy), zmq_msg_data(&parcel->parts[i]), size);
		(void)zmq_msg_move(&parcel->parts[i], &copy); /* closes the one that was there */
	}
}

int parcel_push(struct parcel *parcel, struct wall_writer *writer, enum wall_channel channel,
		bool urgent, size_t *held)
{
	static struct iovec parts[WALL_PARTS_MAX]; /* the writer copies the array */
	int r;

	if (*held > RELAY_COMPACT_MIN)
		compact(parcel);
	for (size_t i = 0; i < parcel->count; i++) {
		parts[i].iov_base = zmq_msg_data(&parcel->parts[i]);
		parts[i].iov_len = zmq_msg_size(&parcel->parts[i]);
	}
	r = wall_writer_push(writer, WALL_MESSAGE, channel, urgent, parts, parcel->count,
			     parcel_written, parcel);
	if (r < 0) {
		parcel_free(parcel);
		return r;
	}
	parcel->held = held;
	parcel->cost = parcel->size + COST_MESSAGE + COST_PART * parcel->count +
		       parcel->room * sizeof(parcel->parts[0]);
	*held += parcel->cost;
	return 0;
}

/* What libzmq's I/O thread has not given back. */
static atomic_size_t sending;

/* Accounts for a whole message on its way to the kernel; lent with its last part. */
struct lent {
	struct wall_frame *frame;
	size_t cost;
};

/* These two run in the I/O thread too. */
static void give_back_part(void *data, void *hint)
{
	(void)data;
	wall_frame_unref(hint);
}

static void give_back_last(void *data, void *hint)
{
	struct lent *lent = hint;

	(void)data;
	atomic_fetch_sub(&sending, lent->cost);
	wall_frame_unref(lent->frame);
	free(lent);
}

static int make_last(zmq_msg_t *part, struct wall_frame *frame)
{
	const struct iovec *bytes = &frame->parts[frame->count - 1];
	struct lent *lent = malloc(sizeof(*lent));

	if (!lent)
		return -ENOMEM;
	lent->frame = frame;
	lent->cost = frame->total + COST_MESSAGE + (COST_PART + sizeof(zmq_msg_t)) * frame->count;
	if (zmq_msg_init_data(part, bytes->iov_base, bytes->iov_len, give_back_last, lent) < 0) {
		free(lent);
		return -ENOMEM;
	}
	(void)wall_frame_ref(frame);
	atomic_fetch_add(&sending, lent->cost);
	return 0;
}

static int make_part(zmq_msg_t *part, struct wall_frame *frame, size_t index)
{
	const struct iovec *bytes = &frame->parts[index];

	if (index + 1 == frame->count)
		return make_last(part, frame);
	if (bytes->iov_len < RELAY_LEND_MIN) {
		if (zmq_msg_init_size(part, bytes->iov_len) < 0)
			return -ENOMEM;
		memcpy(zmq_msg_data(part), bytes->iov_base, bytes->iov_len);
		return 0;
	}
	if (zmq_msg_init_data(part, bytes->iov_base, bytes->iov_len, give_back_part, frame) < 0)
		return -ENOMEM;
	(void)wall_frame_ref(frame);
	return 0;
}

int parcel_send(struct wall_frame *frame, void *socket)
{
	for (size_t i = 0; i < frame->count; i++) {
		int flags = ZMQ_DONTWAIT | (i + 1 < frame->count ? ZMQ_SNDMORE : 0);
		zmq_msg_t part;
		int r;

		if (make_part(&part, frame, i) < 0)
			return -ENOMEM;
		do
			r = zmq_msg_send(&part, socket, flags);
		while (r < 0 && errno == EINTR);
		if (r < 0) { /* a connection that ends later takes the rest in silence */
			r = i == 0 && errno == EAGAIN ? -EAGAIN : -ENOMEM;
			(void)zmq_msg_close(&part);
			return r;
		}
	}
	return 0;
}

size_t parcel_sending(void)
{
	return atomic_load(&sending);
}
