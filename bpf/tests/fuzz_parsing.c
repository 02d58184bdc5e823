// SPDX-License-Identifier: GPL-2.0-only
/*
 * The whole XDP program, compiled for this machine, on any frame and settings: it reads nothing beyond the frame, passes
 * it, and changes it exactly as the rule says. The kernel's verifier proves the first; this also covers what clang
 * makes of the source before the verifier sees it, and follows the coverage where random packets do not come.
 */
#define _GNU_SOURCE
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "fuzz.h"

/* The context's 32 bits hold no pointer of this machine; the helpers and sections mean something to the kernel only. */
struct native_context {
	unsigned long data, data_end;
};
static void *native_lookup(void *map, const void *key);
#define xdp_md native_context
#define bpf_map_lookup_elem native_lookup
#undef SEC
#define SEC(name)

#include "../udp_df_modifier.bpf.c"

static typeof(*config.value) config_value;
static typeof(*stats.value) stats_value;

static void *native_lookup(void *map, const void *key)
{
	expect(*(const __u32 *)key == 0, "the only key that the program uses");
	return map == &config ? (void *)&config_value : (void *)&stats_value;
}

static void configure(struct gateway_config wanted)
{
	config_value = (typeof(config_value)){ .active = wanted.target_port & 1 };
	config_value.slots[config_value.active] = wanted;
}

/* Where an IP packet begins: behind at most two VLAN tags. Returns 0 if there is none. */
static size_t ip_offset(const uint8_t *frame, size_t size)
{
	for (size_t at = 12; at <= 20 && at + 2 <= size; at += 4) {
		if (word_at(frame + at) == 0x0800)
			return at + 2;
		if (word_at(frame + at) != 0x8100 && word_at(frame + at) != 0x88a8)
			return 0;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const __u64 *const modified = &stats_value.packets_modified, *const left =
									     &stats_value.packets_left_to_netfilter;

	if (size < RULE_SIZE)
		return 0;
	const struct rule rule = rule_of(input);
	const uint8_t *before = input + RULE_SIZE;
	const size_t length = size - RULE_SIZE, ip = ip_offset(before, length);
	const enum kind kind = ip ? kind_of(before + ip, length - ip, rule) : OTHER;
	/* Exactly as long as the frame: one byte beyond it belongs to nobody. */
	uint8_t *frame = copy_of(before, length);
	struct native_context context = { (unsigned long)frame, (unsigned long)(frame + length) };

	configure((struct gateway_config){ .target_port = rule.port,
		.min_packet_size = rule.min,
		.max_packet_size = rule.max,
		.traffic_percent = rule.percent });
	memset(&stats_value, 0, sizeof(stats_value));
	expect(udp_df_modifier(&context) == XDP_PASS, "every frame to pass");

	expect(stats_value.packets_seen == 1, "one frame to be counted");
	expect(stats_value.packets_malformed == (kind == MALFORMED),
		"what is malformed, and nothing else, to be counted");
	expect(stats_value.fragments_seen == (kind == FRAGMENT), "a fragment, and nothing else, to be counted");
	expect(stats_value.packets_matched == (kind >= WITHOUT_DF), "a match, with DF or without, to be counted");
	expect(*modified + *left == (kind == MATCH), "a match with DF, and nothing else, to be modified or left");
	expect(rule.percent != 100 || !*left, "all flows to be taken at 100 percent");
	expect(rule.percent != 0 || !*modified, "no flow to be taken at 0 percent");
	if (*modified) {
		expect(stats_value.bytes_processed == word_at(before + ip + 2), "the total length to be counted");
		expect_cleared(before, frame, length, ip);
	} else {
		expect(!stats_value.bytes_processed, "no bytes to be counted");
		expect(!memcmp(before, frame, length), "a frame that is not modified to stay as it was");
	}
	free(frame);
	return 0;
}
