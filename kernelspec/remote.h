/*
 * remote: `cellwall stage ls`, `get` and `put` with --server: the staging areas that a `cellwall
 * serve` keeps, over its port (web/areas.h). An executable of its own, so that `cellwall kernel`
 * loads no HTTP library. remote_main.c has the options, remote_http.c speaks HTTP by libcurl,
 * remote_get.c, remote_put.c and remote_ls.c are the actions.
 *
 * In: what a server says, which may be anybody's: lengths, names and texts are checked, what is
 * printed is escaped. Out: files below --output, each there when it is whole and never in the place
 * of another. The token goes to the named server alone, over TLS, to this host, or by a Unix
 * socket; a client certificate's key stays here.
 */
#ifndef KERNELSPEC_REMOTE_H
#define KERNELSPEC_REMOTE_H

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernelspec/stage.h"
#include "sandbox/base.h"

#define REMOTE_PATH_MAX	 2000 /* of a file in an area */
#define REMOTE_PARTS_MAX 24
#define REMOTE_JSON_MAX	 (32u * 1024 * 1024)
#define REMOTE_TRIES	 5 /* without a byte more */

struct remote {
	const char *server, *area, *kernel, *token_file, *ca, *cert, *key, *output;
	bool json;
	const char *action;
	char **words; /* after the action */
	size_t count;

	CURL *curl;
	char *base;			 /* URL, nothing behind the last "/" */
	const char *socket;		 /* NULL: over TCP */
	bool plain;			 /* http:// */
	struct curl_slist *headers;	 /* of every request: who asks */
	char complaint[CURL_ERROR_SIZE]; /* libcurl's words */
};

/* ---- remote_http.c ---- */

/* Looks at --server, the client certificate and the token. Returns 0 or a negative errno with
 * words. */
int remote_open(struct remote *remote, struct err *err);
void remote_close(struct remote *remote);

/* What was said before the body. */
struct remote_head {
	uint64_t length;       /* UINT64_MAX: not said */
	uint64_t first, total; /* of Content-Range; `total` UINT64_MAX: there was none */
	char etag[128];	       /* "" when there is none that can be used */
};

/*
 * All of these return 0 or a negative errno with words: -EAGAIN when the connection was lost and
 * it can be tried again, -ENOENT for what is not there, -ERANGE for a range that is not.
 */
/* Caller decrefs; it is an object. */
int remote_json(struct remote *remote, const char *path, json_t **ret_object, struct err *err);
int remote_look(struct remote *remote, const char *path, struct remote_head *ret_head,
		struct err *err);

/* One file's way in or out. */
struct remote_copy {
	int fd;		  /* read or written with offsets */
	uint64_t done;	  /* in: where to begin; out: so far */
	uint64_t size;	  /* of the whole file */
	const char *etag; /* download: the file is still this one; "" for none */
	struct stage_progress *progress;
};
/* -ESTALE: it is another file by now. */
int remote_download(struct remote *remote, const char *path, struct remote_copy *copy,
		    struct err *err);
int remote_upload(struct remote *remote, const char *path, struct remote_copy *copy,
		  struct err *err);

/* "/api/KIND/AREA" or, unless `file` is NULL, "/api/KIND/AREA/FILE", each part escaped; caller
 * frees. */
char *remote_path(const struct remote *remote, const char *kind, const char *area,
		  const char *file);
/* Waits and is true while another try makes sense; `copied` bytes are done by now. */
struct remote_tries {
	unsigned used;
	uint64_t copied;
};
bool remote_again(struct remote_tries *tries, uint64_t copied);

/* ---- the actions, each returns the exit code ---- */

int remote_ls(struct remote *remote);
int remote_get(struct remote *remote);
int remote_put(struct remote *remote);

/* The area that is meant: of --area, of --kernel, or the default one. Returns 0 or a negative errno
 * with words. */
int remote_find_area(struct remote *remote, struct err *err);
/* A relative path that means one file below a folder on any host: bounded, no part of it empty,
 * "." or "..", no control characters. */
bool remote_path_good(const char *path);
/* The files of an area: caller decrefs. `ret_all` false: there are more. */
int remote_files(struct remote *remote, const char *area, json_t **ret_files, bool *ret_all,
		 struct err *err);

#endif
