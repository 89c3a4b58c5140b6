/*
 * figures: draws what plotly, vega and vega-lite send as data, by builds of our own.
 *
 * kernelspec/figures puts the builds into share/cellwall/figures, one file each: a line
 * "sha256-..." and the script as base64 of gzip. A figure becomes the two frames of frame.h with
 * the build, the data as text (proxy/plot.h) and a small script of ours that unpacks the one and
 * draws the other. What closes what:
 *   - No script of the kernel's runs: script-src names the hashes of our script and of the builds
 *     it uses and nothing else; without 'unsafe-inline' that holds for attributes and javascript:
 *     addresses too, without 'unsafe-eval' for text that becomes code. vega's expressions are
 *     run by its interpreter (vega-interpreter), which needs neither.
 *   - No request gets out: the same policy (default-src 'none', pictures from data: alone), and
 *     the outer frame's frame-src for where the inner one goes.
 *   - No name is looked up: Firefox resolves the host of an anchor that is merely there, so no <a>
 *     can be made in the frame, and addresses are taken out of the data beforehand. vega's loader
 *     refuses all.
 * Never logs.
 */
#ifndef PROXY_FIGURES_H
#define PROXY_FIGURES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Of the markup of one figure, the build included: a notebook shall stay one that can be saved. */
#define FIGURES_MAX (2u * 1024 * 1024)

struct figures;

/* Maps the builds in a directory, read-only and shared by all who map them; what is missing, or
 * not in the form above, is not there. NULL: no memory. */
struct figures *figures_open(const char *directory);
struct figures *figures_close(struct figures *figures); /* accepts NULL; returns NULL */

bool figures_is_type(const char *type);
/* The markup. `figures` may be NULL. Returns NULL, with the reason in `ret_why` (static; NULL: no
 * memory), or what the caller frees: then `ret_why` is what is missing in it, or NULL. */
char *figures_draw(const struct figures *figures, const char *type, const json_t *figure,
		   size_t *ret_size, const char **ret_why);

/* Our script and its hash, for the test that they belong together. */
const char *figures_script(const char **ret_hash);

#endif
