#include "proxy/install_setting.h"

#include <errno.h>
#include <string.h>

#include "proxy/requirement.h"

static int check_name(const char *text, const struct place *at, char **ret_text)
{
	char name[REQUIREMENT_NAME + 1], shown[120];
	struct err err;

	if (requirement_check(text, strlen(text), &err) == 0 && !strpbrk(text, "[(<>=!~; "))
		requirement_name(text, name);
	else
		return place_complain(at, false,
				      "\"%s\" is not the name of a package alone, such as "
				      "\"pandas\"",
				      escape_string(shown, sizeof(shown), text));
	*ret_text = strdup(name);
	return *ret_text ? 0 : setting_no_memory(at);
}

int install_setting(const struct setting *setting, json_t *value, struct place *at, void *target)
{
	struct install_rules *rules = target;
	const char *text = json_string_value(value);
	const bool allow = text && strcmp(text, "allow") == 0;
	char **listed = NULL;
	int r;

	if (json_is_array(value)) {
		r = setting_checked_list(setting, value, at, &listed, "[\"pandas\"]", check_name);
		if (r < 0)
			return r;
	} else if (!allow && (!text || strcmp(text, "deny") != 0)) {
		return place_complain(at, false,
				      "\"%s\" must be \"allow\", \"deny\" or the list of packages "
				      "that cells may install%s%s",
				      setting->key, text ? "" : ", not ",
				      text ? "" : setting_type_name(value));
	}
	install_rules_done(rules);
	*rules = (struct install_rules){listed	? INSTALL_LISTED
					: allow ? INSTALL_ALLOW
						: INSTALL_DENY,
					listed};
	return 0;
}

void install_rules_done(struct install_rules *rules)
{
	setting_list_free(rules->listed);
	*rules = (struct install_rules){INSTALL_DENY, NULL};
}

json_t *install_setting_show(const struct install_rules *rules)
{
	json_t *array;

	if (rules->mode != INSTALL_LISTED)
		return json_string(rules->mode == INSTALL_ALLOW ? "allow" : "deny");
	array = json_array();
	for (char **name = rules->listed; array && *name; name++) {
		if (json_array_append_new(array, json_string(*name)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

int install_judge(const struct install_rules *rules, const char *requirement, struct err *err)
{
	char name[REQUIREMENT_NAME + 1];

	requirement_name(requirement, name);
	if (rules->mode == INSTALL_ALLOW ||
	    (rules->mode == INSTALL_LISTED && setting_list_has(rules->listed, name)))
		return 0;
	if (rules->mode == INSTALL_LISTED)
		return err_set(err, -EACCES, "\"%s\" is not among the packages of the policy",
			       name);
	return err_set(err, -EACCES,
		       "the policy of this kernel lets no cell do that (\"install\": \"allow\" "
		       "would); outside, cellwall env makes an environment with packages");
}
