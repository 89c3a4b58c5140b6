#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/figures.h"
#include "proxy/outputs.h"
#include "proxy/plot.h"
#include "sandbox/base.h"

#define PLOTLY "application/vnd.plotly.v1+json"
#define LITE   "application/vnd.vegalite.v5+json"
#define VEGA   "application/vnd.vega.v6+json"

static char place[] = "/tmp/cellwall-figures-XXXXXX";

/* A build whose hash and script are one letter repeated. */
static void put(const char *name, char letter, size_t size, mode_t mode)
{
	char path[128], line[] = "sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=\n";
	char *script = malloc(size + 1);
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", place, name);
	(void)unlink(path);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_non_null(script);
	memset(line + 7, letter, 43);
	memset(script, letter, size);
	script[size] = '\n';
	assert_int_equal(fwrite(line, 1, strlen(line), file), strlen(line));
	assert_int_equal(fwrite(script, 1, size + 1, file), size + 1);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
	free(script);
}

static int make_place(void **state)
{
	(void)state;
	return mkdtemp(place) ? 0 : -1;
}

static int remove_place(void **state)
{
	static const char *const names[] = {"plotly-basic", "plotly-cartesian", "vega",
					    "vega-lite"};
	char path[128];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", place, names[i]);
		(void)unlink(path);
	}
	return rmdir(place);
}

static struct figures *all_of_them(void)
{
	put("plotly-basic", 'b', 100, 0644);
	put("plotly-cartesian", 'c', 100, 0644);
	put("vega", 'v', 100, 0644);
	put("vega-lite", 'l', 100, 0644);
	return figures_open(place);
}

static json_t *parse(const char *text)
{
	json_t *value = json_loads(text, 0, NULL);

	assert_non_null(value);
	return value;
}

static void drawn(const struct figures *figures, const char *type, const char *text,
		  const char *has, const char *has_not, const char *why)
{
	json_t *figure = parse(text);
	const char *reason;
	size_t size = 0;
	char *html = figures_draw(figures, type, figure, &size, &reason);

	json_decref(figure);
	if (why)
		assert_non_null(strstr(reason, why));
	else
		assert_null(reason);
	if (has) {
		assert_non_null(html);
		assert_int_equal(strlen(html), size);
		assert_non_null(strstr(html, has));
	} else {
		assert_null(html);
	}
	if (has_not)
		assert_null(strstr(html, has_not));
	free(html);
}

static void our_script_is_the_one_that_is_named(void **state)
{
	const char *hash, *script = figures_script(&hash);
	unsigned char digest[32], text[64];
	char expected[80];

	(void)state;
	assert_int_equal(EVP_Digest(script, strlen(script), digest, NULL, EVP_sha256(), NULL), 1);
	(void)EVP_EncodeBlock(text, digest, sizeof(digest));
	(void)snprintf(expected, sizeof(expected), "sha256-%s", (const char *)text);
	assert_string_equal(hash, expected);
	assert_null(strstr(script, "</"));
	assert_null(strstr(script, "<!"));
}

static void the_smallest_build_is_taken(void **state)
{
	struct figures *figures = all_of_them();

	(void)state;
	drawn(figures, PLOTLY, "{\"data\":[{\"y\":[1]},{\"type\":\"bar\"}]}", "sha256-bbbb",
	      "sha256-cccc", NULL);
	drawn(figures, PLOTLY, "{\"data\":[{\"type\":\"scattergl\"}]}", "sha256-bbbb", "scattergl",
	      NULL);
	drawn(figures, PLOTLY, "{\"data\":[{\"type\":\"bar\"},{\"type\":\"violin\"}]}",
	      "sha256-cccc", "sha256-bbbb", NULL);
	drawn(figures, PLOTLY, "{\"data\":[{\"type\":\"surface\"}]}", NULL, NULL, "fig.write_html");
	drawn(figures, VEGA, "{\"marks\":[]}", "sha256-vvvv", "sha256-llll", NULL);
	drawn(figures, LITE, "{\"mark\":\"bar\"}", "sha256-llll", "sha256-bbbb", NULL);
	drawn(figures, LITE, "{\"mark\":\"bar\"}", "sha256-vvvv", "unsafe-eval", NULL);
	drawn(figures, "application/vnd.vegalite.v6.json", "{\"mark\":\"bar\"}", "sha256-llll",
	      "unsafe-eval", NULL);
	figures_close(figures);
}

/* What runs is named by its hash, and nothing else does. */
static void the_policy_names_what_runs(void **state)
{
	struct figures *figures = all_of_them();

	(void)state;
	drawn(figures, LITE, "{\"mark\":\"</script><script>alert(1)</script>\"}",
	      "form-action &#39;none&#39;; script-src &#39;sha256-", "script-src &#39;unsafe",
	      NULL);
	drawn(figures, LITE, "{\"mark\":\"</script><script>alert(1)</script>\"}",
	      "~mark~:~\\u003c/script\\u003e\\u003cscript\\u003ealert(1)", "alert(1)<", NULL);
	drawn(figures, LITE, "{\"mark\":\"bar\"}", "&#39;; frame-src &#39;none&#39;",
	      "allow-same-origin", NULL);
	figures_close(figures);
}

static void bare(enum plot_kind kind, const char *text, const char *expected, bool remote)
{
	json_t *figure = parse(text), *made, *wanted = parse(expected);
	bool is_remote;

	made = plot_bare(kind, figure, &is_remote);
	if (!json_equal(made, wanted))
		print_error("%s\n", json_dumps(made, JSON_COMPACT));
	assert_true(json_equal(made, wanted));
	assert_int_equal(is_remote, remote);
	json_decref(figure);
	json_decref(made);
	json_decref(wanted);
}

static void addresses_and_links_go(void **state)
{
	(void)state;
	bare(PLOT_PLOTLY,
	     "{\"data\":[{\"text\":[\"<b>x</b> <a href='https://e'>l</A>\",\"<<a>a href=x>\",\"<a "
	     "\",\"<abc>\",\"<a<a > "
	     "href=x>\"]}],\"layout\":{\"images\":[{\"source\":\"https://e/\"},{\"source\":"
	     "\"data:image/<a href=x>\"},{\"source\":"
	     "\"data:image/png;base64,AA==\"}],\"mapbox\":{\"style\":\"https://e\"},"
	     "\"updatemenus\":[{\"args\":[{\"images[0].source\":[\"//e\"]}]}]},\"config\":{"
	     "\"topojsonURL\":\"https://e/\",\"scrollZoom\":true},\"more\":1}",
	     "{\"data\":[{\"text\":[\"<b>x</b> l\",\"< a href=x>\",\"\",\"<abc>\",\" "
	     "href=x>\"]}],\"layout\":{"
	     "\"images\":[{\"source\":\"\"},{\"source\":\"data:image/\"},{\"source\":\"data:image/"
	     "png;base64,AA==\"}],"
	     "\"updatemenus\":[{\"args\":[{\"images[0].source\":[\"\"]}]}]},\"config\":{"
	     "\"scrollZoom\":true}}",
	     true);
	bare(PLOT_VEGA_LITE,
	     "{\"$schema\":\"https://v\",\"usermeta\":{\"embedOptions\":{}},\"data\":{\"url\":"
	     "\"https://e\"},\"encoding\":{\"href\":{\"field\":\"a\"},\"url\":{\"field\":\"b\"}}}",
	     "{\"data\":{\"values\":[]},\"encoding\":{}}", true);
	bare(PLOT_VEGA_LITE,
	     "{\"data\":{\"values\":[{\"url\":\"x\",\"href\":1}]},\"datasets\":{\"a\":[{\"url\":2}]"
	     "}}",
	     "{\"data\":{\"values\":[{\"url\":\"x\",\"href\":1}]},\"datasets\":{\"a\":[{\"url\":2}]"
	     "}}",
	     false);
	bare(PLOT_VEGA,
	     "{\"data\":[{\"name\":\"t\",\"url\":{\"signal\":\"x\"}}],\"marks\":[{\"type\":"
	     "\"image\",\"encode\":{\"enter\":{\"url\":{\"signal\":\"'https://'+d\"}}}}]}",
	     "{\"data\":[{\"name\":\"t\",\"values\":[]}],\"marks\":[{\"type\":\"image\",\"encode\":"
	     "{\"enter\":{}}}]}",
	     true);
}

static void text_means_nothing_in_html(void **state)
{
	json_t *figure = parse("{\"a\":\"<&>'~\\\"\\\\\",\"b\":[1.5]}");
	size_t size;
	char *text = plot_text(figure, &size);

	(void)state;
	assert_string_equal(text, "{~a~:~\\u003c\\u0026\\u003e\\u0027\\u007e\\~\\\\~,~b~:[1.5]}");
	assert_int_equal(size, strlen(text));
	free(text);
	json_decref(figure);
}

static void a_build_that_is_none_is_not_there(void **state)
{
	struct figures *figures;

	(void)state;
	drawn(NULL, VEGA, "{}", NULL, NULL, "not installed");
	put("vega", '<', 100, 0644);
	figures = figures_open(place);
	drawn(figures, VEGA, "{}", NULL, NULL, "not installed");
	figures_close(figures);
	put("vega", 'v', 100, 0666);
	figures = figures_open(place);
	drawn(figures, VEGA, "{}", NULL, NULL, "not installed");
	figures_close(figures);
	figures = figures_open("/nonexistent");
	drawn(figures, VEGA, "{}", NULL, NULL, "not installed");
	figures_close(figures);
}

static void large_figures_are_not_drawn(void **state)
{
	struct figures *figures = all_of_them();
	const size_t size = FIGURES_MAX - 1000;
	char *text = malloc(size), *figure = NULL;

	(void)state;
	assert_non_null(text);
	memset(text, 'x', size - 1);
	text[size - 1] = '\0';
	figure = format_string("{\"data\":[],\"layout\":{\"title\":\"%s\"}}", text);
	drawn(figures, PLOTLY, figure, NULL, NULL, "fig.write_html");
	free(figure);
	free(text);
	figures_close(figures);
}

static void heights_are_the_figures_own(void **state)
{
	static const struct {
		enum plot_kind kind;
		const char *text;
		unsigned height;
	} cases[] = {
		{PLOT_PLOTLY, "{}", 450},
		{PLOT_PLOTLY, "{\"layout\":{\"height\":700}}", 700},
		{PLOT_PLOTLY, "{\"layout\":{\"height\":1e300}}", 1200},
		{PLOT_PLOTLY, "{\"layout\":{\"height\":-5}}", 60},
		{PLOT_VEGA_LITE, "{\"height\":100}", 180},
		{PLOT_VEGA_LITE, "{\"vconcat\":[{\"height\":100},{\"hconcat\":[{},{}]}]}", 460},
		{PLOT_VEGA_LITE, "{\"encoding\":{\"row\":{\"field\":\"a\"}}}", 680},
		{PLOT_VEGA_LITE, "{\"config\":{\"view\":{\"continuousHeight\":300}}}", 380},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *figure = parse(cases[i].text);

		assert_int_equal(plot_height(cases[i].kind, figure), cases[i].height);
		json_decref(figure);
	}
}

static char *shown(enum outputs_mode mode, const struct figures *figures, const char *data,
		   const char *type)
{
	struct outputs_rules rules = {.mode = mode, .figures = figures};
	struct content content = {.rules = &rules};
	json_t *bundle = parse(data), *metadata = json_object();
	const char *value;
	char *copy;

	assert_int_equal(outputs_bundle(bundle, metadata, &content), 1);
	value = json_string_value(json_object_get(bundle, type));
	copy = strdup(value ? value : "");
	json_decref(bundle);
	json_decref(metadata);
	return copy;
}

/* In bundles the drawn figure is the page, whatever page the library made; with a part missing a
 * line says so. */
static void a_bundle_has_one_page(void **state)
{
	struct figures *figures = all_of_them();
	char *html;

	(void)state;
	html = shown(OUTPUTS_STATIC, figures,
		     "{\"text/html\":\"<script>1</script>\",\"" PLOTLY "\":{\"data\":[]}}",
		     "text/html");
	assert_memory_equal(html, "<iframe sandbox=\"allow-scripts\"", 31);
	free(html);
	html = shown(OUTPUTS_INTERACTIVE, figures,
		     "{\"text/html\":\"<script>1</script>\",\"" PLOTLY "\":{\"data\":[]}}",
		     "text/html");
	assert_null(strstr(html, "unsafe-eval"));
	free(html);
	html = shown(OUTPUTS_STATIC, figures,
		     "{\"" LITE "\":{\"data\":{\"url\":\"https://e\"},\"mark\":\"bar\"}}",
		     "text/html");
	assert_memory_equal(html, "<div><small>[cellwall blocked: " LITE, 62);
	assert_non_null(strstr(html, "what it loads from the network"));
	free(html);
	html = shown(OUTPUTS_STATIC, NULL, "{\"text/plain\":\"F\",\"" PLOTLY "\":{}}",
		     "text/plain");
	assert_non_null(strstr(html, "kernelspec/figures"));
	free(html);
	html = shown(OUTPUTS_TEXT, figures, "{\"text/plain\":\"F\",\"" PLOTLY "\":{}}",
		     "text/plain");
	assert_string_equal(html, "F");
	free(html);
	figures_close(figures);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(our_script_is_the_one_that_is_named),
		cmocka_unit_test(the_smallest_build_is_taken),
		cmocka_unit_test(the_policy_names_what_runs),
		cmocka_unit_test(addresses_and_links_go),
		cmocka_unit_test(text_means_nothing_in_html),
		cmocka_unit_test(a_build_that_is_none_is_not_there),
		cmocka_unit_test(large_figures_are_not_drawn),
		cmocka_unit_test(heights_are_the_figures_own),
		cmocka_unit_test(a_bundle_has_one_page),
	};

	return cmocka_run_group_tests(tests, make_place, remove_place);
}
