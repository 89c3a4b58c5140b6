/* Any bytes as the head of a request: what is let through is in one piece, below the root, and
 * finds at most one route. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "web/parse.h"
#include "web/routes.h"

static void check_parts(const char *path)
{
	char *cut = strdup(path), *part[HTTP_PARTS_MAX];
	int parts = cut ? parse_parts(cut, part) : -1;
	unsigned methods;

	for (int i = 0; i < parts; i++)
		if (!*part[i] || strchr(part[i], '/') || strcmp(part[i], ".") == 0 ||
		    strcmp(part[i], "..") == 0 || strpbrk(part[i], "\r\n\t\x1b\x7f") ||
		    !parse_utf8(part[i], strlen(part[i])))
			__builtin_trap();
	if (parts >= 0) {
		const struct route *route = routes_find(HTTP_GET, part, (size_t)parts, &methods);

		if (route && !(methods & HTTP_HEAD))
			__builtin_trap();
	}
	free(cut);
}

static void check_chunks(const char *data, size_t size)
{
	struct parse_chunks chunks = {0};
	size_t taken = 0, found = 0;

	while (taken < size && chunks.state != CHUNK_DONE) {
		const char *part;
		size_t part_size;
		ptrdiff_t count =
			parse_chunk(&chunks, data + taken, size - taken, &part, &part_size);

		if (count < 0)
			return;
		if (count == 0 || (part && (part < data + taken || part_size > (size_t)count)))
			__builtin_trap();
		taken += (size_t)count;
		found += part_size;
	}
	if (found > size)
		__builtin_trap();
}

static void check_head(char *data, size_t size)
{
	struct http_pair pair[HTTP_QUERY_MAX];
	struct parse_head head;
	uint64_t from = 0, count = 0;
	const char *range;

	if (parse_head(data, size, &head) != 0)
		return;
	if (head.path[0] != '/' || !head.method || (head.chunked && head.has_length))
		__builtin_trap();
	check_parts(head.path);
	(void)parse_query(head.query, pair);
	range = parse_find(head.header, head.headers, "range");
	if (parse_range(range, 1000, &from, &count) == 1 && (!count || from + count > 1000))
		__builtin_trap();
	for (size_t i = 0; i < head.headers; i++)
		if (strpbrk(head.header[i].value, "\r\n") || !head.header[i].name[0])
			__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t head = parse_head_size((const char *)data, size);
	char *copy = malloc(size + 1);

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	copy[size] = '\0';
	if (head) {
		check_head(copy, head);
		check_chunks((const char *)data + head, size - head);
	}
	free(copy);
	return 0;
}
