/*
 * replies: what may be in a kernel's replies, its debugger's events and its questions.
 *
 * Front ends show parts of these with more trust than outputs, or act on them: pages and inputs of
 * a payload, links of the help menu, the exporter that nbconvert loads by the name in
 * language_info. Text stays text. Rules as content.h says; source: docs/messaging.rst of
 * jupyter_client.
 */
#ifndef PROXY_REPLIES_H
#define PROXY_REPLIES_H

#include "proxy/content.h"

enum content_verdict replies_execute(struct content *content);
enum content_verdict replies_inspect(struct content *content);
enum content_verdict replies_complete(struct content *content);
enum content_verdict replies_history(struct content *content);
enum content_verdict replies_is_complete(struct content *content);
enum content_verdict replies_kernel_info(struct content *content);
enum content_verdict replies_comm_info(struct content *content);
enum content_verdict replies_debug(struct content *content);
enum content_verdict replies_debug_event(struct content *content);
enum content_verdict replies_usage(struct content *content);
enum content_verdict replies_subshell(struct content *content);
enum content_verdict replies_status(struct content *content);
enum content_verdict replies_input_request(struct content *content);

#endif
