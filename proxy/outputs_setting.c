#include "proxy/outputs_setting.h"

#include <errno.h>
#include <string.h>

#include "proxy/mime.h"

#define NAME_LENGTH 128

static const char *const modes[] = {[OUTPUTS_TEXT] = "text",
				    [OUTPUTS_STATIC] = "static",
				    [OUTPUTS_INTERACTIVE] = "interactive",
				    [OUTPUTS_OFF] = "off"};
enum { MODES = sizeof(modes) / sizeof(modes[0]) };

const char *outputs_mode_name(enum outputs_mode mode)
{
	return (unsigned)mode < MODES ? modes[mode] : "static";
}

int outputs_setting_mode(const struct setting *setting, json_t *value, struct place *at,
			 void *target)
{
	const char *text = json_string_value(value);

	for (unsigned i = 0; text && i < MODES; i++) {
		if (strcmp(modes[i], text) == 0) {
			*(enum outputs_mode *)target = (enum outputs_mode)i;
			return 0;
		}
	}
	return place_complain(
		at, false, "\"%s\" must be \"text\", \"static\", \"interactive\" or \"off\"%s%s",
		setting->key, text ? "" : ", not ", text ? "" : setting_type_name(value));
}

int outputs_setting_autolink(const struct setting *setting, json_t *value, struct place *at,
			     void *target)
{
	const char *text = json_string_value(value);
	bool leave = text && strcmp(text, "leave") == 0;

	if (!leave && (!text || strcmp(text, "defang") != 0))
		return place_complain(
			at, false, "\"%s\" must be \"defang\" or \"leave\" (addresses in text)%s%s",
			setting->key, text ? "" : ", not ", text ? "" : setting_type_name(value));
	*(bool *)target = leave;
	return 0;
}

/* ---- lists of names ---- */

static int check_name(const char *text, const char *more, const char *what, const struct place *at,
		      char **ret_text)
{
	size_t size = strlen(text);
	char shown[120];

	for (size_t i = 0; i < size; i++) {
		const char c = text[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && !strchr(more, c))
			size = 0;
	}
	if (size == 0 || size > NAME_LENGTH) {
		escape_string(shown, sizeof(shown), text);
		return place_complain(at, false, "\"%s\" is not %s", shown, what);
	}
	*ret_text = strdup(text);
	return *ret_text ? 0 : setting_no_memory(at);
}

static int check_mime(const char *text, const struct place *at, char **ret_text)
{
	const char *slash = strchr(text, '/');
	int r = check_name(text, "/+-._", "a MIME type in lower case, such as \"text/csv\"", at,
			   ret_text);

	if (r < 0)
		return r;
	if (!slash || slash == text || !slash[1] || strchr(slash + 1, '/'))
		r = place_complain(at, false,
				   "\"%s\" is not a MIME type in lower case, such as \"text/csv\"",
				   text);
	else if (mime_is_known(text))
		r = place_complain(at, false,
				   "\"%s\" cannot be named here: what becomes of it is said by "
				   "\"mode\"",
				   text);
	if (r < 0) {
		free(*ret_text);
		*ret_text = NULL;
	}
	return r;
}

int outputs_setting_mime(const struct setting *setting, json_t *value, struct place *at,
			 void *target)
{
	return setting_checked_list(setting, value, at, target, "[\"text/csv\"]", check_mime);
}

static int check_type(const char *text, const struct place *at, char **ret_text)
{
	/* Those that have rules of their own. */
	static const char *const known[] = {
		"stream",	"display_data", "execute_result", "update_display_data",
		"clear_output", "error",	"status",	  "execute_input",
		"comm_open",	"comm_msg",	"comm_close",	  "debug_event",
		"iopub_welcome"};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i], text) == 0)
			return place_complain(at, false,
					      "\"%s\" is a message of Jupyter's own: leave it out",
					      text);
	return check_name(text, "_", "the type of a message, such as \"my_event\"", at, ret_text);
}

int outputs_setting_types(const struct setting *setting, json_t *value, struct place *at,
			  void *target)
{
	return setting_checked_list(setting, value, at, target, "[\"my_event\"]", check_type);
}

static int check_target(const char *text, const struct place *at, char **ret_text)
{
	return check_name(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_.:-", "the name of a comm target", at,
			  ret_text);
}

int outputs_setting_targets(const struct setting *setting, json_t *value, struct place *at,
			    void *target)
{
	return setting_checked_list(setting, value, at, target, "[\"jupyter.widget\"]",
				    check_target);
}
