/*
 * verbs: the subcommands of `cellwall`. Each parses its own options
 * with argp(3) (--help included), prints to stdout what was asked and to stderr one line per
 * problem, and returns an exit code:
 *
 *   0  done    1  could not be done (said why)    2  wrong usage    3  this host cannot run a
 * kernel (doctor)
 *
 * argv[0] is "cellwall VERB".
 */
#ifndef KERNELSPEC_VERBS_H
#define KERNELSPEC_VERBS_H

#define EXIT_USAGE 2

/* What a kernelspec runs. Exit codes: those of session_run (proxy/session.h), or EXIT_USAGE for
 * wrong arguments, a bad connection file or a bad policy. */
int verb_kernel(int argc, char **argv);
int verb_install(int argc, char **argv);
int verb_list(int argc, char **argv);
int verb_remove(int argc, char **argv);
int verb_doctor(int argc, char **argv);
/* Executes the part cellwall-serve: this executable needs neither TLS nor a loop. */
int verb_serve(int argc, char **argv);
int verb_key(int argc, char **argv);
int verb_policy(int argc, char **argv);
int verb_stage(int argc, char **argv);
int verb_env(int argc, char **argv);
/* Exit code 3 of `log verify`: a log is not as it was written. */
int verb_log(int argc, char **argv);

#endif
