/* Any markup: what is accepted is accepted again and unchanged, and holds no tag and no attribute
 * but those of the grammar. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/fragment.h"

static const char *const tags[] = {"div",    "p",     "br", "hr",  "b",	    "i",       "em",
				   "strong", "u",     "s",  "sub", "sup",   "code",    "pre",
				   "span",   "small", "h1", "h2",  "h3",    "h4",      "h5",
				   "h6",     "ul",    "ol", "li",  "table", "caption", "thead",
				   "tbody",  "tfoot", "tr", "th",  "td",    "img"};

static void check_tag(const char *at)
{
	size_t length;

	at += *at == '/';
	length = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789");
	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		if (strlen(tags[i]) == length && memcmp(tags[i], at, length) == 0 &&
		    (at[length] == '>' || at[length] == ' '))
			return;
	__builtin_trap();
}

static void check(const char *made, size_t size)
{
	if (memchr(made, '\0', size))
		__builtin_trap();
	for (const char *at = made; *at; at++) {
		if (*at == '<')
			check_tag(at + 1);
		if (*at == '$' && (at == made || at[-1] != '>' || at[1] != '<') &&
		    !strstr(made, "alt=\""))
			__builtin_trap();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t made_size = 0, again_size = 0;
	char *made = fragment_rewrite((const char *)data, size, &made_size), *again;

	if (!made)
		return 0;
	check(made, made_size);
	again = fragment_rewrite(made, made_size, &again_size);
	if (!again || again_size != made_size || memcmp(again, made, made_size) != 0)
		__builtin_trap();
	free(again);
	free(made);
	return 0;
}
