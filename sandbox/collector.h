/*
 * collector: the process that copies results out of the private directory, so that a 2 GB file
 * never holds up the supervisor. It lives in the host's namespaces with the user's rights and never
 * runs foreign code; what it reads it reads through staging.h.
 *
 * Words on its socket (packets of status.h): to it "collect SEQ", "measure", "final" and "discard";
 * from it "measured BYTES" (what is in /work now, see bounds.h), "collected SEQ FILES BYTES LEFT
 * WATCHED", "refused PATH REASON", "flagged PATH REASON", "notice TEXT", "done FILES BYTES LEFT"
 * (answer to final) and "discarded".
 */
#ifndef SANDBOX_COLLECTOR_H
#define SANDBOX_COLLECTOR_H

#include "sandbox/spec.h"
#include "sandbox/staging.h"

/* What a file takes at the least: file systems have about one inode for so many bytes. */
#define INODE_BYTES 16384

/* From the kernel's end; what is not out by then stays in the private directory and is brought in
 * later. */
#define COLLECT_MS 2000

/* main() of the process. Never returns; ends when the lifeline hangs up or the socket is closed. */
_Noreturn void collector_main(int socket, int lifeline, struct staging *staging);

/* main() of a short-lived one that brings in abandoned private directories of the same staging/out.
 */
_Noreturn void collector_recover(int socket, int lifeline, const struct spec *spec);

#endif
