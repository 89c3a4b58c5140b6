/*
 * traceback: lines of an error of which a front end makes links.
 *
 * VS Code makes links of the places that a traceback names, as markup: of "File PATH:LINE" and of
 * "Cell In[1]" with what stands before it, whose quotes would end the link's address and begin an
 * attribute; and it takes what looks like <a href="...">...</a> for a link of its own
 * (extensions/notebook-renderers, stackTraceHelper.ts and linkify.ts). A U+200B ZERO WIDTH SPACE,
 * which nobody sees, behind the word or the "<" keeps such a line from being one. Lines as Python
 * and IPython write them are left as they are. Pure functions; linear; they never log.
 */
#ifndef PROXY_TRACEBACK_H
#define PROXY_TRACEBACK_H

#include <stddef.h>

/* As plain_clean(), whose flags these are, and then the above. */
int traceback_clean(const char *text, size_t size, unsigned flags, char **ret_text,
		    size_t *ret_size);

#endif
