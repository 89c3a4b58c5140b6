/*
 * spec: everything the supervisor is told about one kernel, as the proxy decided it.
 *
 * It comes on a sealed memfd (memfd_create(2)) as records "key NUL value NUL …", each key with a
 * fixed number of values (1; a bind has 3), an unknown key an error: the supervisor links no JSON
 * parser. The writer is proxy/launch.c, the reader is here; both use the one table in spec.c.
 */
#ifndef SANDBOX_SPEC_H
#define SANDBOX_SPEC_H

#include <stdint.h>

#include "sandbox/base.h"

#define SPEC_MAX (4u * 1024 * 1024) /* argv, environment and a few hundred paths */

/* Fixed places inside the wall. */
#define INSIDE_SOCKETS	   "/cellwall" /* the shared socket tmpfs, as the kernel sees it */
#define INSIDE_CONNECTION  INSIDE_SOCKETS "/kernel.json" /* the inner connection file */
#define INSIDE_IPC_NAME	   "k" /* sockets are k-1 shell, k-2 iopub, k-3 stdin, k-4 control, k-5 hb */
#define INSIDE_WORK	   "/work"
#define INSIDE_OUT	   INSIDE_WORK "/staging/out" /* its own place inside, see staging.h */
#define INSIDE_HISTORY	   INSIDE_WORK "/.cellwall-history.sqlite" /* hidden: no result */
#define INSIDE_HOME	   "/home/user"
#define INSIDE_ENVIRONMENT "/env" /* a sealed environment, or the one that is being built */
#define INSIDE_BUILD	   INSIDE_WORK "/.build" /* where it is built: hidden, so no result */
#define INSIDE_INSTALL	   "/cellwall-install"	 /* pip and uv, as a kernel calls them */
#define INSIDE_ADDED	   "/cellwall-added"	 /* what cells have had installed */
#define INSIDE_BEFORE	   "/cellwall-before"	 /* the same, in the build of more */
#define INSIDE_FONTS	   INSIDE_HOME "/.cache/matplotlib" /* warm.h */
#define INSIDE_USER	   "user"
#define INSIDE_UID	   1000
#define INSIDE_HOSTNAME	   "cellwall"
#define RELAY_SOCKETS	   "/s" /* the same tmpfs in the relay's root */

/* A read-only bind mount of a host path. */
struct spec_bind {
	char *source;  /* absolute host path, symbolic links already resolved */
	char *target;  /* absolute path inside; below /work for what is staged */
	bool required; /* missing: true fails the launch, false is skipped with a notice */
};

struct spec {
	char **argv; /* of the kernel, NULL-terminated; argv[0] absolute inside */
	size_t argc;
	char **env; /* of the kernel, NULL-terminated "NAME=VALUE" */
	size_t envc;
	struct spec_bind *binds; /* interpreter prefixes and policy paths; in order */
	size_t bind_count;
	struct spec_bind *stages; /* staged things, targets below /work; in order */
	size_t stage_count;
	/* Host directories that the kernel may change in its own eyes: what it writes goes to a
	 * copy (overlayfs, or a bounded copy made at the start), the host's files stay as they are.
	 * At INSIDE_OUT the copy is in the private directory, elsewhere in a tmpfs of the sandbox.
	 */
	struct spec_bind *overlays;
	size_t overlay_count;
	char **out_names; /* names that names.h keeps inside, but the policy lets out */
	size_t out_name_count;
	/* Host file that the input history of this folder's kernels is kept in; NULL: none is. */
	char *history;
	char *relay;	      /* host path of cellwall-relay */
	char *connection;     /* text of the inner connection file */
	char *state;	      /* host directory for private directories (0700, made when missing) */
	char *out;	      /* host path of staging/out; need not exist yet */
	uint64_t out_bytes;   /* largest file, and all collected files together */
	uint64_t out_files;   /* files collected at the most */
	uint64_t tmp_bytes;   /* size of each of /tmp, /dev/shm and the home */
	uint64_t memory;      /* of the whole sandbox, in bytes; 0: no limit */
	uint64_t data;	      /* RLIMIT_DATA of each process; 0: none */
	uint64_t disk;	      /* bytes that may be in /work at a time; 0: no limit */
	uint64_t cpus;	      /* thousandths of a processor; 0: all there are */
	uint64_t pids;	      /* RLIMIT_NPROC */
	uint64_t open_files;  /* RLIMIT_NOFILE */
	uint64_t cgroup_only; /* 1: no launch without a cgroup that holds these limits */
	uint64_t landlock;    /* 1: the wall without namespaces, see plain.h */
	/* An environment is built: this port of 127.0.0.1 inside is listened on, and the proxy gets
	 * the listener (status.h, "egress"); INSIDE_ENVIRONMENT leads to INSIDE_BUILD/env. 0: no.
	 */
	uint64_t egress;
};

/* Serialises into a fresh sealed memfd (caller closes). Returns the descriptor or a negative errno.
 */
int spec_write(const struct spec *spec, struct err *err);
/* Checks the seals, parses and checks; every pointer is then owned by the spec. Returns 0 or a
 * negative errno. */
int spec_read(int fd, struct spec *ret_spec, struct err *err);
/* The same from memory. */
int spec_parse(const void *data, size_t size, struct spec *ret_spec, struct err *err);
/* Frees what the spec owns and zeroes it. */
void spec_done(struct spec *spec);
/* Append copies; 0 or -ENOMEM. */
int spec_add_argv(struct spec *spec, const char *text);
int spec_add_env(struct spec *spec, const char *text);
int spec_add_bind(struct spec *spec, const char *source, const char *target, bool required);
int spec_add_stage(struct spec *spec, const char *source, const char *target, bool required);
int spec_add_overlay(struct spec *spec, const char *source, const char *target, bool required);
int spec_add_out_name(struct spec *spec, const char *name);

#endif
