// SPDX-License-Identifier: Apache-2.0
/*
 * The loader's parser, on any command line behind a verb: what it accepts is within the bounds it documents and is the
 * number that was written; what it refuses it refuses in one line that names the culprit. No verb ever acts.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <linux/if_ether.h>
#include <setjmp.h>

#include "fuzz.h"

static jmp_buf at_exit;

__attribute__((noreturn)) static void fuzz_exit(int code)
{
	expect(code == EXIT_FAILURE, "the exit status of a refusal");
	longjmp(at_exit, REFUSED);
}

#define exit(code) fuzz_exit(code)
#include "../loader/options.c"
#undef exit

static struct options parsed;
static union config expected_config;
static __u32 expected_mode;

/* Four numbers of up to three digits, none of them with a zero in front. */
static bool is_address(const char *text)
{
	unsigned parts[4];
	char again[16];

	if (sscanf(text, "%3u.%3u.%3u.%3u", &parts[0], &parts[1], &parts[2], &parts[3]) != 4)
		return false;
	snprintf(again, sizeof(again), "%u.%u.%u.%u", parts[0], parts[1], parts[2], parts[3]);
	return !strcmp(text, again) && parts[0] < 256 && parts[1] < 256 && parts[2] < 256 && parts[3] < 256;
}

/* Six pairs of hexadecimal digits; the first pair is even. */
static bool is_host_mac(const char *text)
{
	for (int i = 0; i < 17; i++)
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
			return false;
	return !text[17] && strchr("02468aceACE", text[1]);
}

static bool take_expected(int option, const char *value)
{
	__u32 ignored;

	if ((size_t)option < COUNT(settings))
		return is_number(value, settings[option].min, settings[option].max, &expected_config.values[option]);
	switch (long_options[option].val) {
	case ENGINE:
		return !strcmp(value, "bridge") || !strcmp(value, "direct");
	case VNI:
		return is_number(value, 1, 16777215, &ignored);
	case EGRESS_MTU:
		return is_number(value, 576, 9001, &ignored);
	case IPSEC_VM_PORT:
		return is_number(value, 1, 65535, &ignored);
	case IPSEC_VM_IP:
		return is_address(value);
	case HANDOVER_MAC:
		return is_host_mac(value);
	case MODE:
		break;
	default:
		return true;
	}
	expected_mode = strcmp(value, "driver") ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE; /* the last one given wins */
	return !strcmp(value, "generic") || !strcmp(value, "driver");
}

#define LONGEST_COPIED 8500 /* bytes of a frame, by a mirror session: CreateTrafficMirrorSession */

/* Rules that no datagram can meet are refused. */
static bool something_matches(const struct gateway_config *rules)
{
	return rules->min_packet_size < rules->max_packet_size && rules->min_packet_size < LONGEST_COPIED - ETH_HLEN;
}

/* A process parses once: what the last input left behind is no state the loader was written for. */
static void forget(void)
{
	static char *nothing[] = { "", NULL };

	optind = 0;
	getopt(1, nothing, "");
}

static enum outcome parse(struct line *line)
{
	volatile int outcome;

	listen_to(true);
	outcome = setjmp(at_exit);
	if (!outcome && !parse_options(line->argc, line->argv, &parsed))
		outcome = HELPED;
	else if (!outcome)
		check_config(&parsed.config);
	listen_to(false);
	return outcome;
}

/* Numbers are printed as they are understood, once each. */
static void expect_printed(const union config *config)
{
	char printed[64];

	listen_to(true);
	print_config(config);
	listen_to(false);
	for (size_t i = 0; i < COUNT(settings); i++) {
		snprintf(printed, sizeof(printed), "\"%s\":%u", settings[i].key, config->values[i]);
		expect(strstr(said, printed), "each setting to be printed as the number it is");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct line line = { 0 }, permuted;
	struct expected expected;
	enum outcome outcome;

	add_argument(&line, "loader", strlen("loader"));
	add_argument(&line, "config", strlen("config"));
	add_arguments(&line, input, size);
	for (size_t i = 0; i < COUNT(settings); i++)
		expected_config.values[i] = settings[i].initial;
	expected_mode = XDP_FLAGS_SKB_MODE;
	expected = walk(&line, 2, long_options, take_expected);
	if (expected.outcome == ACCEPTED && !something_matches(&expected_config.fields))
		expected.outcome = REFUSED;

	forget();
	permuted = line;
	outcome = parse(&permuted);
	expect(outcome == expected.outcome, "the outcome that the rules of the command line give");
	if (outcome == REFUSED) {
		expect_refusal(&line, expected, long_options);
		expect(expected.culprit || strstr(said, "--min-packet-size"), "the setting that lets nothing match");
	}
	if (outcome == ACCEPTED) {
		expect(!*said, "nothing to be said about a line that is accepted");
		expect(!memcmp(&parsed.config, &expected_config, sizeof(expected_config)),
			"the settings that were given");
		expect(parsed.mode == expected_mode, "the mode that was given last");
		expect_printed(&parsed.config);
	}
	free_arguments(&line);
	return 0;
}
