#include "kernelspec/pool.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "sandbox/base.h"
#include "sandbox/tree.h"

#define NAME_SIZE 64 /* 62 digits, "f" or "x", NUL */

static bool has_digest(int fd, const char *hex)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char buffer[65536], digest[32];
	char found[65] = "";
	ssize_t got = -1;

	if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1) {
		while ((got = read(fd, buffer, sizeof(buffer))) > 0)
			(void)EVP_DigestUpdate(context, buffer, (size_t)got);
		(void)EVP_DigestFinal_ex(context, digest, NULL);
	}
	EVP_MD_CTX_free(context);
	if (got < 0)
		return false;
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(found + 2 * i, 3, "%02x", digest[i]);
	return strcmp(found, hex) == 0;
}

static bool has_bytes(int fd, const unsigned char *data, size_t size)
{
	unsigned char buffer[65536];
	ssize_t got;

	while ((got = read(fd, buffer, sizeof(buffer))) > 0) {
		if ((size_t)got > size || memcmp(buffer, data, (size_t)got) != 0)
			return false;
		data += got;
		size -= (size_t)got;
	}
	return got == 0 && size == 0;
}

/* Opens one that is what a file of a tree is. Returns a descriptor or -1. */
static int open_good(int part, const char *name, bool executable)
{
	cleanup(close_fd) int fd =
		openat(part, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
			       (status.st_mode & 07777) == (executable ? 0555 : 0444) &&
			       status.st_uid == geteuid()
		       ? steal_fd(&fd)
		       : -1;
}

/* Where the pool has it: its directory, made where `make`, and its name there. */
static int open_part(int pool, const char *hex, bool executable, bool make, char rest[NAME_SIZE])
{
	char first[3];

	(void)snprintf(first, sizeof(first), "%.2s", hex);
	(void)snprintf(rest, NAME_SIZE, "%.62s%c", hex + 2, executable ? 'x' : 'f');
	if (make)
		(void)mkdirat(pool, first, 0755);
	return tree_step(pool, first, O_RDONLY | O_DIRECTORY);
}

bool pool_find(int pool, int directory, const char *name, const char *hex, bool executable,
	       const void *data, size_t size)
{
	char rest[NAME_SIZE];
	cleanup(close_fd) int part = pool < 0 ? -1 : open_part(pool, hex, executable, false, rest);
	cleanup(close_fd) int fd = part < 0 ? -1 : open_good(part, rest, executable);

	return fd >= 0 && has_bytes(fd, data, size) && linkat(part, rest, directory, name, 0) == 0;
}

/* The pool's file in the place of the one that was written. */
static void take_over(int pool, const char *from, int directory, const char *name)
{
	char fresh[] = ".new-0123456789abcdef0123456789abcdef";

	if (random_hex(fresh + 5, 16) == 0 && linkat(pool, from, directory, fresh, 0) == 0 &&
	    renameat(directory, fresh, directory, name) < 0)
		(void)unlinkat(directory, fresh, 0);
}

void pool_share(int pool, int directory, const char *name, const char *hex, bool executable)
{
	char rest[NAME_SIZE];
	cleanup(close_fd) int part = pool < 0 ? -1 : open_part(pool, hex, executable, true, rest);
	cleanup(close_fd) int fd = -1;

	if (part < 0 || linkat(directory, name, part, rest, 0) == 0)
		return;
	fd = open_good(part, rest, executable);
	if (fd >= 0 && has_digest(fd, hex))
		take_over(part, rest, directory, name);
	else if (unlinkat(part, rest, 0) < 0 || linkat(directory, name, part, rest, 0) < 0)
		return; /* the next one is tried again */
}

static void sweep_part(int part)
{
	DIR *scan = fdopendir(part);
	struct dirent *entry;
	struct stat status;

	while (scan && (entry = readdir(scan))) {
		if (fstatat(dirfd(scan), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		    !S_ISDIR(status.st_mode) && status.st_nlink == 1)
			(void)unlinkat(dirfd(scan), entry->d_name, 0);
	}
	if (scan)
		closedir(scan);
	else
		close(part);
}

void pool_sweep(int pool)
{
	for (unsigned i = 0; pool >= 0 && i < 256; i++) {
		char name[3];
		int part;

		(void)snprintf(name, sizeof(name), "%02x", i);
		part = tree_step(pool, name, O_RDONLY | O_DIRECTORY);
		if (part >= 0)
			sweep_part(part);
	}
}
