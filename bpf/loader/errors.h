/* SPDX-License-Identifier: Apache-2.0 */
/* Says one line, and ends the process with an exit status that tells systemd whether to try again. */
#ifndef ERRORS_H
#define ERRORS_H

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/journal.h"

/* Means that no retry heals it, so systemd does not try again (RestartPreventExitStatus): sysexits.h's EX_CONFIG. */
#define EXIT_REFUSED 78
/* Means that `run` worked, but lost what it redirected. */
#define EXIT_GIVEN_UP 79

#define say(...) journal(LOG_INFO, NULL, 0, __VA_ARGS__)
/* Leaves nothing half done: a link that is not pinned yet goes with the process. */
#define die(...) (journal(LOG_ERR, NULL, 0, __VA_ARGS__), exit(EXIT_FAILURE))
#define die_refused(...) (journal(LOG_ERR, NULL, 0, __VA_ARGS__), exit(EXIT_REFUSED))

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* Explains errno. */
static inline const char *reason(void)
{
	return errno == EPERM || errno == EACCES ? "not permitted; run as root" : strerror(errno);
}

/* Tells what the kernel says no to from what it has no memory or no time for. */
static inline bool is_final(int error)
{
	return error == EACCES || error == EINVAL || error == E2BIG || error == EOPNOTSUPP || error == EPERM ||
	       error == ERANGE || error == EEXIST;
}

/* Dies where a function of the direct engine returned an error; errno says whether a retry may heal it. */
static inline void die_on_error(const char *error)
{
	if (error && is_final(errno))
		die_refused("%s", error);
	if (error)
		die("%s", error);
}

#endif
