/*
 * typeset: Markdown and LaTeX, which front ends make markup of.
 *
 * A live output counts as trusted: raw HTML in Markdown runs, links may be javascript:, images are
 * fetched; MathJax has macros that load, link and style. So text passes only when nothing in it can
 * become any of that; everything else is shown as the text it is. Pure functions; they never log.
 */
#ifndef PROXY_TYPESET_H
#define PROXY_TYPESET_H

#include <stdbool.h>
#include <stddef.h>

#define TYPESET_LATEX_MAX (64u * 1024)

/*
 * Whether Markdown holds no tag, no entity, no image, no link (with `links`: none but plain http,
 * https and mailto, and no formula in an address, which Lab would put into the attribute), no
 * reference, no diagram, no macro that is refused in LaTeX, no language of a block of code but
 * plain words, which Lab puts into an attribute as it is, and nothing that jupyterlab-myst takes
 * for a directive ("```{image}", ":::{iframe}") or a role ("{download}`x`", {math} and {sup} too),
 * whatever it would make. It is strict: "{name}" right before a "`" is refused in code too.
 * Addresses in its text are for plain.h. Linear. NULL: fine; else what is in it.
 */
const char *typeset_markdown(const char *text, size_t size, bool links);
/* The same for LaTeX. */
const char *typeset_latex(const char *text, size_t size);
/* A copy in which no "<" begins a tag and nothing makes a link or a picture of Markdown, each by a
 * space, which TeX ignores: nbclassic puts LaTeX into the page as markup, VS Code reads it as
 * Markdown. Caller frees; NULL: no memory. */
char *typeset_apart(const char *text, size_t size, size_t *ret_size);
/* A copy in which a U+200B is behind each second of three or more "`", which would end a block of
 * code. Caller frees; NULL: no memory. */
char *typeset_no_fence(const char *text, size_t size, size_t *ret_size);

#endif
