/* Any body: what stands in a srcdoc holds no quote and no angle bracket, there is one frame in one
 * frame, and in static mode no tag that names a host. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/frame.h"

/* The value of srcdoc decoded, in place of `html`. */
static void decode(char *html)
{
	static const struct {
		const char *entity;
		char c;
	} entities[] = {
		{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}};
	char *at = strstr(html, "<iframe sandbox="), *to = html;

	at = at ? strstr(at, "srcdoc=\"") : NULL;
	if (!at)
		__builtin_trap();
	for (at += strlen("srcdoc=\""); *at != '"'; to++) {
		size_t i = 0;

		if (!*at || strchr("<>'", *at))
			__builtin_trap();
		while (i < 5 && strncmp(at, entities[i].entity, strlen(entities[i].entity)) != 0)
			i++;
		if (i == 5 && *at == '&')
			__builtin_trap();
		*to = i < 5 ? entities[i].c : *at;
		at += i < 5 ? strlen(entities[i].entity) : 1;
	}
	if (strncmp(at, "\" style=\"width:100%;height:", 27) != 0 || strchr(at + 1, '<') == NULL)
		__builtin_trap();
	*to = '\0';
}

static void check_static(const char *body)
{
	static const char *const names[] = {"link",   "meta",  "base",	 "iframe", "frame",
					    "object", "embed", "applet", "portal", "script"};

	for (const char *at = body; (at = strchr(at, '<')); at++)
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (strncasecmp(at + 1 + (at[1] == '/'), names[i], strlen(names[i])) == 0)
				__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const bool scripts = size > 0 && data[0] & 1;
	size_t made_size = 0, still_size = 0, count = 0;
	char *still = frame_without_scripts((const char *)data, size, &still_size, &count);
	char *made = frame_wrap((const char *)data, size, scripts, &made_size), *body;

	if (!still || still_size > size || !made || strlen(made) != made_size)
		__builtin_trap();
	(void)frame_is_visible(still, still_size);
	(void)frame_is_remote(still, still_size);
	decode(made);
	decode(made);
	body = strstr(made, "<body>");
	if (!body)
		__builtin_trap();
	if (!scripts)
		check_static(body);
	free(still);
	free(made);
	return 0;
}
