/*
 * plot: the data of a figure of plotly, vega or vega-lite, as a front end is given them.
 *
 * In: the value of the figure's own MIME type, parsed. Out: the same without what names a server
 * or another document (addresses, links, maps, templates of a web site), as text that can stand in
 * markup. The frame's policy lets nothing out whatever is left (proxy/figures.h); this is so that
 * not even a name is looked up, and that people can be told what is missing. Depth is bounded by
 * CONTENT_DEPTH. Pure functions; they never log.
 */
#ifndef PROXY_PLOT_H
#define PROXY_PLOT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum plot_kind {
	PLOT_NONE,
	PLOT_PLOTLY,	/* application/vnd.plotly.v1+json */
	PLOT_VEGA,	/* application/vnd.vega.vN+json */
	PLOT_VEGA_LITE, /* application/vnd.vegalite.vN+json */
};
enum plot_kind plot_kind(const char *type);

/* What the traces of a figure of plotly need. */
enum plot_traces {
	PLOT_BASIC,	/* scatter, bar and pie alone */
	PLOT_CARTESIAN, /* others in two dimensions */
	PLOT_OTHER,	/* in three, or maps */
};
enum plot_traces plot_traces(const json_t *figure);

/* A copy that is fit to be drawn; `ret_remote`: something was left out that comes from a server.
 * NULL: no figure, or no memory. */
json_t *plot_bare(enum plot_kind kind, const json_t *figure, bool *ret_remote);

/* How high it will be, in pixels. */
unsigned plot_height(enum plot_kind kind, const json_t *figure);

/* JSON in which < > & ' are escaped and '"' is '~' ('~' is escaped): nothing of it means anything
 * in HTML, and it does not grow when it is escaped as such. Caller frees; NULL: no memory. */
char *plot_text(const json_t *figure, size_t *ret_size);

#endif
