#include "proxy/aside.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define STACK (256u * 1024)
#define STEP  (1024u * 1024) /* hashed between two looks at `stop` */

struct aside {
	struct sign_run *run; /* the thread's until it was joined */
	struct iovec parts[4];
	size_t total;
	pthread_t thread;
	bool joined;
	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t changed;
	size_t fed;
	bool stop;
};

/* Waits for bytes after the first `done`. Returns how many are there; `done` when it is to stop. */
static size_t wait_for_bytes(struct aside *aside, size_t done)
{
	size_t fed;

	(void)pthread_mutex_lock(&aside->mutex);
	while (aside->fed == done && !aside->stop)
		(void)pthread_cond_wait(&aside->changed, &aside->mutex);
	fed = aside->stop ? done : aside->fed;
	(void)pthread_mutex_unlock(&aside->mutex);
	return fed;
}

/* Hashes from byte `from` up to `to` of the parts together. */
static void add_range(struct aside *aside, size_t from, size_t to)
{
	size_t start = 0; /* of the part */

	for (size_t i = 0; i < 4; i++) {
		const uint8_t *bytes = aside->parts[i].iov_base;
		size_t end = start + aside->parts[i].iov_len;

		if (from < end && from < to) {
			size_t stop = to < end ? to : end;

			(void)sign_run_add(aside->run, bytes + (from - start), stop - from);
			from = stop;
		}
		start = end;
	}
}

static void *hash(void *arg)
{
	struct aside *aside = arg;
	size_t done = 0;

	while (done < aside->total) {
		size_t fed = wait_for_bytes(aside, done);

		if (fed == done)
			break;
		if (fed - done > STEP)
			fed = done + STEP;
		add_range(aside, done, fed);
		done = fed;
	}
	return NULL;
}

static bool begin(struct aside *aside)
{
	pthread_attr_t attr;
	bool begun;

	if (pthread_attr_init(&attr) != 0)
		return false;
	begun = pthread_attr_setstacksize(&attr, STACK) == 0 &&
		pthread_create(&aside->thread, &attr, hash, aside) == 0;
	(void)pthread_attr_destroy(&attr);
	return begun;
}

struct aside *aside_new(const struct sign *sign, const struct iovec parts[4])
{
	struct aside *aside = calloc(1, sizeof(*aside));

	if (!aside)
		return NULL;
	(void)pthread_mutex_init(&aside->mutex, NULL); /* neither can fail, without attributes */
	(void)pthread_cond_init(&aside->changed, NULL);
	aside->joined = true; /* there is no thread yet */
	for (size_t i = 0; i < 4; i++) {
		aside->parts[i] = parts[i];
		aside->total += parts[i].iov_len;
	}
	aside->run = sign_run_new(sign);
	if (!aside->run || !begin(aside))
		return aside_free(aside);
	aside->joined = false;
	return aside;
}

void aside_feed(struct aside *aside, size_t size)
{
	(void)pthread_mutex_lock(&aside->mutex);
	if (size > aside->total)
		size = aside->total;
	if (size > aside->fed)
		aside->fed = size;
	(void)pthread_mutex_unlock(&aside->mutex);
	(void)pthread_cond_signal(&aside->changed);
}

static void join(struct aside *aside)
{
	if (!aside->joined)
		(void)pthread_join(aside->thread, NULL);
	aside->joined = true;
}

struct sign_run *aside_finish(struct aside *aside)
{
	aside_feed(aside, aside->total);
	join(aside);
	return aside->run;
}

struct aside *aside_free(struct aside *aside)
{
	if (!aside)
		return NULL;
	(void)pthread_mutex_lock(&aside->mutex);
	aside->stop = true;
	(void)pthread_mutex_unlock(&aside->mutex);
	(void)pthread_cond_signal(&aside->changed);
	join(aside);
	(void)pthread_cond_destroy(&aside->changed);
	(void)pthread_mutex_destroy(&aside->mutex);
	(void)sign_run_free(aside->run);
	free(aside);
	return NULL;
}
