#include "kernelspec/egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <openssl/evp.h>

/* ---- URLs and hosts ---- */

/* HOST[:PORT] of `size` bytes. */
static int parse_authority(const char *text, size_t size, uint16_t port,
			   struct egress_host *ret_host)
{
	struct egress_host host = {.port = port};
	const char *end = text + size, *colon;
	size_t length;

	if (size > 0 && text[0] == '[') {
		const char *bracket = memchr(text, ']', size);

		if (!bracket || (bracket + 1 < end && bracket[1] != ':'))
			return -EINVAL;
		text++;
		length = (size_t)(bracket - text);
		colon = bracket + 1 < end ? bracket + 1 : NULL;
	} else {
		colon = memchr(text, ':', size);
		length = colon ? (size_t)(colon - text) : size;
	}
	if (length == 0 || length > EGRESS_NAME)
		return -EINVAL;
	for (size_t i = 0; i < length; i++) {
		char byte = text[i];

		if (byte >= 'A' && byte <= 'Z')
			byte = (char)(byte - 'A' + 'a');
		if (!((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
		      strchr(".-_:", byte)) ||
		    byte == '\0')
			return -EINVAL;
		host.name[i] = byte;
	}
	if (colon) {
		uint64_t number = 0;
		char digits[6];
		size_t count = (size_t)(end - colon - 1);

		if (count == 0 || count >= sizeof(digits))
			return -EINVAL;
		memcpy(digits, colon + 1, count);
		digits[count] = '\0';
		if (parse_u64(digits, UINT16_MAX, &number) < 0 || number == 0)
			return -EINVAL;
		host.port = (uint16_t)number;
	}
	*ret_host = host;
	return 0;
}

/* The parts of a URL: credentials (NULL: none) and authority, lent. */
static int split_url(const char *url, const char **ret_user, size_t *ret_user_size,
		     struct egress_host *ret_host)
{
	uint16_t port;
	const char *at;
	size_t size;

	if (strncasecmp(url, "https://", 8) == 0) {
		port = 443;
		url += 8;
	} else if (strncasecmp(url, "http://", 7) == 0) {
		port = 80;
		url += 7;
	} else {
		return -EINVAL;
	}
	size = strcspn(url, "/?#");
	at = memrchr(url, '@', size);
	*ret_user = at ? url : NULL;
	*ret_user_size = at ? (size_t)(at - url) : 0;
	if (at) {
		size -= (size_t)(at + 1 - url);
		url = at + 1;
	}
	return parse_authority(url, size, port, ret_host);
}

const struct egress_host *egress_find(const struct egress *egress, const struct egress_host *wanted)
{
	for (size_t i = 0; i < egress->count; i++) {
		if (egress->hosts[i].port == wanted->port &&
		    strcmp(egress->hosts[i].name, wanted->name) == 0)
			return &egress->hosts[i];
	}
	return NULL;
}

/* "%41" in `text` of `size` bytes; returns the length or -1. */
static int unescape(const char *text, size_t size, char *out, size_t room)
{
	size_t length = 0;

	for (size_t i = 0; i < size; i++) {
		char byte = text[i];

		if (byte == '%' && i + 2 < size) {
			char digits[3] = {text[i + 1], text[i + 2], '\0'}, *end;
			long value = strtol(digits, &end, 16);

			if (*end != '\0')
				return -1;
			byte = (char)value;
			i += 2;
		}
		if (length + 1 >= room || (unsigned char)byte < 0x20)
			return -1;
		out[length++] = byte;
	}
	out[length] = '\0';
	return (int)length;
}

static int read_way(const char *url, struct egress_way *way, struct err *err)
{
	unsigned char encoded[700];
	char plain[512];
	const char *user;
	size_t size;
	int length = 0;

	/* Its password would go in clear text to one that expects TLS. */
	if (strncasecmp(url, "http://", 7) != 0 || split_url(url, &user, &size, &way->host) < 0 ||
	    (user && (length = unescape(user, size, plain, sizeof(plain))) < 0))
		return err_set(err, -EINVAL,
			       "the address of this host's proxy is no http URL with a host");
	if (!user)
		return 0;
	(void)EVP_EncodeBlock(encoded, (const unsigned char *)plain, length);
	OPENSSL_cleanse(plain, sizeof(plain));
	(void)snprintf(way->authorization, sizeof(way->authorization), "Basic %s",
		       (const char *)encoded);
	OPENSSL_cleanse(encoded, sizeof(encoded));
	return 0;
}

/* The way by that proxy, which may be known already. */
static int add_way(struct egress *egress, const char *url, size_t *ret_way, struct err *err)
{
	struct egress_way way = {0};
	int r = read_way(url, &way, err);

	for (size_t i = 0; r == 0 && i < egress->way_count; i++) {
		const struct egress_way *one = &egress->ways[i];

		if (one->host.port == way.host.port && strcmp(one->host.name, way.host.name) == 0 &&
		    strcmp(one->authorization, way.authorization) == 0)
			*ret_way = i + 1;
	}
	if (r == 0 && *ret_way == 0 && egress->way_count == EGRESS_WAYS)
		r = err_set(err, -E2BIG, "more than %d proxies of this host", EGRESS_WAYS);
	if (r == 0 && *ret_way == 0) {
		egress->ways[egress->way_count++] = way;
		*ret_way = egress->way_count;
	}
	OPENSSL_cleanse(&way, sizeof(way));
	return r;
}

int egress_allow(struct egress *egress, const char *url, const char *through, struct err *err)
{
	struct egress_host host;
	const char *user;
	size_t size;
	int r;

	if (split_url(url, &user, &size, &host) < 0)
		return err_set(err, -EINVAL,
			       "the address of a package index, or of --allow-host, is no http or "
			       "https URL with a host (https://HOST)");
	if (egress_find(egress, &host))
		return 0;
	if (egress->count == EGRESS_HOSTS)
		return err_set(err, -E2BIG, "more than %d hosts of package indexes", EGRESS_HOSTS);
	r = through ? add_way(egress, through, &host.way, err) : 0;
	if (r == 0)
		egress->hosts[egress->count++] = host;
	return r;
}

/* ---- addresses ---- */

static struct in6_addr mapped(const struct sockaddr *address)
{
	struct in6_addr out = IN6ADDR_ANY_INIT;

	if (address->sa_family == AF_INET6) {
		struct sockaddr_in6 six;

		memcpy(&six, address, sizeof(six));
		return six.sin6_addr;
	}
	if (address->sa_family == AF_INET) {
		struct sockaddr_in four;

		memcpy(&four, address, sizeof(four));
		out.s6_addr[10] = out.s6_addr[11] = 0xff;
		memcpy(&out.s6_addr[12], &four.sin_addr, 4);
	}
	return out;
}

/* The IPv4 blocks of RFC 6890 that are not the internet, and multicast. */
static bool local_four(const unsigned char *byte)
{
	static const struct {
		unsigned char net[4];
		unsigned bits;
	} blocks[] = {
		{{0, 0, 0, 0}, 8},    {{10, 0, 0, 0}, 8},     {{100, 64, 0, 0}, 10},
		{{127, 0, 0, 0}, 8},  {{169, 254, 0, 0}, 16}, {{172, 16, 0, 0}, 12},
		{{192, 0, 0, 0}, 24}, {{192, 168, 0, 0}, 16}, {{198, 18, 0, 0}, 15},
		{{224, 0, 0, 0}, 3},
	};
	uint32_t address = (uint32_t)byte[0] << 24 | (uint32_t)byte[1] << 16 |
			   (uint32_t)byte[2] << 8 | byte[3];

	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		const unsigned char *net = blocks[i].net;
		uint32_t block = (uint32_t)net[0] << 24 | (uint32_t)net[1] << 16 |
				 (uint32_t)net[2] << 8 | net[3];

		if ((address ^ block) >> (32 - blocks[i].bits) == 0)
			return true;
	}
	return false;
}

bool egress_is_local(const struct in6_addr *address)
{
	static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	static const unsigned char local64[6] = {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01};
	const unsigned char *byte = address->s6_addr;

	if (IN6_IS_ADDR_V4MAPPED(address) || memcmp(byte, nat64, sizeof(nat64)) == 0)
		return local_four(byte + 12);
	if (memcmp(byte, local64, sizeof(local64)) == 0) /* RFC 8215 */
		return true;
	if (byte[0] == 0x20 && byte[1] == 0x02) /* 6to4 */
		return local_four(byte + 2);
	return IN6_IS_ADDR_UNSPECIFIED(address) || IN6_IS_ADDR_LOOPBACK(address) ||
	       (byte[0] & 0xfe) == 0xfc || (byte[0] == 0xfe && byte[1] >= 0x80) ||
	       byte[0] == 0xff || IN6_IS_ADDR_V4COMPAT(address);
}

struct addrinfo *egress_resolve(const struct egress_host *host)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	char port[8];

	(void)snprintf(port, sizeof(port), "%u", (unsigned)host->port);
	return getaddrinfo(host->name, port, &hints, &list) == 0 ? list : NULL;
}

void egress_pin(struct egress *egress)
{
	for (size_t i = 0; i < egress->count; i++) {
		struct egress_host *host = &egress->hosts[i];
		struct addrinfo *list = host->way ? NULL : egress_resolve(host);

		for (struct addrinfo *one = list; one && host->pin_count < EGRESS_PINS;
		     one = one->ai_next) {
			struct in6_addr address = mapped(one->ai_addr);

			if (egress_is_local(&address))
				host->pins[host->pin_count++] = address;
		}
		if (list)
			freeaddrinfo(list);
	}
}

bool egress_may_reach(const struct egress_host *host, const struct sockaddr *to)
{
	struct in6_addr address = mapped(to);

	if (!egress_is_local(&address))
		return true;
	for (size_t i = 0; i < host->pin_count; i++) {
		if (memcmp(&host->pins[i], &address, sizeof(address)) == 0)
			return true;
	}
	return false;
}

/* ---- requests ---- */

/* The headers of a plain request that go on: not those between the build and us. */
static bool goes_on(const char *line, size_t size)
{
	static const char *const kept[] = {
		"connection:", "keep-alive:", "proxy-", "host:", "te:", "trailer:", "upgrade:"};

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		if (size >= strlen(kept[i]) && strncasecmp(line, kept[i], strlen(kept[i])) == 0)
			return false;
	}
	return true;
}

/* No body and nothing that two readers could understand differently. */
static bool plain_header(const char *line, size_t size)
{
	size_t name =
		strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	if (name == 0 || name >= size || line[name] != ':')
		return false;
	for (size_t i = 0; i < size; i++) {
		if ((unsigned char)line[i] < 0x20 && line[i] != '\t')
			return false;
	}
	return strncasecmp(line, "content-length:", 15) != 0 &&
	       strncasecmp(line, "transfer-encoding:", 18) != 0;
}

struct target {
	const char *method, *text, *authority;
	size_t size, authority_size;
};

static int forward(const char *text, const char *end, const struct target *target,
		   char **ret_forward)
{
	char *out = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&out, &size);
	int r = 0;

	if (!to)
		return -ENOMEM;
	fprintf(to, "%s %.*s HTTP/1.1\r\nHost: %.*s\r\n", target->method, (int)target->size,
		target->text, (int)target->authority_size, target->authority);
	while (r == 0 && text < end) {
		const char *stop = memmem(text, (size_t)(end - text), "\r\n", 2);
		size_t length = stop ? (size_t)(stop - text) : 0;

		if (length == 0)
			break;
		if (!plain_header(text, length))
			r = -EPROTO;
		else if (goes_on(text, length))
			fprintf(to, "%.*s\r\n", (int)length, text);
		text = stop + 2;
	}
	fputs("Connection: close\r\n", to);
	if (fclose(to) != 0 || r < 0) {
		free(out);
		return r < 0 ? r : -ENOMEM;
	}
	*ret_forward = out; /* without the empty line: an authorization may follow */
	return 0;
}

int egress_parse(const char *text, size_t size, bool upstream, struct egress_host *ret_host,
		 char **ret_forward)
{
	const char *end = text + size, *stop = memmem(text, size, "\r\n", 2), *target, *version;
	const char *method = NULL;
	size_t length, authority;

	*ret_forward = NULL;
	if (!stop || memchr(text, '\0', size))
		return -EPROTO;
	target = memchr(text, ' ', (size_t)(stop - text));
	version = target ? memchr(target + 1, ' ', (size_t)(stop - target - 1)) : NULL;
	if (!version || stop - version != 9 || strncmp(version, " HTTP/1.", 8) != 0)
		return -EPROTO;
	target++;
	length = (size_t)(version - target);
	for (size_t i = 0; i < length; i++) {
		if ((unsigned char)target[i] <= 0x20 || (unsigned char)target[i] >= 0x7f)
			return -EPROTO;
	}
	if (strncmp(text, "CONNECT ", 8) == 0) {
		if (parse_authority(target, length, 0, ret_host) < 0 || ret_host->port == 0)
			return -EPROTO;
		return 0;
	}
	if (strncmp(text, "GET ", 4) == 0)
		method = "GET";
	else if (strncmp(text, "HEAD ", 5) == 0)
		method = "HEAD";
	if (!method || length < 7 || strncasecmp(target, "http://", 7) != 0)
		return -EPROTO;
	authority = strcspn(target + 7, "/?# ");
	if (parse_authority(target + 7, authority, 80, ret_host) < 0)
		return -EPROTO;
	if (target[7 + authority] != '/')
		return -EPROTO;
	return forward(stop + 2, end,
		       &(struct target){.method = method,
					.text = upstream ? target : target + 7 + authority,
					.size = upstream ? length : length - 7 - authority,
					.authority = target + 7,
					.authority_size = authority},
		       ret_forward);
}
