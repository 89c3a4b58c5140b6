/*
 * ruleset: Landlock rulesets (landlock(7)), for the kernel behind the wall and for the processes of
 * the trusted side. Rights that the system does not know are left out of what is asked for. Never
 * logs.
 */
#ifndef SANDBOX_RULESET_H
#define SANDBOX_RULESET_H

#include "sandbox/base.h"

/* The least ABI that is used: with 1 no file could be moved between directories (Linux 5.19). */
#define RULESET_ABI_LEAST 2

/* With it there can be a wall of Landlock alone, see plain.h. */
#define RULESET_ABI_ALONE 6

/* What may be done below a path. */
#define RULESET_LIST   (UINT64_C(1) << 3)
#define RULESET_READ   (RULESET_LIST | UINT64_C(1) << 0 | UINT64_C(1) << 2) /* and execute */
#define RULESET_CHANGE (UINT64_C(1) << 1 | UINT64_C(1) << 14)
/* Names of all kinds but devices, made, removed and moved. */
#define RULESET_MAKE                                                                               \
	(UINT64_C(0x30) | UINT64_C(0x380) | UINT64_C(1) << 10 | UINT64_C(1) << 12 |                \
	 UINT64_C(1) << 13)
#define RULESET_IOCTL (UINT64_C(1) << 15) /* of devices, ABI 5 */
/* Sockets by their path, ABI 9; those that were made under the same ruleset need no rule. */
#define RULESET_CONNECT (UINT64_C(1) << 16)

/* What ends at the processes of the ruleset, ABI 6. */
#define RULESET_ABSTRACT (UINT64_C(1) << 0)
#define RULESET_SIGNALS	 (UINT64_C(1) << 1)

/* The system's ABI version, 0 when it has none (or none that is used). */
int ruleset_abi(void);

/*
 * A ruleset that allows no file at all yet; with `ports` no TCP port either (ABI 4); `scoped` of
 * the above. Returns its descriptor or a negative errno. Not to be called where ruleset_abi is 0.
 */
int ruleset_new(bool ports, uint64_t scoped, struct err *err);
/* Allows `access` below `path`, which may be a file; a path that is not there is passed over. */
int ruleset_allow(int ruleset, const char *path, uint64_t access, struct err *err);
/* Allows to bind one TCP port, or to connect to it. Nothing where the ruleset has no ports. */
int ruleset_allow_bind(int ruleset, uint16_t port, struct err *err);
int ruleset_allow_connect(int ruleset, uint16_t port, struct err *err);
/* For this thread and all that it starts, for good. */
int ruleset_enter(int ruleset, struct err *err);

#endif
