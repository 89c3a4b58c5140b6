/*
 * tidy: what the rules for messages share: taking out of a jansson tree what is not wanted.
 *
 * In: trees of the kernel's JSON, changed in place; patterns as character sets. Out: whether
 * anything changed, so that a message in which nothing did keeps its bytes. Pure functions.
 */
#ifndef PROXY_TIDY_H
#define PROXY_TIDY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "proxy/content.h"

struct tidy {
	struct content *content;
	bool changed;
	bool failed; /* out of memory: the message must not go on */
};

/* CONTENT_DROP when it failed, else CONTENT_CHANGED or CONTENT_KEEP. */
enum content_verdict tidy_verdict(const struct tidy *tidy);

/* Sets `value` (the reference is taken, NULL counts as failed), or takes the key out. */
void tidy_set(struct tidy *tidy, json_t *object, const char *key, json_t *value);
void tidy_drop(struct tidy *tidy, json_t *object, const char *key);
/* Takes out every key that is not in the NULL-terminated list. */
void tidy_keys(struct tidy *tidy, json_t *object, const char *const *keys);

/*
 * Whether a string has at most `max` bytes, each an ASCII letter, a digit or one of `more`. An
 * empty string has that form.
 */
bool tidy_word(const json_t *value, const char *more, size_t max);
/* A number with dots, such as 1.2.3, of at most `max` bytes; not empty. */
bool tidy_version(const json_t *value, size_t max);
/* A number of cells: an integer from 0 to INT32_MAX. */
bool tidy_count(const json_t *value);
/* Names that reach an object's prototype in a front end. */
bool tidy_prototype(const char *key);

/* Cleans the string under `key`; anything but a string is taken out. */
void tidy_text(struct tidy *tidy, json_t *object, const char *key, unsigned flags);
/* Takes out what is not of the wanted type. */
void tidy_integer(struct tidy *tidy, json_t *object, const char *key);
void tidy_boolean(struct tidy *tidy, json_t *object, const char *key);
/* ename, evalue, traceback. */
void tidy_error(struct tidy *tidy, json_t *object);
/* A bundle of MIME types: its text/plain alone, cleaned. */
void tidy_plain_bundle(struct tidy *tidy, json_t *object, const char *key);
/* Cleans every string of a tree and takes out the names of tidy_prototype(). */
void tidy_tree(struct tidy *tidy, json_t *tree, unsigned flags);

#endif
