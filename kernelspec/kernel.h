/*
 * kernel: `cellwall kernel`, what a kernelspec runs. From argv, connection file, policy and folder
 * to a plan.
 */
#ifndef KERNELSPEC_KERNEL_H
#define KERNELSPEC_KERNEL_H

/* Exit codes: session.h's; EXIT_USAGE for wrong arguments, a bad connection file or a bad policy.
 */
#define EXIT_USAGE 2
int verb_kernel(int argc, char **argv);

#endif
