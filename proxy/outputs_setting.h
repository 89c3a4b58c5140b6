/*
 * outputs_setting: the values of the policy's "outputs" section, checked and copied.
 *
 * As setting.h: each is a parser of the table in policy.c; the target is replaced only when the
 * whole value is right. Returns 0, -EINVAL with one line that says what would be, or -ENOMEM. Never
 * logs.
 */
#ifndef PROXY_OUTPUTS_SETTING_H
#define PROXY_OUTPUTS_SETTING_H

#include "proxy/content.h"
#include "proxy/setting.h"

/* "text", "static", "interactive" or "off". The target is an enum outputs_mode. */
int outputs_setting_mode(const struct setting *setting, json_t *value, struct place *at,
			 void *target);
/* "defang" or "leave". The target is a bool: addresses are left. */
int outputs_setting_autolink(const struct setting *setting, json_t *value, struct place *at,
			     void *target);
/* MIME types that cellwall does not handle itself. The target is a char **, as those below. */
int outputs_setting_mime(const struct setting *setting, json_t *value, struct place *at,
			 void *target);
/* Types of messages that Jupyter's protocol does not have. */
int outputs_setting_types(const struct setting *setting, json_t *value, struct place *at,
			  void *target);
/* Names of comm targets. */
int outputs_setting_targets(const struct setting *setting, json_t *value, struct place *at,
			    void *target);

/* The policy's word for a mode. */
const char *outputs_mode_name(enum outputs_mode mode);

#endif
