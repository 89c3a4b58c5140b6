/*
 * mime: the types of a MIME bundle, and what becomes of the value of each.
 *
 * In: one exact, lower-case key and its value as the kernel sent it. Out: the value that goes on,
 * built here where it is markup, or none with the reason. One table in mime.c says which types
 * there are; kernelspec/share/doc/outputs.md says it to users. Pure functions; they never log.
 */
#ifndef PROXY_MIME_H
#define PROXY_MIME_H

#include <jansson.h>
#include <stdbool.h>

#include "proxy/content.h"

#define MIME_MARKDOWN_MAX (1024u * 1024) /* what is longer is shown as text */
#define MIME_KEYS	  16
#define MIME_KEY_MAX	  128

struct mime {
	const struct outputs_rules *rules;
	/* out */
	json_t *value;	    /* what goes on (owned), or NULL */
	const char *why;    /* not NULL: something was taken out, or all of it */
	bool scripts;	    /* what is missing is a script */
	bool figure;	    /* the value is text/html that draws a figure */
	bool page;	    /* the value is text/html, whatever the key was */
	bool shown_as_text; /* the value is text/plain: it could not be shown as what it is */
	bool failed;	    /* no memory */
};

/* Reads the value under `type`. */
void mime_read(struct mime *mime, const char *type, json_t *value);
/* The bytes of a value, for people: of text, or of its JSON when it is short. */
size_t mime_size(const json_t *value);
/* The metadata that may go along with a type or, `type` NULL, with the whole bundle. A new
 * reference; NULL: no memory. */
json_t *mime_metadata(const struct outputs_rules *rules, const char *type, const json_t *metadata);
/* Whether the table has it, or it is a script: nothing that outputs.mime can name. */
bool mime_is_known(const char *type);

#endif
