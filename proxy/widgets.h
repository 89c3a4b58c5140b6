/*
 * widgets: the messages of ipywidgets (jupyter.widget, protocol 2), which may arrive in three ways:
 * the opening of a comm, an update, and the states of all models after a page was loaded anew.
 *
 * A model must be one of models.h; it stays what it was when its comm was opened; its state goes
 * through traits.h on every way. Source: packages/schema/messages.md of ipywidgets. Pure functions.
 */
#ifndef PROXY_WIDGETS_H
#define PROXY_WIDGETS_H

#include "proxy/known.h"
#include "proxy/tidy.h"

#define WIDGETS_TARGET "jupyter.widget"

/* Of comm_open. Returns the model's number, or 0 when there may be no such comm. */
unsigned short widgets_open(struct tidy *tidy, json_t *data);
/* Of comm_msg. Return whether it passes; a model that was not known is remembered. */
bool widgets_msg(struct tidy *tidy, const char *id, const struct known_comm *comm, json_t *data);
bool widgets_control(struct tidy *tidy, json_t *data);

/* Whether a display of application/vnd.jupyter.widget-view+json names a model that there is. */
bool widgets_view_ok(const struct content *content, const char *model_id);

#endif
