/*
 * frame: markup of a kernel in two frames, one in the other, so that nothing gets out of it.
 *
 * The inner frame holds the untrusted document, the outer one our own with nothing but the inner
 * frame in it. Each is given by srcdoc, sandboxed to an origin of its own, with a Content Security
 * Policy that lets no request out; where the inner frame goes is checked against the outer
 * document's frame-src, which is 'none' (https://www.w3.org/TR/CSP3/#directive-frame-src), and so
 * is closed what one frame alone leaves open: location=, a click on a link, a refresh.
 *
 * Nothing is parsed: what the kernel sends is escaped, twice. In static mode nothing runs either,
 * and what names hosts without being a request (<link rel=dns-prefetch>) is made text: an HTML tag
 * begins with "<" directly before its name and with nothing else.
 *
 * Property: what stands in a srcdoc holds no '"', '<' or '>'. Pure functions; they never log.
 */
#ifndef PROXY_FRAME_H
#define PROXY_FRAME_H

#include <stdbool.h>
#include <stddef.h>

#define FRAME_BODY_MAX (16u * 1024 * 1024)

/* Caller frees; NULL: no memory, or larger than FRAME_BODY_MAX. */
char *frame_wrap(const char *body, size_t size, bool scripts, size_t *ret_size);
/* The same for a page of our own without NUL: `scripts` are the sources of its script-src
 * ("'sha256-...'"), or NULL, `height` the inner frame's in pixels. Caller frees; NULL: no memory.
 */
char *frame_enclose(const char *body, size_t size, const char *scripts, unsigned height,
		    size_t *ret_size);

/*
 * A copy without <script>...</script>, frames and what is written in a head, for what is shown
 * without scripts: that their text is not taken along is thrift, not safety. `ret_scripts` counts
 * the scripts. Caller frees; NULL: no memory.
 */
char *frame_without_scripts(const char *body, size_t size, size_t *ret_size, size_t *ret_scripts);
/*
 * Whether there is something to see in it: text, an element that shows without scripts, or the end
 * of what was never begun, after which nobody knows.
 */
bool frame_is_visible(const char *body, size_t size);

/* Whether it names something on the network that it would show or run, scripts' own words aside:
 * what is missing then. */
bool frame_is_remote(const char *body, size_t size);

/* Appends `text` with & < > " ' as entities and without NUL. */
struct buffer;
void frame_escape(struct buffer *out, const char *text, size_t size);

#endif
