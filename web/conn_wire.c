#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include "web/conn.h"
#include "web/conn_parts.h"
#include "web/gate.h"
#include "web/metrics.h"

static void refuse_plain(struct conn *conn)
{
	static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
				   "Connection: close\r\n\r\nThis port speaks HTTPS.\n";

	if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST)
		(void)!send(conn->fd, text, sizeof(text) - 1, MSG_NOSIGNAL);
}

int conn_wire_handshake(struct conn *conn)
{
	int result;

	ERR_clear_error();
	result = SSL_accept(conn->ssl);
	if (result == 1) {
		conn->want_write = false;
		conn->certificate_name = gate_certificate_name(conn->ssl);
		conn->state = CONN_HEAD; /* the deadline goes on */
		return 1;
	}
	switch (SSL_get_error(conn->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		conn->want_write = false;
		return 0;
	case SSL_ERROR_WANT_WRITE:
		conn->want_write = true;
		return 0;
	default:
		refuse_plain(conn);
		metrics_count(METRIC_HANDSHAKES_FAILED);
		return -1;
	}
}

ssize_t conn_wire_put(struct conn *conn, const char *data, size_t size)
{
	ssize_t count;

	if (!conn->ssl) {
		do
			count = send(conn->fd, data, size, MSG_NOSIGNAL);
		while (count < 0 && errno == EINTR);
		return count >= 0 ? count : errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	count = SSL_write(conn->ssl, data, size > INT32_MAX ? INT32_MAX : (int)size);
	if (count > 0)
		return count;
	switch (SSL_get_error(conn->ssl, (int)count)) {
	case SSL_ERROR_WANT_WRITE:
	case SSL_ERROR_WANT_READ:
		return 0;
	default:
		return -1;
	}
}

ssize_t conn_wire_get(struct conn *conn, char *data, size_t size)
{
	ssize_t count;

	conn->want_write = false;
	if (!conn->ssl) {
		do
			count = recv(conn->fd, data, size, 0);
		while (count < 0 && errno == EINTR);
		return count > 0 ? count : count < 0 && errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	count = SSL_read(conn->ssl, data, (int)size);
	if (count > 0)
		return count;
	switch (SSL_get_error(conn->ssl, (int)count)) {
	case SSL_ERROR_WANT_WRITE:
		conn->want_write = true;
		return 0;
	case SSL_ERROR_WANT_READ:
		return 0;
	default:
		return -1;
	}
}
