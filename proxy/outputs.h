/*
 * outputs: what a kernel shows: text, errors and MIME bundles.
 *
 * The rules of content.h for stream, display_data, execute_result, update_display_data,
 * clear_output and error. Only the keys that a front end needs go on. What was taken out is named
 * where the user looks, in a line "[cellwall blocked: ...]", and in content->blocked.
 */
#ifndef PROXY_OUTPUTS_H
#define PROXY_OUTPUTS_H

#include "proxy/content.h"

/* Makes a bundle safe in place; both must be objects. For outputs inside of widgets too. Returns 0
 * when nothing changed, 1, or -ENOMEM: then it must not go on. */
int outputs_bundle(json_t *data, json_t *metadata, struct content *content);

enum content_verdict outputs_stream(struct content *content);
enum content_verdict outputs_display(struct content *content);
enum content_verdict outputs_result(struct content *content);
enum content_verdict outputs_update(struct content *content);
enum content_verdict outputs_clear(struct content *content);
enum content_verdict outputs_error(struct content *content);

#endif
