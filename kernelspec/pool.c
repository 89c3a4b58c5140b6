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

static bool is_good(int pool, const char *name, const char *hex, bool executable)
{
	cleanup(close_fd) int fd =
		openat(pool, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
	       (status.st_mode & 07777) == (executable ? 0555 : 0444) &&
	       status.st_uid == geteuid() && has_digest(fd, hex);
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
	cleanup(close_fd) int part = -1;
	char first[3], rest[NAME_SIZE];

	if (pool < 0)
		return;
	(void)snprintf(first, sizeof(first), "%.2s", hex);
	(void)snprintf(rest, sizeof(rest), "%.62s%c", hex + 2, executable ? 'x' : 'f');
	(void)mkdirat(pool, first, 0755);
	part = tree_step(pool, first, O_RDONLY | O_DIRECTORY);
	if (part < 0 || linkat(directory, name, part, rest, 0) == 0)
		return;
	if (is_good(part, rest, hex, executable))
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
