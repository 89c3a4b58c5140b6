/*
 * server: what all rooms of one running `cellwall serve` share, and its settings.
 */
#ifndef WEB_SERVER_H
#define WEB_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "sandbox/base.h"

struct loop;
struct users;
struct user;
struct kernels;
struct specs;
struct link;
struct metrics;
struct listeners;
struct limiter;
struct hub;
struct areas;
struct cookies;

#define LISTEN_MAX 8

/* What the command line says; strings are borrowed from it. Times in seconds, 0: never. */
struct settings {
	const char *listen[LISTEN_MAX];
	unsigned listens;
	const char *token_file;
	const char *certificate; /* PEM, with chain */
	const char *private_key;
	const char *client_ca; /* PEM: clients need a certificate of these */
	bool self_signed;
	const char *base_url; /* "" or "/a/b": no slash at its end */
	const char *allow_origin[8];
	unsigned allow_origins;
	const char *allow_host[8];
	unsigned allow_hosts;
	const char *trusted_proxy[8];
	unsigned trusted_proxies;
	const char *hub_api; /* of a JupyterHub: http://127.0.0.1:8081/hub/api */
	const char *hub_token_file;
	const char *keys; /* link: the directory of allowed clients' keys */
	const char *data; /* staging areas; NULL: the user's data directory */
	const char *default_kernel;
	const char *const
		*kernelspecs; /* those to serve, NULL at the end; NULL: all that are walled */
	const char *const *allowed_environment; /* see kernels_options */
	unsigned max_kernels;
	unsigned max_connections;
	unsigned max_user_kernels;
	unsigned cull_idle;
	unsigned cull_interval;
	bool cull_connected;
	bool cull_busy;
	unsigned start_timeout;
	unsigned link_keep; /* kernels of a link's client that stays away */
	uint64_t area_limit;
};

struct server {
	struct settings settings;
	struct loop *loop;
	struct users *users;
	struct specs *specs;	 /* web/specs.h */
	struct kernels *kernels; /* web/kernels.h */
	void *zmq;		 /* the process's one libzmq context */
	struct link *link;	 /* web/link.h; NULL: no curve:// is listened on */
	struct listeners *listeners;
	struct limiter *limiter; /* of login attempts */
	struct hub *hub;	 /* NULL: no JupyterHub */
	struct areas *areas;
	struct cookies *cookies;
	char *run_directory; /* private, 0700, on this host's run or temporary directory */
	int64_t started;     /* now_ms() */
	bool stopping;
};

#endif
