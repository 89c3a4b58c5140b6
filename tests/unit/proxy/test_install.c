#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/install.h"

static const struct install_rules allow = {INSTALL_ALLOW, NULL};
static const struct install_rules deny = {INSTALL_DENY, NULL};

struct place {
	char directory[64];
	int ends[2]; /* ours, the installer's */
	char said[1024];
};

static void setup(struct place *place)
{
	*place = (struct place){.directory = "/tmp/cellwall-install-XXXXXX"};
	assert_non_null(mkdtemp(place->directory));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, place->ends), 0);
}

static void teardown(struct place *place)
{
	static const char *const names[] = {"asked", "done"};
	char path[128];

	for (unsigned i = 0; i < 2; i++) {
		for (unsigned number = 1; number < 10; number++) {
			(void)snprintf(path, sizeof(path), "%s/%s-%u", place->directory, names[i],
				       number);
			(void)unlink(path);
		}
	}
	assert_int_equal(rmdir(place->directory), 0);
	close_fd(&place->ends[1]);
}

static void say(void *arg, const char *text)
{
	struct place *place = arg;

	(void)snprintf(place->said, sizeof(place->said), "%s", text);
}

static void run_cell(struct install *install, const char *content, struct place *place)
{
	place->said[0] = '\0';
	install_cell(install, (struct iovec){(void *)(uintptr_t)content, strlen(content)}, say,
		     place);
}

/* What is in a file of the directory, or "". */
static const char *file(const struct place *place, const char *name)
{
	static char text[1024];
	char path[128];
	FILE *stream;
	size_t size = 0;

	(void)snprintf(path, sizeof(path), "%s/%s", place->directory, name);
	stream = fopen(path, "r");
	if (stream) {
		size = fread(text, 1, sizeof(text) - 1, stream);
		(void)fclose(stream);
	}
	text[size] = '\0';
	return text;
}

static void a_cell_that_asks(void **state)
{
	static const char packet[] = "install\0"
				     "1\0"
				     "upgrade\0"
				     "\0"
				     "pa>=1\0"
				     "fr.txt";
	struct place place;
	struct install *install;
	char got[256];

	(void)state;
	setup(&place);
	install = install_new(&allow, place.ends[0], place.directory, NULL);
	assert_non_null(install);
	run_cell(install,
		 "{\"code\": \"%pip install -U a>=1 -r r.txt\", \"silent\": false, \"x\": 1}",
		 &place);
	assert_string_equal(place.said, "");
	assert_string_equal(file(&place, "asked-1"),
			    "{\"words\":[\"-U\",\"a>=1\",\"-r\",\"r.txt\"],\"refused\":false}");
	assert_int_equal(recv(place.ends[1], got, sizeof(got), MSG_DONTWAIT), sizeof(packet));
	assert_memory_equal(got, packet, sizeof(packet));
	/* what is refused is said, and goes no further */
	run_cell(install, "{\"code\": \"%pip install ./a\", \"silent\": false}", &place);
	assert_non_null(strstr(place.said, "is a path"));
	assert_non_null(strstr(file(&place, "asked-2"), "\"refused\":true"));
	/* what nobody typed asks for nothing */
	run_cell(install, "{\"code\": \"%pip install a\", \"silent\": true}", &place);
	run_cell(install, "{\"code\": \"%pip install a\", \"silent\": 0}", &place);
	run_cell(install, "{\"code\": [\"%pip install a\"], \"silent\": false}", &place);
	run_cell(install, "{\"code\": \"1\", \"code\": \"%pip install a\"}", &place);
	run_cell(install, "[\"%pip install a\"]", &place);
	run_cell(install, "%pip install a", &place);
	assert_string_equal(place.said, "");
	assert_true(recv(place.ends[1], got, sizeof(got), MSG_DONTWAIT) < 0);
	install_cancel(install);
	assert_int_equal(recv(place.ends[1], got, sizeof(got), MSG_DONTWAIT), sizeof("cancel"));
	assert_null(install_free(install));
	teardown(&place);
}

static void reports_and_their_end(void **state)
{
	static const char packet[] = "failed\0a (no network)";
	struct install_report report;
	struct place place;
	struct install *install;

	(void)state;
	setup(&place);
	install = install_new(&allow, place.ends[0], place.directory, NULL);
	assert_non_null(install);
	assert_int_equal(install_hear(install, &report), 0);
	assert_int_equal(send(place.ends[1], packet, sizeof(packet), 0), sizeof(packet));
	assert_int_equal(install_hear(install, &report), 1);
	assert_string_equal(report.verdict, "failed");
	assert_string_equal(report.text, "a (no network)");
	run_cell(install, "{\"code\": \"%pip install a\", \"silent\": false}", &place);
	/* it dies: whoever waits inside is told */
	close_fd(&place.ends[1]);
	assert_true(install_hear(install, &report) < 0 || install_hear(install, &report) < 0);
	assert_int_equal(install_fd(install), -1);
	assert_string_equal(file(&place, "done-1"), "1\n");
	run_cell(install, "{\"code\": \"%pip install a\", \"silent\": false}", &place);
	assert_non_null(strstr(place.said, "has ended"));
	assert_non_null(strstr(file(&place, "asked-2"), "\"refused\":true"));
	assert_null(install_free(install));
	teardown(&place);
}

static void where_nobody_may(void **state)
{
	struct place place = {.said = ""};
	struct install *install = install_new(&deny, -1, NULL, NULL);

	(void)state;
	assert_non_null(install);
	run_cell(install, "{\"code\": \"!pip install ./a\", \"silent\": false}", &place);
	assert_non_null(strstr(place.said, "\"install\": \"allow\""));
	assert_null(install_free(install));
	install = install_new(&allow, -1, NULL, "it needs namespaces");
	assert_non_null(install);
	run_cell(install, "{\"code\": \"!pip install a\", \"silent\": false}", &place);
	assert_string_equal(place.said, "nothing is installed: it needs namespaces");
	assert_int_equal(install_fd(install), -1);
	install_cancel(install);
	assert_null(install_free(install));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cell_that_asks),
		cmocka_unit_test(reports_and_their_end),
		cmocka_unit_test(where_nobody_may),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
