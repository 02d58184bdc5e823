// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

#include "journal.h"

/* Compares device:inode of what systemd has connected (JOURNAL_STREAM: systemd.exec(5)); a redirected stderr is another file. */
static bool stderr_is_the_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat file;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && !fstat(STDERR_FILENO, &file) &&
	       file.st_dev == device && file.st_ino == inode;
}

static struct iovec field(char *buffer, size_t size, const char *name, const char *value)
{
	return (struct iovec){ buffer, snprintf(buffer, size, "%s=%s", name, value) };
}

void journal(int priority, const struct journal_field *fields, int count, const char *format, ...)
{
	static char text[1024], message[sizeof(text) + 16], others[JOURNAL_FIELDS][80];
	struct iovec all[JOURNAL_FIELDS + 2];
	char level[sizeof("PRIORITY=0")];
	va_list values;

	va_start(values, format);
	vsnprintf(text, sizeof(text), format, values);
	va_end(values);
	if (!stderr_is_the_journal()) {
		fprintf(stderr, "%s\n", text);
		return;
	}
	if (count > JOURNAL_FIELDS)
		count = JOURNAL_FIELDS;
	for (int i = 0; i < count; i++)
		all[i] = field(others[i], sizeof(others[i]), fields[i].name, fields[i].value);
	all[count] = field(message, sizeof(message), "MESSAGE", text);
	all[count + 1] = field(level, sizeof(level), "PRIORITY", (char[]){ '0' + priority, '\0' });
	sd_journal_sendv(all, count + 2);
}
