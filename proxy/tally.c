#include "proxy/tally.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who reads cannot be made to run past its end. */
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)

const char *const tally_verdicts[TALLY_VERDICTS] = {
	[TALLY_PASSED] = "passed", [TALLY_CHANGED] = "changed", [TALLY_DROPPED] = "dropped"};

const char *const tally_kinds[TALLY_KINDS] = {
	[TALLY_CONNECT] = "connect", [TALLY_SEND] = "send", [TALLY_BIND] = "bind",
	[TALLY_SOCKET] = "socket",   [TALLY_CALL] = "call", [TALLY_EXEC] = "exec",
	[TALLY_LOOKUP] = "lookup",   [TALLY_READ] = "read", [TALLY_UNLISTED] = "unlisted",
	[TALLY_RESULT] = "result"};

int tally_make(const struct tally **ret_tally, int *ret_fd, struct err *err)
{
	cleanup(close_fd) int fd = memfd_create("cellwall-tally", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map;

	if (fd < 0 || ftruncate(fd, sizeof(struct tally)) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return err_errno(err, "cannot make memory to count in");
	map = mmap(NULL, sizeof(struct tally), PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return err_errno(err, "cannot make memory to count in");
	*ret_tally = map;
	*ret_fd = steal_fd(&fd);
	return 0;
}

struct tally *tally_take(void)
{
	const char *text = getenv("CELLWALL_TALLY");
	cleanup(close_fd) int fd = -1;
	struct stat status;
	uint64_t number;
	void *map;

	if (!text || parse_u64(text, INT32_MAX, &number) < 0 || number < 3 ||
	    (fcntl((int)number, F_GET_SEALS) & ~0x20 /* F_SEAL_EXEC */) != SEALS)
		return NULL;
	fd = (int)number;
	if (fstat(fd, &status) < 0 || status.st_size != (off_t)sizeof(struct tally))
		return NULL;
	map = mmap(NULL, sizeof(struct tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return NULL;
	/* What is forked here and looks at foreign bytes has nothing to count. */
	if (madvise(map, sizeof(struct tally), MADV_DONTFORK) < 0) {
		(void)munmap(map, sizeof(struct tally));
		return NULL;
	}
	return map;
}

const struct tally *tally_done(const struct tally *tally)
{
	if (tally)
		(void)munmap((void *)(uintptr_t)tally, sizeof(*tally));
	return NULL;
}

static void count(uint64_t *number, uint64_t more)
{
	__atomic_store_n(number, *number + more, __ATOMIC_RELAXED);
}

void tally_message(struct tally *tally, bool inward, enum wall_channel channel,
		   enum tally_verdict verdict, size_t bytes)
{
	if (!tally)
		return;
	count(&tally->messages[inward][channel][verdict], 1);
	count(&tally->bytes[inward][channel][verdict], bytes);
}

void tally_blocked(struct tally *tally, enum tally_kind kind, uint64_t more)
{
	if (tally)
		count(&tally->blocked[kind], more);
}

static void add(uint64_t *sum, const uint64_t *numbers, size_t size)
{
	for (size_t i = 0; i < size; i++)
		sum[i] += __atomic_load_n(&numbers[i], __ATOMIC_RELAXED);
}

void tally_add(struct tally *sum, const struct tally *tally)
{
	if (!tally)
		return;
	add(&sum->messages[0][0][0], &tally->messages[0][0][0],
	    sizeof(sum->messages) / sizeof(uint64_t));
	add(&sum->bytes[0][0][0], &tally->bytes[0][0][0], sizeof(sum->bytes) / sizeof(uint64_t));
	add(sum->blocked, tally->blocked, TALLY_KINDS);
}
