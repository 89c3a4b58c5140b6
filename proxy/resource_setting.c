#include "proxy/resource_setting.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define CPUS_MAX 4096 /* more than any machine of one kernel has */

static const struct {
	char letter;
	uint64_t seconds;
} units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};

enum { UNITS = sizeof(units) / sizeof(units[0]) };

/* Digits and one more character: the number before it. */
static bool read_number(const char *text, char last, uint64_t max, uint64_t *ret_number)
{
	char digits[24];
	const size_t length = strlen(text);

	if (length < 2 || length >= sizeof(digits) || text[length - 1] != last)
		return false;
	memcpy(digits, text, length - 1);
	digits[length - 1] = '\0';
	return parse_u64(digits, max, ret_number) == 0;
}

int resource_setting_memory(const struct setting *setting, json_t *value, struct place *at,
			    void *target)
{
	const char *text = json_string_value(value);
	uint64_t share;

	if (!text || !strchr(text, '%'))
		return setting_size(setting, value, at, target);
	if (!read_number(text, '%', RESOURCE_SHARE_MAX, &share) || share == 0)
		return place_complain(at, false,
				      "a share of the machine's memory is \"1%%\" to \"100%%\"");
	*(uint64_t *)target = share;
	return 0;
}

int resource_setting_cpus(const struct setting *setting, json_t *value, struct place *at,
			  void *target)
{
	const double number = json_number_value(value);

	if (!json_is_number(value))
		return place_complain(at, false, "\"%s\" must be a number such as 2 or 0.5, not %s",
				      setting->key, setting_type_name(value));
	if (!(number == 0.0 || (number >= 0.01 && number <= CPUS_MAX)))
		return place_complain(at, false,
				      "\"%s\" is out of range: 0.01 to %d, or 0 for no limit",
				      setting->key, CPUS_MAX);
	*(uint64_t *)target = (uint64_t)(number * 1000 + 0.5);
	return 0;
}

int resource_setting_duration(const struct setting *setting, json_t *value, struct place *at,
			      void *target)
{
	const char *text = json_string_value(value);
	uint64_t number;

	if (json_is_integer(value) && json_integer_value(value) == 0) {
		*(uint64_t *)target = 0;
		return 0;
	}
	for (size_t i = 0; text && i < UNITS; i++) {
		if (!read_number(text, units[i].letter, setting->max / units[i].seconds, &number) ||
		    number == 0)
			continue;
		*(uint64_t *)target = number * units[i].seconds;
		return 0;
	}
	return place_complain(at, false,
			      "\"%s\" must be a time of at most 365 days such as \"90s\", \"30m\", "
			      "\"2h\" or \"1d\", or 0 for never",
			      setting->key);
}

int resource_setting_enforce(const struct setting *setting, json_t *value, struct place *at,
			     void *target)
{
	const char *text = json_string_value(value);
	const bool cgroup = text && strcmp(text, "cgroup") == 0;

	if (!cgroup && !(text && strcmp(text, "best") == 0))
		return place_complain(at, false, "\"%s\" must be \"best\" or \"cgroup\"",
				      setting->key);
	*(bool *)target = cgroup;
	return 0;
}

json_t *resource_setting_show_memory(uint64_t memory)
{
	char text[32];

	if (memory == 0)
		return json_integer(0);
	if (memory <= RESOURCE_SHARE_MAX)
		(void)snprintf(text, sizeof(text), "%" PRIu64 "%%", memory);
	else
		setting_format_size(memory, text);
	return json_string(text);
}

json_t *resource_setting_show_cpus(uint64_t cpus)
{
	return cpus % 1000 == 0 ? json_integer((json_int_t)(cpus / 1000))
				: json_real((double)cpus / 1000);
}

json_t *resource_setting_show_duration(uint64_t seconds)
{
	char text[32];
	size_t i = 0;

	if (seconds == 0)
		return json_integer(0);
	while (seconds % units[i].seconds != 0)
		i++;
	(void)snprintf(text, sizeof(text), "%" PRIu64 "%c", seconds / units[i].seconds,
		       units[i].letter);
	return json_string(text);
}
