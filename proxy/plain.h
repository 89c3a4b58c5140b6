/*
 * plain: text that a front end may show as text.
 *
 * Kept: \t \n \r \b and ESC [ digits ; : m (colours). Gone: all other C0 and C1 controls and DEL,
 * all other escape sequences, OSC, DCS, APC, PM and SOS with their payload (to ST or BEL; without
 * either, to the end of the line). Bidirectional overrides and isolates (U+202A-E, U+2066-9) become
 * visible as \u202e; U+200E and U+200F, which Hebrew and Arabic need, stay.
 *
 * Front ends make links of what looks like an address, and Firefox asks the DNS for the host of a
 * link that nobody clicked: such text carries data out. So "://", "www." and, unless white space
 * follows, "data:", "http:", "https:" and "ftp:" (nbclassic needs no "//") are written https[:]//,
 * www[.] and data[:], as people write addresses that must not be clicked: whoever copies one sees
 * what to take out. Colours in between do not hide them.
 * Front ends join the messages of a stream and carry out \r and \b before they look for links;
 * where a piece could complete such a joint, U+2060 WORD JOINER is put in.
 *
 * Lab's time is quadratic in the number of \r and \b: past PLAIN_MOVES of them a line keeps what
 * follows its last \r, and no \b.
 *
 * In: decoded UTF-8 (what is malformed is passed on: content.h repairs it before). Pure functions;
 * linear; they never log.
 */
#ifndef PROXY_PLAIN_H
#define PROXY_PLAIN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define PLAIN_LINKS  1u /* addresses stay as they are */
#define PLAIN_PROMPT 2u /* no colours, no \r, no \b: one still text */
#define PLAIN_STREAM                                                                               \
	4u /* a piece of a text that is joined with what came before and comes after               \
	    */

#define PLAIN_MOVES 512

/* Whether plain_clean would change nothing. Some 10 GB/s for text without colours. */
bool plain_is_clean(const char *text, size_t size, unsigned flags);
/* Returns 0 when there is nothing to change, 1 with the new text (NUL-terminated, caller frees), or
 * -ENOMEM. */
int plain_clean(const char *text, size_t size, unsigned flags, char **ret_text, size_t *ret_size);
/* Cleans the string under `key` of an object. Returns 0, 1 when it changed, -EINVAL when it is no
 * string, or -ENOMEM. */
int plain_string(json_t *object, const char *key, unsigned flags);

#endif
