/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the fuzz targets measure the programs by, in C and in C++: the rule for a packet and the rules of a command line,
 * both written from their texts and not from the code that is tested.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the process as a finding: libFuzzer writes the input that led here to its artifacts. */
static inline void expect(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "fuzz: expected %s\n", what);
	abort();
}

/* ---- packets: an input is the settings, then the packet ---- */

#define RULE_SIZE 7

struct rule {
	unsigned port, min, max, percent;
};

static inline unsigned word_at(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

/* Half of all inputs take every flow or none, where the outcome is known without the flow's hash. */
static inline struct rule rule_of(const uint8_t *input)
{
	static const uint8_t shares[] = { 100, 0 };
	struct rule rule = { word_at(input), word_at(input + 2), word_at(input + 4), input[6] };

	rule.percent = rule.percent & 128 ? rule.percent % 101 : shares[rule.percent % 2];
	return rule;
}

enum kind { MALFORMED, NOT_UDP, FRAGMENT, OTHER, WITHOUT_DF, MATCH };

/* What an IP packet is, and thus what becomes of it: only a match may change. */
static inline enum kind kind_of(const uint8_t *ip, size_t size, struct rule rule)
{
	size_t header, total;

	if (size < 20 || ip[0] >> 4 != 4)
		return MALFORMED;
	header = 4 * (ip[0] & 15);
	total = word_at(ip + 2);
	if (header < 20 || total < header || total > size)
		return MALFORMED;
	if (ip[9] != 17)
		return NOT_UDP;
	if (word_at(ip + 6) & 0x3fff)
		return FRAGMENT;
	if (total - header < 8 || word_at(ip + header + 4) < 8 || word_at(ip + header + 4) > total - header)
		return MALFORMED;
	if (word_at(ip + header + 2) != rule.port || total <= rule.min || total > rule.max)
		return OTHER;
	return word_at(ip + 6) & 0x4000 ? MATCH : WITHOUT_DF;
}

/* The flag is gone, the sum over the header is what it was, and no other bit changed. */
static inline void expect_cleared(const uint8_t *before, const uint8_t *after, size_t size, size_t ip)
{
	unsigned flags = word_at(after + ip + 6), check = word_at(after + ip + 10);

	expect(flags == (word_at(before + ip + 6) & ~0x4000u), "DF to be cleared and no other flag");
	expect((flags + check) % 0xffff == (word_at(before + ip + 6) + word_at(before + ip + 10)) % 0xffff,
		"the one's complement sum of the header to stay");
	expect(check != 0xffff, "the zero of RFC 1624, 0x0000");
	expect(!memcmp(before, after, ip + 6) && !memcmp(before + ip + 8, after + ip + 8, 2) &&
			!memcmp(before + ip + 12, after + ip + 12, size - ip - 12),
		"nothing but flags and checksum to change");
}

static inline void *copy_of(const void *bytes, size_t size)
{
	void *copy = malloc(size);

	if (!copy)
		abort();
	return size ? memcpy(copy, bytes, size) : copy;
}

/* ---- command lines: an input is the arguments, one a line ---- */

#define MAX_ARGUMENTS 64

/* Each string is a heap block of its own, so that a read beyond its end is seen. */
struct line {
	int argc;
	char *argv[MAX_ARGUMENTS + 1];
};

static inline void add_argument(struct line *line, const void *text, size_t length)
{
	char *copy = (char *)malloc(length + 1);

	if (!copy)
		abort();
	memcpy(copy, text, length);
	copy[length] = '\0';
	line->argv[line->argc++] = copy;
	line->argv[line->argc] = NULL;
}

/* A NUL ends an argument too: no process can be given one. */
static inline void add_arguments(struct line *line, const uint8_t *input, size_t size)
{
	size_t start = 0;

	for (size_t at = 0; at <= size && line->argc < MAX_ARGUMENTS; at++) {
		if (at < size && input[at] && input[at] != '\n')
			continue;
		if (at > start || at < size)
			add_argument(line, at > start ? (const char *)input + start : "", at - start);
		start = at + 1;
	}
}

static inline void free_arguments(struct line *line)
{
	while (line->argc)
		free(line->argv[--line->argc]);
}

/* Whatever its length, a text of digits only is a number. Returns false unless it is one from min to max. */
static inline bool is_number(const char *text, unsigned min, unsigned max, unsigned *number)
{
	unsigned long value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value > max ? value : value * 10 + (*text - '0');
	}
	*number = value;
	return min <= value && value <= max;
}

#define NO_OPTION (-1)
#define SEVERAL (-2)

/* The option that is meant: its whole name, or a beginning that no other shares. */
static inline int option_meant(const struct option *options, const char *name, size_t length)
{
	int meant = NO_OPTION;

	for (int i = 0; options[i].name; i++) {
		if (strncmp(options[i].name, name, length))
			continue;
		if (strlen(options[i].name) == length)
			return i;
		meant = meant == NO_OPTION ? i : SEVERAL;
	}
	return meant;
}

enum outcome { ACCEPTED, HELPED, REFUSED };

/* What a command line must come to, and which of its arguments is the first wrong one. */
struct expected {
	enum outcome outcome;
	int culprit; /* 0: none alone */
	int option;  /* the culprit's, or negative */
};

/*
 * Walks the arguments from `first` on as the manual of getopt_long has it: a value stands behind = or in the next
 * argument, -- ends the options, other arguments may stand anywhere and are complained about last. take() is told
 * each option with its value, and returns false if it must be refused.
 */
static inline struct expected walk(
	const struct line *line, int first, const struct option *options, bool (*take)(int option, const char *value))
{
	struct expected wrong = { REFUSED, 0, NO_OPTION };
	int stray = 0;

	for (int i = first; i < line->argc; i++) {
		const char *argument = line->argv[i], *value = strchr(argument, '=');
		size_t length = value ? (size_t)(value - argument) : strlen(argument);

		if (argument[0] != '-' || !argument[1]) {
			stray = stray ? stray : i;
			continue;
		}
		if (!strcmp(argument, "--")) {
			if (!stray && i + 1 < line->argc)
				stray = i + 1;
			break;
		}
		wrong.culprit = i;
		wrong.option = argument[1] == '-' ? option_meant(options, argument + 2, length - 2) : NO_OPTION;
		if (wrong.option < 0)
			return wrong;
		if (options[wrong.option].has_arg == no_argument) {
			if (value)
				return wrong;
			wrong.outcome = HELPED;
			wrong.culprit = 0;
			return wrong;
		}
		if (!value && i + 1 == line->argc)
			return wrong;
		if (!take(wrong.option, value ? value + 1 : line->argv[++i]))
			return wrong;
	}
	wrong.outcome = stray ? REFUSED : ACCEPTED;
	wrong.culprit = stray;
	wrong.option = NO_OPTION;
	return wrong;
}

/* While it listens, what the program writes to its streams is kept here, and libFuzzer's own lines are not. */
static char said[1 << 16];
static FILE *streams[2];

static inline void listen_to(bool program)
{
	static FILE *ear;

	if (!ear && !(ear = fmemopen(said, sizeof(said), "w")))
		abort();
	if (program) {
		rewind(ear);
		streams[0] = stdout;
		streams[1] = stderr;
		stdout = stderr = ear;
	} else {
		fputc('\0', ear);
		fflush(ear);
		stdout = streams[0];
		stderr = streams[1];
	}
}

/* A refusal is one line, and names the argument as it was given, its letter, or its option as it is documented. */
static inline void expect_refusal(const struct line *line, struct expected expected, const struct option *options)
{
	const char *argument = line->argv[expected.culprit];
	const char letter[] = { *argument ? argument[1] : '\0', '\'', '\0' };
	char beginning[500]; /* a long message is cut */
	size_t length = strlen(said);

	expect(length > 1 && strchr(said, '\n') == said + length - 1, "a refusal of exactly one line");
	if (!expected.culprit)
		return;
	snprintf(beginning, sizeof(beginning), "%s", argument);
	if (strstr(said, beginning))
		return;
	if (expected.option >= 0)
		expect(strstr(said, options[expected.option].name), "the refusal to name its option");
	else
		expect(*argument == '-' && *letter != '-' && strstr(said, letter), "the refusal to name its culprit");
}

#endif
