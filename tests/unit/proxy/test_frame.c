#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proxy/frame.h"
#include "proxy/picture.h"

/* ---- a small reader of our own frames ---- */

/* The value of srcdoc in `html`, decoded (caller frees); what it holds raw is checked. */
static char *srcdoc_of(const char *html)
{
	static const struct {
		const char *entity;
		char c;
	} entities[] = {
		{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}};
	const char *at = strstr(html, "srcdoc=\"");
	char *value, *to;

	assert_non_null(at);
	at += strlen("srcdoc=\"");
	value = to = malloc(strlen(html) + 1);
	assert_non_null(value);
	while (*at != '"') {
		size_t i = 0;

		assert_true(*at != '\0' && *at != '<' && *at != '>' && *at != '\'');
		while (i < 5 && strncmp(at, entities[i].entity, strlen(entities[i].entity)) != 0)
			i++;
		*to++ = i < 5 ? entities[i].c : *at;
		at += i < 5 ? strlen(entities[i].entity) : 1;
		assert_true(i < 5 || to[-1] != '&');
	}
	*to = '\0';
	assert_null(strstr(at, "srcdoc"));
	return value;
}

/* The innermost body (caller frees), with everything around it checked. */
static char *body_of(const char *html, bool scripts)
{
	static const char start[] = "<!DOCTYPE html><html><head>"
				    "<meta http-equiv=\"Content-Security-Policy\" content=\"";
	char *outer = srcdoc_of(html), *inner = srcdoc_of(outer), *body;

	assert_memory_equal(outer, start, strlen(start));
	assert_memory_equal(inner, start, strlen(start));
	assert_non_null(strstr(outer, "; frame-src 'none'\">"));
	assert_null(strstr(inner, "frame-src"));
	assert_non_null(strstr(inner, "\"><meta charset=utf-8><meta "
				      "http-equiv=\"x-dns-prefetch-control\" content=\"off\">"));
	for (int i = 0; i < 2; i++) {
		const char *document = i ? inner : outer, *around = i ? outer : html;

		assert_non_null(strstr(document,
				       "content=\"default-src 'none'; style-src 'unsafe-inline'; "
				       "img-src data: blob:; font-src data:; media-src data: "
				       "blob:; base-uri 'none'; form-action 'none'"));
		assert_int_equal(strstr(document, "script-src") != NULL, scripts);
		assert_non_null(strstr(around, scripts ? "<iframe sandbox=\"allow-scripts\" srcdoc"
						       : "<iframe sandbox=\"\" srcdoc"));
	}
	body = strdup(strstr(inner, "<body>") + strlen("<body>"));
	assert_string_equal(body + strlen(body) - 14, "</body></html>");
	body[strlen(body) - 14] = '\0';
	free(inner);
	free(outer);
	return body;
}

static void check(const char *html, size_t size, bool scripts, const char *expected)
{
	size_t made_size = 0;
	char *made = frame_wrap(html, size, scripts, &made_size), *body;

	assert_non_null(made);
	assert_int_equal(made_size, strlen(made));
	body = body_of(made, scripts);
	assert_string_equal(body, expected);
	free(body);
	free(made);
}

static void static_frames_hold_no_links(void **state)
{
	static const struct {
		const char *html, *expected;
	} cases[] = {
		{"<b>x</b> & \"y\" 'z'", "<b>x</b> & \"y\" 'z'"},
		{"\"></iframe><script>top.alert(1)</script>",
		 "\">&lt;/iframe>&lt;script>top.alert(1)&lt;/script>"},
		{"<link rel=dns-prefetch href=//x>", "&lt;link rel=dns-prefetch href=//x>"},
		{"<LiNk>", "&lt;LiNk>"},
		{"<meta http-equiv=refresh content=0>", "&lt;meta http-equiv=refresh content=0>"},
		{"</body></html><!-- --!><base href=x>", "</body></html><!-- --!>&lt;base href=x>"},
		{"<iframe srcdoc=\"<img>\" sandbox=\"allow-scripts\">",
		 "&lt;iframe srcdoc=\"<img>\" >"},
		{"<b SANDBOX = 'x allow-same-origin'title=y sandbox=ALLOW-forms>", "<b title=y >"},
		{"<b sandbox='&#97;llow-scripts'>sandbox = 5, sandbox=\"none\", sandbox",
		 "<b >sandbox = 5, sandbox=\"none\", sandbox"},
		{"sandbox=allow", ""},
		{"sandbox=\"allow", ""},
		{"<<link>", "<&lt;link>"},
		{"<frameset><object><embed><applet><portal><fencedframe>",
		 "&lt;frameset>&lt;object>&lt;embed>&lt;applet>&lt;portal>&lt;fencedframe>"},
		{"&lt;link&gt; &amp;lt;", "&lt;link&gt; &amp;lt;"},
		{"", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check(cases[i].html, strlen(cases[i].html), false, cases[i].expected);
	check("<li\0nk>\0", 8, false, "&lt;link>");
}

static void script_frames_keep_scripts(void **state)
{
	static const char html[] = "<script>let x = '<link>' && \"</iframe>\"</script>";

	(void)state;
	check(html, strlen(html), true, html);
	check("<iframe sandbox=\"allow-scripts allow-same-origin\">", 50, true, "<iframe >");
}

/* Front ends that do not trust the notebook leave the frame out and keep what is in it. */
static void a_frame_that_is_left_out_says_so(void **state)
{
	size_t size = 0;
	char *made = frame_wrap("x", 1, false, &size), *end;

	(void)state;
	assert_non_null(made);
	end = strrchr(made, '[');
	assert_non_null(end);
	assert_string_equal(
		end, "[cellwall: a frame, which is shown when this notebook is trusted]</iframe>");
	free(made);
}

/* The theme of the page goes in by the element's color scheme alone, and in both frames. */
static void frames_follow_the_theme(void **state)
{
	size_t size = 0;
	char *made = frame_wrap("x", 1, false, &size), *outer, *inner;

	(void)state;
	assert_non_null(made);
	assert_non_null(strstr(made, ";color-scheme:light;color-scheme:if("));
	outer = srcdoc_of(made);
	inner = srcdoc_of(outer);
	assert_non_null(strstr(outer, "<style>:root{color-scheme:light dark}"));
	assert_null(strstr(outer, "color-scheme:if("));
	assert_non_null(strstr(inner, "<style>:root{color-scheme:light dark;"));
	assert_non_null(strstr(inner, "@media(prefers-color-scheme:dark){:root{background:#111;"));
	free(inner);
	free(outer);
	free(made);
}

static unsigned height_of(const char *html)
{
	size_t size = 0;
	char *made = frame_wrap(html, strlen(html), false, &size);
	unsigned height = 0;

	assert_non_null(made);
	for (const char *at = made; (at = strstr(at, "height:")); at++)
		height = (unsigned)strtoul(at + strlen("height:"), NULL, 10);
	free(made);
	return height;
}

static void frames_fit_their_content(void **state)
{
	char table[40 * 40 + 1] = "";

	(void)state;
	assert_int_equal(height_of("<b>x</b>"), 60);
	assert_int_equal(height_of("<div style=\"height:525px\">"), 525 + 24);
	assert_int_equal(height_of("<svg width=\"10\" height=\"300\">"), 300 + 24);
	assert_int_equal(height_of("{\"height\":350}<div>"), 350 + 24);
	assert_int_equal(height_of("<div style=\"line-height:500px;height:99999px\">x"), 72);
	assert_int_equal(height_of("<img src=x>"), 424);
	assert_int_equal(height_of("<audio controls>"), 64 + 24);
	assert_int_equal(height_of("<div><div><p> a</p></div><p>b"), 3 * 24 + 24);
	assert_int_equal(height_of("<tr><tr><details><tr><td>a<br></details><tr>"), 3 * 24 + 24);
	assert_int_equal(height_of("<style>td{padding-top: 8px}</style><tr><tr>"), 2 * 40 + 24);
	assert_int_equal(height_of("<script>a.height=900;x={\"height\":800}</script>"
				   "<script>{\"height\": 250}</script>"),
			 250 + 24);
	assert_int_equal(height_of("<script>{\"height\": 200}; vegaEmbed(x)</script>"),
			 200 + 60 + 24);
	assert_int_equal(height_of("<video controls><source src=x></video>"), 300 + 24);
	assert_int_equal(height_of("<video height=\"90\">"), 90 + 24);
	assert_int_equal(height_of("<div class=\"sk-top-container\"><svg></svg><label>a</label>"
				   "<label>b</label><label>c<table><tr><tr><tr></table></label>"),
			 3 * 36 + 60 + 24);
	assert_int_equal(height_of("<div style=\"height:300px\"></div>"
				   "<script>{\"height\": 900}</script>"),
			 300 + 24);
	assert_int_equal(height_of("<div style=\"height:5000px\"><canvas>"), 424);
	assert_int_equal(height_of("<div style=\"height:4000px\">"), 1200);
	for (int i = 0; i < 40; i++)
		memcpy(table + i * 8, "<tr><td>", 8);
	assert_int_equal(height_of(table), 40 * 24 + 24);
}

static void scripts_are_taken_out(void **state)
{
	static const struct {
		const char *html, *expected;
		size_t scripts;
		bool visible;
	} cases[] = {
		{"a<script>b</script>c", "ac", 1, true},
		{"<div></div><SCRIPT src=x>\n</script\n><style>x</style>",
		 "<div></div><style>x</style>", 1, false},
		{"a<script>no end", "a", 1, true},
		{"<scripty>x", "<scripty>x", 0, true},
		{"<META charset=x>a<link href=y>b<base>", "ab", 0, true},
		{"<head><title>a</title></head>", "<head></head>", 0, false},
		{"<iframe srcdoc=\"&lt;x&gt;\"></iframe>a<iframe>b", "a", 0, true},
		{"<META http-equiv=refresh content='0;url=//x'><meta charset=x>",
		 "<META http-equiv=refresh content='0;url=//x'>", 0, false},
		{"<meta http-equiv='Content-Type' content=x>", "", 0, false},
		{"<<meta>meta x>", "<meta x>", 0, false}, /* the frame makes it text */
		{"<p> \n</p>", "<p> \n</p>", 0, false},
		{"<svg></svg>", "<svg></svg>", 0, true},
		{"<", "<", 0, false},
		{"</body></html><!-- --!><script>1</script>", "</body></html><!-- --!>", 1, true},
		{"<html><head></head><!-- x --><body></body></html>",
		 "<html><head></head><!-- x --><body></body></html>", 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t size = 0, scripts = 9;
		char *made = frame_without_scripts(cases[i].html, strlen(cases[i].html), &size,
						   &scripts);

		assert_non_null(made);
		assert_string_equal(made, cases[i].expected);
		assert_int_equal(scripts, cases[i].scripts);
		assert_int_equal(frame_is_visible(made, size), cases[i].visible);
		free(made);
	}
}

/* Every "<meta" may be looked through and has no end: not the whole rest each time. */
static void tags_without_an_end(void **state)
{
	static const char tag[] = "<meta http-equiv ";
	const size_t many = 300000, length = sizeof(tag) - 1;
	char *html = malloc(many * length);
	size_t size = 0, scripts = 9;
	char *made;

	(void)state;
	assert_non_null(html);
	for (size_t i = 0; i < many; i++)
		memcpy(html + i * length, tag, length);
	made = frame_without_scripts(html, many * length, &size, &scripts);
	assert_non_null(made);
	assert_int_equal(scripts, 0);
	free(made);
	free(html);
}

static bool remote(const char *html)
{
	return frame_is_remote(html, strlen(html));
}

static void what_comes_from_the_network_is_seen(void **state)
{
	(void)state;
	assert_true(remote("<img src=\"https://x\">"));
	assert_true(remote("<script src=//x>"));
	assert_true(remote("src='HTTP://x'"));
	assert_false(remote("<img src=\"data:x\"> src http://"));
	assert_true(remote("<iframe srcdoc='&lt;img src=&quot;http://x'>"));
	assert_true(remote("<script>a</script><img src=//x>"));
	assert_false(remote("<script>'<img src=\"http://x\">'</script>"));
	assert_false(remote("src"));
	assert_false(remote("src="));
}

/* ---- pictures ---- */

static bool clean(const char *mime, const char *text)
{
	return picture_is_clean(mime, text, strlen(text));
}

static void pictures_are_what_they_begin_like(void **state)
{
	size_t size = 0;
	char *made;

	(void)state;
	assert_true(clean("image/png", "iVBORw0KGgoAAAANSUhEUg=="));
	assert_true(clean("image/jpeg", "/9j/4AAQ"));
	assert_true(clean("image/gif", "R0lGODlhAQABAA=="));
	assert_true(clean("image/gif", "R0lGODdhAQABAA=="));
	assert_true(clean("image/webp", "UklGRgAAAABXRUJQ"));
	assert_true(clean("image/bmp", "Qk0="));
	assert_false(clean("image/png", "iVBORw0KGgo=\" onerror=\"alert(1)"));
	assert_false(clean("image/png", "/9j/4AAQ"));
	assert_false(clean("image/png", "iVBORw0K"));
	assert_false(clean("image/png", ""));
	assert_false(clean("image/png", "iVBORw0KGgoAAAANSUhEUg="));
	assert_false(clean("image/png", "iVBORw0KGgoAAAANSUhE===="));
	assert_false(clean("image/png", "iVBORw0KGgoA=AANSUhEUg=="));
	assert_false(clean("image/png", "iVBORw0KGgoAAAANSUhEUg==\n"));
	assert_false(clean("text/html", "iVBORw0KGgoAAAANSUhEUg=="));
	made = picture_clean("image/png", "iVBORw0KGgoA\r\nAAANSUhEUg==\n", 27, &size);
	assert_string_equal(made, "iVBORw0KGgoAAAANSUhEUg==");
	assert_int_equal(size, 24);
	free(made);
	assert_null(picture_clean("image/png", "PHNjcmlwdD4=", 12, &size));
}

static void vector_pictures_become_images(void **state)
{
	size_t size = 0;
	char *made = picture_svg("<svg>\xc3\xa9</svg>", 13, &size);

	(void)state;
	assert_string_equal(made, "<img src=\"data:image/svg+xml;base64,PHN2Zz7DqTwvc3ZnPg==\">");
	assert_int_equal(size, strlen(made));
	free(made);
	made = picture_svg("\n<?xml version=\"1.0\"?><svg/>", 28, &size);
	assert_non_null(made);
	free(made);
	assert_null(picture_svg("<script>", 8, &size));
	assert_null(picture_svg("<?xml?><html/>", 14, &size));
	assert_null(picture_svg("", 0, &size));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(static_frames_hold_no_links),
		cmocka_unit_test(script_frames_keep_scripts),
		cmocka_unit_test(a_frame_that_is_left_out_says_so),
		cmocka_unit_test(frames_follow_the_theme),
		cmocka_unit_test(frames_fit_their_content),
		cmocka_unit_test(scripts_are_taken_out),
		cmocka_unit_test(tags_without_an_end),
		cmocka_unit_test(what_comes_from_the_network_is_seen),
		cmocka_unit_test(pictures_are_what_they_begin_like),
		cmocka_unit_test(vector_pictures_become_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
