/*
 * traits: what may be in the state of a widget's model, trait by trait.
 *
 * In: the state as the kernel sent it, a model of models.h. Out: the state in place: what is not of
 * its trait's form is taken out, text is made harmless, outputs go through their own rules. Pure
 * functions on jansson trees.
 */
#ifndef PROXY_TRAITS_H
#define PROXY_TRAITS_H

#include "proxy/known.h"
#include "proxy/models.h"
#include "proxy/tidy.h"

#define TRAITS_MAX 512 /* in one state */

void traits_filter(struct tidy *tidy, const struct model *model, json_t *state);

#endif
