#include <string.h>

#include "proxy/plain.h"
#include "proxy/replies.h"
#include "proxy/tidy.h"

/*
 * Lab saves language_info in the notebook, and nbconvert imports what nbconvert_exporter names: a
 * known language has what its kernel always says, another one no exporter.
 */
static const struct language {
	const char *name, *mimetype, *file_extension, *mode, *lexer, *exporter; /* may be NULL */
	int mode_version; /* then the mode is an object of name and version */
} languages[] = {
	{"python", "text/x-python", ".py", "ipython", "ipython3", "python", 3},
	{"R", "text/x-r-source", ".r", "r", "r", NULL, 0},
};

static bool version_ok(const json_t *version)
{
	const char *text = json_string_value(version);

	return text && *text >= '0' && *text <= '9' && tidy_word(version, "._+-", 64);
}

static json_t *pinned_mode(const struct language *language)
{
	return language->mode_version ? json_pack("{s:s, s:i}", "name", language->mode, "version",
						  language->mode_version)
				      : json_string(language->mode);
}

/* Puts the pinned values in place of the kernel's, where they differ. */
static void pin(struct tidy *tidy, json_t *info, const struct language *language)
{
	json_t *version = json_object_get(info, "version");
	json_t *pinned =
		json_pack("{s:s, s:s, s:s, s:o, s:s, s:s*}", "name", language->name, "mimetype",
			  language->mimetype, "file_extension", language->file_extension,
			  "codemirror_mode", pinned_mode(language), "pygments_lexer",
			  language->lexer, "nbconvert_exporter", language->exporter);

	if (pinned && version_ok(version) && json_object_set(pinned, "version", version) < 0)
		tidy->failed = true;
	if (pinned && json_equal(pinned, info))
		json_decref(pinned);
	else
		tidy_set(tidy, tidy->content->content, "language_info", pinned);
}

/* A language that is not known: its name and how its code looks, in strict forms. */
static void tidy_unknown(struct tidy *tidy, json_t *info)
{
	static const char *const keys[] = {"name", "version", "mimetype", "file_extension", NULL};
	const char *extension = json_string_value(json_object_get(info, "file_extension"));

	tidy_keys(tidy, info, keys);
	if (!version_ok(json_object_get(info, "version")))
		tidy_drop(tidy, info, "version");
	if (!tidy_word(json_object_get(info, "mimetype"), "/+-", 64))
		tidy_drop(tidy, info, "mimetype");
	if (!extension || extension[0] != '.' || strchr(extension + 1, '.') ||
	    !tidy_word(json_object_get(info, "file_extension"), ".", 16))
		tidy_drop(tidy, info, "file_extension");
}

static void tidy_language(struct tidy *tidy)
{
	json_t *info = json_object_get(tidy->content->content, "language_info");
	const char *name = json_string_value(json_object_get(info, "name"));

	if (!name || !*name || !tidy_word(json_object_get(info, "name"), " _+#-", 32)) {
		tidy_drop(tidy, tidy->content->content, "language_info");
		return;
	}
	for (size_t i = 0; i < sizeof(languages) / sizeof(languages[0]); i++)
		if (strcmp(languages[i].name, name) == 0) {
			pin(tidy, info, &languages[i]);
			return;
		}
	tidy_unknown(tidy, info);
}

/* The debugger is offered by the kernelspec, not by the kernel. */
static void tidy_features(struct tidy *tidy)
{
	json_t *features = json_object_get(tidy->content->content, "supported_features");

	if (!json_is_array(features)) {
		tidy_drop(tidy, tidy->content->content, "supported_features");
		return;
	}
	for (size_t i = json_array_size(features); i-- > 0;) {
		const char *name = json_string_value(json_array_get(features, i));

		if (name && strcmp(name, "kernel subshells") == 0)
			continue;
		json_array_remove(features, i);
		tidy->changed = true;
	}
}

enum content_verdict replies_kernel_info(struct content *content)
{
	static const char *const keys[] = {"status",
					   "protocol_version",
					   "implementation",
					   "implementation_version",
					   "language_info",
					   "banner",
					   "help_links",
					   "debugger",
					   "supported_features",
					   NULL};
	unsigned flags = content->rules->links ? PLAIN_LINKS : 0;
	struct tidy tidy = {.content = content};
	json_t *info = content->content;

	tidy_keys(&tidy, info, keys);
	if (json_object_size(content->metadata) != 0) {
		json_object_clear(content->metadata);
		tidy.changed = true;
	}
	if (!tidy_word(json_object_get(info, "status"), "", 16))
		tidy_drop(&tidy, info, "status");
	if (!tidy_version(json_object_get(info, "protocol_version"), 16))
		tidy_set(&tidy, info, "protocol_version", json_string("5.3"));
	if (!tidy_word(json_object_get(info, "implementation"), " _.+-", 64))
		tidy_drop(&tidy, info, "implementation");
	if (!tidy_word(json_object_get(info, "implementation_version"), " _.+-", 64))
		tidy_drop(&tidy, info, "implementation_version");
	tidy_text(&tidy, info, "banner", flags | PLAIN_PROMPT);
	if (!json_is_array(json_object_get(info, "help_links")) ||
	    json_array_size(json_object_get(info, "help_links")) != 0)
		tidy_set(&tidy, info, "help_links", json_array());
	if (json_is_true(json_object_get(info, "debugger")))
		tidy_set(&tidy, info, "debugger", json_false());
	else
		tidy_boolean(&tidy, info, "debugger");
	tidy_language(&tidy);
	tidy_features(&tidy);
	return tidy_verdict(&tidy);
}
