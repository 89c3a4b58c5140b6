/*
 * resource_setting: values of the policy's section "resources" that are more than a count or a
 * size. See setting.h.
 */
#ifndef PROXY_RESOURCE_SETTING_H
#define PROXY_RESOURCE_SETTING_H

#include "proxy/setting.h"

/* A size, or "80%" of the machine's memory. The target is a uint64_t: bytes, or 1 to 100 for a
 * share, as no size is that small. */
#define RESOURCE_SHARE_MAX 100
int resource_setting_memory(const struct setting *setting, json_t *value, struct place *at,
			    void *target);
/* A number of processors, also a fraction. The target is a uint64_t, in thousandths. */
int resource_setting_cpus(const struct setting *setting, json_t *value, struct place *at,
			  void *target);
/* Digits and one of s, m, h, d. The target is a uint64_t, in seconds. */
int resource_setting_duration(const struct setting *setting, json_t *value, struct place *at,
			      void *target);
/* "best" or "cgroup". The target is a bool: nothing but a cgroup will do. */
int resource_setting_enforce(const struct setting *setting, json_t *value, struct place *at,
			     void *target);

/* The same values as JSON that they are read from. NULL: no memory. */
json_t *resource_setting_show_memory(uint64_t memory);
json_t *resource_setting_show_cpus(uint64_t cpus);
json_t *resource_setting_show_duration(uint64_t seconds);

#endif
