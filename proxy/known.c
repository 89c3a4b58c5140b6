#include "proxy/known.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "sandbox/base.h"
#include "sandbox/siphash.h"

/*
 * A comm's word: bit 0 in use, 1 open, 2 by a client, 3-7 its kind, 16-31 its model, 32-63 when it
 * was closed, in closings since the start. 0 is a free place.
 */
#define WORD_USED   1u
#define WORD_OPEN   2u
#define WORD_CLIENT 4u

#define SLOTS (2 * KNOWN_DISPLAYS) /* of one generation, at most half full */

/* Of what a hash is: one kind's hash is never another's. */
enum kind { COMM, DISPLAY, MADE, KINDS };

struct place {
	_Atomic uint64_t word;
	uint64_t hash;
	char id[KNOWN_ID_MAX + 1];
};

struct known {
	uint64_t key[KINDS][2];
	atomic_bool debugging;
	_Atomic uint32_t closings;
	_Atomic uint32_t used; /* places from here on were never taken */
	atomic_uint generation;
	_Atomic uint32_t filled; /* of the present generation */
	struct place places[KNOWN_COMMS];
	_Atomic uint64_t hashes[2][SLOTS];
};

/* Without the key nobody makes two ids collide. */
static uint64_t hash_of(const struct known *known, enum kind kind, const char *text, size_t size)
{
	const uint64_t hash = siphash(known->key[kind], text, size);

	return hash ? hash : 1; /* 0 is a free slot */
}

struct known *known_new(void)
{
	struct known *known = mmap(NULL, sizeof(*known), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (known == MAP_FAILED)
		return NULL;
	if (random_bytes(known->key, sizeof(known->key)) < 0) {
		known_free(known);
		return NULL;
	}
	return known;
}

void known_free(struct known *known)
{
	if (known)
		munmap(known, sizeof(*known));
}

bool known_id_ok(const char *id, size_t size)
{
	static const char *const prototypes[] = {"__proto__", "constructor", "prototype"};

	if (size == 0 || size > KNOWN_ID_MAX)
		return false;
	for (size_t i = 0; i < sizeof(prototypes) / sizeof(prototypes[0]); i++)
		if (size == strlen(prototypes[i]) && memcmp(id, prototypes[i], size) == 0)
			return false; /* a front end has objects whose keys these are */
	for (size_t i = 0; i < size; i++)
		if (!(id[i] >= 'A' && id[i] <= 'Z') && !(id[i] >= 'a' && id[i] <= 'z') &&
		    !(id[i] >= '0' && id[i] <= '9') && id[i] != '_' && id[i] != '.' && id[i] != '-')
			return false;
	return true;
}

static uint32_t places_used(const struct known *known)
{
	uint32_t used = atomic_load(&known->used);

	return used < KNOWN_COMMS ? used : KNOWN_COMMS;
}

static const struct place *place_of(const struct known *known, const char *id)
{
	size_t size = strnlen(id, KNOWN_ID_MAX + 1);
	uint32_t used = places_used(known);
	uint64_t hash;

	if (!known_id_ok(id, size))
		return NULL;
	hash = hash_of(known, COMM, id, size);
	for (uint32_t i = 0; i < used; i++)
		if (known->places[i].hash == hash && atomic_load(&known->places[i].word) != 0 &&
		    strncmp(known->places[i].id, id, KNOWN_ID_MAX + 1) == 0)
			return &known->places[i];
	return NULL;
}

bool known_comm_get(const struct known *known, const char *id, struct known_comm *ret_comm)
{
	const struct place *place = place_of(known, id);
	uint64_t word = place ? atomic_load(&place->word) : 0;

	if (ret_comm)
		*ret_comm = (struct known_comm){
			.kind = (enum known_kind)(word >> 3 & 31),
			.open = word & WORD_OPEN,
			.by_client = word & WORD_CLIENT,
			.model = (unsigned short)(word >> 16),
		};
	return place != NULL;
}

/* A place never taken, else the one that was closed first. */
static struct place *free_place(struct known *known)
{
	uint32_t used = places_used(known);
	struct place *oldest = NULL;
	uint64_t age = UINT64_MAX;

	if (used < KNOWN_COMMS) {
		atomic_store(&known->used, used + 1);
		return &known->places[used];
	}
	for (uint32_t i = 0; i < KNOWN_COMMS; i++) {
		uint64_t word = atomic_load(&known->places[i].word);

		if (word & WORD_OPEN)
			continue;
		if (word >> 32 < age) {
			age = word >> 32;
			oldest = &known->places[i];
		}
	}
	return oldest;
}

int known_comm_set(struct known *known, const char *id, const struct known_comm *comm)
{
	size_t size = strnlen(id, KNOWN_ID_MAX + 1);
	const struct place *found = place_of(known, id);
	struct place *place;

	if (!known_id_ok(id, size))
		return -EINVAL;
	place = found ? &known->places[found - known->places] : free_place(known);
	if (!place)
		return -ENOSPC;
	if (!found) {
		atomic_store(&place->word, 0);
		place->hash = hash_of(known, COMM, id, size);
		memcpy(place->id, id, size + 1);
	}
	atomic_store(&place->word, WORD_USED | (comm->open ? WORD_OPEN : 0) |
					   (comm->by_client ? WORD_CLIENT : 0) |
					   (uint64_t)comm->kind << 3 | (uint64_t)comm->model << 16);
	return 0;
}

void known_comm_close(struct known *known, const char *id)
{
	const struct place *found = place_of(known, id);
	struct place *place;
	uint64_t word;

	if (!found)
		return;
	place = &known->places[found - known->places];
	word = atomic_load(&place->word);
	if (word & WORD_OPEN)
		atomic_store(&place->word,
			     (word & 0xffffffffu & ~(uint64_t)WORD_OPEN) |
				     (uint64_t)(atomic_fetch_add(&known->closings, 1) + 1) << 32);
}

/* Linear probing; a table at most half full has a free slot near. Returns the slot of `hash` or the
 * free one where it would stand. */
static size_t slot_of(const _Atomic uint64_t *slots, uint64_t hash)
{
	size_t at = hash % SLOTS;

	for (size_t i = 0; i < SLOTS; i++, at = (at + 1) % SLOTS) {
		uint64_t value = atomic_load(&slots[at]);

		if (value == 0 || value == hash)
			break;
	}
	return at;
}

static bool has(const struct known *known, uint64_t hash)
{
	return atomic_load(&known->hashes[0][slot_of(known->hashes[0], hash)]) == hash ||
	       atomic_load(&known->hashes[1][slot_of(known->hashes[1], hash)]) == hash;
}

static void add(struct known *known, uint64_t hash)
{
	unsigned now = atomic_load(&known->generation) & 1;
	size_t at = slot_of(known->hashes[now], hash);

	if (atomic_load(&known->hashes[now][at]) == hash)
		return;
	if (atomic_load(&known->filled) >= KNOWN_DISPLAYS) {
		now ^= 1;
		for (size_t i = 0; i < SLOTS; i++)
			atomic_store_explicit(&known->hashes[now][i], 0, memory_order_relaxed);
		atomic_store(&known->filled, 0);
		atomic_store(&known->generation, now);
		at = slot_of(known->hashes[now], hash);
	}
	/* counted first: a worker that dies between the two loses a number, never the bound */
	atomic_fetch_add(&known->filled, 1);
	atomic_store(&known->hashes[now][at], hash);
}

bool known_display_has(const struct known *known, const char *id, size_t size)
{
	return has(known, hash_of(known, DISPLAY, id, size));
}

void known_display_add(struct known *known, const char *id, size_t size)
{
	add(known, hash_of(known, DISPLAY, id, size));
}

bool known_made_has(const struct known *known, const char *markup, size_t size)
{
	return has(known, hash_of(known, MADE, markup, size));
}

void known_made_add(struct known *known, const char *markup, size_t size)
{
	add(known, hash_of(known, MADE, markup, size));
}

void known_debug(struct known *known)
{
	atomic_store(&known->debugging, true);
}

bool known_debugging(const struct known *known)
{
	return atomic_load(&known->debugging);
}
