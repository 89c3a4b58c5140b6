/*
 * What the kernel says to the relay. The input is a list of receives: a byte says how many bytes
 * come, then those bytes; a good handshake goes before them when the first byte is odd. What comes
 * out is compared with a second lane that gets as many bytes at once as it has room for.
 */
#include <stdint.h>
#include <string.h>

#include "sandbox/lane.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

struct outcome {
	uint64_t digest;
	size_t messages, opened, missing;
	int code;
};

static void add(struct outcome *outcome, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		outcome->digest = outcome->digest * 31 + ((const uint8_t *)bytes)[i];
}

static void take_message(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
			 size_t bytes)
{
	struct outcome *outcome = arg;
	size_t sum = 0;

	require(lane->state == LANE_OPEN && count > 0 && count <= WALL_PARTS_MAX);
	for (size_t i = 0; i < count; i++) {
		add(outcome, parts[i].iov_base, parts[i].iov_len);
		outcome->digest = outcome->digest * 31 + 7;
		sum += parts[i].iov_len;
	}
	require(sum == bytes && bytes <= WALL_TOTAL_MAX);
	outcome->messages++;
}

static enum lane_fate take_large(void *arg, struct lane *lane, const struct iovec *parts,
				 size_t count, size_t bytes, size_t last)
{
	struct outcome *outcome = arg;

	(void)lane;
	require(count > 0 && count <= WALL_PARTS_MAX && parts[count - 1].iov_len == last &&
		bytes >= last && bytes <= WALL_TOTAL_MAX);
	if (last % 3 == 0 || last < 1000)
		return LANE_KEEP;
	for (size_t i = 0; i + 1 < count; i++) {
		add(outcome, parts[i].iov_base, parts[i].iov_len);
		outcome->digest = outcome->digest * 31 + 7;
	}
	outcome->missing = last;
	return LANE_STREAM;
}

static void take_stream(void *arg, struct lane *lane, const void *bytes, size_t size)
{
	struct outcome *outcome = arg;

	(void)lane;
	require(size <= outcome->missing);
	add(outcome, bytes, size);
	outcome->missing -= size;
	if (outcome->missing == 0) {
		outcome->digest = outcome->digest * 31 + 7;
		outcome->messages++;
	}
}

static void take_whole(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
		       size_t bytes, void *block)
{
	take_message(arg, lane, parts, count, bytes);
	free(block);
}

static void take_skipped(void *arg, struct lane *lane, size_t bytes)
{
	struct outcome *outcome = arg;

	(void)lane;
	outcome->digest = outcome->digest * 31 + bytes;
}

static void take_opened(void *arg, struct lane *lane)
{
	struct outcome *outcome = arg;

	require(lane->state == LANE_OPEN && outcome->opened++ == 0);
}

static void take_closed(void *arg, struct lane *lane, bool broken)
{
	(void)arg;
	(void)lane;
	(void)broken;
}

static const struct lane_user user = {.opened = take_opened,
				      .closed = take_closed,
				      .message = take_message,
				      .large = take_large,
				      .stream = take_stream,
				      .whole = take_whole,
				      .skipped = take_skipped};

static size_t queued;

static void open_lane(struct lane *lane, struct outcome *outcome)
{
	memset(lane, 0, offsetof(struct lane, in));
	memset(&lane->large, 0, offsetof(struct lane_large, parts));
	lane->type = "SUB";
	lane->identity = "";
	lane->user = &user;
	lane->arg = outcome;
	lane_init(lane, &queued);
	lane->state = LANE_GREETING;
}

static void receive(struct lane *lane, const uint8_t *data, size_t size, struct outcome *outcome)
{
	while (size > 0 && outcome->code == 0) {
		size_t room = 0, part;
		void *to = lane_room(lane, &room);

		require(to && room > 0);
		part = room < size ? room : size;
		memcpy(to, data, part);
		outcome->code = lane_advance(lane, part);
		data += part;
		size -= part;
	}
}

static const uint8_t hello[] = "\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
			       "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
			       "\4\x19\5READY\x0bSocket-Type\0\0\0\3PUB";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct lane pieces, whole;
	struct outcome first = {0}, second = {0};
	uint8_t *joined = malloc(size + 1);
	size_t length = 0, at = 0;

	require(joined);
	open_lane(&pieces, &first);
	open_lane(&whole, &second);
	if (size > 0 && data[0] % 2) {
		receive(&pieces, hello, sizeof(hello) - 1, &first);
		receive(&whole, hello, sizeof(hello) - 1, &second);
		require(first.opened == 1 && second.opened == 1);
	}
	while (at < size) {
		size_t part = data[at++];

		part = part < 200 ? part : (part - 199) * 997;
		part = part < size - at ? part : size - at;
		memcpy(joined + length, data + at, part);
		length += part;
		receive(&pieces, data + at, part, &first);
		at += part;
	}
	receive(&whole, joined, length, &second);
	require(first.digest == second.digest && first.messages == second.messages &&
		first.code == second.code);
	lane_close(&pieces, 0, 0, false);
	lane_close(&whole, 0, 0, false);
	free(joined);
	return 0;
}
