#include "kernelspec/index.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/crypto.h>

#include "kernelspec/prefix.h"
#include "kernelspec/script.h"
#include "kernelspec/variables.h"

#define DEFAULT_INDEX "https://pypi.org/simple"

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* Two indexes keep their files on another host of theirs. */
static const char *const companions[][2] = {
	{"pypi.org", "https://files.pythonhosted.org"},
	{"test.pypi.org", "https://test-files.pythonhosted.org"},
};

static const char *text_of(const json_t *found, const char *key)
{
	const char *text = json_string_value(json_object_get(found, key));

	return text && text[0] ? text : NULL;
}

static int allow(struct index *index, const json_t *found, const char *url, struct err *err)
{
	const json_t *ways = json_object_get(found, "ways");
	int r = egress_allow(&index->egress, url, text_of(ways, url), err);

	for (size_t i = 0; r == 0 && i < sizeof(companions) / sizeof(companions[0]); i++) {
		const struct egress_host *last = &index->egress.hosts[index->egress.count - 1];

		if (strcmp(last->name, companions[i][0]) == 0)
			r = egress_allow(&index->egress, companions[i][1],
					 text_of(ways, companions[i][1]), err);
	}
	return r;
}

/* ---- reading ---- */

static int set(struct index *index, const char *name, const char *value)
{
	cleanup(free_ptr) char *text = format_string("%s=%s", name, value);

	return text ? paths_list_add(&index->variables, text) : -ENOMEM;
}

/* The values of a list, joined by spaces as pip takes them; caller frees. */
static char *joined(const json_t *list)
{
	char *out = strdup("");

	for (size_t i = 0; out && i < json_array_size(list); i++) {
		char *more = format_string("%s%s%s", out, i > 0 ? " " : "",
					   json_string_value(json_array_get(list, i)));

		free(out);
		out = more;
	}
	return out;
}

static int take_indexes(struct index *index, const json_t *found, struct err *err)
{
	const json_t *extra = json_object_get(found, "extra-index-url");
	const char *first = text_of(found, "index-url");
	cleanup(free_ptr) char *others = joined(extra);
	int r = 0;

	if (json_is_true(json_object_get(found, "no-index")))
		return set(index, "PIP_NO_INDEX", "1");
	r = allow(index, found, first ? first : DEFAULT_INDEX, err);
	for (size_t i = 0; r == 0 && i < json_array_size(extra); i++)
		r = allow(index, found, json_string_value(json_array_get(extra, i)), err);
	if (r < 0)
		return r;
	if (!others || set(index, "PIP_INDEX_URL", first ? first : DEFAULT_INDEX) < 0 ||
	    (others[0] && set(index, "PIP_EXTRA_INDEX_URL", others) < 0))
		return no_memory(err);
	return 0;
}

char *index_shown(const char *word)
{
	const char *rest = strstr(word, "://"), *at;
	int scheme, size;

	if (!rest)
		return strdup(word[0] == '/' || !strchr(word, '@') ? word : "...");
	rest += 3;
	scheme = (int)(rest - word);
	size = (int)strcspn(rest, "/?#");
	/* It may be the end of a password with a "/" that should have been a %2F. */
	if (strchr(rest + size, '@'))
		return format_string("%.*s...", scheme, word);
	at = memrchr(rest, '@', (size_t)size);
	size -= at ? (int)(at + 1 - rest) : 0;
	return format_string("%.*s%.*s", scheme, word, size, at ? at + 1 : rest);
}

/* Not there, which is no reason to fail. */
static void note_link(struct index *index, const char *link)
{
	cleanup(free_ptr) char *shown = index_shown(link);
	cleanup(free_ptr) char *notice =
		shown ? format_string("find-links: %s is not there", shown) : NULL;

	if (notice)
		(void)paths_list_add(&index->notices, notice);
}

/* Pages of links, and directories of files. */
static int take_links(struct index *index, const json_t *found, struct err *err)
{
	const json_t *list = json_object_get(found, "find-links");
	cleanup(free_ptr) char *kept = strdup("");

	for (size_t i = 0; kept && i < json_array_size(list); i++) {
		const char *link = json_string_value(json_array_get(list, i));
		cleanup(free_ptr) char *real = NULL;
		char *more;
		int r = 0;

		if (strncasecmp(link, "http", 4) == 0) {
			r = allow(index, found, link, err);
		} else {
			link = strncmp(link, "file://", 7) == 0 ? link + 7 : link;
			real = paths_real(link);
			if (!real || !paths_is_directory(real)) {
				note_link(index, link);
				continue;
			}
			r = prefix_may_show(real, err);
			if (r == 0)
				r = paths_list_add(&index->directories, real);
			link = real;
		}
		if (r < 0)
			return r;
		more = format_string("%s%s%s", kept, kept[0] ? " " : "", link);
		free(kept);
		kept = more;
	}
	if (!kept || (kept[0] && set(index, "PIP_FIND_LINKS", kept) < 0))
		return no_memory(err);
	return 0;
}

static int take(struct index *index, const json_t *found, struct err *err)
{
	cleanup(free_ptr) char *trusted = joined(json_object_get(found, "trusted-host"));
	cleanup(free_ptr) char *proxy = format_string("http://127.0.0.1:%d", INDEX_PORT);
	const char *certificates = text_of(found, "cert");
	int r = take_indexes(index, found, err);

	if (r == 0)
		r = take_links(index, found, err);
	if (r < 0)
		return r;
	if (!trusted || !proxy || set(index, "PIP_CONFIG_FILE", "/dev/null") < 0 ||
	    set(index, "PIP_NO_COLOR", "1") < 0 || set(index, "PIP_PROGRESS_BAR", "off") < 0 ||
	    set(index, "PIP_RETRIES", "3") < 0 || set(index, "PIP_DEFAULT_TIMEOUT", "60") < 0 ||
	    set(index, "https_proxy", proxy) < 0 || set(index, "http_proxy", proxy) < 0 ||
	    (trusted[0] && set(index, "PIP_TRUSTED_HOST", trusted) < 0))
		return no_memory(err);
	if (certificates) {
		index->certificates = paths_real(certificates);
		if (!index->certificates || set(index, "PIP_CERT", INDEX_CERTIFICATES) < 0)
			return no_memory(err);
		if (access(index->certificates, R_OK) < 0)
			return err_errno(err, "pip's certificates in %s", index->certificates);
	}
	return 0;
}

/* A list in JSON of what may be reached besides what pip's configuration says; caller frees. */
static char *all_urls(const struct paths_list *more)
{
	json_t *list = json_pack("[s]", DEFAULT_INDEX);
	char *text;
	int r = list ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof(companions) / sizeof(companions[0]); i++)
		r = json_array_append_new(list, json_string(companions[i][1]));
	for (size_t i = 0; r == 0 && more && i < more->count; i++)
		r = json_array_append_new(list, json_string(more->items[i]));
	text = r == 0 ? json_dumps(list, JSON_COMPACT) : NULL;
	json_decref(list);
	return text;
}

int index_read(const struct paths_list *more, struct index *ret_index, struct err *err)
{
	cleanup(free_ptr) char *urls = all_urls(more);
	json_t *found;
	int r;

	memset(ret_index, 0, sizeof(*ret_index));
	if (!urls)
		return err_set(err, -EINVAL, "the address of --allow-host is no UTF-8");
	r = script_run("env/index.py", NULL, urls, &found, err);
	if (r < 0)
		return err_wrap(err, "pip's configuration");
	r = take(ret_index, found, err);
	if (r == 0 && text_of(found, "client-cert") &&
	    paths_list_add(&ret_index->notices,
			   "pip's client-cert is not used: a private key does not go into a "
			   "build") < 0)
		r = no_memory(err);
	for (size_t i = 0; r == 0 && more && i < more->count; i++)
		r = allow(ret_index, found, more->items[i], err);
	json_decref(found);
	if (r < 0)
		index_done(ret_index);
	return r;
}

static bool is_listed(char *const hosts[], const struct egress_host *host)
{
	char port[8];

	(void)snprintf(port, sizeof(port), "%u", (unsigned)host->port);
	for (; *hosts; hosts++) {
		size_t size = strcspn(*hosts, ":");

		if (strlen(host->name) == size && strncmp(*hosts, host->name, size) == 0 &&
		    ((*hosts)[size] == '\0' || strcmp(*hosts + size + 1, port) == 0))
			return true;
	}
	return false;
}

/* The index whose files it has is listed. */
static bool comes_with(char *const hosts[], const struct egress_host *host)
{
	for (size_t i = 0; i < sizeof(companions) / sizeof(companions[0]); i++) {
		struct egress_host index = {.port = 443};

		(void)snprintf(index.name, sizeof(index.name), "%s", companions[i][0]);
		if (host->port == 443 && is_listed(hosts, &index) &&
		    strcmp(companions[i][1] + strlen("https://"), host->name) == 0)
			return true;
	}
	return false;
}

int index_narrow(struct index *index, char *const hosts[], struct err *err)
{
	struct egress *egress = &index->egress;
	size_t kept = 0;

	for (size_t i = 0; i < egress->count; i++) {
		const struct egress_host *host = &egress->hosts[i];
		cleanup(free_ptr) char *notice = NULL;

		if (is_listed(hosts, host) || comes_with(hosts, host)) {
			egress->hosts[kept++] = *host;
			continue;
		}
		notice = format_string("%s port %u is not reached: the policy's build.hosts has "
				       "other hosts",
				       host->name, (unsigned)host->port);
		if (!notice || paths_list_add(&index->notices, notice) < 0)
			return no_memory(err);
	}
	egress->count = kept;
	return 0;
}

int index_fill(const struct index *index, struct spec *spec)
{
	int r = 0;

	spec->egress = INDEX_PORT;
	for (size_t i = 0; r == 0 && i < index->variables.count; i++)
		r = variables_set(spec, index->variables.items[i]);
	for (size_t i = 0; r == 0 && i < index->directories.count; i++)
		r = spec_add_bind(spec, index->directories.items[i], index->directories.items[i],
				  true);
	if (r == 0 && index->certificates)
		r = spec_add_bind(spec, index->certificates, INDEX_CERTIFICATES, true);
	return r;
}

void index_done(struct index *index)
{
	OPENSSL_cleanse(index->egress.ways, sizeof(index->egress.ways));
	paths_list_done(&index->variables);
	paths_list_done(&index->notices);
	paths_list_done(&index->directories);
	free(index->certificates);
	index->certificates = NULL;
}
