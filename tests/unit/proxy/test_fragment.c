#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proxy/fragment.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* NULL: refused. What is accepted is accepted again and unchanged. */
static void check(const char *html, const char *expected)
{
	size_t size = 0, again_size = 0;
	char *made = fragment_rewrite(html, strlen(html), &size), *again;

	if (!expected) {
		assert_null(made);
		return;
	}
	assert_non_null(made);
	assert_string_equal(made, expected);
	again = fragment_rewrite(made, size, &again_size);
	assert_non_null(again);
	assert_string_equal(again, made);
	free(again);
	free(made);
}

static void same(const char *html)
{
	check(html, html);
}

#define PANDAS_STYLE                                                                               \
	"<style scoped>\n    .dataframe tbody tr th:only-of-type {\n        vertical-align: "      \
	"middle;\n    }\n\n    .dataframe tbody tr th {\n        vertical-align: top;\n    }\n\n"  \
	"    .dataframe thead th {\n        text-align: right;\n    }\n</style>\n"
#define PANDAS_TABLE                                                                               \
	"<table border=\"1\" class=\"dataframe\">\n  <thead>\n    <tr style=\"text-align: "        \
	"right\">\n      <th></th>\n      <th>a</th>\n    </tr>\n  </thead>\n  <tbody>\n    "      \
	"<tr>\n      <th>0</th>\n      <td>1 &lt; 2</td>\n    </tr>\n  </tbody>\n</table>\n"       \
	"<p>1 rows \xc3\x97 1 columns</p>\n</div>"
#define POLARS_STYLE                                                                               \
	"<style>\n.dataframe > thead > tr,\n.dataframe > tbody > tr {\n  text-align: right;\n  "   \
	"white-space: pre-wrap;\n}\n</style>\n"

static void tables_of_libraries_pass(void **state)
{
	(void)state;
	check("<div>\n" PANDAS_STYLE PANDAS_TABLE, "<div>\n\n" PANDAS_TABLE);
	check("<div>" POLARS_STYLE "<small>shape: (1, 1)</small></div>",
	      "<div>\n<small>shape: (1, 1)</small></div>");
	same("<table><tr><th colspan=\"2\" halign=\"left\">x</th><td rowspan=\"3\" "
	     "valign=\"top\">y</td></tr></table>");
	check("<pre style=\"white-space:pre;overflow-x:auto;line-height:normal;font-family:Menlo,"
	      "'DejaVu Sans Mono',consolas,'Courier New',monospace\"><span style=\"color: "
	      "#800000; text-decoration-color: #800000; font-weight: bold\">x</span> <a "
	      "href=\"https://example.org\" target=\"_blank\">link</a>\n</pre>\n",
	      "<pre style=\"white-space: pre; overflow-x: auto; line-height: normal; font-family: "
	      "Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace\"><span style=\"color: "
	      "#800000; text-decoration-color: #800000; font-weight: bold\">x</span> link\n"
	      "</pre>\n");
	same("<img src=\"data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==\" width=\"10\" "
	     "height=\"20\" alt=\"a &lt;b&gt;\">");
	same("<h1>x</h1><ul><li>a<ul><li>b</li></ul></li></ul><hr>one<br>two");
	check("<b>x</b><br/><br />", "<b>x</b><br><br>");
	check("<table class=\"dataframe\">\n<caption>A data.frame: 1 \xc3\x97 "
	      "1</caption>\n<thead>\n"
	      "\t<tr><th></th><th scope=col>x</th></tr>\n</thead>\n<tbody>\n"
	      "\t<tr><th scope=row>r1</th><td>1</td></tr>\n</tbody>\n</table>\n",
	      "<table class=\"dataframe\">\n<caption>A data.frame: 1 \xc3\x97 "
	      "1</caption>\n<thead>\n"
	      "\t<tr><th></th><th scope=\"col\">x</th></tr>\n</thead>\n<tbody>\n"
	      "\t<tr><th scope=\"row\">r1</th><td>1</td></tr>\n</tbody>\n</table>\n");
	check("<table><tr><th scope=co-l>x</th></tr></table>", NULL);
	check("<table><tr><th scope=>x</th></tr></table>", NULL);
	check("<table><tr><th scope=col style=color:red>x</th></tr></table>", NULL);
	check("<table><tr><th colspan=2>x</th></tr></table>", NULL);
}

static void text_is_written_anew(void **state)
{
	(void)state;
	check("a & b &amp;&lt;&gt;&quot;&#39;&#x41;&nbsp;&hellip; > \" '",
	      "a &amp; b &amp;&lt;&gt;&quot;&#39;A\xc2\xa0\xe2\x80\xa6 &gt; &quot; &#39;");
	check("a $x$ \\(y\\) &#36;", "a <span>$</span>x<span>$</span> <span>\\</span>(y"
				     "<span>\\</span>) <span>$</span>");
	check("a\r\nb\rc", "a\nb\nc");
	check("a\xe2\x80\xae"
	      "b",
	      "a[U+202E]b");
	check("a&#x202e;b", "a[U+202E]b");
}

static void all_else_is_refused(void **state)
{
	static const char *const refused[] = {
		"<script>1</script>",
		"\"></iframe><script>1</script>",
		"<B>x</B>",
		"<b>x",
		"x</b>",
		"<b><i>x</b></i>",
		"<b onclick=\"x\">x</b>",
		"<b onclick=x>x</b>",
		"<b id=\"x\">x</b>",
		"<b class=\"jp-Button\">x</b>",
		"<b class='dataframe'>x</b>",
		"<b class=\"dataframe\" class=\"dataframe\">x</b>",
		"<td\x01 onclick=alert(1)>x</td>",
		"<td>x</td>",
		"<table>x</table>",
		"<table><td>x</td></table>",
		"<table><tr>x</tr></table>",
		"<tr><td>x</td></tr>",
		"<p><div>x</div></p>",
		"<p><table></table></p>",
		"<h1><h2>x</h2></h1>",
		"<ul>x</ul>",
		"<li>x</li>",
		"<div style=\"background-image:url('https://x')\">x</div>",
		"<div style=\"background:url(https://x)\">x</div>",
		"<b style=\"width:expression(alert(1));\\62 ackground:u\\72l(//x)\">x</b>",
		"<b style=\"position:fixed\">x</b>",
		"<b style=\"color:rgb(1,2,3);/**/top:0\">x</b>",
		"<b style=\"margin:-500px\">x</b>",
		"<b style=\"height:99999px\">x</b>",
		"<b style=\"color:var(--x)\">x</b>",
		"<b style=\"font-family:'x\">x</b>",
		"<b style=\"color\">x</b>",
		"<img src=\"https://x/y.png\">",
		"<img src=\"/api/contents\">",
		"<img src=\"data:image/png;base64,AAAA\">",
		"<img src=\"data:text/html;base64,AAAA\">",
		"<img src=\"data:image/svg+xml,<svg>\">",
		"<b src=\"data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==\">x</b>",
		"<style>body{display:none}</style>",
		"<style>.dataframe{} body{display:none}</style>",
		"<style scoped>.dataframe</style><b>",
		"<svg><image href=https://x></image></svg>",
		"<table><tr><td><svg><style><img title=\"</style><img src=x onerror=alert(1)>\">",
		"<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
		"<!-- x -->",
		"<!DOCTYPE html>",
		"<math><mi>x</mi></math>",
		"<button data-commandlinker-command=\"x\">y</button>",
		"<a href='x'>x</a>",
		"<a href=\"x\" ping=\"y\">x</a>",
		"a &unknown; b",
		"a &lt b",
		"a &#0; b",
		"a &#xd800; b",
		"a &#99999999999; b",
		"a\x08z",
		"a < b",
		"<",
		"</",
		"<b",
		"<b ",
		"<b style=\"",
		"x\xff",
		"x\xe2\x80",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		if (refused[i])
			check(refused[i], NULL);
	}
}

static void depth_is_bounded(void **state)
{
	char html[FRAGMENT_DEPTH * 7 + 8];
	size_t size = sizeof(html) - 1;

	(void)state;
	for (size_t i = 0; i < FRAGMENT_DEPTH + 1; i++) {
		memcpy(html + 3 * i, "<b>", 3);
		memcpy(html + 3 * (FRAGMENT_DEPTH + 1) + 4 * i, "</b>", 4);
	}
	html[size] = '\0';
	check(html, NULL);
	html[size - 4] = '\0';
	same(html + 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_of_libraries_pass),
		cmocka_unit_test(text_is_written_anew),
		cmocka_unit_test(all_else_is_refused),
		cmocka_unit_test(depth_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
