#include "sandbox/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SETS _LINUX_CAPABILITY_U32S_3

/* The raw calls: libcap would be one more library in a program whose list of libraries is a
 * promise. */
static int get_sets(struct __user_cap_data_struct sets[SETS])
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

	return syscall(SYS_capget, &header, sets) < 0 ? -errno : 0;
}

static uint32_t word_of(uint64_t bits, size_t index)
{
	return (uint32_t)(bits >> (32 * index));
}

/* Effective and permitted become what of `kept` is permitted now, inheritable becomes empty. */
static int reduce_sets(uint64_t kept)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[SETS] = {0};
	int r = get_sets(sets);

	if (r < 0)
		return r;
	for (size_t i = 0; i < SETS; i++) {
		sets[i].permitted &= word_of(kept, i);
		sets[i].effective = sets[i].permitted;
		sets[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

/* Needs CAP_SETPCAP. Bits that are set stay: the kernel refuses to clear a locked one. */
static int lock_securebits(struct err *err)
{
	int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);

	if (bits < 0)
		return err_errno(err, "caps: cannot read securebits");
	bits |= SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
		SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
		SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
	if (prctl(PR_SET_SECUREBITS, (unsigned long)bits, 0, 0, 0) < 0)
		return err_errno(err, "caps: cannot lock securebits");
	return 0;
}

/* Needs CAP_SETPCAP. The running kernel may know more capabilities than its headers did: ask it,
 * capabilities(7). */
static int drop_bounding(struct err *err)
{
	for (unsigned long number = 0; number < 32 * SETS; number++) {
		if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0)
			continue;
		if (errno == EINVAL && number > 0)
			return 0; /* past the last */
		return err_errno(err, "caps: cannot drop capability %lu from the bounding set",
				 number);
	}
	return 0;
}

int caps_lock(struct err *err)
{
	int r = lock_securebits(err);

	return r < 0 ? r : drop_bounding(err);
}

int caps_keep(uint64_t kept, struct err *err)
{
	struct __user_cap_data_struct sets[SETS] = {0};
	int r;

	r = get_sets(sets);
	if (r < 0)
		return err_set(err, r, "caps: cannot read capabilities");
	/*
	 * Without CAP_SETPCAP both calls are refused. What then stays in the bounding set cannot be
	 * gained: the other sets are reduced below and no_new_privs makes execve grant nothing.
	 */
	if (sets[CAP_TO_INDEX(CAP_SETPCAP)].effective & CAP_TO_MASK(CAP_SETPCAP)) {
		r = caps_lock(err);
		if (r < 0)
			return r;
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_errno(err, "caps: cannot clear the ambient set");
	r = reduce_sets(kept);
	if (r < 0)
		return err_set(err, r, "caps: cannot give up capabilities");
	r = get_sets(sets);
	if (r < 0)
		return err_set(err, r, "caps: cannot read capabilities back");
	for (size_t i = 0; i < SETS; i++) {
		if ((sets[i].effective | sets[i].permitted | sets[i].inheritable) &
		    ~word_of(kept, i))
			return err_set(err, -EPERM,
				       "caps: capabilities are left after dropping them");
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "caps: cannot set no_new_privs");
	return 0;
}

int caps_drop_all(struct err *err)
{
	return caps_keep(0, err);
}
