/*
 * hook: which package of a Python kernel tries what, as that kernel says itself.
 *
 * What the audit hook of startup.h calls. It says which module and
 * line go out to an address, and two things that are no system call worth telling: names that are
 * looked up and files of secrets that are opened; and at the end of a kernel that runs from a
 * sealed environment, which packages of it were imported. A comfort, no part of the wall: whoever
 * runs inside can remove it or lie by it, so what it says is shown and nothing else. See attempt.h
 * for its words.
 */
#ifndef SANDBOX_HOOK_H
#define SANDBOX_HOOK_H

#define HOOK_WORD "cellwall"

/* A part for startup.c: attempt(event, arguments). */
extern const char hook_text[];

#endif
