#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proxy/known.h"
#include "proxy/outputs.h"

static struct outputs_rules rules;
static struct known *known;
static struct content content;

static json_t *parse(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_ALLOW_NUL, &error);

	if (!value)
		print_error("%s at %d of %s\n", error.text, error.position, text);
	assert_non_null(value);
	return value;
}

static enum content_verdict run(enum content_verdict (*rule)(struct content *content),
				const char *text)
{
	json_decref(content.content);
	json_decref(content.metadata);
	content = (struct content){
		.content = parse(text), .metadata = json_object(), .rules = &rules, .known = known};
	return rule(&content);
}

/* A bundle shown in a mode. */
static void show(enum outputs_mode mode, const char *data, const char *metadata)
{
	char text[4096];

	rules.mode = mode;
	(void)snprintf(text, sizeof(text), "{\"data\": %s, \"metadata\": %s}", data, metadata);
	(void)run(outputs_display, text);
}

static const json_t *shown(const char *type)
{
	return json_object_get(json_object_get(content.content, "data"), type);
}

/* NULL: the type is not there. */
static void check(enum outputs_mode mode, const char *data, const char *type, const char *expected)
{
	show(mode, data, "{}");
	if (expected)
		assert_string_equal(json_string_value(shown(type)), expected);
	else
		assert_null(shown(type));
}

static void has(const char *type, const char *part)
{
	const char *text = json_string_value(shown(type));

	assert_non_null(text);
	assert_non_null(strstr(text, part));
}

static size_t types(void)
{
	return json_object_size(json_object_get(content.content, "data"));
}

static void keeps(enum content_verdict (*rule)(struct content *content), const char *text)
{
	json_t *before = parse(text);

	assert_int_equal(run(rule, text), CONTENT_KEEP);
	assert_true(json_equal(before, content.content));
	assert_int_equal(content.blocked.count, 0);
	json_decref(before);
}

static void makes(enum content_verdict (*rule)(struct content *content), const char *text,
		  const char *expected)
{
	json_t *wanted = parse(expected);

	assert_int_equal(run(rule, text), CONTENT_CHANGED);
	assert_true(json_equal(wanted, content.content));
	json_decref(wanted);
}

static void drops(enum content_verdict (*rule)(struct content *content), const char *text)
{
	assert_int_equal(run(rule, text), CONTENT_DROP);
	assert_int_equal(content.blocked.count, 1);
}

/* ---- messages ---- */

static void harmless_messages_keep_their_bytes(void **state)
{
	(void)state;
	rules.mode = OUTPUTS_STATIC;
	keeps(outputs_stream, "{\"name\":\"stdout\",\"text\":\"x\\n\"}");
	keeps(outputs_stream, "{\"name\":\"stderr\",\"text\":\"\\u001b[31mx\\u001b[0m\"}");
	keeps(outputs_result,
	      "{\"execution_count\":1,\"data\":{\"text/plain\":\"1\"},\"metadata\":{}}");
	keeps(outputs_display,
	      "{\"data\":{\"image/png\":\"iVBORw0KGgoAAAANSUhEUg==\",\"text/plain\":"
	      "\"<Figure>\"},\"metadata\":{\"image/png\":{\"width\":640,\"height\":480},"
	      "\"needs_background\":\"light\"},\"transient\":{}}");
	keeps(outputs_display,
	      "{\"data\":{\"text/latex\":\"$\\\\displaystyle x^{2}$\",\"text/plain\":"
	      "\"x\"},\"metadata\":{},\"transient\":{\"display_id\":\"a1\"}}");
	keeps(outputs_update, "{\"data\":{\"text/plain\":\"y\"},\"metadata\":{},\"transient\":"
			      "{\"display_id\":\"a1\"}}");
	keeps(outputs_display, "{\"data\":{\"text/html\":\"<b>x</b>\"},\"metadata\":{}}");
	keeps(outputs_display,
	      "{\"data\":{\"application/vnd.jupyter.widget-view+json\":{\"version_major\":2,"
	      "\"version_minor\":0,\"model_id\":\"0123456789abcdef\"}},\"metadata\":{}}");
	keeps(outputs_display, "{\"data\":{\"application/json\":{\"a\":[1,null]}},\"metadata\":"
			       "{\"application/json\":{\"expanded\":false,\"root\":\"root\"}}}");
	keeps(outputs_clear, "{\"wait\":true}");
	keeps(outputs_error,
	      "{\"ename\":\"E\",\"evalue\":\"v\",\"traceback\":[\"\\u001b[0;31mx\"]}");
}

static void messages_lose_what_does_not_belong(void **state)
{
	(void)state;
	rules.mode = OUTPUTS_STATIC;
	makes(outputs_stream, "{\"name\":\"stdout\",\"text\":\"\\u001b[2Jx\",\"y\":1}",
	      "{\"name\":\"stdout\",\"text\":\"x\"}");
	makes(outputs_clear, "{\"wait\":\"yes\",\"x\":1}", "{\"wait\":false}");
	makes(outputs_error,
	      "{\"ename\":1,\"evalue\":\"\\u001b]0;x\\u0007v\",\"traceback\":[1,\"\\u001b[2Jt\"],"
	      "\"status\":\"error\"}",
	      "{\"ename\":\"\",\"evalue\":\"v\",\"traceback\":[\"t\"]}");
	makes(outputs_error, "{}", "{\"ename\":\"\",\"evalue\":\"\",\"traceback\":[]}");
	makes(outputs_result, "{\"execution_count\":1,\"data\":{\"text/plain\":\"1\"},\"x\":{}}",
	      "{\"execution_count\":1,\"data\":{\"text/plain\":\"1\"},\"metadata\":{}}");
	makes(outputs_display,
	      "{\"data\":{\"text/plain\":\"1\"},\"metadata\":{},\"transient\":{\"display_id\":[1],"
	      "\"x\":2}}",
	      "{\"data\":{\"text/plain\":\"1\"},\"metadata\":{},\"transient\":{}}");
	drops(outputs_stream, "{\"name\":\"stdlog\",\"text\":\"x\"}");
	drops(outputs_stream, "{\"name\":\"stdout\",\"text\":[\"x\"]}");
	drops(outputs_display, "{\"data\":[]}");
	drops(outputs_result, "{\"data\":{},\"metadata\":{}}");
}

static void only_what_was_shown_is_updated(void **state)
{
	(void)state;
	rules.mode = OUTPUTS_STATIC;
	drops(outputs_update, "{\"data\":{\"text/plain\":\"y\"},\"metadata\":{},\"transient\":"
			      "{\"display_id\":\"never-shown\"}}");
	drops(outputs_update, "{\"data\":{\"text/plain\":\"y\"},\"metadata\":{},\"transient\":{}}");
	(void)run(outputs_result, "{\"execution_count\":1,\"data\":{},\"metadata\":{},"
				  "\"transient\":{\"display_id\":\"r\"}}");
	makes(outputs_update,
	      "{\"data\":{\"text/plain\":\"\\u001b[2Jy\"},\"metadata\":{},\"transient\":"
	      "{\"display_id\":\"r\"}}",
	      "{\"data\":{\"text/plain\":\"y\"},\"metadata\":{},\"transient\":"
	      "{\"display_id\":\"r\"}}");
}

static void a_trusted_kernel_is_not_looked_at(void **state)
{
	(void)state;
	rules.mode = OUTPUTS_OFF;
	keeps(outputs_display, "{\"data\":{\"application/javascript\":\"1\"},\"metadata\":{}}");
	keeps(outputs_stream, "{\"name\":\"stdout\",\"text\":\"https://x\"}");
}

/* ---- bundles ---- */

static void scripts_never_pass(void **state)
{
	(void)state;
	check(OUTPUTS_STATIC, "{\"application/javascript\":\"alert(1)\",\"text/plain\":\"<obj>\"}",
	      "text/plain",
	      "<obj>\n[cellwall blocked: application/javascript, 8 bytes: scripts do not run in "
	      "the "
	      "page; mode static, \"interactive\" runs scripts of HTML (policy, outputs.mode)]");
	assert_int_equal(types(), 1);
	assert_int_equal(content.blocked.count, 1);
	check(OUTPUTS_INTERACTIVE, "{\"text/javascript\":\"alert(1)\"}", "text/plain",
	      "[cellwall blocked: text/javascript, 8 bytes: scripts do not run in the page; mode "
	      "interactive]");
	check(OUTPUTS_STATIC,
	      "{\"application/vnd.bokehjs_exec.v0+json\":\"\",\"application/javascript\":\"1\"}",
	      "text/html", NULL);
	assert_int_equal(types(), 1);
	check(OUTPUTS_STATIC,
	      "{\"application/javascript\":\"alert(1)\",\"text/html\":\"<b>x</b>\"}", "text/html",
	      "<div><small>[cellwall blocked: application/javascript, 8 bytes: scripts do not run "
	      "in the page; mode static, &quot;interactive&quot; runs scripts of HTML (policy, "
	      "outputs.mode)]</small></div><b>x</b>");
}

static void keys_are_exact(void **state)
{
	(void)state;
	show(OUTPUTS_STATIC,
	     "{\"TEXT/HTML\":\"<b>\",\"text/html; charset=utf-8\":\"<b>\",\" text/html\":\"<b>\"}",
	     "{}");
	assert_int_equal(types(), 1);
	has("text/plain", "not a type that passes; mode static]");
	show(OUTPUTS_STATIC, "{\"application/pdf\":\"x\",\"text/plain\":\"y\"}", "{}");
	has("text/plain", "y\n[cellwall blocked: application/pdf, 1 bytes: ");
	show(OUTPUTS_STATIC, "{\"application/vnd.plotly.v1+json\":{\"data\":[]}}", "{}");
	has("text/plain", "what draws it is not installed (kernelspec/figures fetches it)");
	show(OUTPUTS_STATIC, "{\"text/plain\":{\"a\":1}}", "{}");
	has("text/plain", "neither text nor lines of text");
}

static void html_is_inline_or_framed(void **state)
{
	(void)state;
	check(OUTPUTS_STATIC, "{\"text/html\":[\"<b>\",\"x</b>\"]}", "text/html", "<b>x</b>");
	show(OUTPUTS_STATIC, "{\"text/html\":\"<div id=\\\"x\\\">y</div>\",\"text/plain\":\"p\"}",
	     "{}");
	assert_memory_equal(json_string_value(shown("text/html")), "<iframe sandbox=\"\" srcdoc=\"",
			    27);
	assert_string_equal(json_string_value(shown("text/plain")), "p");
	show(OUTPUTS_STATIC, "{\"text/html\":\"<script>fetch('/api')</script>hi\"}", "{}");
	has("text/html",
	    "<div><small>[cellwall blocked: text/html, 32 bytes: scripts; mode static");
	has("text/html", "<iframe sandbox=\"\" srcdoc=\"");
	assert_null(strstr(json_string_value(shown("text/html")), "fetch("));
	show(OUTPUTS_STATIC,
	     "{\"text/html\":\"<div></div><script>1</script>\",\"text/plain\":\"p\"}", "{}");
	assert_null(shown("text/html"));
	has("text/plain", "p\n[cellwall blocked: text/html, 29 bytes: scripts; mode static");
	show(OUTPUTS_STATIC, "{\"text/html\":\"<img src=https://attacker.example>\"}", "{}");
	has("text/html", "what it loads from the network; mode static]");
	show(OUTPUTS_INTERACTIVE, "{\"text/html\":\"<script>1</script>\"}", "{}");
	has("text/html", "<iframe sandbox=\"allow-scripts\" srcdoc=\"");
	has("text/html", "&amp;lt;script&amp;gt;1");
}

static void text_mode_shows_text_and_pictures(void **state)
{
	(void)state;
	show(OUTPUTS_TEXT,
	     "{\"text/html\":\"<b>x</b>\",\"text/plain\":\"p\",\"text/markdown\":\"x\","
	     "\"application/json\":{},\"image/png\":\"iVBORw0KGgoAAAANSUhEUg==\"}",
	     "{}");
	assert_int_equal(types(), 2);
	assert_string_equal(json_string_value(shown("text/plain")), "p");
	assert_non_null(shown("image/png"));
	check(OUTPUTS_TEXT, "{\"text/html\":\"<b>x</b>\"}", "text/plain",
	      "[cellwall blocked: text/html, 8 bytes: text and pictures alone; mode text, "
	      "\"static\" shows more (policy, outputs.mode)]");
	check(OUTPUTS_TEXT, "{\"text/html\":\"<b>x</b>\",\"text/plain\":\"x\"}", "text/plain", "x");
	check(OUTPUTS_TEXT, "{\"text/html\":\"<b>x</b>\",\"text/plain\":\"<HTML object>\"}",
	      "text/plain",
	      "<HTML object>\n[cellwall blocked: text/html, 8 bytes: text and pictures alone; mode "
	      "text, \"static\" shows more (policy, outputs.mode)]");
	check(OUTPUTS_TEXT,
	      "{\"application/vnd.jupyter.widget-view+json\":{\"model_id\":\"a\"},"
	      "\"text/plain\":\"IntSlider(value=7)\"}",
	      "text/plain",
	      "IntSlider(value=7)\n[cellwall blocked: application/vnd.jupyter.widget-view+json, "
	      "16 bytes: text and pictures alone; mode text, \"static\" shows more (policy, "
	      "outputs.mode)]");
}

/* What R sends: the text is not needed for what its Markdown could not be. */
static void text_stays_beside_markup(void **state)
{
	(void)state;
	show(OUTPUTS_STATIC,
	     "{\"text/plain\":\"p\",\"text/html\":\"<b>x</b>\",\"text/markdown\":\"a &lt;int&gt; "
	     "<b>\"}",
	     "{}");
	assert_string_equal(json_string_value(shown("text/plain")), "p");
	show(OUTPUTS_STATIC, "{\"text/plain\":\"p\",\"text/markdown\":\"a <b>\"}", "{}");
	assert_non_null(strstr(json_string_value(shown("text/plain")), "a <b>"));
}

static void pictures_are_checked(void **state)
{
	(void)state;
	check(OUTPUTS_STATIC, "{\"image/png\":\"iVBORw0KGgoAAAANSUhEUg==\\n\"}", "image/png",
	      "iVBORw0KGgoAAAANSUhEUg==");
	check(OUTPUTS_STATIC, "{\"image/png\":\"iVBORw0KGgo=\\\" onerror=\\\"alert(1)\"}",
	      "image/png", NULL);
	check(OUTPUTS_STATIC, "{\"image/svg+xml\":\"<svg onload='x'/>\"}", "text/html",
	      "<img src=\"data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9J3gnLz4=\">");
	assert_int_equal(types(), 1);
	check(OUTPUTS_STATIC, "{\"image/svg+xml\":\"<svg/>\",\"text/html\":\"<b>x</b>\"}",
	      "text/html", "<b>x</b>");
	check(OUTPUTS_STATIC, "{\"image/svg+xml\":\"<script>1</script>\"}", "text/html", NULL);
}

static void markdown_without_markup_passes(void **state)
{
	static const char *const kept[] = {
		"# Title\\n\\n**bold** `code` $x^2$ 1 < 2 & 3\\n\\n| a |\\n|---|\\n| 1 |",
		"```python\\nif x[0] < 1: pass\\n```",
		"> ``` c++ linenos=1\\n> x = \\\"$\\\"\\n> ```\\n~~~ text/x-c\\n~~~",
		"```('x')``` and ~~gone~~",
		"Term\\n\\n~ ``` python\\n  x = {1: `2`}\\n  ```",
		"``a`b`` and `{}` `{'a': 1}` `{\\\"a\\\": {}}` {x} `y`",
		"```r\\nstats:::f(function() { 1 })\\n```\\n::: note",
		"R & D",
	};
	static const char *const refused[] = {
		"[x](javascript:fetch('/api/terminals')) <img src=x onerror=alert(1)>",
		"<b>x</b>",
		"[x](https://x.example)",
		"![x](data:image/png;base64,x)",
		"[x][y]\\n\\n[y]: javascript:1",
		"&#106;avascript:1",
		"&lt;b",
		"<!-- x",
		"```mermaid\\ngraph\\n```",
		"$\\\\href{javascript:1}{x}$",
		"data:(x) [a](b)",
		"```x\\\" style=\\\"background:url(//x.example)\\nx\\n```",
		"  ```$x$\\nx\\n  ```",
		"> ~~~~ @\\\\@0@@\\nx",
		"````\\\\begin{x}\\n",
		"```$\\\"x=y$`\\n",
		"~~~`\\\"`",
		"```{image} //x.example\\n```",
		"::::{iframe} //x.example\\n::::",
		"Term\\n\\n~ ```{image} //x.example/y",
		"Term\\n\\n~ ```{image} //x.example/y `",
		"Term\\n\\n: - ~~~{image} //x.example/y",
		"`x` ~ ~~~{image} //x.example/y",
		":::\\u00a0{iframe} //x.example",
		":::\\u2003{iframe} //x.example",
		"> 1. :::\\ufeff{iframe} //x.example",
		"{download}`//x.example/a`",
		"{\\u00a0download #a}``//x.example/a``",
		"\\\\{'a {\\ndownload}`//x.example/a`",
		"{math}`x`",
		"H{sub}`2`O",
	};
	char data[512];

	(void)state;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		(void)snprintf(data, sizeof(data), "{\"text/markdown\":\"%s\"}", kept[i]);
		show(OUTPUTS_STATIC, data, "{}");
		assert_non_null(shown("text/markdown"));
		assert_int_equal(content.blocked.count, 0);
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		(void)snprintf(data, sizeof(data),
			       "{\"text/markdown\":\"%s\",\"text/plain\":\"p\"}", refused[i]);
		show(OUTPUTS_STATIC, data, "{}");
		assert_null(shown("text/markdown"));
		has("text/plain", "[cellwall blocked: text/markdown, ");
		assert_int_equal(types(), 1);
	}
	check(OUTPUTS_STATIC, "{\"text/markdown\":\"see https://x.example\"}", "text/markdown",
	      "see https[:]//x.example");
	rules.links = true;
	check(OUTPUTS_STATIC, "{\"text/markdown\":\"[x](https://x.example/a?b=c)\"}",
	      "text/markdown", "[x](https://x.example/a?b=c)");
	check(OUTPUTS_STATIC, "{\"text/markdown\":\"https://x.example/@y www.x.example $x$\"}",
	      "text/markdown", "https://x.example/@y www.x.example $x$");
	check(OUTPUTS_STATIC, "{\"text/markdown\":\"[x](https://x.example/$) y=$)\"}",
	      "text/markdown", NULL);
	check(OUTPUTS_STATIC, "{\"text/markdown\":\"https://x.example/$ y=$\"}", "text/markdown",
	      NULL);
	check(OUTPUTS_STATIC, "{\"text/markdown\":\"WWW.x.example/@@0@@\"}", "text/markdown", NULL);
	check(OUTPUTS_STATIC, "{\"text/markdown\":\"[x](//x.example)\"}", "text/markdown", NULL);
	check(OUTPUTS_STATIC, "{\"text/markdown\":\"[x](javascript:alert)\"}", "text/markdown",
	      NULL);
	rules.links = false;
}

static void latex_has_no_macros_that_act(void **state)
{
	static const char *const refused[] = {
		"\\\\href{javascript:1}{x}", "\\\\require{html}",
		"\\\\style{x}{y}",	     "\\\\def\\\\x{y}",
		"\\\\let\\\\x\\\\y",	     "\\\\includegraphics{x}",
		"\\\\newcommand{x}",	     "\\\\url{x}",
		"\\\\hr\\u0001ef{x}{y}",     "\\\\fcolorbox{red}{x;background:url(y)}{z}"};
	char data[256];

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		(void)snprintf(data, sizeof(data), "{\"text/latex\":\"$%s$\"}", refused[i]);
		show(OUTPUTS_STATIC, data, "{}");
		assert_null(shown("text/latex"));
		has("text/plain", "a macro that links, loads or defines");
	}
	check(OUTPUTS_STATIC, "{\"text/latex\":\"$a<b \\\\leq \\\\left( \\\\newline$\"}",
	      "text/latex", "$a< b \\leq \\left( \\newline$");
}

/* VS Code reads LaTeX as Markdown, and puts strings of JSON as they are into a block of code of it.
 */
static void latex_and_json_are_no_markdown(void **state)
{
	json_t *wanted;

	(void)state;
	check(OUTPUTS_STATIC, "{\"text/latex\":\"$x$ ![a](https://x.example/) [b][c] [c]: d\"}",
	      "text/latex", "$x$ ! [a] (https[:]//x.example/) [b] [c] [c] : d");
	check(OUTPUTS_STATIC,
	      "{\"text/latex\":\"$\\\\left[0, 1\\\\right]_{i}^{2} n! \\\\\\\\[2pt]$\"}",
	      "text/latex", "$\\left[0, 1\\right]_{i}^{2} n! \\\\[2pt]$");
	check(OUTPUTS_STATIC, "{\"text/latex\":\"```mermaid\\nx\"}", "text/latex", NULL);
	show(OUTPUTS_STATIC,
	     "{\"application/json\":[\"\\n```\\n![x](y)\",[\"`````\"],{\"a\":\"```\"},1]}", "{}");
	wanted = parse("[\"\\n``\\u200b`\\n![x](y)\",[\"``\\u200b``\\u200b`\"],"
		       "{\"a\":\"```\"},1]");
	assert_true(json_equal(shown("application/json"), wanted));
	json_decref(wanted);
}

/* A type's name is the kernel's choice. */
static void lines_of_our_own_make_no_links(void **state)
{
	(void)state;
	check(OUTPUTS_STATIC, "{\"https://x.example/www.y.example\":1}", "text/plain",
	      "[cellwall blocked: https[:]//x.example/www[.]y.example, 1 bytes: not a type that "
	      "passes; mode static]");
	show(OUTPUTS_STATIC, "{\"text/html\":\"<script>1</script>x\",\"www.y.example\":1}", "{}");
	has("text/html", "www[.]y.example");
}

static void traceback(const char *line, const char *expected)
{
	json_t *lines = json_pack("[s]", line);

	rules.mode = OUTPUTS_STATIC;
	(void)run(outputs_error, "{}");
	json_decref(content.content);
	content.content =
		json_pack("{s:s, s:s, s:o}", "ename", "E", "evalue", "v", "traceback", lines);
	assert_int_equal(outputs_error(&content),
			 strcmp(line, expected) ? CONTENT_CHANGED : CONTENT_KEEP);
	assert_string_equal(json_string_value(json_array_get(lines, 0)), expected);
}

#define APART "\xe2\x80\x8b"

/* VS Code makes markup of the places in a traceback. */
static void tracebacks_make_no_markup(void **state)
{
	static const char *const plain[] = {
		"\x1b[31mZeroDivisionError\x1b[39m            Traceback (most recent call last)",
		"\x1b[36mCell\x1b[39m\x1b[36m \x1b[39m\x1b[32mIn[3]\x1b[39m, line 2",
		"File \x1b[32m~/x.py:3\x1b[39m, in \x1b[36mf\x1b[39m\x1b[34m(a, b)\x1b[39m",
		"  File \"/usr/lib/x.py\", line 3, in <module>\n    x = 'File'",
		"x <ast.Name object> < a, File 'x', Input 'x', Cell 'y'",
	};
	static char colours[300001];

	(void)state;
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		traceback(plain[i], plain[i]);
	for (size_t i = 0; i < sizeof(colours) - 1; i++)
		colours[i] = "\x1b[m"[i % 3]; /* each is looked at once */
	traceback(colours, colours);
	traceback("x <a href='y'>z</a>\n<abbr>", "x <" APART "a href='y'>z</a>\n<" APART "abbr>");
	traceback("<\x1b[41mA\x1b[41m\thref", "<" APART "\x1b[41mA\x1b[41m\thref");
	traceback("File x' onclick='y:3", "File" APART " x' onclick='y:3");
	traceback("Fi\x1b[41mle x' onclick='y:\x1b[41m3",
		  "Fi\x1b[41mle" APART " x' onclick='y:\x1b[41m3");
	traceback("'><img>Cell In [1], line 6", "'><img>Cell" APART " In [1], line 6");
	traceback("$& Input \x1b[0mIn \x1b[0m[1] '", "$& Input" APART " \x1b[0mIn \x1b[0m[1] '");
}

static void metadata_is_what_is_known(void **state)
{
	json_t *expected;

	(void)state;
	show(OUTPUTS_STATIC,
	     "{\"image/png\":\"iVBORw0KGgoAAAANSUhEUg==\",\"text/html\":\"<b>x</b>\"}",
	     "{\"image/png\":{\"width\":\"100%\\\" "
	     "onload=\\\"x\",\"height\":-1,\"unconfined\":true,"
	     "\"needs_background\":\"x\"},\"text/html\":{\"isolated\":true},\"isolated\":true,"
	     "\"filenames\":{\"image/png\":\"https://x\"},\"fragment\":\"body *\","
	     "\"scrapbook\":{\"name\":\"a\",\"x\":1,\"data\":true}}");
	expected = parse("{\"image/png\":{\"unconfined\":true},\"scrapbook\":{\"name\":\"a\","
			 "\"data\":true}}");
	assert_true(json_equal(json_object_get(content.content, "metadata"), expected));
	json_decref(expected);
	show(OUTPUTS_STATIC,
	     "{\"application/vnd.jupyter.widget-view+json\":{\"model_id\":\"0123\",\"x\":1}}",
	     "{\"application/vnd.jupyter.widget-view+json\":{\"colab\":{\"url\":\"https://x\"}}}");
	assert_int_equal(json_object_size(json_object_get(content.content, "metadata")), 0);
	assert_null(json_object_get(shown("application/vnd.jupyter.widget-view+json"), "x"));
	show(OUTPUTS_STATIC,
	     "{\"application/vnd.jupyter.widget-view+json\":{\"model_id\":\"a b\"}}", "{}");
	assert_null(shown("application/vnd.jupyter.widget-view+json"));
}

static void what_others_keep_for_later_passes(void **state)
{
	static char csv[] = "text/csv", *const listed[] = {csv, NULL};
	char *list[2];

	(void)state;
	memcpy(list, listed, sizeof(list));
	show(OUTPUTS_TEXT,
	     "{\"application/scrapbook.scrap.json+json\":{\"name\":\"a\",\"data\":1},"
	     "\"application/papermill.record/text/plain\":\"\\u001b[2Jx\","
	     "\"application/papermill.record/application/javascript\":\"1\"}",
	     "{}");
	assert_int_equal(types(), 2);
	assert_string_equal(json_string_value(shown("application/papermill.record/text/plain")),
			    "x");
	show(OUTPUTS_STATIC, "{\"text/csv\":\"a,b\"}", "{}");
	assert_null(shown("text/csv"));
	rules.mime = list;
	show(OUTPUTS_STATIC, "{\"text/csv\":\"a,b\"}", "{\"text/csv\":{\"x\":1}}");
	assert_int_equal(content.blocked.count, 0);
	assert_string_equal(json_string_value(shown("text/csv")), "a,b");
	rules.mime = NULL;
}

static void bundles_are_bounded(void **state)
{
	char *text = malloc(3 << 20);
	json_t *data = json_object(), *metadata = json_object();
	char key[64];

	(void)state;
	assert_non_null(text);
	memset(text, 'x', 2 << 20);
	text[2 << 20] = '\0';
	json_object_set_new(data, "text/plain", json_string(text));
	for (int i = 0; i < 40; i++) {
		(void)snprintf(key, sizeof(key), "application/scrapbook.scrap.a%d+json", i);
		json_object_set_new(data, key, json_integer(i));
	}
	rules.mode = OUTPUTS_STATIC;
	(void)run(outputs_clear, "{}");
	assert_int_equal(outputs_bundle(data, metadata, &content), 1);
	assert_int_equal(json_object_size(data), 16);
	assert_int_equal(json_string_length(json_object_get(data, "text/plain")), 2 << 20);
	json_decref(data);
	json_decref(metadata);
	free(text);
}

static int set_up(void **state)
{
	const struct known_comm widget = {.kind = KNOWN_WIDGET, .open = true, .model = 1};

	(void)state;
	known = known_new();
	return known && known_comm_set(known, "0123456789abcdef", &widget) == 0 &&
			       known_comm_set(known, "0123", &widget) == 0
		       ? 0
		       : -1;
}

static int tear_down(void **state)
{
	(void)state;
	json_decref(content.content);
	json_decref(content.metadata);
	known_free(known);
	return 0;
}

static void only_widgets_that_there_are(void **state)
{
	(void)state;
	run(outputs_display,
	    "{\"data\":{\"application/vnd.jupyter.widget-view+json\":{\"model_id\":"
	    "\"ffff\"},\"text/plain\":\"x\"},\"metadata\":{}}");
	assert_null(json_object_get(json_object_get(content.content, "data"),
				    "application/vnd.jupyter.widget-view+json"));
}

/* What comes back through a widget is not put in frames again. */
static void made_markup_is_kept(void **state)
{
	char *sent;

	(void)state;
	rules.mode = OUTPUTS_STATIC;
	assert_int_equal(run(outputs_display, "{\"data\":{\"text/html\":\"<svg onload=x>\"},"
					      "\"metadata\":{}}"),
			 CONTENT_CHANGED);
	sent = json_dumps(content.content, 0);
	assert_non_null(strstr(sent, "srcdoc"));
	assert_int_equal(run(outputs_display, sent), CONTENT_KEEP);
	free(sent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_widgets_that_there_are),
		cmocka_unit_test(made_markup_is_kept),
		cmocka_unit_test(harmless_messages_keep_their_bytes),
		cmocka_unit_test(messages_lose_what_does_not_belong),
		cmocka_unit_test(only_what_was_shown_is_updated),
		cmocka_unit_test(a_trusted_kernel_is_not_looked_at),
		cmocka_unit_test(scripts_never_pass),
		cmocka_unit_test(keys_are_exact),
		cmocka_unit_test(html_is_inline_or_framed),
		cmocka_unit_test(text_mode_shows_text_and_pictures),
		cmocka_unit_test(text_stays_beside_markup),
		cmocka_unit_test(pictures_are_checked),
		cmocka_unit_test(markdown_without_markup_passes),
		cmocka_unit_test(latex_has_no_macros_that_act),
		cmocka_unit_test(latex_and_json_are_no_markdown),
		cmocka_unit_test(lines_of_our_own_make_no_links),
		cmocka_unit_test(tracebacks_make_no_markup),
		cmocka_unit_test(metadata_is_what_is_known),
		cmocka_unit_test(what_others_keep_for_later_passes),
		cmocka_unit_test(bundles_are_bounded),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
