/*
 * server: what all rooms of one running `cellwall serve` share, its settings, its start and its
 * end.
 */
#ifndef WEB_SERVER_H
#define WEB_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "sandbox/base.h"

struct auth;
struct conns;
struct hub;
struct kernels;
struct link;
struct listener;
struct loop;
struct specs;
struct tls;
struct trail;
struct users;

#define LISTEN_MAX 8
#define NAMES_MAX  16

/* What the command line says; strings are borrowed from it. Times in seconds, 0: never. */
struct settings {
	const char *listen[LISTEN_MAX + 1]; /* lists end with NULL */
	const char *token_file;
	const char *certificate; /* PEM, with chain */
	const char *private_key;
	const char *client_ca; /* PEM: clients may show a certificate of these */
	bool self_signed;
	const char *base_url; /* "" or "/a/b": no slash at its end */
	const char *allow_origin[NAMES_MAX + 1];
	const char *allow_host[NAMES_MAX + 1];
	const char *trusted_proxy[NAMES_MAX + 1];
	const char *hub_api;		       /* of a JupyterHub: http://127.0.0.1:8081/hub/api */
	const char *hub_scopes;		       /* JSON list: a token needs one of these */
	const char *keys;		       /* link: the directory of allowed clients' keys */
	const char *data;		       /* staging areas; NULL: the user's data directory */
	const char *runtime;		       /* NULL: the user's runtime directory */
	const char *kernelspec[NAMES_MAX + 1]; /* those to be had; none: all behind the wall */
	const char *default_kernel;
	const char *allow_env[NAMES_MAX + 1]; /* variables of requests, besides KERNEL_ ones */
	uint64_t max_kernels;
	uint64_t max_user_kernels;
	uint64_t max_connections;
	uint64_t cull_idle;
	uint64_t cull_interval;
	bool cull_busy;
	bool cull_connected;
	uint64_t start_timeout;
	uint64_t link_keep;  /* kernels of a link's client that stays away */
	uint64_t area_limit; /* bytes of one user's staging areas */
};

struct server {
	struct settings settings;
	struct loop *loop;
	struct users *users;
	struct auth *auth;
	struct hub *hub; /* NULL: no JupyterHub */
	struct tls *tls; /* NULL: no https:// is listened on */
	struct conns *conns;
	struct listener *listener[LISTEN_MAX];
	struct specs *specs;	 /* web/specs.h */
	struct kernels *kernels; /* web/kernels.h */
	struct link *link;	 /* web/link.h; NULL: no curve:// is listened on */
	struct trail *trail;
	struct watch *signals;
	int signal_fd;
	char *data;	 /* absolute, 0700 */
	char *runtime;	 /* absolute, 0700 */
	char *token;	 /* the file of a token made for this run; NULL: none */
	int token_lock;	 /* on `runtime`, while there is such a token */
	int64_t started; /* now_ms() */
	bool stopping;
};

/* Checks the settings (which it copies) and opens everything. Returns 0 or a negative errno. */
int server_new(const struct settings *settings, struct server **ret_server, struct err *err);
/* Serves until SIGTERM or SIGINT. Returns 0 or a negative errno. */
int server_run(struct server *server, struct err *err);
struct server *server_free(struct server *server); /* accepts NULL; returns NULL */
/* All of that, for a program that does nothing else; logs what fails. Returns its exit code. */
int server_serve(const struct settings *settings);

/* The kernels a user may have: her own number, or the server's. 0: no limit. */
unsigned server_user_kernels(const struct server *server, unsigned own);

#endif
