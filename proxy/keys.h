/*
 * keys: CURVE key pairs in the certificate files of czmq (zcert(3), ZPL of ZeroMQ RFC 4), and the
 * directory of those that are allowed.
 *
 *   NAME.key         the public key, 0644       NAME.key_secret  both keys, 0600
 *
 * The same names and the same text as zmq.auth of pyzmq writes and reads. Files are foreign: read
 * up to KEYS_FILE_MAX, unknown entries are passed over. A secret is read from a file of the user's
 * own that nobody else can read, and wiped by keys_done. Never logs. Uses libzmq for the keys and
 * Z85 (zmq_curve_keypair(3), zmq_z85_encode(3)).
 */
#ifndef PROXY_KEYS_H
#define PROXY_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "sandbox/base.h"

#define KEYS_BYTES    32
#define KEYS_TEXT     41 /* Z85 of 32 bytes, and a NUL */
#define KEYS_NAME     64
#define KEYS_FILE_MAX 4096
#define KEYS_SECRET   "_secret" /* what the secret file's name ends with */

struct key {
	char public_key[KEYS_TEXT];
	char secret_key[KEYS_TEXT]; /* "" when it is not known */
};

/* Letters, digits, "-", "_", "." and "@", not "." first; less than KEYS_NAME. */
bool keys_name(const char *name);
/* DIRECTORY, or $XDG_CONFIG_HOME/cellwall, or ~/.config/cellwall. Caller frees. Returns 0 or
 * -errno. */
int keys_directory(const char *directory, char **ret_path, struct err *err);

/* A fresh pair. Returns 0 or a negative errno. */
int keys_make(struct key *ret_key, struct err *err);
/* Wipes the secret. */
void keys_done(struct key *key);
/* Writes a new file, the secret one when `secret`. Returns 0; -EEXIST when there is one. */
int keys_write(const char *path, const struct key *key, const char *name, bool secret,
	       struct err *err);
/*
 * Reads a certificate. With `secret` the secret key must be in it, belong to the public one, and
 * the file must be of this user or root and for nobody else to read. Returns 0 or a negative errno.
 */
int keys_read(const char *path, bool secret, struct key *ret_key, struct err *err);

/* The allowed clients: DIRECTORY/NAME.key. */
#define KEYS_ALLOWED_MAX 4096
struct keys_allowed;
/* A directory that is not there allows nobody. Returns 0 or -ENOMEM. */
int keys_allowed_new(const char *directory, struct keys_allowed **ret_allowed, struct err *err);
struct keys_allowed *keys_allowed_free(struct keys_allowed *allowed); /* accepts NULL; NULL */
/* Reads the directory again when a file has come, gone, or become another since: by inode, size
 * and times. A file that cannot be read allows nobody. */
void keys_allowed_look(struct keys_allowed *allowed);
/* The name under which a key is allowed, as of the last look (the first is before that), or NULL.
 * Valid until the next look. */
const char *keys_allowed_name(const struct keys_allowed *allowed, const char *public_key);

#endif
