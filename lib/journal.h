/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <syslog.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JOURNAL_FIELDS 24 /* at most, of one message */

/* A fact that goes with a message, as a field of the journal: NAME=value. */
struct journal_field {
	const char *name; /* upper-case letters and underscores: systemd.journal-fields(7) */
	char value[32];
};

/*
 * Says something once: in the journal, with its facts as fields, where systemd has connected stderr to it; as a line on
 * stderr elsewhere. Priorities are those of syslog(3).
 */
__attribute__((format(printf, 4, 5))) void journal(
	int priority, const struct journal_field *fields, int count, const char *format, ...);

#ifdef __cplusplus
}
#endif

#endif
