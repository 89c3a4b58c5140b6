/*
 * stage: what the actions of `cellwall stage` share. stage_verb.c parses the words and options,
 * stage_inputs.c has add, list and drop, stage_ls.c, stage_diff.c and stage_copy.c (get, put) look
 * into running kernels, stage_results.c has status and recover, stage_print.c how all of it is
 * shown.
 */
#ifndef KERNELSPEC_STAGE_H
#define KERNELSPEC_STAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "sandbox/base.h"

enum stage_option {
	STAGE_ALL = 1,
	STAGE_DRY_RUN = 2,
	STAGE_JSON = 4,
	STAGE_GONE = 8,
	STAGE_KERNEL = 16,
	STAGE_OUTPUT = 32,
	STAGE_SERVER = 64, /* remote.h has the actions then */
	STAGE_AREA = 128,
	STAGE_ACCESS = 256, /* --token-file, --ca, --cert, --key */
};
#define STAGE_REMOTE (STAGE_SERVER | STAGE_AREA | STAGE_ACCESS)

struct stage {
	unsigned options;   /* of enum stage_option */
	const char *kernel; /* of --kernel */
	const char *output; /* of --output */
	char **words;	    /* after the action */
	size_t count;
	char *folder; /* the present one, links resolved */
	char *out;    /* FOLDER/staging/out */
	char *state;  /* where private directories are */
};

/* The actions. Each prints what it did and returns the exit code. */
int stage_add(const struct stage *stage);
int stage_list(const struct stage *stage);
int stage_drop(const struct stage *stage);
int stage_ls(const struct stage *stage);
int stage_diff(const struct stage *stage);
int stage_get(const struct stage *stage);
int stage_put(const struct stage *stage);
int stage_status(const struct stage *stage);
int stage_recover(const struct stage *stage);

/* Results that wait, of folders alike; used by --dry-run. */
int stage_show_waiting(const struct stage *stage, bool only_abandoned);

/* ---- printing ---- */

#define STAGE_SHOWN 4096 /* bytes for an escaped path */

/* "cellwall stage: TEXT" to stderr; returns 1, the exit code. */
int stage_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "12 B", "3.4 MB". */
void stage_format_size(char *out, size_t size, uint64_t bytes);
/* Sets `key` to a path; one that is no UTF-8 is %XX-encoded, and KEY_encoding says "percent".
 * Returns 0 or -1. */
int stage_json_path(json_t *object, const char *key, const char *path);
/* Prints and frees it; NULL: no memory. Returns the exit code. */
int stage_json_print(json_t *value);

struct stage_size {
	uint64_t bytes, files;
	bool more; /* there was more than is looked at */
};
/* Of a file or of all in a directory; nothing of what cannot be read. */
void stage_measure(const char *path, struct stage_size *ret_size);

/* A line on a terminal's stderr that says how far a long copy is. */
struct stage_progress {
	const char *name; /* shown escaped */
	int64_t begun, last;
	bool shown;
};
void stage_progress_begin(struct stage_progress *progress, const char *name);
/* A running_progress_fn. */
bool stage_progress_step(void *progress, uint64_t done, uint64_t size);
void stage_progress_end(struct stage_progress *progress);

#endif
