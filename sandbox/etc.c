#include "sandbox/etc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "sandbox/hook.h"
#include "sandbox/plots.h"
#include "sandbox/spec.h"
#include "sandbox/startup.h"

/*
 * What is built would otherwise tell of the host (its users, its names, its resolver) or ask for
 * what is not there. What is bound read-only is looked up by libraries and holds no secret on any
 * distribution known; a name with a star is a pattern of glob(7), in /etc itself. Links into /usr
 * are made again instead of followed. Everything else of /etc stays out.
 */
static const struct etc_entry entries[] = {
	/* Built. */
	/* getpwuid(1000): os.path.expanduser, getpass.getuser, R's Sys.info; 65534 is who owns all
	   else */
	{"/etc/passwd", "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n" INSIDE_USER
			":x:1000:1000::" INSIDE_HOME ":/bin/bash\n"
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	/* getgrgid: ls -l, pathlib.Path.group, tarfile */
	{"/etc/group", "root:x:0:\n" INSIDE_USER ":x:1000:\nnogroup:x:65534:\n"},
	/* the two names that servers on lo use of themselves; Spark resolves its own host name */
	{"/etc/hosts", "127.0.0.1 localhost " INSIDE_HOSTNAME "\n"},
	/* files alone: no module that would ask a daemon or a resolver is loaded (nsswitch.conf(5))
	 */
	{"/etc/nsswitch.conf",
	 "passwd: files\ngroup: files\nshadow: files\nhosts: files\nnetworks: files\n"
	 "services: files\nprotocols: files\nrpc: files\nethers: files\n"},
	/* all addresses of a name in hosts(5), not the first alone */
	{"/etc/host.conf", "multi on\n"},
	{"/etc/hostname", INSIDE_HOSTNAME "\n"},
	/* no name server; a missing file would mean the one on 127.0.0.1 */
	{"/etc/resolv.conf", ""},

	/* IPython runs what is here in every kernel. */
	{STARTUP_ETC "startup/00-cellwall.py", startup_text},
	/* Which package goes out, for the notebook. */
	{STARTUP_PARTS "hook.py", hook_text},
	/* How plots are drawn. */
	{STARTUP_PARTS "plots.py", plots_text},

	/* Where the input history is kept: by itself in the home, which ends with the kernel. */
	{STARTUP_ETC "ipython_config.py",
	 "import os\n"
	 "\n"
	 "c = get_config()\n"
	 "if os.environ.get(\"CELLWALL_HISTORY\"):\n"
	 "    c.HistoryManager.hist_file = os.environ[\"CELLWALL_HISTORY\"]\n"},

	/* The dynamic linker: libraries outside its built-in path (Debian's BLAS, CUDA,
	   /usr/local). */
	{"/etc/ld.so.cache", NULL},
	{"/etc/ld.so.conf", NULL},
	{"/etc/ld.so.conf.d", NULL},
	/* Debian's libblas, liblapack, java, editor and awk are links through here */
	{"/etc/alternatives", NULL},
	/* Time zone: datetime.astimezone, pandas, R. */
	{"/etc/localtime", NULL},
	{"/etc/timezone", NULL},
	/* Locale names that setlocale(3) accepts. */
	{"/etc/locale.alias", NULL},
	/* Which distribution this is: platform.freedesktop_os_release, conda's virtual packages. */
	{"/etc/os-release", NULL},
	{"/etc/debian_version", NULL},
	{"/etc/redhat-release", NULL},
	/* fontconfig: Cairo, R's graphics, Pango */
	{"/etc/fonts", NULL},
	/* getservbyname, getprotobyname */
	{"/etc/services", NULL},
	{"/etc/protocols", NULL},
	/* file types: mimetypes, libmagic, R's browseURL */
	{"/etc/mime.types", NULL},
	{"/etc/magic", NULL},
	{"/etc/magic.mime", NULL},
	/* the public certificates and OpenSSL's defaults; never /etc/ssl/private */
	{"/etc/ssl/certs", NULL},
	{"/etc/ssl/openssl.cnf", NULL},
	{"/etc/ssl/cert.pem", NULL},
	{"/etc/pki/tls/certs", NULL},
	{"/etc/pki/tls/openssl.cnf", NULL},
	{"/etc/pki/ca-trust/extracted", NULL},
	{"/etc/crypto-policies", NULL}, /* Fedora's openssl.cnf includes it */
	/* where languages of the distribution keep their defaults */
	{"/etc/R", NULL},
	{"/etc/java", NULL},
	{"/etc/java-*", NULL},
	{"/etc/python3*", NULL}, /* sitecustomize, and what /usr/lib/python3 links to */
	{"/etc/perl", NULL},
	{"/etc/octave", NULL},
	{"/etc/octave.conf", NULL},
	{"/etc/julia", NULL},
	{"/etc/matplotlibrc", NULL},
	{"/etc/ImageMagick-*", NULL},
	{"/etc/OpenCL", NULL},
	{"/etc/xml", NULL},	  /* catalogues of libxml2, or it asks the network for a DTD */
	{"/etc/papersize", NULL}, /* R's pdf() */
	{"/etc/libpaper.d", NULL},
	/* terminals in cells: readline and ncurses */
	{"/etc/terminfo", NULL},
	{"/etc/inputrc", NULL},
	{NULL, NULL},
};

const struct etc_entry *etc_list(void)
{
	return entries;
}

/* The directories of a built file; `path` is relative to the new root, which is ours alone. */
static int make_parents(int root, const char *path)
{
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		cleanup(free_ptr) char *directory = strndup(path, (size_t)(slash - path));

		if (!directory || (mkdirat(root, directory, 0755) < 0 && errno != EEXIST))
			return -errno;
	}
	return 0;
}

int etc_build(int root, struct err *err)
{
	for (const struct etc_entry *entry = entries; entry->path; entry++) {
		if (!entry->text)
			continue;
		if (make_parents(root, entry->path + 1) < 0)
			return err_errno(err, "cannot make the directory of %s", entry->path);
		if (write_new_file(root, entry->path + 1, 0644, entry->text, strlen(entry->text),
				   err) < 0)
			return err->code;
	}
	return 0;
}
