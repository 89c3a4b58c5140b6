/*
 * Theory of operation
 *
 * A ring of the numbers, oldest overwritten, and beside it an open addressing table with the same
 * numbers for look-up. The table's slots are chosen with a random multiplier.
 */
#include "proxy/recent.h"

#include <sys/mman.h>

#define HISTORY	   65536u /* Session.digest_history_size */
#define TABLE_BITS 17	  /* twice as many slots: chains stay short */
#define TABLE_SIZE (1u << TABLE_BITS)

/* One anonymous mapping; 0 marks a free place. */
struct recent {
	uint64_t odd, mix; /* the table's random hash function */
	size_t next;	   /* in the ring */
	uint64_t ring[HISTORY];
	uint64_t table[TABLE_SIZE];
};

int recent_new(struct recent **ret_recent, struct err *err)
{
	struct recent *recent;
	uint64_t seed[2];
	int r;

	r = random_bytes(seed, sizeof(seed));
	if (r < 0)
		return err_set(err, r, "no random bytes for a history");
	recent = mmap(NULL, sizeof(*recent), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (recent == MAP_FAILED)
		return err_errno(err, "no memory for a history");
	recent->odd = seed[0] | 1;
	recent->mix = seed[1];
	*ret_recent = recent;
	return 0;
}

struct recent *recent_free(struct recent *recent)
{
	if (recent)
		munmap(recent, sizeof(*recent));
	return NULL;
}

static size_t home_slot(const struct recent *recent, uint64_t value)
{
	return (size_t)(((value ^ recent->mix) * recent->odd) >> (64 - TABLE_BITS));
}

/* The slot that holds `value`, or the free one where it would go. Ends: half of the table is always
 * free. */
static size_t find_slot(const struct recent *recent, uint64_t value)
{
	const uint64_t *table = recent->table;
	size_t slot = home_slot(recent, value);

	while (table[slot] != 0 && table[slot] != value)
		slot = (slot + 1) & (TABLE_SIZE - 1);
	return slot;
}

/* Empties a slot and moves later ones of its chain up (Knuth, The Art of Computer Programming
 * 3, 6.4 R). */
static void remove_value(struct recent *recent, uint64_t value)
{
	uint64_t *table = recent->table;
	size_t hole = find_slot(recent, value);

	for (size_t slot = hole; table[slot] != 0;) {
		slot = (slot + 1) & (TABLE_SIZE - 1);
		if (table[slot] == 0)
			break;
		size_t home = home_slot(recent, table[slot]);
		/* It may move when its home does not lie cyclically in (hole, slot]. */
		if (((slot - home) & (TABLE_SIZE - 1)) >= ((slot - hole) & (TABLE_SIZE - 1))) {
			table[hole] = table[slot];
			hole = slot;
		}
	}
	table[hole] = 0;
}

bool recent_add(struct recent *recent, uint64_t value)
{
	uint64_t *oldest = &recent->ring[recent->next];

	if (value == 0)
		value = 1; /* 0 marks a free place */
	if (recent->table[find_slot(recent, value)] != 0)
		return false;
	if (*oldest != 0)
		remove_value(recent, *oldest);
	recent->table[find_slot(recent, value)] = value;
	*oldest = value;
	recent->next = (recent->next + 1) % HISTORY;
	return true;
}
