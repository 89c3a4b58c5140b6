/*
 * What a hostile build hands over as its result. Whatever it is, nothing is written outside the
 * two directories, and each name that is told is a plain one. The same bytes as a request to the
 * proxy of a build.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/bundle.h"
#include "kernelspec/egress.h"
#include "sandbox/tree.h"

static char base[] = "/dev/shm/cellwall-fuzz-bundle-XXXXXX";
static int top = -1; /* it */

static void remove_base(void)
{
	(void)rmdir(base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static int take_entry(void *arg, char kind, const char *path, const char *digest, const char *to,
		      uint64_t size)
{
	(void)arg;
	(void)size;
	require(path[0] != '\0' && path[0] != '/' && !strstr(path, "//"));
	require(strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0 && !strstr(path, "/../"));
	require(!strchr(path, '\n') && !strchr(path, '\t'));
	require((kind == 'l') == (to != NULL));
	require((kind == 'f' || kind == 'x') == (digest != NULL));
	require(!to || to[0] != '/' || strncmp(path, "bin/python", 10) == 0);
	return 0;
}

static int take_note(void *arg, const char *name, const char *text, size_t size)
{
	(void)arg;
	(void)name;
	require(text[size] == '\0');
	return 0;
}

static void read_request(const uint8_t *data, size_t size)
{
	struct egress_host host = {0};
	char *forward = NULL;

	if (egress_parse((const char *)data, size, false, &host, &forward) == 0) {
		require(host.name[0] && host.port && !strchr(host.name, '/') &&
			!strchr(host.name, '@'));
		require(!forward || !strstr(forward, "\r\n\r\n"));
	} else {
		require(!forward);
	}
	free(forward);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct bundle_sink sink = {take_entry, take_note, NULL};
	struct err err;
	struct stat status;
	int in, tree, wheels;

	read_request(data, size);
	if (top < 0) {
		require(mkdtemp(base));
		top = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		require(top >= 0 && atexit(remove_base) == 0);
	}
	in = memfd_create("bundle", MFD_CLOEXEC);
	require(write_full(in, "cellwall bundle 1\n", 18) == 0 && write_full(in, data, size) == 0 &&
		lseek(in, 0, SEEK_SET) == 0);
	require(mkdirat(top, "tree", 0755) == 0 && mkdirat(top, "wheels", 0755) == 0);
	tree = openat(top, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	wheels = openat(top, "wheels", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)bundle_read(in, tree, wheels, -1, &sink, &err);
	close(in);
	close(tree);
	close(wheels);
	/* "." , "..", "tree" and "wheels" */
	require(fstat(top, &status) == 0 && status.st_nlink == 4);
	require(tree_empty(top) == 0);
	return 0;
}
