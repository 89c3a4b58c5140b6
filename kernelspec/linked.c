#include "kernelspec/linked.h"

#include <errno.h>
#include <string.h>

#include "proxy/keys.h"

#define OWN_KEY "client"

/* "curve://HOST:PORT", and nothing in it that a page or a terminal would not show. */
static int check_host(const char *host, struct err *err)
{
	const size_t scheme = sizeof(LINKED_SCHEME) - 1;
	const char *colon = strrchr(host, ':');
	uint64_t port = 0;
	char shown[128];
	bool plain = true;

	for (const char *at = host; *at; at++)
		plain = plain && *at > ' ' && *at < 0x7f;
	if (strncmp(host, LINKED_SCHEME, scheme) != 0 || !plain || colon <= host + scheme ||
	    parse_u64(colon + 1, UINT16_MAX, &port) < 0 || port == 0)
		return err_set(err, -EINVAL, "--host %s: " LINKED_SCHEME "HOST:PORT is needed",
			       escape_string(shown, sizeof(shown), host));
	return 0;
}

static int check_own_key(const char *key, struct err *err)
{
	cleanup(free_ptr) char *directory = NULL, *path = NULL;
	struct key own = {0};
	int code = 0;

	if (!key) {
		code = keys_directory(NULL, &directory, err);
		path = code == 0 ? path_join(directory, OWN_KEY ".key" KEYS_SECRET) : NULL;
		if (code == 0 && !path)
			code = err_set(err, -ENOMEM, "out of memory");
	}
	if (code == 0)
		code = keys_read(key ? key : path, true, &own, err);
	keys_done(&own);
	if (code < 0 && !key)
		err_wrap(err, "no key of this client (`cellwall key new " OWN_KEY "`)");
	return code;
}

static int add_pair(struct paths_list *list, const char *option, const char *value)
{
	int code = value ? paths_list_add(list, option) : 0;

	return value && code == 0 ? paths_list_add(list, value) : code;
}

int linked_plan(const struct linked *linked, struct plan *plan, struct err *err)
{
	cleanup(free_ptr) char *host_key = paths_absolute(linked->host_key);
	cleanup(free_ptr) char *key = linked->key ? paths_absolute(linked->key) : NULL;
	const char *name = linked->host + sizeof(LINKED_SCHEME) - 1;
	struct key public_key;
	int code = check_host(linked->host, err);

	if (code == 0 && (!host_key || (linked->key && !key)))
		code = err_errno(err, "%s", host_key ? linked->key : linked->host_key);
	if (code == 0)
		code = keys_read(host_key, false, &public_key, err);
	if (code == 0)
		code = check_own_key(key, err);
	if (code < 0)
		return code;
	plan->elsewhere = true;
	if (!plan->name)
		plan->name = strdup("python3-linked");
	if (!plan->display_name)
		plan->display_name = format_string("Python 3 (isolated, on %.*s)",
						   (int)(strrchr(name, ':') - name), name);
	plan->language = strdup(linked->language ? linked->language : "python");
	plan->interrupt_mode = strdup("signal");
	plan->debugger = true;
	code = add_pair(&plan->argv, "--host", linked->host);
	if (code == 0)
		code = add_pair(&plan->argv, "--host-key", host_key);
	if (code == 0)
		code = add_pair(&plan->argv, "--key", key);
	if (code == 0)
		code = add_pair(&plan->argv, "--host-kernel", linked->kernel);
	if (code == 0)
		code = add_pair(&plan->argv, "--host-area", linked->area);
	if (code < 0 || !plan->name || !plan->display_name || !plan->language ||
	    !plan->interrupt_mode)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}
