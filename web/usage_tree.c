#include "web/usage_tree.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/base.h"

#define MOST 512

static void add_one(pid_t pid, struct usage_tree *sum)
{
	char path[64], text[1024];
	unsigned long user = 0, system = 0;
	long pages = 0;
	const char *after;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return;
	/* The name in parentheses may hold anything: what counts is behind the last one. */
	if (fgets(text, sizeof(text), file) && (after = strrchr(text, ')')) &&
	    sscanf(after + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d "
		   "%*u %*u %ld",
		   &user, &system, &pages) == 3) {
		sum->processes++;
		sum->seconds += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
		sum->memory += pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
	}
	(void)fclose(file);
}

struct usage_tree usage_tree_look(pid_t root)
{
	struct usage_tree sum = {0};
	pid_t found[MOST];
	size_t count = 0;

	if (root > 0)
		found[count++] = root;
	for (size_t i = 0; i < count; i++) {
		char path[80];
		FILE *file;
		int child;

		add_one(found[i], &sum);
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)found[i],
			       (int)found[i]);
		file = fopen(path, "re");
		while (file && count < MOST && fscanf(file, "%d", &child) == 1)
			found[count++] = child;
		if (file)
			(void)fclose(file);
	}
	return sum;
}
