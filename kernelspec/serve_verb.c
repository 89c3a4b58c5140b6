#include "kernelspec/verbs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/files.h"
#include "sandbox/log.h"

int verb_serve(int argc, char **argv)
{
	cleanup(free_ptr) char *part = NULL;
	struct err err;

	(void)argc;
	if (files_part("cellwall-serve", &part, &err) < 0) {
		log_error("%s", err.text);
		return 1;
	}
	execv(part, argv);
	log_error("cannot execute %s: %s", part, strerrordesc_np(errno));
	return 1;
}
