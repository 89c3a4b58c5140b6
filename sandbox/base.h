/*
 * base: the ground floor. Errors as values, cleanup on scope exit, whole reads and writes, and the
 * one way in which foreign text is made safe to print.
 *
 * In: nothing of the project. Out: helpers every room uses. libc only; never logs, never exits.
 */
#ifndef SANDBOX_BASE_H
#define SANDBOX_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

/*
 * An error as text, owned by the caller, so that the error path never allocates. `code` is a
 * negative errno; `text` one line without a newline. Valid only after a function returned a
 * negative number.
 */
struct err {
	int code;
	char text[512];
};

/* Fills `err` (may be NULL) and returns `code`, so that a caller writes `return err_set(err,
 * -EPROTO, …)`. */
int err_set(struct err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* As err_set, with ": <text of errno>" appended; returns -errno of the moment of the call. */
int err_errno(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts "<context>: " before the text that is there; returns err->code. */
int err_wrap(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `cleanup(fn)` runs fn(&variable) at the end of the scope; steal_* takes the value out before
 * that. */
#define cleanup(fn) __attribute__((cleanup(fn)))
#define DEFINE_CLEANUP(type, fn)                                                                   \
	static inline void fn##_p(type *variable)                                                  \
	{                                                                                          \
		if (*variable)                                                                     \
			fn(*variable);                                                             \
	}

void close_fd(
	int *fd); /* for cleanup(close_fd) int fd = -1; closes when >= 0, sets -1, keeps errno */
void free_ptr(void *ptr);   /* for cleanup(free_ptr) char *s = NULL; */
int steal_fd(int *fd);	    /* returns *fd and leaves -1 behind */
void *steal_ptr(void *ptr); /* returns *(void **)ptr and leaves NULL behind */

/* Reads or writes exactly `size` bytes, across EINTR. Returns 0, -EPIPE at an early end of file, or
 * -errno. */
int read_full(int fd, void *data, size_t size);
int write_full(int fd, const void *data, size_t size);
/*
 * Reads a whole file of at most `limit` bytes into a fresh, NUL-terminated buffer (caller frees).
 * Returns 0, or a negative errno: -EFBIG past the limit.
 */
int read_file(int dirfd, const char *path, size_t limit, char **ret_data, size_t *ret_size,
	      struct err *err);
/* Creates `path` new (O_EXCL) with `mode` and writes `size` bytes. Returns 0 or a negative errno.
 */
int write_new_file(int dirfd, const char *path, mode_t mode, const void *data, size_t size,
		   struct err *err);

/*
 * Writes `text` of `size` bytes into `out` as printable ASCII plus well-formed printable UTF-8:
 * control characters, bidirectional and zero-width marks, backslashes and malformed bytes become
 * \n, \t, \\ or \xHH. Cut with "..." when it does not fit. Always terminates. Returns `out`.
 */
const char *escape_text(char *out, size_t out_size, const void *text, size_t size);
/* The same for a string. */
const char *escape_string(char *out, size_t out_size, const char *text);
/* The same for a line in which names may be escaped already: backslashes stay as they are. */
const char *escape_line(char *out, size_t out_size, const char *text);

/* Joins with exactly one "/" between. Returns a fresh string (caller frees) or NULL when out of
 * memory. */
char *path_join(const char *directory, const char *name);
/* asprintf that returns the fresh string, or NULL when out of memory. */
char *format_string(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* mkdir -p; every missing directory gets `mode`. Returns 0 or a negative errno. */
int make_directories(const char *path, mode_t mode, struct err *err);

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t now_ms(void);

/* `size` random bytes from getrandom(2). Returns 0 or a negative errno. */
int random_bytes(void *data, size_t size);
/* 2*size lower-case hex digits of random and a NUL into `out`. Returns 0 or a negative errno. */
int random_hex(char *out, size_t size);

/*
 * The number of a decimal string, nothing else in it. Returns 0, or -EINVAL/-ERANGE with ret_value
 * untouched.
 */
int parse_u64(const char *text, uint64_t max, uint64_t *ret_value);

#endif
