#include "proxy/install.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "proxy/pip.h"

struct install {
	const struct install_rules *rules;
	int socket;
	char *directory, *never;
	unsigned asked;
	/* of the cell that is looked at */
	install_say_fn *say;
	void *arg;
};

struct install *install_new(const struct install_rules *rules, int socket, const char *directory,
			    const char *never)
{
	struct install *install = calloc(1, sizeof(*install));

	if (!install)
		return NULL;
	install->rules = rules;
	install->socket = socket;
	install->directory = directory ? strdup(directory) : NULL;
	install->never = never ? strdup(never) : NULL;
	if ((directory && !install->directory) || (never && !install->never))
		return install_free(install);
	return install;
}

struct install *install_free(struct install *install)
{
	if (!install)
		return NULL;
	close_fd(&install->socket);
	free(install->directory);
	free(install->never);
	free(install);
	return NULL;
}

/* ---- a line of a cell ---- */

struct packet {
	char bytes[INSTALL_PACKET];
	size_t size;
};

static bool put(struct packet *packet, const char *kind, const char *text)
{
	int size = snprintf(packet->bytes + packet->size, sizeof(packet->bytes) - packet->size,
			    "%s%s", kind, text);

	if (size < 0 || (size_t)size >= sizeof(packet->bytes) - packet->size)
		return false;
	packet->size += (size_t)size + 1;
	return true;
}

static int send_line(struct install *install, const struct pip_line *line, unsigned number)
{
	struct packet packet = {.size = 0};
	char text[16];
	bool fits;

	(void)snprintf(text, sizeof(text), "%u", number);
	fits = put(&packet, "", "install") && put(&packet, "", text) &&
	       put(&packet, "", line->upgrade ? "upgrade" : "") &&
	       put(&packet, "", line->uv ? "uv" : "");
	for (size_t i = 0; fits && i < line->count; i++) {
		if (line->word[i].kind == PIP_REQUIREMENT)
			fits = put(&packet, "p", line->word[i].text);
		else if (line->word[i].kind == PIP_FILE)
			fits = put(&packet, "f", line->word[i].file);
	}
	if (!fits)
		return -E2BIG;
	return send(install->socket, packet.bytes, packet.size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0
		       ? -errno
		       : 0;
}

/* What the program inside finds itself in: written before the kernel has the cell. */
static int write_asked(const struct install *install, const struct pip_line *line, unsigned number,
		       bool refused)
{
	cleanup(free_ptr) char *path = format_string("%s/asked-%u", install->directory, number);
	cleanup(free_ptr) char *text = NULL;
	json_t *words = json_array();
	json_t *object;
	int r;

	for (size_t i = 0; words && i < line->count; i++)
		(void)json_array_append_new(words, json_string(line->word[i].text));
	object = json_pack("{s:o, s:b}", "words", words, "refused", refused ? 1 : 0);
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	if (!path || !text)
		return -ENOMEM;
	r = write_new_file(AT_FDCWD, path, 0644, text, strlen(text), NULL);
	/* The kernel may be another account. */
	return r == 0 && chmod(path, 0644) < 0 ? -errno : r;
}

/* Nobody will end what was asked for: it ends here. Those that have ended are not touched. */
static void end_asked(const struct install *install, unsigned from)
{
	for (unsigned number = from; install->directory && number <= install->asked; number++) {
		cleanup(free_ptr) char *path =
			format_string("%s/done-%u", install->directory, number);

		if (path && write_new_file(AT_FDCWD, path, 0644, "1\n", 2, NULL) == 0)
			(void)chmod(path, 0644);
	}
}

static int judge(const struct install *install, const struct pip_line *line, struct err *err)
{
	if (install->rules->mode == INSTALL_DENY)
		return install_judge(install->rules, "", err);
	if (install->never)
		return err_set(err, -EACCES, "%s", install->never);
	if (line->refused[0])
		return err_set(err, -EINVAL, "%s", line->refused);
	for (size_t i = 0; i < line->count; i++) {
		if (line->word[i].kind == PIP_REQUIREMENT &&
		    install_judge(install->rules, line->word[i].text, err) < 0)
			return err->code;
	}
	if (install->socket < 0)
		return err_set(err, -EPIPE, "the process that installs packages has ended");
	if (install->asked >= INSTALL_ASKED_MAX)
		return err_set(err, -EDQUOT,
			       "this kernel has asked for packages %u times: restart it",
			       install->asked);
	return 0;
}

static void take_line(void *arg, const struct pip_line *line)
{
	struct install *install = arg;
	cleanup(free_ptr) char *text = NULL;
	struct err err = {0};
	int r = judge(install, line, &err), wrote;

	if (install->directory && install->asked < INSTALL_ASKED_MAX) {
		const unsigned number = ++install->asked;

		wrote = write_asked(install, line, number, r < 0);
		if (r == 0 && wrote < 0)
			r = err_set(&err, wrote, "the kernel cannot be told");
		if (r == 0)
			r = send_line(install, line, number);
		if (r < 0 && !err.text[0]) {
			(void)err_set(&err, r,
				      "the process that installs packages does not answer");
			end_asked(install, number);
		}
	}
	if (r == 0)
		return;
	text = format_string("nothing is installed: %s", err.text);
	if (text)
		install->say(install->arg, text);
}

/* ---- the interface ---- */

void install_cell(struct install *install, struct iovec content, install_say_fn *say, void *arg)
{
	const char *code;
	json_t *object, *silent;

	/* Most cells ask for nothing. */
	if (content.iov_len > INSTALL_CODE_MAX ||
	    !memmem(content.iov_base, content.iov_len, "install", 7) ||
	    !memmem(content.iov_base, content.iov_len, "pip", 3))
		return;
	object = json_loadb(content.iov_base, content.iov_len, JSON_REJECT_DUPLICATES, NULL);
	code = json_string_value(json_object_get(object, "code"));
	install->say = say;
	install->arg = arg;
	silent = json_object_get(object, "silent");
	if (code && (!silent || json_is_false(silent)))
		(void)pip_find(code, strlen(code), take_line, install);
	json_decref(object);
}

void install_cancel(struct install *install)
{
	if (install && install->socket >= 0)
		(void)send(install->socket, "cancel", sizeof("cancel"),
			   MSG_DONTWAIT | MSG_NOSIGNAL);
}

int install_fd(const struct install *install)
{
	return install ? install->socket : -1;
}

int install_hear(struct install *install, struct install_report *ret_report)
{
	char packet[sizeof(*ret_report)];
	ssize_t got = recv(install->socket, packet, sizeof(packet) - 1, MSG_DONTWAIT);
	size_t verdict;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0) {
		close_fd(&install->socket);
		end_asked(install, 1);
		return -EPIPE;
	}
	packet[got] = '\0';
	verdict = strlen(packet);
	(void)snprintf(ret_report->verdict, sizeof(ret_report->verdict), "%.31s", packet);
	(void)snprintf(ret_report->text, sizeof(ret_report->text), "%.*s", INSTALL_REPORT_MAX - 1,
		       verdict + 1 < (size_t)got ? packet + verdict + 1 : "");
	return 1;
}

const char *install_directory(const struct install *install)
{
	return install ? install->directory : NULL;
}
