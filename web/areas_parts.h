/*
 * areas_parts: what the two halves of areas share: areas.c (what is there, and out of it) and
 * areas_put.c (into it). For these two alone.
 */
#ifndef WEB_AREAS_PARTS_H
#define WEB_AREAS_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request;

bool areas_name_good(const char *name);
/* openat2(2), beneath `directory` and through no link. Returns a descriptor or a negative errno. */
int areas_open_below(int directory, const char *path, int flags);
/* The user's directory below DATA/users, made when it is not there. Returns it or a negative errno.
 */
int areas_open_user(const struct request *request);
/*
 * AREA/staging/in/a/b of a path's parts, from `first` (the area) on; caller frees. NULL: a name
 * that is none, or a place that is neither in nor out (only in: `writing`).
 */
char *areas_path(const struct request *request, size_t first, bool writing);
/* Answers with what a negative errno means here. */
void areas_refuse(struct request *request, int code);

struct areas_walk {
	json_t *files; /* NULL: only counted */
	unsigned count, seen;
	uint64_t bytes;
};
/* All files below, as deep as an upload can reach. Takes the descriptor (negative: nothing). */
void areas_walk_into(struct areas_walk *walk, int fd, const char *path, unsigned depth);
/* True when there may be more than was looked at. */
bool areas_is_cut(const struct areas_walk *walk);

#endif
