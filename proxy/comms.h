/*
 * comms: which comms there may be between a kernel and its front ends.
 *
 * A target must be on the allow list: a front end runs the code that is registered for it, or, by
 * target_module, any code. Messages pass for comms alone whose opening passed; those of ipywidgets
 * go through widgets.h. Rules as content.h says.
 */
#ifndef PROXY_COMMS_H
#define PROXY_COMMS_H

#include "proxy/content.h"

enum content_verdict comms_open(struct content *content);
enum content_verdict comms_msg(struct content *content);
enum content_verdict comms_close(struct content *content);
/* What a client opens and closes is remembered; the message passes as it is. */
enum content_verdict comms_client_open(struct content *content);
enum content_verdict comms_client_close(struct content *content);

/* Whether the rules name a target; jupyter.widget when they name none, never in mode text. */
bool comms_target_ok(const struct outputs_rules *rules, const char *target);

#endif
