/*
 * pip: the lines of a cell that ask for packages: `%pip install`, `%uv pip install`, `!pip
 * install`, `!uv pip install`, `!python -m pip install` and `!{sys.executable} -m pip install`.
 *
 * A look at the text alone, before the kernel has it: what is in a string, in brackets, behind a
 * comment or in a cell of another language (%%bash, %%writefile) is none. Anything in such a line
 * but requirements (requirement.h), a few options that change nothing and `-r FILE` makes it one
 * that is refused, with words. Pure; any bytes are taken. Never logs.
 */
#ifndef PROXY_PIP_H
#define PROXY_PIP_H

#include <stdbool.h>
#include <stddef.h>

#define PIP_LINES_MAX 8	  /* of a cell; more are not looked at */
#define PIP_WORDS_MAX 128 /* after "install" */
#define PIP_TEXT_MAX  4096

enum pip_kind { PIP_OPTION, PIP_REQUIREMENT, PIP_FILE };

struct pip_line {
	/* What comes after "install", as the program will get it. */
	struct pip_word {
		enum pip_kind kind;
		const char *text;
		const char *file; /* of PIP_FILE: the path in it */
	} word[PIP_WORDS_MAX];
	size_t count;
	bool upgrade;
	bool uv;	   /* it was asked to do it */
	char refused[256]; /* why nothing is installed; "": it is all right */
	char text[PIP_TEXT_MAX];
	size_t used; /* of it */
};

/* Calls `found` for each such line of the cell `code`, in order; the line is lent. Returns how many
 * there were. */
typedef void pip_found_fn(void *arg, const struct pip_line *line);
size_t pip_find(const char *code, size_t size, pip_found_fn *found, void *arg);

#endif
