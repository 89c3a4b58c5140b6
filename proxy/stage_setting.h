/*
 * stage_setting: the values of the policy's "stage" section, checked and copied.
 *
 * As setting.h: each is a parser of the table in policy.c; the target is replaced only when the
 * whole value is right. Returns 0, -EINVAL with one line that says what would be, or -ENOMEM. Never
 * logs.
 */
#ifndef PROXY_STAGE_SETTING_H
#define PROXY_STAGE_SETTING_H

#include "proxy/policy.h"
#include "proxy/setting.h"

/* What is staged: "data", "/abs/path", "NAME=/abs/path" or {"path", "name", "required"}. The target
 * is a struct policy_input *, ended by one without a path. */
int stage_setting_inputs(const struct setting *setting, json_t *value, struct place *at,
			 void *target);
/* "." or absolute directories. The target is a char **, as all that follow but history. */
int stage_setting_trees(const struct setting *setting, json_t *value, struct place *at,
			void *target);
/* Plain file names. */
int stage_setting_names(const struct setting *setting, json_t *value, struct place *at,
			void *target);
/* Words of policy_caches. */
int stage_setting_caches(const struct setting *setting, json_t *value, struct place *at,
			 void *target);
/* Files for IPython's startup directory. */
int stage_setting_startup(const struct setting *setting, json_t *value, struct place *at,
			  void *target);
/* "off" or "folder". The target is a bool. */
int stage_setting_history(const struct setting *setting, json_t *value, struct place *at,
			  void *target);

struct policy_input *stage_setting_inputs_new(size_t count); /* NULL: no memory */
void stage_setting_inputs_free(struct policy_input *inputs); /* accepts NULL */
DEFINE_CLEANUP(struct policy_input *, stage_setting_inputs_free)

#endif
