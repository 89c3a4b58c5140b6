/* Where a build may go, and what a request to go there looks like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernelspec/egress.h"

/* What the resolver says of index.test, one address for each time that it is asked. A connection is
 * a process of its own: the count is shared. */
static struct {
	const char *const *addresses;
	unsigned *asked;
} resolver;

int __real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **list);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **list);

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **list)
{
	if (strcmp(node, "index.test") == 0)
		node = resolver.addresses[__atomic_fetch_add(resolver.asked, 1, __ATOMIC_SEQ_CST)];
	return __real_getaddrinfo(node, service, hints, list);
}

static struct in6_addr address(const char *text)
{
	struct in6_addr out = IN6ADDR_ANY_INIT;

	if (strchr(text, ':')) {
		assert_int_equal(inet_pton(AF_INET6, text, &out), 1);
	} else {
		out.s6_addr[10] = out.s6_addr[11] = 0xff;
		assert_int_equal(inet_pton(AF_INET, text, &out.s6_addr[12]), 1);
	}
	return out;
}

static void knows_local_addresses(void **state)
{
	static const char *const local[] = {"127.0.0.1",
					    "10.1.2.3",
					    "192.168.1.1",
					    "172.16.0.1",
					    "172.31.255.255",
					    "169.254.1.1",
					    "100.64.0.1",
					    "0.0.0.0",
					    "255.255.255.255",
					    "224.0.0.1",
					    "198.18.0.1",
					    "::1",
					    "::",
					    "fe80::1",
					    "fc00::1",
					    "fd12::1",
					    "ff02::1",
					    "64:ff9b::10.0.0.1",
					    "2002:0a00:0001::",
					    "::10.0.0.1",
					    "64:ff9b:1::1"};
	static const char *const far[] = {"1.1.1.1",	     "172.32.0.1", "100.128.0.1",
					  "192.167.255.1",   "198.20.0.1", "2606:4700::1",
					  "64:ff9b::1.1.1.1"};

	(void)state;
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		struct in6_addr one = address(local[i]);

		if (!egress_is_local(&one))
			fail_msg("%s is local", local[i]);
	}
	for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		struct in6_addr one = address(far[i]);

		if (egress_is_local(&one))
			fail_msg("%s is not local", far[i]);
	}
}

static void takes_urls(void **state)
{
	struct egress egress = {0};
	struct err err;

	(void)state;
	assert_int_equal(egress_allow(&egress, "https://PyPI.org/simple", NULL, &err), 0);
	assert_int_equal(egress_allow(&egress, "http://user:p%40ss@index.corp:8080/x", NULL, &err),
			 0);
	assert_int_equal(egress_allow(&egress, "https://[fd00::1]:8443", NULL, &err), 0);
	assert_int_equal(egress_allow(&egress, "https://pypi.org/other", NULL, &err), 0);
	assert_int_equal(egress.count, 3);
	assert_string_equal(egress.hosts[0].name, "pypi.org");
	assert_int_equal(egress.hosts[0].port, 443);
	assert_string_equal(egress.hosts[1].name, "index.corp");
	assert_int_equal(egress.hosts[1].port, 8080);
	assert_string_equal(egress.hosts[2].name, "fd00::1");
	assert_int_equal(egress.hosts[2].port, 8443);
	assert_int_equal(egress_allow(&egress, "ftp://pypi.org", NULL, &err), -EINVAL);
	assert_int_equal(egress_allow(&egress, "https://", NULL, &err), -EINVAL);
	assert_int_equal(egress_allow(&egress, "https://a b", NULL, &err), -EINVAL);
	assert_int_equal(egress_allow(&egress, "https://a:99999", NULL, &err), -EINVAL);
}

/* Each host by the proxy that leads there; one that several have is there once. */
static void takes_ways(void **state)
{
	static struct egress egress;
	struct err err;

	(void)state;
	assert_int_equal(egress_allow(&egress, "https://a", "http://me:s%3Aecret@proxy:3128", &err),
			 0);
	assert_int_equal(egress_allow(&egress, "http://b", "http://PROXY:3128", &err), 0);
	assert_int_equal(egress_allow(&egress, "https://c", NULL, &err), 0);
	assert_int_equal(egress_allow(&egress, "https://d", "http://me:s%3Aecret@proxy:3128", &err),
			 0);
	assert_int_equal(egress.count, 4);
	assert_int_equal(egress.way_count, 2);
	assert_string_equal(egress.ways[0].host.name, "proxy");
	assert_int_equal(egress.ways[0].host.port, 3128);
	assert_string_equal(egress.ways[0].authorization, "Basic bWU6czplY3JldA==");
	assert_string_equal(egress.ways[1].authorization, "");
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(egress.hosts[i].way, ((size_t[]){1, 2, 0, 1})[i]);
	assert_int_equal(egress_allow(&egress, "https://e", "https://me:secret@proxy", &err),
			 -EINVAL);
	assert_int_equal(egress_allow(&egress, "https://e", "socks5://proxy", &err), -EINVAL);
	assert_int_equal(egress.count, 4);
	for (int i = 0; i < EGRESS_WAYS; i++) {
		cleanup(free_ptr) char *url = format_string("https://e%d", i);
		cleanup(free_ptr) char *through = format_string("http://other%d", i);

		assert_true(url && through);
		assert_int_equal(egress_allow(&egress, url, through, &err),
				 i < EGRESS_WAYS - 2 ? 0 : -E2BIG);
	}
}

static int parse(const char *text, bool upstream, struct egress_host *host, char **forward)
{
	memset(host, 0, sizeof(*host));
	return egress_parse(text, strlen(text), upstream, host, forward);
}

static void reads_requests(void **state)
{
	struct egress_host host;
	char *forward;

	(void)state;
	assert_int_equal(parse("CONNECT Files.PythonHosted.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
			       false, &host, &forward),
			 0);
	assert_null(forward);
	assert_string_equal(host.name, "files.pythonhosted.org");
	assert_int_equal(host.port, 443);
	assert_int_equal(parse("GET http://index:8080/simple/six/ HTTP/1.1\r\nHost: index:8080\r\n"
			       "Proxy-Authorization: Basic eA==\r\nConnection: keep-alive\r\n"
			       "Accept: text/html\r\n\r\n",
			       false, &host, &forward),
			 0);
	assert_string_equal(host.name, "index");
	assert_int_equal(host.port, 8080);
	assert_string_equal(forward, "GET /simple/six/ HTTP/1.1\r\nHost: index:8080\r\n"
				     "Accept: text/html\r\nConnection: close\r\n");
	free(forward);
	assert_int_equal(parse("GET http://index/x HTTP/1.1\r\n\r\n", true, &host, &forward), 0);
	assert_string_equal(forward,
			    "GET http://index/x HTTP/1.1\r\nHost: index\r\nConnection: close\r\n");
	free(forward);
}

static void refuses_requests(void **state)
{
	static const char *const bad[] = {
		"",
		"CONNECT pypi.org HTTP/1.1\r\n\r\n",
		"CONNECT pypi.org:0 HTTP/1.1\r\n\r\n",
		"CONNECT pypi.org:443@evil:80 HTTP/1.1\r\n\r\n",
		"CONNECT evil/pypi.org:443 HTTP/1.1\r\n\r\n",
		"CONNECT pypi.org:443\r\n\r\n",
		"CONNECT pypi.org:443 HTTP/2.0\r\n\r\n",
		"CONNECT  pypi.org:443 HTTP/1.1\r\n\r\n",
		"POST http://index/x HTTP/1.1\r\n\r\n",
		"GET https://index/x HTTP/1.1\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: index\r\n\r\n",
		"GET http://user@index/x HTTP/1.1\r\n\r\n",
		"GET http://index HTTP/1.1\r\n\r\n",
		"GET http://index/x HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
		"GET http://index/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET http://index/x HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
		"GET http://index/x HTTP/1.1\r\nno colon\r\n\r\n",
		"GET http://index/x HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
		"GET http://index/x HTTP/1.1\r\nA: b\nX: y\r\n\r\n",
	};
	struct egress_host host;
	char *forward;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse(bad[i], false, &host, &forward) == 0)
			fail_msg("%s", bad[i]);
		assert_null(forward);
	}
}

static int listen_here(struct sockaddr_in *ret_at)
{
	socklen_t size = sizeof(*ret_at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*ret_at = (struct sockaddr_in){.sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)ret_at, size), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret_at, &size), 0);
	return fd;
}

/* Asks the index for `size` bytes by the proxy: how many came, and the word of the log's line. */
static size_t fetch(const struct sockaddr_in *proxy, int index, unsigned port, size_t size, int log,
		    char verdict[16])
{
	cleanup(close_fd) int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), server = -1;
	cleanup(free_ptr) char *request =
		format_string("GET http://127.0.0.1:%u/x HTTP/1.1\r\n\r\n", port);
	cleanup(free_ptr) char *data = calloc(1, size);
	char head[1024], line[1024];
	size_t came = 0, used = 0;
	ssize_t got;

	assert_true(request && data);
	assert_int_equal(connect(client, (const struct sockaddr *)proxy, sizeof(*proxy)), 0);
	assert_int_equal(write_full(client, request, strlen(request)), 0);
	server = accept4(index, NULL, NULL, SOCK_CLOEXEC);
	assert_true(server >= 0);
	for (; !memmem(head, used, "\r\n\r\n", 4); used += (size_t)got) {
		got = recv(server, head + used, sizeof(head) - used, 0);
		assert_true(got > 0);
	}
	assert_int_equal(send(server, data, size, MSG_NOSIGNAL), size);
	close_fd(&server);
	while ((got = recv(client, data, size, 0)) > 0)
		came += (size_t)got;
	for (used = 0; used == 0 || line[used - 1] != '\n'; used++)
		assert_int_equal(read(log, line + used, used + 1 < sizeof(line) ? 1 : 0), 1);
	line[used] = '\0';
	assert_int_equal(sscanf(line, "%15s", verdict), 1);
	return came;
}

/* A proxy of its own, with one index at `index`, for one test. */
struct proxy {
	struct egress egress;
	struct sockaddr_in at;
	const char *name; /* that the index is known by; NULL: its address */
	int index, lifeline, log;
	unsigned port; /* of the index */
	pid_t pid;
};

static void start(struct proxy *proxy)
{
	cleanup(free_ptr) char *url = NULL;
	struct sockaddr_in at;
	int lifeline[2], log[2], listener;
	struct err err;

	proxy->index = listen_here(&at);
	proxy->port = ntohs(at.sin_port);
	listener = listen_here(&proxy->at);
	url = format_string("http://%s:%u/simple", proxy->name ? proxy->name : "127.0.0.1",
			    proxy->port);
	assert_non_null(url);
	assert_int_equal(egress_allow(&proxy->egress, url, NULL, &err), 0);
	egress_pin(&proxy->egress);
	proxy->egress.bytes = proxy->egress.bytes ? proxy->egress.bytes : UINT64_C(1) << 30;
	assert_int_equal(pipe2(lifeline, O_CLOEXEC), 0);
	assert_int_equal(pipe2(log, O_CLOEXEC), 0);
	proxy->pid = egress_start(&proxy->egress, listener, lifeline[0], log[1], &err);
	assert_true(proxy->pid > 0);
	close(log[1]);
	proxy->lifeline = lifeline[1];
	proxy->log = log[0];
}

static void end(struct proxy *proxy)
{
	close(proxy->lifeline);
	assert_int_equal(waitpid(proxy->pid, NULL, 0), proxy->pid);
	close(proxy->log);
	close(proxy->index);
}

/* All connections together bring what they may, and not a byte more. */
static void ends_at_its_bytes(void **state)
{
	static struct proxy proxy;
	char verdict[16];

	(void)state;
	proxy.egress.bytes = 16384;
	start(&proxy);
	assert_int_equal(fetch(&proxy.at, proxy.index, proxy.port, 8192, proxy.log, verdict), 8192);
	assert_string_equal(verdict, "ok");
	assert_true(fetch(&proxy.at, proxy.index, proxy.port, 12288, proxy.log, verdict) <= 8192);
	assert_string_equal(verdict, "limit");
	end(&proxy);
}

/* A client that says `request` and then waits until the proxy hangs up. */
static int ask(const struct proxy *proxy, const char *request)
{
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(client, (const struct sockaddr *)&proxy->at, sizeof(proxy->at)),
			 0);
	assert_int_equal(write_full(client, request, strlen(request)), 0);
	return client;
}

static void ended(const struct proxy *proxy, int client, const char *verdict)
{
	char text[512], line[1024], said[16];
	size_t used = 0;

	while (recv(client, text, sizeof(text), 0) > 0)
		;
	close(client);
	for (; used == 0 || line[used - 1] != '\n'; used++)
		assert_int_equal(read(proxy->log, line + used, used + 1 < sizeof(line) ? 1 : 0), 1);
	line[used] = '\0';
	assert_int_equal(sscanf(line, "%15s", said), 1);
	assert_string_equal(said, verdict);
}

/* Nobody holds a place by saying nothing: neither the build, at first or in a tunnel, nor the
 * index. Without the limit each of these waits for minutes. */
static void ends_in_silence(void **state)
{
	static struct proxy proxy, idle;
	cleanup(free_ptr) char *tunnel = NULL, *plain = NULL;

	(void)state;
	proxy.egress.times = (struct egress_times){.head = 300};
	start(&proxy);
	tunnel = format_string("CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n", proxy.port);
	assert_non_null(tunnel);
	ended(&proxy, ask(&proxy, ""), "refused");
	ended(&proxy, ask(&proxy, "GET http://127"), "refused");
	ended(&proxy, ask(&proxy, tunnel), "refused");
	end(&proxy);
	idle.egress.times = (struct egress_times){.idle = 300};
	start(&idle);
	plain = format_string("GET http://127.0.0.1:%u/x HTTP/1.1\r\n\r\n", idle.port);
	assert_non_null(plain);
	ended(&idle, ask(&idle, plain), "ok");
	end(&idle);
}

/* An index that sends a byte now and then is not waited for for ever. */
static void ends_at_its_time(void **state)
{
	static struct proxy proxy;
	cleanup(free_ptr) char *plain = NULL;
	int client, server;

	(void)state;
	proxy.egress.times = (struct egress_times){.connection = 300};
	start(&proxy);
	plain = format_string("GET http://127.0.0.1:%u/x HTTP/1.1\r\n\r\n", proxy.port);
	assert_non_null(plain);
	client = ask(&proxy, plain);
	server = accept4(proxy.index, NULL, NULL, SOCK_CLOEXEC);
	assert_true(server >= 0);
	while (send(server, "x", 1, MSG_NOSIGNAL) == 1)
		(void)poll(NULL, 0, 5);
	close(server);
	ended(&proxy, client, "limit");
	end(&proxy);
}

/* An index that takes no connection: the queue of its listener is full. */
static void ends_before_a_connection(void **state)
{
	static struct proxy proxy;
	cleanup(free_ptr) char *plain = NULL;
	struct sockaddr_in index = {.sin_family = AF_INET};
	int waiting[8];

	(void)state;
	proxy.egress.times = (struct egress_times){.connect = 300};
	start(&proxy);
	assert_int_equal(listen(proxy.index, 0), 0);
	index.sin_port = htons((uint16_t)proxy.port);
	index.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (size_t i = 0; i < 8; i++) {
		waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(waiting[i], (const struct sockaddr *)&index, sizeof(index));
	}
	plain = format_string("GET http://127.0.0.1:%u/x HTTP/1.1\r\n\r\n", proxy.port);
	assert_non_null(plain);
	ended(&proxy, ask(&proxy, plain), "failed");
	for (size_t i = 0; i < 8; i++)
		close(waiting[i]);
	end(&proxy);
}

/* Of index.test, at the beginning and when it is asked for: the word of the log's line, whether the
 * listener on 127.0.0.1 was reached, and how often the resolver was asked in all. */
static void rebind(const char *const addresses[], const char *verdict, bool reached, unsigned asked)
{
	struct proxy proxy = {.name = "index.test",
			      .egress.times = {.connect = 2000, .idle = 2000}};
	cleanup(free_ptr) char *plain = NULL;
	struct pollfd watch = {.events = POLLIN};
	int client;

	resolver.addresses = addresses;
	resolver.asked = mmap(NULL, sizeof(unsigned), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(resolver.asked != MAP_FAILED);
	start(&proxy);
	plain = format_string("GET http://index.test:%u/x HTTP/1.1\r\n\r\n", proxy.port);
	assert_non_null(plain);
	client = ask(&proxy, plain);
	watch.fd = proxy.index;
	if (reached) {
		assert_int_equal(poll(&watch, 1, 60000), 1);
		close(accept4(proxy.index, NULL, NULL, SOCK_CLOEXEC));
	}
	ended(&proxy, client, verdict);
	assert_int_equal(poll(&watch, 1, 0), 0);
	assert_int_equal(*resolver.asked, asked);
	end(&proxy);
	(void)munmap(resolver.asked, sizeof(unsigned));
}

/* A name that leads to the local network is refused, unless it did when the build began and leads
 * to the same address. It is asked for once: what was judged is what is connected to. */
static void refuses_names_that_turn_local(void **state)
{
	(void)state;
	rebind((const char *const[]){"192.0.2.1", "127.0.0.1", "127.0.0.1"}, "local", false, 2);
	rebind((const char *const[]){"127.0.0.2", "127.0.0.1", "127.0.0.1"}, "local", false, 2);
	rebind((const char *const[]){"127.0.0.1", "127.0.0.1", "192.0.2.1"}, "ok", true, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_local_addresses),
		cmocka_unit_test(takes_urls),
		cmocka_unit_test(takes_ways),
		cmocka_unit_test(reads_requests),
		cmocka_unit_test(refuses_requests),
		cmocka_unit_test(ends_at_its_bytes),
		cmocka_unit_test(ends_in_silence),
		cmocka_unit_test(ends_at_its_time),
		cmocka_unit_test(ends_before_a_connection),
		cmocka_unit_test(refuses_names_that_turn_local),
	};

	return cmocka_run_group_tests_name("egress", tests, NULL, NULL);
}
