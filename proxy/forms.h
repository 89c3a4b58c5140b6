/*
 * forms: what the values of widgets' traits look like; see models.h.
 *
 * Pure functions on one value each; null has every form but those of lists.
 */
#ifndef PROXY_FORMS_H
#define PROXY_FORMS_H

#include <jansson.h>
#include <stdbool.h>

#define FORMS_ITEMS 4096 /* of a list */

bool forms_quantity(json_t *value);
bool forms_word(const json_t *value);
/* What a style may be: lengths, colours, names and the functions that compute them; no address, no
 * escape. */
bool forms_css(const json_t *value);
bool forms_class(const json_t *value);
bool forms_icon(const json_t *value);
bool forms_number_format(const json_t *value);
bool forms_media(const json_t *value);
bool forms_accept(const json_t *value);
bool forms_message(const json_t *value);
bool forms_version(const json_t *value);
/* A list of at most FORMS_ITEMS elements of one form. */
bool forms_each(json_t *list, bool (*element)(const json_t *));

#endif
