/*
 * usage_tree: what a process and all that descend from it use, by proc(5).
 */
#ifndef WEB_USAGE_TREE_H
#define WEB_USAGE_TREE_H

#include <stdint.h>
#include <sys/types.h>

struct usage_tree {
	uint64_t memory; /* resident bytes, shared pages counted in each process */
	double seconds;	 /* of processors, since the start */
	unsigned processes;
};

/* Of up to 512 processes. Those that end meanwhile are not counted. */
struct usage_tree usage_tree_look(pid_t root);

#endif
