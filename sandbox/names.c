#include "sandbox/names.h"

#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

/*
 * The next character of well-formed UTF-8 (RFC 3629: nothing overlong, no surrogates), and its
 * length in bytes; 0 when it is malformed.
 */
static size_t next_character(const unsigned char *at, uint32_t *ret_character)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t character = at[0];
	size_t size;

	if (character < 0x80) {
		*ret_character = character;
		return 1;
	}
	if (character >= 0xc2 && character < 0xe0)
		size = 2;
	else if (character >= 0xe0 && character < 0xf0)
		size = 3;
	else if (character >= 0xf0 && character < 0xf5)
		size = 4;
	else
		return 0;
	character &= 0x7fu >> size;
	for (size_t i = 1; i < size; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0; /* the terminating NUL ends here too */
		character = character << 6 | (at[i] & 0x3f);
	}
	if (character < least[size] || character > 0x10ffff ||
	    (character >= 0xd800 && character < 0xe000))
		return 0;
	*ret_character = character;
	return size;
}

/* What makes a listing say something else than what is there (unicode.org/reports/tr9, "trojan
 * source"). */
static bool misleads(uint32_t character)
{
	return character < 0x20 || (character >= 0x7f && character < 0xa0) || character == 0x2028 ||
	       character == 0x2029 || (character >= 0x202a && character <= 0x202e) ||
	       (character >= 0x2066 && character <= 0x2069);
}

struct rule {
	const char
		*pattern; /* fnmatch(3), whatever the case: some file systems of hosts ignore it */
	const char *reason;
};

/*
 * Names that are acted on by whoever comes by: nobody opened the file or named it. Hidden names
 * (.envrc, .git, .vscode, .ipynb_checkpoints, .pre-commit-config.yaml, ...) need no line. What is
 * run only when it is asked for (Makefile, setup.py, model.pth) is flagged instead, see below.
 */
static const struct rule acted_on[] = {
	/* pytest imports them from every directory that it looks through */
	{"conftest.py", "pytest runs it when it looks for tests"},
	{"test_*.py", "pytest runs it when it looks for tests"},
	{"*_test.py", "pytest runs it when it looks for tests"},
	/* modules that site.py imports at every start of an interpreter, when PYTHONPATH has "." or
	   an empty part; a package or a compiled module of that name too */
	{"sitecustomize", "python runs it when it starts"},
	{"sitecustomize.*", "python runs it when it starts"},
	{"usercustomize", "python runs it when it starts"},
	{"usercustomize.*", "python runs it when it starts"},
	/* read from the current directory: CVE-2022-39286, CVE-2022-21699 */
	{"jupyter*_config.*", "jupyter reads it when it starts there"},
	{"ipython*_config.*", "ipython reads it when it starts there"},
	{"profile_default", "ipython may run what it holds when it starts there"},
	/* its "backend: module://x" is imported */
	{"matplotlibrc", "matplotlib reads it when it is imported there"},
	/* its init-hook is python */
	{"pylintrc", "pylint runs code that it names"},
	/* makes a directory an environment, whose bin/python editors run to ask for its version */
	{"pyvenv.cfg", "editors run the python of a directory that holds it"},
	{"conda-meta", "editors run the python of a directory that holds it"},
	/* with objects/ and refs/ beside it a bare repository, whose config names programs that
	   every git command there runs, also that of a shell's prompt (gitconfig,
	   safe.bareRepository)
	 */
	{"HEAD", "git takes a directory that holds it for a repository"},
	/* run by an editor that shows any script beside them */
	{"eslint.config.*", "editors run it"},
	{"prettier.config.*", "editors run it"},
	{"node_modules", "scripts beside it run what it holds"},
	{"latexmkrc", "latexmk runs it"},
	/* read by a file manager that only shows the folder: on a share, or a removable disk */
	{"autorun.inf", "file managers act on it"},
	{"desktop.ini", "file managers act on it"},
	{"*.library-ms", "file managers act on it"},
};

/* Types that do more than show something when they are opened: brought out, and said so. */
static const struct rule flags[] = {
	{"*.htm", "a page that can run script"},
	{"*.html", "a page that can run script"},
	{"*.xhtml", "a page that can run script"},
	{"*.mht", "a page that can run script"},
	{"*.mhtml", "a page that can run script"},
	{"*.svg", "an image that can run script"},
	{"*.svgz", "an image that can run script"},
	{"*.ipynb", "a notebook: its cells and outputs are code"},
	/* pickle, and what is made of it: https://docs.python.org/3/library/pickle.html */
	{"*.pickle", "loading it runs code"},
	{"*.pkl", "loading it runs code"},
	{"*.pkl.*", "loading it runs code"},
	{"*.pck", "loading it runs code"},
	{"*.joblib", "loading it runs code"},
	{"*.dill", "loading it runs code"},
	{"*.cloudpickle", "loading it runs code"},
	{"*.pt", "loading it runs code"},
	{"*.pth", "loading it runs code"},
	{"*.ckpt", "loading it runs code"},
	/* Lambda layers; objects that pandas pickles into them */
	{"*.keras", "loading it can run code"},
	{"*.h5", "loading it can run code"},
	{"*.hdf5", "loading it can run code"},
	/* CVE-2024-27322 */
	{"*.rds", "loading it can run code"},
	{"*.rda", "loading it can run code"},
	{"*.rdata", "loading it can run code"},
	{"*.xls", "a document that can hold macros"},
	{"*.xls[bm]", "a document that can hold macros"},
	{"*.xltm", "a document that can hold macros"},
	{"*.xlam", "a document that can hold macros"},
	{"*.doc", "a document that can hold macros"},
	{"*.do[ct]m", "a document that can hold macros"},
	{"*.pp[st]", "a document that can hold macros"},
	{"*.pp[st]m", "a document that can hold macros"},
	{"*.od[pst]", "a document that can hold macros"},
	{"*.py[cdowz]", "a program"},
	{"*.py", "a program"},
	{"*.egg", "a program"},
	{"*.whl", "a program"},
	{"*.js", "a program"},
	{"*.[cm]js", "a program"},
	{"*.wasm", "a program"},
	{"*.sh", "a program"},
	{"*.[bcz]sh", "a program"},
	{"*.bash", "a program"},
	{"*.fish", "a program"},
	{"*.p[lm]", "a program"},
	{"*.rb", "a program"},
	{"*.r", "a program"},
	{"*.jl", "a program"},
	{"*.lua", "a program"},
	{"*.ps1", "a program"},
	{"*.bat", "a program"},
	{"*.cmd", "a program"},
	{"*.vbs", "a program"},
	{"*.exe", "a program"},
	{"*.msi", "a program"},
	{"*.dll", "a program"},
	{"*.so", "a program"},
	{"*.so.*", "a program"},
	{"*.jar", "a program"},
	{"*.appimage", "a program"},
	{"*.deb", "a program"},
	{"*.rpm", "a program"},
	{"*.desktop", "it starts what it names"},
	{"*.lnk", "it starts what it names"},
	{"*.url", "it starts what it names"},
	{"*.code-workspace", "editors run what it names"},
	{"makefile", "make runs what it says"},
	{"gnumakefile", "make runs what it says"},
	{"cmakelists.txt", "cmake runs what it says"},
	{"dockerfile", "building it runs what it says"},
};

static const char *look_up(const struct rule *rules, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (fnmatch(rules[i].pattern, name, FNM_CASEFOLD) == 0)
			return rules[i].reason;
	return NULL;
}

/* As Windows and file systems of its kind take it: without dots and spaces at its end. */
static void trim(const char *name, char out[NAME_MAX + 1])
{
	size_t size = strlen(name);

	while (size > 0 && (name[size - 1] == '.' || name[size - 1] == ' '))
		size--;
	if (size > NAME_MAX)
		size = NAME_MAX;
	memcpy(out, name, size);
	out[size] = '\0';
}

static bool is_listed(const char *name, char *const *names)
{
	for (size_t i = 0; names && names[i]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

const char *name_refusal(const char *name, char *const *let_out)
{
	char plain[NAME_MAX + 1];

	for (const char *at = name; *at;) {
		const void *raw = at;
		uint32_t character = 0;
		size_t size = next_character(raw, &character);

		if (size == 0)
			return "its name is not UTF-8";
		if (misleads(character))
			return "its name has control characters";
		at += size;
	}
	/* our own temporary names, which the next collector removes */
	if (is_listed(name, let_out) && strncmp(name, ".cellwall-", 10) != 0)
		return NULL;
	if (name[0] == '.')
		return "hidden names stay inside";
	trim(name, plain);
	return look_up(acted_on, sizeof(acted_on) / sizeof(acted_on[0]), plain);
}

bool name_is_cache(const char *name, char *const *let_out)
{
	return strcmp(name, "__pycache__") == 0 && !is_listed(name, let_out);
}

const char *name_flag(const char *name, unsigned int mode)
{
	char plain[NAME_MAX + 1];
	const char *reason;

	trim(name, plain);
	reason = look_up(flags, sizeof(flags) / sizeof(flags[0]), plain);
	if (reason)
		return reason;
	return mode & 0111 ? "a program" : NULL;
}

void name_beside(const char *name, uint32_t number, char out[NAME_MAX + 1])
{
	char suffix[32];
	const char *extension = strrchr(name, '.');
	size_t stem, most, added, rest;

	if (number == 0) {
		snprintf(out, NAME_MAX + 1, "%s", name);
		return;
	}
	added = (size_t)snprintf(suffix, sizeof(suffix), " (cellwall %u)", number);
	/* a "." at the start or a very long rest is no extension */
	if (!extension || extension == name || strlen(extension) > NAME_MAX / 2)
		extension = name + strlen(name);
	rest = strlen(extension);
	stem = (size_t)(extension - name);
	most = NAME_MAX - added - rest;
	if (stem > most)
		for (stem = most; stem > 0 && ((unsigned char)name[stem] & 0xc0) == 0x80;)
			stem--;
	memcpy(out, name, stem);
	memcpy(out + stem, suffix, added);
	memcpy(out + stem + added, extension, rest + 1);
}
