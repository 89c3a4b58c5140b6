/*
 * known: which comms and displays a kernel has, remembered across the guard process's workers.
 *
 * One shared anonymous mapping of fixed size, made by the proxy before it starts the guard process.
 * One worker writes at a time and may die at any instruction: an entry exists by the last store to
 * it, a single 64-bit word, so a torn one is one that was never made, and what is not known is
 * refused. Only keyed hashes of display_ids and of markup are kept. Never logs.
 */
#ifndef PROXY_KNOWN_H
#define PROXY_KNOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KNOWN_COMMS    16384
#define KNOWN_DISPLAYS 65536 /* at least as many of the newest hashes are remembered */
#define KNOWN_ID_MAX   128   /* bytes of a comm_id: [A-Za-z0-9_.-] */

enum known_kind {
	KNOWN_NONE,
	KNOWN_WIDGET,  /* jupyter.widget */
	KNOWN_CONTROL, /* jupyter.widget.control, which a client alone opens */
	KNOWN_OTHER,   /* another target that the policy names */
};

struct known_comm {
	enum known_kind kind;
	bool open, by_client;
	unsigned short model; /* of widgets_model(); 0: it was not told yet */
};

struct known;

/* Returns NULL when out of memory or randomness. */
struct known *known_new(void);
void known_free(struct known *known);

/* Whether `id` has the form of a comm_id. */
bool known_id_ok(const char *id, size_t size);
/* A closed comm is still known until its place is needed. Returns false and KNOWN_NONE when it is
 * not known. `ret_comm` may be NULL. */
bool known_comm_get(const struct known *known, const char *id, struct known_comm *ret_comm);
/*
 * Remembers or changes one. When all places are taken the comm that was closed first gives way.
 * Returns 0, -EINVAL for an id of another form, -ENOSPC when every comm is open.
 */
int known_comm_set(struct known *known, const char *id, const struct known_comm *comm);
void known_comm_close(struct known *known, const char *id);

bool known_display_has(const struct known *known, const char *id, size_t size);
void known_display_add(struct known *known, const char *id, size_t size);

/*
 * Markup that was made here. A front end gives it back to the kernel as the outputs of a widget,
 * and the kernel sends it when a page is loaded anew: it is not to be put in a frame once more.
 */
bool known_made_has(const struct known *known, const char *markup, size_t size);
void known_made_add(struct known *known, const char *markup, size_t size);

/* A client has sent a debug_request. */
void known_debug(struct known *known);
bool known_debugging(const struct known *known);

#endif
