/*
 * install_setting: the policy's "install": which packages a cell may ask for (install.h).
 *
 * As setting.h: the target is replaced only when the whole value is right. Returns 0, -EINVAL with
 * one line that says what would be, or -ENOMEM. Never logs.
 */
#ifndef PROXY_INSTALL_SETTING_H
#define PROXY_INSTALL_SETTING_H

#include "proxy/install.h"
#include "proxy/setting.h"

/* "allow", "deny" or a list of names. The target is a struct install_rules. */
int install_setting(const struct setting *setting, json_t *value, struct place *at, void *target);
/* As the policy says it; NULL: no memory. */
json_t *install_setting_show(const struct install_rules *rules);

#endif
