/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fragments in driver mode, where each copy of a frame is a frame of its own: the first program sends copies with metadata in
 * front, the second one (cut_fragment) makes the n-th copy the n-th fragment.
 */
#ifndef XDP_FRAGMENTS_IN_COPIES_H
#define XDP_FRAGMENTS_IN_COPIES_H

#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "fragments.h"
#include "frame.h"
#include "rewrite.h"
#include "scratch.h"
#include "tx.h"

static __always_inline int send_copies(struct xdp_md *ctx, struct frame *frame, const struct direct_config *rules,
	__u32 fragments, struct scratch *scratch, struct direct_stats *count)
{
	__u32 size = sizeof(struct frag_meta) + (frame->options_size ? MAX_OPTIONS : 0);
	struct frag_meta *meta = (void *)frame->inner - sizeof(*meta);
	const struct next_hop *hop = &scratch->next_hop;

	dnat(frame, rules, decrement_ttl(frame->datagram.ip));
	set_macs(frame, hop->dest_mac, hop->source_mac);
	if (frame->options_size) {
		meta = (void *)frame->inner - MAX_OPTIONS - sizeof(*meta);
		__builtin_memcpy(meta + 1, scratch->options.later, MAX_OPTIONS);
	}
	meta->mark = frame->options_size ? FRAG_META_WITH_OPTIONS : FRAG_META;
	meta->fragments = fragments;
	meta->payload = hop->mtu - sizeof(struct iphdr) - frame->options_size;
	meta->sequence = ++scratch->sequence;
	meta->options_diff = frame->options_diff;
	if (!decapsulate(ctx, frame, size))
		return drop_failed(count);
	count->sent_cut++;
	count->fragments_due += fragments;
	return redirect_copies(fragments);
}

/* Writes the headers, and of the options as many words, where the frame begins now. Returns 0 if it is too short. */
static __always_inline int write_headers(struct xdp_md *ctx, const struct headers *headers, __u32 words)
{
	struct headers *to = (void *)(long)ctx->data - PADDING;
	const void *end = (void *)(long)ctx->data_end;

	if ((void *)&to->options > end)
		return 0;
	__builtin_memcpy(to->ethernet, headers->ethernet, sizeof(headers->ethernet));
	to->ip = headers->ip;
#pragma nounroll
	for (__u32 i = 0; i < MAX_OPTIONS / 4; i++) {
		if (i >= words)
			break;
		if ((void *)&to->options[i + 1] > end)
			return 0;
		to->options[i] = headers->options[i];
	}
	return 1;
}

#endif
