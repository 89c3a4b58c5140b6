#include "kernelspec/remote.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TOKEN_MAX     4096
#define COMPLAINT_MAX 8192 /* of an error's body */
#define STALLED_S     60   /* fewer than STALLED bytes a second for so long */
#define STALLED	      100
#define ANSWER_S      300 /* a whole answer that is no file */

/* ---- whom, and as whom ---- */

static bool is_this_host(const char *host)
{
	struct in_addr four;

	return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
	       (inet_pton(AF_INET, host, &four) == 1 && ntohl(four.s_addr) >> 24 == 127);
}

/* One part of a URL; "" for one that is not there. Caller frees with curl_free. */
static char *url_part(CURLU *url, CURLUPart part)
{
	char *text = NULL;

	return curl_url_get(url, part, &text, 0) == CURLUE_OK ? text : NULL;
}

static int check_url(struct remote *remote, struct err *err)
{
	CURLU *url = curl_url();
	char *scheme = NULL, *host = NULL, *user = NULL, *query = NULL, *fragment = NULL;
	int code = -EINVAL;

	if (url && curl_url_set(url, CURLUPART_URL, remote->base, 0) == CURLUE_OK) {
		scheme = url_part(url, CURLUPART_SCHEME);
		host = url_part(url, CURLUPART_HOST);
		user = url_part(url, CURLUPART_USER);
		query = url_part(url, CURLUPART_QUERY);
		fragment = url_part(url, CURLUPART_FRAGMENT);
	}
	if (scheme && host && !user && !query && !fragment) {
		remote->plain = strcmp(scheme, "http") == 0;
		if (strcmp(scheme, "https") == 0 || (remote->plain && is_this_host(host)))
			code = 0;
	}
	if (code < 0)
		err_set(err, code,
			"--server: https://HOST:PORT is needed, or http:// for this host, or "
			"unix:PATH");
	curl_free(scheme);
	curl_free(host);
	curl_free(user);
	curl_free(query);
	curl_free(fragment);
	curl_url_cleanup(url);
	return code;
}

static int take_server(struct remote *remote, struct err *err)
{
	size_t size;

	if (strncmp(remote->server, "unix:", 5) == 0) {
		remote->socket = remote->server + 5;
		remote->plain = true;
		remote->base = strdup("http://localhost");
		return remote->base ? 0 : err_set(err, -ENOMEM, "out of memory");
	}
	remote->base = strdup(remote->server);
	if (!remote->base)
		return err_set(err, -ENOMEM, "out of memory");
	for (size = strlen(remote->base); size > 0 && remote->base[size - 1] == '/';)
		remote->base[--size] = '\0';
	return check_url(remote, err);
}

/* A file that is the user's own. Returns a descriptor, or a negative errno. */
static int open_secret(const char *path, struct err *err)
{
	cleanup(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char shown[256];
	struct stat status;

	escape_string(shown, sizeof(shown), path);
	if (fd < 0 || fstat(fd, &status) < 0)
		return err_errno(err, "%s", shown);
	if (!S_ISREG(status.st_mode) || (status.st_mode & 077))
		return err_set(err, -EACCES, "%s: a file that others cannot read is needed (0600)",
			       shown);
	return steal_fd(&fd);
}

/* The key is in the certificate's file when it has none of its own. */
static int check_certificate(const struct remote *remote, struct err *err)
{
	cleanup(close_fd) int fd = -1;

	if (!remote->cert)
		return remote->key ? err_set(err, -EINVAL, "--key: --cert is missing") : 0;
	if (remote->plain)
		return err_set(err, -EINVAL, "--cert: https:// is needed");
	fd = open_secret(remote->key ? remote->key : remote->cert, err);
	return fd < 0 ? err->code : 0;
}

/* One line of printable ASCII. */
static int read_token(const char *path, char out[TOKEN_MAX + 1], struct err *err)
{
	cleanup(close_fd) int fd = open_secret(path, err);
	char shown[256];
	ssize_t size;

	if (fd < 0)
		return err->code;
	size = read(fd, out, TOKEN_MAX);
	if (size < 0)
		return err_errno(err, "%s", escape_string(shown, sizeof(shown), path));
	out[size] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	return 0;
}

static int take_token(struct remote *remote, struct err *err)
{
	const char *given = getenv("CELLWALL_TOKEN");
	char token[TOKEN_MAX + 1] = "", line[TOKEN_MAX + 32];
	int code = 0;

	if (remote->token_file)
		code = read_token(remote->token_file, token, err);
	else if (given)
		(void)snprintf(token, sizeof(token), "%s", given);
	for (const char *at = token; code == 0 && *at; at++)
		if (*at <= ' ' || *at > '~')
			code = err_set(err, -EINVAL,
				       "the token is not one line of printable ASCII");
	if (code == 0 && !*token && !remote->socket && !remote->cert)
		code = err_set(err, -EACCES,
			       "a token is needed: --token-file FILE or CELLWALL_TOKEN");
	if (code == 0 && *token) {
		(void)snprintf(line, sizeof(line), "Authorization: token %s", token);
		remote->headers = curl_slist_append(NULL, line);
		if (!remote->headers)
			code = err_set(err, -ENOMEM, "out of memory");
	}
	OPENSSL_cleanse(token, sizeof(token));
	OPENSSL_cleanse(line, sizeof(line));
	return code;
}

int remote_open(struct remote *remote, struct err *err)
{
	int code = take_server(remote, err);

	if (code == 0)
		code = check_certificate(remote, err);
	if (code == 0)
		code = take_token(remote, err);
	if (code == 0) {
		remote->curl = curl_easy_init();
		if (!remote->curl)
			code = err_set(err, -ENOMEM, "out of memory");
	}
	return code;
}

void remote_close(struct remote *remote)
{
	curl_easy_cleanup(remote->curl);
	curl_slist_free_all(remote->headers);
	free(remote->base);
}

/* ---- one request ---- */

struct exchange {
	struct remote *remote;
	struct remote_head head;
	struct remote_copy *copy; /* NULL: the body is an answer in JSON */
	char *body;
	size_t size, room, most;
	int code; /* why we ended it */
	bool checked;
	bool upload; /* `copy` is read from */
};

static bool is_field(const char *line, size_t size, const char *name, const char **ret_value)
{
	size_t length = strlen(name);

	if (size <= length || strncasecmp(line, name, length) != 0)
		return false;
	*ret_value = line + length + strspn(line + length, " \t");
	return true;
}

/* "bytes A-B/T" to the end of the file. */
static void take_range(struct remote_head *head, const char *text)
{
	char number[3][24];
	uint64_t first, last, total;
	int end = 0;

	if (sscanf(text, "bytes %20[0-9]-%20[0-9]/%20[0-9]%n", number[0], number[1], number[2],
		   &end) == 3 &&
	    end > 0 && parse_u64(number[0], INT64_MAX, &first) == 0 &&
	    parse_u64(number[1], INT64_MAX, &last) == 0 &&
	    parse_u64(number[2], INT64_MAX, &total) == 0 && last + 1 == total) {
		head->first = first;
		head->total = total;
	}
}

static size_t take_header(char *data, size_t one, size_t size, void *arg)
{
	struct exchange *exchange = arg;
	struct remote_head *head = &exchange->head;
	char line[512];
	const char *value;

	(void)one;
	if (size == 0 || size >= sizeof(line))
		return size;
	memcpy(line, data, size);
	line[size] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	if (strncmp(line, "HTTP/", 5) == 0) /* after 100 Continue all of it comes anew */
		*head = (struct remote_head){.length = UINT64_MAX, .total = UINT64_MAX};
	else if (is_field(line, size, "etag:", &value) && value[0] == '"' &&
		 strlen(value) < sizeof(head->etag))
		(void)snprintf(head->etag, sizeof(head->etag), "%s", value);
	else if (is_field(line, size, "content-range:", &value))
		take_range(head, value);
	return size;
}

/* What is not a file: kept, up to a limit. */
static size_t take_text(struct exchange *exchange, const char *data, size_t size)
{
	size_t most = exchange->most ? exchange->most : COMPLAINT_MAX;
	char *larger;

	if (size > most - exchange->size) {
		exchange->code = -EMSGSIZE;
		return 0;
	}
	if (exchange->room < exchange->size + size + 1) {
		exchange->room = 2 * (exchange->size + size + 1);
		larger = realloc(exchange->body, exchange->room);
		if (!larger) {
			exchange->code = -ENOMEM;
			return 0;
		}
		exchange->body = larger;
	}
	memcpy(exchange->body + exchange->size, data, size);
	exchange->size += size;
	exchange->body[exchange->size] = '\0';
	return size;
}

static long status_of(const struct exchange *exchange)
{
	long status = 0;

	(void)curl_easy_getinfo(exchange->remote->curl, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

/* Is what begins now the part that was asked for, and of the length that was said before? */
static int check_part(const struct exchange *exchange)
{
	const struct remote_copy *copy = exchange->copy;
	curl_off_t length = -1;

	(void)curl_easy_getinfo(exchange->remote->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T,
				&length);
	if (status_of(exchange) == 200)
		return copy->done ? -ESTALE : length == (curl_off_t)copy->size ? 0 : -EPROTO;
	return exchange->head.total == copy->size && exchange->head.first == copy->done &&
			       length == (curl_off_t)(copy->size - copy->done)
		       ? 0
		       : -EPROTO;
}

static size_t take_body(char *data, size_t one, size_t size, void *arg)
{
	struct exchange *exchange = arg;
	struct remote_copy *copy = exchange->copy;
	long status = status_of(exchange);

	(void)one;
	if (!copy || exchange->upload || (status != 200 && status != 206))
		return take_text(exchange, data, size);
	if (!exchange->checked)
		exchange->code = check_part(exchange);
	exchange->checked = true;
	if (exchange->code == 0 && size > copy->size - copy->done)
		exchange->code = -EPROTO;
	for (size_t sent = 0; exchange->code == 0 && sent < size;) {
		ssize_t count = pwrite(copy->fd, data + sent, size - sent, (off_t)copy->done);

		if (count < 0 && errno != EINTR) {
			exchange->code = -errno;
		} else if (count > 0) {
			sent += (size_t)count;
			copy->done += (uint64_t)count;
		}
	}
	(void)stage_progress_step(copy->progress, copy->done, copy->size);
	return exchange->code == 0 ? size : 0;
}

static size_t give_body(char *out, size_t one, size_t size, void *arg)
{
	struct exchange *exchange = arg;
	struct remote_copy *copy = exchange->copy;
	uint64_t left = copy->size - copy->done;
	ssize_t count;

	if (size * one > left)
		size = (size_t)left;
	do
		count = pread(copy->fd, out, size, (off_t)copy->done);
	while (count < 0 && errno == EINTR);
	if (count < 0 || (count == 0 && left > 0)) {
		exchange->code = count < 0 ? -errno : -ESTALE;
		return CURL_READFUNC_ABORT;
	}
	copy->done += (uint64_t)count;
	(void)stage_progress_step(copy->progress, copy->done, copy->size);
	return (size_t)count;
}

/* All that every request has. */
static void prepare(struct remote *remote, struct exchange *exchange)
{
	CURL *curl = remote->curl;

	curl_easy_reset(curl);
	remote->complaint[0] = '\0';
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(curl, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "cellwall/" CELLWALL_VERSION);
	(void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, remote->headers);
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, remote->complaint);
	(void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
	(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)STALLED);
	(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALLED_S);
	if (remote->plain) /* a token that is not encrypted goes to no proxy */
		(void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
	if (remote->socket)
		(void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, remote->socket);
	if (remote->ca)
		(void)curl_easy_setopt(curl, CURLOPT_CAINFO, remote->ca);
	if (remote->cert) {
		(void)curl_easy_setopt(curl, CURLOPT_SSLCERT, remote->cert);
		(void)curl_easy_setopt(curl, CURLOPT_SSLKEY,
				       remote->key ? remote->key : remote->cert);
	}
	(void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, exchange);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, exchange);
}

/* What the server says of a request that it does not grant. */
static int refused(const struct exchange *exchange, long status, struct err *err)
{
	json_t *body = exchange->body ? json_loadb(exchange->body, exchange->size, 0, NULL) : NULL;
	const char *message = json_string_value(json_object_get(body, "message"));
	int code = status == 404				     ? -ENOENT
		   : status == 416				     ? -ERANGE
		   : status == 502 || status == 503 || status == 504 ? -EAGAIN
								     : -EACCES;
	char shown[160];

	err_set(err, code, "the server says %ld%s%s", status, message ? ": " : "",
		message ? escape_string(shown, sizeof(shown), message) : "");
	json_decref(body);
	return code;
}

static int lost(const struct exchange *exchange, CURLcode result, struct err *err)
{
	const char *words = exchange->remote->complaint;
	char shown[200];
	int code = -EACCES;

	switch (result) {
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
		code = -EAGAIN;
		break;
	default:
		break;
	}
	escape_string(shown, sizeof(shown), *words ? words : curl_easy_strerror(result));
	if (result == CURLE_COULDNT_CONNECT)
		return err_set(err, code, "nobody answers at %s: does cellwall serve run there?",
			       exchange->remote->server);
	return err_set(err, code, "%s: %s", exchange->remote->server, shown);
}

/* Returns 0 when the answer is `good` or 206, else a negative errno with words. */
static int perform(struct exchange *exchange, const char *path, long good, struct err *err)
{
	struct remote *remote = exchange->remote;
	cleanup(free_ptr) char *url = path ? format_string("%s%s", remote->base, path) : NULL;
	CURLcode result;
	long status;
	int code = 0;

	if (!url)
		return err_set(err, -ENOMEM, "out of memory");
	(void)curl_easy_setopt(remote->curl, CURLOPT_URL, url);
	result = curl_easy_perform(remote->curl);
	status = status_of(exchange);
	if (exchange->code == -EPROTO || exchange->code == -EMSGSIZE)
		code = err_set(err, exchange->code,
			       "the server sends something else than it said, or without end");
	else if (exchange->code == -ESTALE)
		code = err_set(err, exchange->code, "the file changed while it was copied");
	else if (exchange->code < 0)
		code = err_set(err, exchange->code, "%s", strerrordesc_np(-exchange->code));
	else if (status >= 300)
		code = refused(exchange, status, err);
	else if (result != CURLE_OK)
		code = lost(exchange, result, err);
	else if (status != good &&
		 !(good == 200 && status == 206 && exchange->copy && !exchange->upload))
		code = err_set(err, -EPROTO, "the server answers %ld, which is no answer to this",
			       status);
	return code;
}

/* The same; what was said is not kept. */
static int perform_only(struct exchange *exchange, const char *path, long good, struct err *err)
{
	int code = perform(exchange, path, good, err);

	free(steal_ptr(&exchange->body));
	return code;
}

int remote_json(struct remote *remote, const char *path, json_t **ret_object, struct err *err)
{
	struct exchange exchange = {.remote = remote, .most = REMOTE_JSON_MAX};
	json_t *object = NULL;
	int code;

	prepare(remote, &exchange);
	(void)curl_easy_setopt(remote->curl, CURLOPT_TIMEOUT, (long)ANSWER_S);
	code = perform(&exchange, path, 200, err);
	if (code == 0) {
		object = json_loadb(exchange.body ? exchange.body : "", exchange.size, 0, NULL);
		if (!json_is_object(object))
			code = err_set(
				err, -EPROTO,
				"what answers there is no cellwall serve, or no present one");
	}
	free(exchange.body);
	if (code == 0)
		*ret_object = object;
	else
		json_decref(object);
	return code;
}

int remote_look(struct remote *remote, const char *path, struct remote_head *ret_head,
		struct err *err)
{
	struct exchange exchange = {.remote = remote};
	curl_off_t length = -1;
	int code;

	prepare(remote, &exchange);
	(void)curl_easy_setopt(remote->curl, CURLOPT_NOBODY, 1L);
	(void)curl_easy_setopt(remote->curl, CURLOPT_TIMEOUT, (long)ANSWER_S);
	code = perform_only(&exchange, path, 200, err);
	if (code < 0)
		return code;
	(void)curl_easy_getinfo(remote->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	if (length < 0)
		return err_set(err, -EPROTO, "the server does not say how long it is");
	exchange.head.length = (uint64_t)length;
	*ret_head = exchange.head;
	return 0;
}

int remote_download(struct remote *remote, const char *path, struct remote_copy *copy,
		    struct err *err)
{
	struct exchange exchange = {.remote = remote, .copy = copy};
	struct curl_slist *more = NULL;
	char range[64], condition[160];
	int code;

	prepare(remote, &exchange);
	if (copy->done) {
		(void)snprintf(range, sizeof(range), "%" PRIu64 "-", copy->done);
		(void)snprintf(condition, sizeof(condition), "If-Range: %s", copy->etag);
		(void)curl_easy_setopt(remote->curl, CURLOPT_RANGE, range);
		for (const struct curl_slist *one = remote->headers; one; one = one->next)
			more = curl_slist_append(more, one->data);
		more = curl_slist_append(more, condition);
		(void)curl_easy_setopt(remote->curl, CURLOPT_HTTPHEADER, more);
	}
	code = perform_only(&exchange, path, 200, err);
	curl_slist_free_all(more);
	if (code == 0 && copy->done != copy->size)
		return err_set(err, -EPROTO, "the server sends fewer bytes than it said");
	return code;
}

int remote_upload(struct remote *remote, const char *path, struct remote_copy *copy,
		  struct err *err)
{
	struct exchange exchange = {.remote = remote, .copy = copy, .upload = true};
	struct curl_slist *more = NULL;
	char range[96];
	int code;

	prepare(remote, &exchange);
	(void)snprintf(range, sizeof(range),
		       "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, copy->done,
		       copy->size - 1, copy->size);
	for (const struct curl_slist *one = remote->headers; one; one = one->next)
		more = curl_slist_append(more, one->data);
	if (copy->size > 0)
		more = curl_slist_append(more, range);
	(void)curl_easy_setopt(remote->curl, CURLOPT_HTTPHEADER, more);
	(void)curl_easy_setopt(remote->curl, CURLOPT_UPLOAD, 1L);
	(void)curl_easy_setopt(remote->curl, CURLOPT_READFUNCTION, give_body);
	(void)curl_easy_setopt(remote->curl, CURLOPT_READDATA, &exchange);
	(void)curl_easy_setopt(remote->curl, CURLOPT_INFILESIZE_LARGE,
			       (curl_off_t)(copy->size - copy->done));
	code = perform_only(&exchange, path, 201, err);
	curl_slist_free_all(more);
	return code;
}

/* ---- what the actions share ---- */

char *remote_path(const struct remote *remote, const char *kind, const char *area, const char *file)
{
	char *escaped = curl_easy_escape(remote->curl, area, 0);
	char *path = escaped ? format_string("/api/%s/%s", kind, escaped) : NULL;
	const char *at = file, *slash;

	curl_free(escaped);
	while (path && at && *at) {
		char *longer;

		slash = strchrnul(at, '/');
		escaped = curl_easy_escape(remote->curl, at, (int)(slash - at));
		longer = escaped ? format_string("%s/%s", path, escaped) : NULL;
		curl_free(escaped);
		free(path);
		path = longer;
		at = *slash ? slash + 1 : slash;
	}
	return path;
}

bool remote_again(struct remote_tries *tries, uint64_t copied)
{
	struct timespec wait;

	if (copied > tries->copied)
		tries->used = 0;
	tries->copied = copied;
	if (tries->used >= REMOTE_TRIES)
		return false;
	wait = (struct timespec){.tv_sec = (1 << tries->used) / 4,
				 .tv_nsec = (1 << tries->used) % 4 * 250000000L};
	tries->used++;
	(void)nanosleep(&wait, NULL);
	return true;
}
