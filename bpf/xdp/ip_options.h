/* SPDX-License-Identifier: GPL-2.0-only */
/* Reads the IP options of a mirrored datagram: whether they may travel with it, and what later fragments have of them. */
#ifndef XDP_IP_OPTIONS_H
#define XDP_IP_OPTIONS_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "frame.h"
#include "scratch.h"

#define IP_OPTION_END 0
#define IP_OPTION_NOP 1

/* Where they lie in the frame: what is before them has one length. */
#define INNER_OPTIONS (OUTER_HEADERS + sizeof(struct ethhdr) + sizeof(struct iphdr))

/* Recognizes those that a router changes, obeys or refuses (include/uapi/linux/ip.h); all others travel with the packet. */
static __always_inline int is_for_routers(__u8 type)
{
	return type == 7 /* record route */ || type == 68 /* timestamp */ || type == 131 /* loose source route */ ||
	       type == 137 /* strict source route */ || type == 148 /* router alert */ || type == 134 /* CIPSO */;
}

/* Returns the next byte as the later fragments have it, or -1 if the kernel must see the options. */
static __always_inline int read_option_byte(volatile struct option_reader *reader, __u8 byte, __u32 size_from_here)
{
	/* The kernel would clear what is behind the end. */
	if (reader->has_ended)
		return byte ? -1 : 0;
	if (reader->is_length) {
		if (byte < 2 || byte > size_from_here + 1)
			return -1;
		reader->is_length = 0;
		reader->left = byte - 2;
	} else if (reader->left) {
		reader->left--;
	} else if (byte == IP_OPTION_END) {
		reader->has_ended = 1;
		return byte;
	} else if (byte == IP_OPTION_NOP) {
		return byte;
	} else {
		if (is_for_routers(byte))
			return -1;
		reader->is_length = 1;
		reader->is_copied = byte & 0x80;
	}
	return reader->is_copied ? byte : IP_OPTION_NOP;
}

/*
 * Checks the options and leaves in the scratch what the later fragments have: those without the "copied" bit become
 * no-operations, as in the kernel's ip_options_fragment(). Returns 0 if the kernel must see them. A function of its own,
 * because it needs registers and few packets need it; not static, so the verifier looks at it once, and not for every way that
 * leads here.
 */
__noinline int read_options(struct xdp_md *ctx, __u32 size)
{
	const __u8 *options = (void *)(long)ctx->data + INNER_OPTIONS;
	const void *end = (void *)(long)ctx->data_end;
	__u32 only = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&cpu_scratch, &only);
	volatile struct option_reader *reader;

	if (!scratch)
		return 0;
	reader = &scratch->options;
	reader->left = reader->is_length = reader->has_ended = reader->sum = reader->later_sum = 0;
#pragma nounroll
	for (__u32 at = 0; at < MAX_OPTIONS; at++) {
		__u32 shift = at % 2 ? 0 : 8;
		int later;

		if (at >= size)
			break;
		if ((const void *)(options + at + 1) > end)
			return 0;
		later = read_option_byte(reader, options[at], size - at);
		if (later < 0)
			return 0;
		reader->later[at] = later;
		reader->sum += options[at] << shift;
		reader->later_sum += later << shift;
	}
	return !reader->is_length && !reader->left;
}

#endif
