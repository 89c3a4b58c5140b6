#include "proxy/figures.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/buffer.h"
#include "proxy/frame.h"
#include "proxy/plot.h"
#include "sandbox/base.h"

#define BASE64	 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
#define HASH	 "sha256-"
#define HASH_END 51 /* of the line: 7, and 44 of base64 */

enum build_name { BASIC, CARTESIAN, VEGA, VEGA_LITE, BUILDS };

struct build {
	const char *data; /* the file, mapped; NULL: not there */
	size_t size;
};

struct figures {
	struct build builds[BUILDS];
};

/* Without it there is no way to see that a script was not allowed to run. */
#define BEGIN                                                                                      \
	"<style>:root{color-scheme:light;background:#fff}#figure{width:100%;height:100vh}"         \
	"body{margin:0}"                                                                           \
	"#wait{position:absolute;color:#555;animation:late 0s 5s both}"                            \
	"@keyframes late{from{visibility:hidden}}</style><div id=figure></div>"                    \
	"<div id=wait>cellwall: this page does not let the script run that draws this figure"      \
	"</div>"

/* Changing it changes RUNTIME_HASH: the unit test says to what. */
static const char runtime[] =
	"(async () => {\n"
	"'use strict';\n"
	"const root = document.getElementById('figure'), wait = document.getElementById('wait');\n"
	"const none = (name, other) => /^([^:]*:)?a$/i.test(name) ? other : name;\n"
	"const {createElement, createElementNS} = Document.prototype;\n"
	"Document.prototype.createElement = function (name, ...more) {\n"
	"  return createElement.call(this, none(name, 'span'), ...more); };\n"
	"Document.prototype.createElementNS = function (space, name, ...more) {\n"
	"  return createElementNS.call(this, space, none(name, 'tspan'), ...more); };\n"
	"const unpack = text => new Response(new Blob([Uint8Array.from(atob(text), c => "
	"c.charCodeAt(0))])\n"
	"  .stream().pipeThrough(new DecompressionStream('gzip'))).text();\n"
	"const refuse = async () => { throw new Error('nothing is loaded from a server'); };\n"
	"const picture = async uri => /^data:image\\//i.test(uri) ? {href: uri} : refuse();\n"
	"try {\n"
	"  for (const part of document.querySelectorAll('script[type=\"application/gzip\"]')) {\n"
	"    const script = document.createElement('script');\n"
	"    script.textContent = await unpack(part.textContent);\n"
	"    document.head.append(script);\n"
	"  }\n"
	"  const text = document.getElementById('data').textContent.replaceAll('~', '\"');\n"
	"  const {config, ...figure} = JSON.parse(text);\n"
	"  if (self.Plotly) {\n"
	"    await Plotly.newPlot(root, {...figure, config: {...config, responsive: true,\n"
	"      displaylogo: false, modeBarButtonsToRemove: ['toImage', 'sendChartToCloud']}});\n"
	"    document.body.style.background = root._fullLayout.paper_bgcolor;\n"
	"  } else {\n"
	"    if (config) figure.config = config;\n"
	"    const spec = self.vegaLite ? vegaLite.compile(figure).spec : figure;\n"
	"    const view = new vega.View(vega.parse(spec, null, {ast: true}), {\n"
	"      expr: vegaInterpreter.expression, renderer: 'canvas', container: root, hover: "
	"true,\n"
	"      loader: {load: refuse, sanitize: picture, http: refuse, file: refuse}});\n"
	"    await view.runAsync();\n"
	"    document.body.style.background = view.background() || 'white';\n"
	"  }\n"
	"  wait.remove();\n"
	"} catch (problem) {\n"
	"  wait.style.animation = 'none';\n"
	"  wait.textContent = 'cellwall: this figure could not be drawn: ' + problem;\n"
	"}\n"
	"})();\n";
#define RUNTIME_HASH "sha256-1DPDKvEnG0/EAKbzAHtrlwEiYsmArdhRNyIh7GUTgic="

const char *figures_script(const char **ret_hash)
{
	*ret_hash = RUNTIME_HASH;
	return runtime;
}

/* ---- builds ---- */

/* A line with the hash, a line of base64. */
static bool is_build(const char *data, size_t size)
{
	size_t i;

	if (size < HASH_END + 2 || memcmp(data, HASH, strlen(HASH)) != 0 ||
	    data[HASH_END] != '\n' || data[size - 1] != '\n')
		return false;
	for (i = strlen(HASH); i < HASH_END; i++)
		if (!data[i] || !strchr(BASE64, data[i]))
			return false;
	for (i = HASH_END + 1; i < size - 1; i++)
		if (!data[i] || !strchr(BASE64, data[i]))
			return false;
	return true;
}

static void map_build(int directory, const char *name, struct build *build)
{
	cleanup(close_fd) int fd =
		openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat meta;
	void *data;

	if (fd < 0 || fstat(fd, &meta) < 0 || !S_ISREG(meta.st_mode) || meta.st_mode & S_IWOTH ||
	    meta.st_size <= 0 || meta.st_size > FIGURES_MAX)
		return;
	data = mmap(NULL, (size_t)meta.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return;
	if (is_build(data, (size_t)meta.st_size))
		*build = (struct build){data, (size_t)meta.st_size};
	else
		(void)munmap(data, (size_t)meta.st_size);
}

struct figures *figures_open(const char *directory)
{
	static const char *const names[BUILDS] = {"plotly-basic", "plotly-cartesian", "vega",
						  "vega-lite"};
	cleanup(close_fd) int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct figures *figures = calloc(1, sizeof(*figures));

	for (size_t i = 0; figures && fd >= 0 && i < BUILDS; i++)
		map_build(fd, names[i], &figures->builds[i]);
	return figures;
}

struct figures *figures_close(struct figures *figures)
{
	for (size_t i = 0; figures && i < BUILDS; i++)
		if (figures->builds[i].data)
			(void)munmap((void *)(uintptr_t)figures->builds[i].data,
				     figures->builds[i].size);
	free(figures);
	return NULL;
}

/* ---- drawing ---- */

bool figures_is_type(const char *type)
{
	return plot_kind(type) != PLOT_NONE;
}

/* The smallest builds that draw it; their count, or 0 with the reason. */
static size_t choose(const struct figures *figures, enum plot_kind kind, const json_t *figure,
		     const struct build *ret_builds[2], const char **ret_why)
{
	const struct build *builds = figures ? figures->builds : NULL;
	enum plot_traces traces = kind == PLOT_PLOTLY ? plot_traces(figure) : PLOT_BASIC;
	size_t count = 0;

	*ret_why = NULL;
	if (traces == PLOT_OTHER) {
		*ret_why = "a plot in three dimensions, a map or a table is not drawn from its "
			   "data: use mode interactive, or save it with "
			   "fig.write_html(\"plot.html\")";
		return 0;
	}
	if (builds && kind == PLOT_PLOTLY)
		ret_builds[count++] = traces == PLOT_BASIC && builds[BASIC].data
					      ? &builds[BASIC]
					      : &builds[CARTESIAN];
	if (builds && kind != PLOT_PLOTLY)
		ret_builds[count++] = &builds[VEGA];
	if (builds && kind == PLOT_VEGA_LITE)
		ret_builds[count++] = &builds[VEGA_LITE];
	for (size_t i = 0; i < count; i++)
		if (!ret_builds[i]->data)
			count = 0;
	if (count == 0)
		*ret_why = "what draws it is not installed (kernelspec/figures fetches it); a "
			   "picture can be shown";
	return count;
}

static void add_page(struct buffer *out, const struct build *const *builds, size_t count,
		     const char *data)
{
	buffer_text(out, BEGIN);
	for (size_t i = 0; i < count; i++) {
		buffer_text(out, "<script type=\"application/gzip\">");
		buffer_add(out, builds[i]->data + HASH_END + 1, builds[i]->size - HASH_END - 2);
		buffer_text(out, "</script>");
	}
	buffer_text(out, "<script type=\"application/json\" id=data>");
	buffer_text(out, data);
	buffer_text(out, "</script><script>");
	buffer_text(out, runtime);
	buffer_text(out, "</script>");
}

/* In the frames, with a policy that names what runs in it. */
static char *enclose(const struct buffer *page, const struct build *const *builds, size_t count,
		     unsigned height, size_t *ret_size)
{
	struct buffer scripts = {0};
	char *made = NULL;

	buffer_text(&scripts, "'" RUNTIME_HASH "'");
	for (size_t i = 0; i < count; i++) {
		buffer_text(&scripts, " '");
		buffer_add(&scripts, builds[i]->data, HASH_END);
		buffer_text(&scripts, "'");
	}
	if (!scripts.failed && !page->failed)
		made = frame_enclose(page->data, page->size, scripts.data, height, ret_size);
	buffer_done(&scripts);
	return made;
}

char *figures_draw(const struct figures *figures, const char *type, const json_t *figure,
		   size_t *ret_size, const char **ret_why)
{
	static const char large[] = "larger than 2 MiB: fig.write_html(\"plot.html\") or "
				    "chart.save(\"plot.html\") puts it into staging/out";
	const enum plot_kind kind = plot_kind(type);
	const struct build *builds[2];
	cleanup(free_ptr) char *data = NULL, *made = NULL;
	struct buffer page = {0};
	bool remote = false;
	json_t *bare;
	size_t count, size = 0;

	*ret_why = json_is_object(figure) ? NULL : "no figure";
	if (json_dumpb(figure, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) > FIGURES_MAX)
		*ret_why = large;
	bare = *ret_why ? NULL : plot_bare(kind, figure, &remote);
	count = bare ? choose(figures, kind, bare, builds, ret_why) : 0;
	if (count > 0)
		data = plot_text(bare, &size);
	if (data) {
		add_page(&page, builds, count, data);
		made = enclose(&page, builds, count, plot_height(kind, bare), &size);
		buffer_done(&page);
	}
	json_decref(bare);
	if (made && size > FIGURES_MAX) {
		*ret_why = large;
		return NULL;
	}
	if (made && remote)
		*ret_why = "what it loads from the network";
	*ret_size = size;
	return steal_ptr(&made);
}
