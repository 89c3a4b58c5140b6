/*
 * setting: one value of the policy file, checked and copied.
 *
 * In: a value as jansson read it, its bounds, its place in the text. Out: a member of struct
 * policy, replaced only when the whole value is right; or -EINVAL with one line that says what
 * would be, or -ENOMEM. Never logs.
 */
#ifndef PROXY_SETTING_H
#define PROXY_SETTING_H

#include <jansson.h>
#include <stdint.h>

#include "proxy/place.h"

struct setting {
	const char *section; /* NULL: at the top */
	const char *key;
	int (*parse)(const struct setting *setting, json_t *value, struct place *at, void *target);
	size_t offset; /* of the target in its struct */
	uint64_t min, max;
	bool zero; /* 0 is allowed too, and means no limit */
};

/* A whole number. The target is a uint64_t. */
int setting_count(const struct setting *setting, json_t *value, struct place *at, void *target);
/* A number of bytes, or "512M": digits and one of K, M, G, T, powers of 1024. The target is a
 * uint64_t. */
int setting_size(const struct setting *setting, json_t *value, struct place *at, void *target);
/* true or false. The target is a bool. */
int setting_flag(const struct setting *setting, json_t *value, struct place *at, void *target);
/* "namespaces" or "landlock". The target is a bool: true for the second. */
int setting_wall(const struct setting *setting, json_t *value, struct place *at, void *target);
/* An absolute directory, or null for none. The target is a char *. */
int setting_directory(const struct setting *setting, json_t *value, struct place *at, void *target);
/* Names of variables. The target is a char **, NULL-terminated. */
int setting_names(const struct setting *setting, json_t *value, struct place *at, void *target);
/* Hosts, each with or without ":PORT", or null for no such list. The target is a char **,
 * NULL-terminated, or NULL. */
int setting_hosts(const struct setting *setting, json_t *value, struct place *at, void *target);
/* Names with their values. The target is a char ** of "NAME=VALUE", NULL-terminated. */
int setting_assignments(const struct setting *setting, json_t *value, struct place *at,
			void *target);

/*
 * For parsers elsewhere (stage_setting.c). A value that is a list of at most SETTING_LIST_MAX
 * entries; `sample` is one, for the message. 0 or -EINVAL.
 */
#define SETTING_LIST_MAX 1024 /* each entry is a mount or a string on the kernel's stack */
int setting_list(const struct setting *setting, const json_t *value, const struct place *at,
		 const char *sample);
/* Checks one entry of a list and gives the text to keep (caller frees). 0, -EINVAL or -ENOMEM. */
typedef int setting_check(const char *text, const struct place *at, char **ret_text);
/* A list of strings without doubles, each checked. The target is a char **, NULL-terminated. */
int setting_checked_list(const struct setting *setting, json_t *value, struct place *at,
			 void *target, const char *sample, setting_check *check);
/* Copies a path without its empty and "." steps (caller frees): "" is "." or "/". No "..", no "~"
 * at the start, at most `max` bytes. 0, -EINVAL or -ENOMEM. */
int setting_path(const char *text, size_t max, const struct place *at, char **ret_path);
#define SETTING_PATH_MAX 4095 /* of a host path: PATH_MAX without its NUL */
/* -ENOMEM with words. */
int setting_no_memory(const struct place *at);

/* A type for messages: "a string", "a list […]". */
const char *setting_type_name(const json_t *value);
/* The shortest text that setting_size reads as this number. */
void setting_format_size(uint64_t bytes, char out[32]);

/* A NULL-terminated list with room for `count` strings (caller frees with setting_list_free). NULL:
 * no memory. */
char **setting_list_new(size_t count);
bool setting_list_has(char **list, const char *text);
void setting_list_free(char **list); /* accepts NULL */
DEFINE_CLEANUP(char **, setting_list_free)

#endif
