#include "kernelspec/hello.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { HANDSHAKE = 22, CLIENT_HELLO = 1, SERVER_NAME = 0, ENCRYPTED_HELLO = 0xfe0d };

/* What is left of a message. */
struct part {
	const unsigned char *at;
	size_t size;
};

/* A number of `bytes` bytes. Returns false at the end. */
static bool take_number(struct part *from, size_t bytes, size_t *ret_number)
{
	size_t number = 0;

	if (from->size < bytes)
		return false;
	for (size_t i = 0; i < bytes; i++)
		number = number << 8 | from->at[i];
	from->at += bytes;
	from->size -= bytes;
	*ret_number = number;
	return true;
}

/* A vector whose length has `bytes` bytes. */
static bool take_vector(struct part *from, size_t bytes, struct part *ret_part)
{
	size_t size;

	if (!take_number(from, bytes, &size) || from->size < size)
		return false;
	*ret_part = (struct part){from->at, size};
	from->at += size;
	from->size -= size;
	return true;
}

/* Puts the payloads of the handshake records at the beginning together. Returns 0 when the first
 * message is whole, -EAGAIN or -EPROTO. */
static int join_records(struct part from, unsigned char out[HELLO_MAX], struct part *ret_message)
{
	size_t type, version, number, used = 0;
	struct part record, whole;

	for (;;) {
		whole = (struct part){out, used};
		if (take_number(&whole, 1, &type)) {
			if (type != CLIENT_HELLO)
				return -EPROTO;
			if (take_vector(&whole, 3, ret_message))
				return 0;
		}
		if (!take_number(&from, 1, &type))
			return -EAGAIN;
		if (type != HANDSHAKE)
			return -EPROTO;
		if (!take_number(&from, 2, &version))
			return -EAGAIN;
		if (version >> 8 != 3)
			return -EPROTO;
		if (from.size >= 2) {
			number = (size_t)from.at[0] << 8 | from.at[1];
			if (number == 0 || number > HELLO_MAX - used)
				return -EPROTO;
		}
		if (!take_vector(&from, 2, &record))
			return -EAGAIN;
		memcpy(out + used, record.at, record.size);
		used += record.size;
	}
}

/* The list of the extension: one entry of type host_name. */
static int read_name(struct part extension, char ret_name[HELLO_NAME + 1])
{
	struct part list, name;
	size_t type;

	if (!take_vector(&extension, 2, &list) || extension.size > 0 ||
	    !take_number(&list, 1, &type) || type != 0 || !take_vector(&list, 2, &name) ||
	    list.size > 0 || name.size == 0 || name.size > HELLO_NAME)
		return -EPROTO;
	for (size_t i = 0; i < name.size; i++) {
		char byte = (char)name.at[i];

		if (byte >= 'A' && byte <= 'Z')
			byte = (char)(byte - 'A' + 'a');
		if (!((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' ||
		      byte == '-' || byte == '_'))
			return -EPROTO;
		ret_name[i] = byte;
	}
	ret_name[name.size] = '\0';
	return 0;
}

static int read_extensions(struct part extensions, char ret_name[HELLO_NAME + 1])
{
	bool named = false;

	while (extensions.size > 0) {
		struct part extension;
		size_t type;

		if (!take_number(&extensions, 2, &type) || !take_vector(&extensions, 2, &extension))
			return -EPROTO;
		if (type == ENCRYPTED_HELLO || (type == SERVER_NAME && named))
			return -EPROTO;
		if (type != SERVER_NAME)
			continue;
		named = true;
		if (read_name(extension, ret_name) < 0)
			return -EPROTO;
	}
	return 0;
}

int hello_name(const unsigned char *data, size_t size, char ret_name[HELLO_NAME + 1])
{
	const size_t fixed = 2 + 32; /* version and random */
	unsigned char out[HELLO_MAX];
	struct part message, skipped;
	char name[HELLO_NAME + 1] = "";
	int r = join_records((struct part){data, size}, out, &message);

	if (r < 0)
		return r;
	if (message.size < fixed)
		return -EPROTO;
	message.at += fixed;
	message.size -= fixed;
	/* session, cipher suites, compression */
	if (!take_vector(&message, 1, &skipped) || !take_vector(&message, 2, &skipped) ||
	    !take_vector(&message, 1, &skipped))
		return -EPROTO;
	/* Without extensions there is no name. */
	if (message.size > 0 && (!take_vector(&message, 2, &skipped) || message.size > 0 ||
				 read_extensions(skipped, name) < 0))
		return -EPROTO;
	memcpy(ret_name, name, sizeof(name));
	return 0;
}
