#include "kernelspec/added.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/files.h"
#include "kernelspec/paths.h"
#include "kernelspec/variables.h"
#include "sandbox/tree.h"

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* The interpreter counts too, with its links resolved: one of another version takes other files. */
static int name_it(const char *folder, const char *base, const char *python, char **ret_name,
		   struct err *err)
{
	cleanup(free_ptr) char *real = paths_real(python);
	cleanup(free_ptr) char *text =
		real ? format_string("%s\n%s\n%s", folder, base, real) : NULL;
	char id[PATHS_ID + 1];

	if (!text || paths_id(text, id) < 0)
		return no_memory(err);
	*ret_name = format_string("notebook-%.16s", id);
	return *ret_name ? 0 : no_memory(err);
}

static int make_live(struct added *added, const char *store, struct err *err)
{
	cleanup(free_ptr) char *path = NULL;

	if (sealed_hold(store, "live", &path, &added->held, err) < 0)
		return err->code;
	added->directory = realpath(path, NULL);
	if (!added->directory)
		return err_errno(err, "%s", path);
	/* A kernel may be another account, and finds it by its name; 0/ is where the tree is
	 * mounted, told/ what the proxy may write in. */
	if (mkdirat(added->held, "0", 0755) < 0 || fchmodat(added->held, "0", 0755, 0) < 0 ||
	    mkdirat(added->held, "told", 0755) < 0 || fchmodat(added->held, "told", 0755, 0) < 0 ||
	    fchmod(added->held, 0755) < 0 || fchmodat(added->held, "..", 0711, 0) < 0)
		return err_errno(err, "%s", path);
	return 0;
}

int added_open(const char *folder, const char *base, const char *python, struct added *ret_added,
	       struct err *err)
{
	cleanup(free_ptr) char *store = NULL;
	struct added added = ADDED_NONE;
	int r = name_it(folder, base, python, &added.name, err);

	if (r == 0)
		r = sealed_store(&store, err);
	if (r == 0)
		r = make_live(&added, store, err);
	if (r == 0) {
		struct err none = {0};

		r = sealed_find(added.name, 0, false, &added.sealed, &none);
		r = r == -ENOENT ? 0 : r < 0 ? err_set(err, r, "%s", none.text) : 0;
	}
	if (r < 0)
		added_done(&added);
	else
		*ret_added = added;
	return r;
}

void added_done(struct added *added)
{
	free(added->name);
	free(added->directory);
	close_fd(&added->held);
	sealed_done(&added->sealed);
	*added = (struct added)ADDED_NONE;
}

bool added_base_changed(const struct sealed *added, const char *base)
{
	const char *had = json_string_value(json_object_get(added->record, "base_tree"));

	return base && added->record && (!had || strcmp(had, base) != 0);
}

/* ---- for a kernel ---- */

/* Puts `first` before what the variable `name` ("NAME=") says. */
static int put_before(struct spec *spec, const char *name, const char *first)
{
	cleanup(free_ptr) char *text = NULL;
	const char *rest = NULL;

	for (size_t i = 0; i < spec->envc; i++) {
		if (strncmp(spec->env[i], name, strlen(name)) == 0)
			rest = spec->env[i] + strlen(name);
	}
	text = rest && *rest ? format_string("%s%s:%s", name, first, rest)
			     : format_string("%s%s", name, first);
	return text ? variables_set(spec, text) : -ENOMEM;
}

int added_fill(const struct added *added, const struct prefix *prefix, struct spec *spec,
	       struct err *err)
{
	cleanup(free_ptr) char *share = NULL, *programs = NULL, *tree = NULL, *python = NULL;
	int r = files_share("install", &share, err);

	if (r < 0)
		return r;
	programs = paths_real(share);
	python = format_string("CELLWALL_PYTHON=%s", prefix->executable);
	tree = added->sealed.directory ? path_join(added->sealed.directory, "tree") : NULL;
	if (tree) {
		char *real = paths_real(tree);

		free(tree);
		tree = real;
	}
	if (!programs || !python || (added->sealed.directory && !tree) ||
	    spec_add_bind(spec, programs, INSIDE_INSTALL, true) < 0 ||
	    spec_add_bind(spec, added->directory, INSIDE_ADDED, true) < 0 ||
	    (tree && spec_add_bind(spec, tree, INSIDE_ADDED "/0", true) < 0) ||
	    variables_set(spec, python) < 0 ||
	    put_before(spec, "PATH=", INSIDE_INSTALL "/bin") < 0 ||
	    put_before(spec, "PYTHONPATH=", INSIDE_INSTALL "/site") < 0)
		return no_memory(err);
	return 0;
}

/* ---- for one that runs ---- */

/* A fresh directory, readable by everybody, whatever the umask. */
static int make_directory(int parent, const char *name)
{
	int fd;

	if (mkdirat(parent, name, 0755) < 0)
		return -errno;
	fd = tree_step(parent, name, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 && fchmod(fd, 0755) < 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

/* Trees of the store are no deeper than BUNDLE_DEPTH, which a walk can go. */
static int link_entry(struct walk *walk)
{
	const struct walk_frame *here = walk_here(walk);
	struct stat status;
	int r = walk_stat(walk, &status), mate;

	if (r < 0)
		return r;
	if (!S_ISDIR(status.st_mode))
		return linkat(here->fd, walk->name, here->mate, walk->name, 0) < 0 ? -errno : 0;
	mate = make_directory(here->mate, walk->name);
	if (mate < 0)
		return mate;
	r = walk_enter(walk);
	if (r < 0) {
		close(mate);
		return r;
	}
	walk_here(walk)->mate = mate;
	return 0;
}

int added_publish(int live, int tree, const char *name, struct err *err)
{
	struct walk *walk = malloc(sizeof(*walk));
	cleanup(free_ptr) char *temporary = format_string(".new-%s", name);
	int r, fresh;

	if (!walk || !temporary) {
		free(walk);
		return no_memory(err);
	}
	walk_init(walk);
	fresh = make_directory(live, temporary);
	r = fresh < 0 ? fresh : walk_start(walk, tree);
	if (r == 0) {
		walk_here(walk)->mate = fresh;
		while ((r = walk_next(walk)) > 0 && (r = link_entry(walk)) == 0)
			;
	} else if (fresh >= 0) {
		close(fresh);
	}
	walk_done(walk);
	free(walk);
	if (r == 0 && renameat(live, temporary, live, name) < 0)
		r = -errno;
	return r < 0 ? err_set(err, r,
			       "what was built cannot be shown to this kernel (%s): a restart has "
			       "it",
			       strerrordesc_np(-r))
		     : 0;
}
