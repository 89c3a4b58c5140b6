/*
 * beside: whether something of a given name is in the notebook's folder.
 *
 * In: a relative path that the kernel chose. One look, component by component, that opens nothing
 * for reading, follows no link and goes to no other file system (tree.h), so that it neither leaves
 * the folder nor waits for a server that is away. What it finds is for the user's eyes alone.
 */
#ifndef PROXY_BESIDE_H
#define PROXY_BESIDE_H

#include <stddef.h>

#define BESIDE_DEPTH_MAX 32 /* components of a path that is looked up */

enum beside {
	BESIDE_NOTHING,
	BESIDE_FILE,
	BESIDE_DIRECTORY,
	BESIDE_LINK,  /* a symbolic link: what is behind it was not looked at */
	BESIDE_MOUNT, /* another file system: the same */
};

/*
 * What is at `path` in `folder`. *ret_length is how many bytes of `path` name it: less than all of
 * them when a link or another file system is on the way.
 */
enum beside beside_look(const char *folder, const char *path, size_t *ret_length);

#endif
