#include "web/ended.h"

#include <stdlib.h>
#include <string.h>

struct ended {
	struct ended_kernel kernel[ENDED_ALL]; /* the newest first */
	size_t count;
};

struct ended *ended_new(void)
{
	return calloc(1, sizeof(struct ended));
}

static void done(struct ended_kernel *kernel)
{
	free(kernel->id);
	free(kernel->spec);
	free(kernel->owner);
	free(kernel->area);
	free(kernel->reason);
}

struct ended *ended_free(struct ended *ended)
{
	for (size_t i = 0; ended && i < ended->count; i++)
		done(&ended->kernel[i]);
	free(ended);
	return NULL;
}

static void remove_at(struct ended *ended, size_t place)
{
	done(&ended->kernel[place]);
	ended->count--;
	memmove(&ended->kernel[place], &ended->kernel[place + 1],
		(ended->count - place) * sizeof(ended->kernel[0]));
}

/* Room for one more: her oldest goes when she has her share, else the oldest of all. */
static void make_room(struct ended *ended, const char *owner)
{
	size_t hers = 0, last = 0;

	for (size_t i = 0; i < ended->count; i++) {
		if (strcmp(ended->kernel[i].owner, owner) != 0)
			continue;
		hers++;
		last = i;
	}
	if (hers >= ENDED_EACH)
		remove_at(ended, last);
	else if (ended->count == ENDED_ALL)
		remove_at(ended, ended->count - 1);
}

void ended_add(struct ended *ended, const struct ended_kernel *kernel)
{
	struct ended_kernel copy = *kernel;

	copy.id = strdup(kernel->id);
	copy.spec = strdup(kernel->spec);
	copy.owner = strdup(kernel->owner);
	copy.area = strdup(kernel->area);
	copy.reason = strdup(kernel->reason);
	if (!copy.id || !copy.spec || !copy.owner || !copy.area || !copy.reason) {
		done(&copy);
		return;
	}
	make_room(ended, copy.owner);
	memmove(&ended->kernel[1], &ended->kernel[0], ended->count * sizeof(ended->kernel[0]));
	ended->kernel[0] = copy;
	ended->count++;
}

const struct ended_kernel *ended_next(const struct ended *ended, const char *owner,
				      const struct ended_kernel *before)
{
	for (size_t i = before ? (size_t)(before - ended->kernel) + 1 : 0; i < ended->count; i++)
		if (!owner || strcmp(ended->kernel[i].owner, owner) == 0)
			return &ended->kernel[i];
	return NULL;
}

const struct ended_kernel *ended_find(const struct ended *ended, const char *owner, const char *id)
{
	const struct ended_kernel *kernel = NULL;

	while ((kernel = ended_next(ended, owner, kernel)))
		if (strcmp(kernel->id, id) == 0)
			return kernel;
	return NULL;
}
