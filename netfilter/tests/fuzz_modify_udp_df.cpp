// SPDX-License-Identifier: Apache-2.0
//
// The legacy program on any packet, or (-DCOMMAND_LINES) on any command line. It reads nothing beyond a packet and changes
// it exactly as the rule says; it takes the numbers that were written, and refuses the rest in one line that names them.

#include <cstdlib> // before exit is another's
#include <fstream>
#include <string>

#include "../../bpf/tests/fuzz.h"

namespace
{
struct Exit {
	int code;
};

[[noreturn]] void fuzz_exit(int code)
{
	throw Exit{ code };
}
} // namespace

#define exit(code) fuzz_exit(code)
#define main legacy_main // and thus one that would have to return something
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wreturn-type"
#include "../modify_udp_df.cpp"
#pragma clang diagnostic pop
#undef exit
#undef main

namespace
{

#ifdef COMMAND_LINES

constexpr unsigned kDefaults[] = { 0, 31765, 1400, 9000 };
unsigned expected_values[4];

bool take_expected(int option, const char *value)
{
	static const struct {
		unsigned min, max;
	} bounds[] = { { 0, 65535 }, { 1, 65535 }, { 28, 9001 }, { 28, 9001 } };

	return is_number(value, bounds[option].min, bounds[option].max, &expected_values[option]);
}

void run(const uint8_t *input, size_t size)
{
	line given = {};
	add_argument(&given, "modify_udp_df", strlen("modify_udp_df"));
	add_arguments(&given, input, size);
	memcpy(expected_values, kDefaults, sizeof kDefaults);
	expected wanted = walk(&given, 1, kOptions, take_expected);
	if (wanted.outcome == ACCEPTED && expected_values[2] >= expected_values[3])
		wanted.outcome = REFUSED;

	// A process parses once: no state the program was written for is left behind.
	memcpy(values, kDefaults, sizeof kDefaults);
	optind = 0;
	line permuted = given;
	outcome got = ACCEPTED;
	listen_to(true);
	try {
		parse(permuted.argc, permuted.argv);
	} catch (const Exit &end) {
		got = end.code == EXIT_SUCCESS ? HELPED : REFUSED;
	}
	listen_to(false);

	expect(got == wanted.outcome, "the outcome that the rules of the command line give");
	if (got == REFUSED)
		expect_refusal(&given, wanted, kOptions);
	if (got == ACCEPTED) {
		expect(!*said, "nothing to be said about a line that is accepted");
		expect(!memcmp(values, expected_values, sizeof values), "the settings that were given");
	}
	free_arguments(&given);
}

#else

void run(const uint8_t *input, size_t size)
{
	if (size < RULE_SIZE)
		return;
	const rule settings = rule_of(input);
	const uint8_t *before = input + RULE_SIZE;
	size -= RULE_SIZE;
	// Exactly as long as the packet: one byte beyond it belongs to nobody.
	auto *packet = static_cast<unsigned char *>(copy_of(before, size));
	values[1] = settings.port;
	values[2] = settings.min;
	values[3] = settings.max;
	modified = malformed = 0;
	const kind what = kind_of(before, size, settings);
	bool changed = process(packet, size);

	expect(changed == (what == MATCH), "a match with DF, and nothing else, to be changed");
	expect(modified == changed, "what is changed, and nothing else, to be counted");
	expect(malformed == (what == MALFORMED), "what is malformed, and nothing else, to be counted");
	if (changed)
		expect_cleared(before, packet, size, 0);
	else
		expect(!memcmp(before, packet, size), "a packet that is not changed to stay as it was");
	free(packet);
}

#endif

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	run(input, size);
	return 0;
}
