/*
 * users: who may use this server, and how much.
 *
 * A user is a name with quotas, known by a token (of the token file), by a client certificate's
 * common name, by a uid on the Unix socket, or by what a JupyterHub says of a token. Tokens are
 * kept as SHA-256 and compared in constant time. A user never goes away while the server runs:
 * pointers stay good, what is taken out of the file is disabled. Never logs; never blocks.
 */
#ifndef WEB_USERS_H
#define WEB_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandbox/base.h"

#define USER_NAME_MAX 64 /* bytes with NUL; letters, digits, "." "_" "-" "@", not a "." first */

struct user {
	char name[USER_NAME_MAX];
	bool admin;	      /* sees and stops everybody's kernels, reads /metrics */
	bool disabled;	      /* not in the file any more: no new requests */
	unsigned epoch;	      /* another with each token of the file: cookies of the last one end */
	unsigned max_kernels; /* 0: the server's own limit alone */
	uint64_t area_limit;  /* bytes of a staging area; 0: the server's */
	char **kernelspecs;   /* names that this user may start, NULL-terminated; NULL: all */
};

struct users;

int users_new(struct users **ret_users, struct err *err);
struct users *users_free(struct users *users); /* accepts NULL; returns NULL */

/*
 * Reads the token file: one token alone (one user, "admin", who may do everything), or
 *   {"users": {"anna": {"token": "…" or "sha256": "…", "max_kernels": 2, "kernelspecs":
 * ["python3"], "area_limit": "2G", "admin": false, "certificate": "CN", "uid": 1000}}} strict,
 * owned by root or us, readable by nobody else. Again on SIGHUP: nothing changes when it cannot be
 * read. Returns 0 or a negative errno.
 */
int users_read(struct users *users, const char *path, struct err *err);
/* One token for one user "admin"; copies a hash of it. */
int users_add_token(struct users *users, const char *token, struct err *err);
/* True when somebody can be known by a token. */
bool users_have_tokens(const struct users *users);
/* True when a user of the file may come with a certificate. */
bool users_have_certificates(const struct users *users);
/* True when a user of the file is known by a uid that is neither ours nor root's. */
bool users_have_uids(const struct users *users);

/* Each returns NULL when there is no such user, or one that is disabled. */
const struct user *users_by_token(const struct users *users, const char *token, size_t size);
const struct user *users_by_certificate(const struct users *users, const char *common_name);
const struct user *users_by_uid(const struct users *users, unsigned uid);
/* The user of this name, made when there is none (what a Hub or a link's key knows); NULL: the name
 * is not one, there are too many, or no memory. */
const struct user *users_get(struct users *users, const char *name, bool admin);
/* The same; who is not of the file is an admin from now on when the Hub says so now. */
const struct user *users_by_hub(struct users *users, const char *name, bool admin);

/* Who runs this server, on its Unix socket: "local", who may do everything. NULL: no memory, or the
 * file has a user of this name. */
const struct user *users_local(struct users *users);

bool users_name_good(const char *name);
/* True when this user may start kernels of this kernelspec. */
bool user_may_start(const struct user *user, const char *kernelspec);

#endif
