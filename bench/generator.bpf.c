// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mirrored traffic at a steady rate. The kernel runs this program over frames of its own without end
 * (BPF_F_TEST_XDP_LIVE_FRAMES) and sends what the program redirects. A frame comes back as the gateway left it, so all
 * headers are written on each pass. Until a datagram is due, frames are dropped, which returns them at once.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "traffic.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct pacer);
} pacer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} wire SEC(".maps");

/* Without a rate, looking at the clock each time would lower it. */
#define CLOCK_EVERY 64

static __always_inline int is_due(struct pacer *pacer)
{
	__u64 now;

	if (!pacer->interval && pacer->sent % CLOCK_EVERY)
		return 1;
	now = bpf_ktime_get_ns();
	if (!pacer->sent) {
		pacer->first = now;
		pacer->due = now << 10;
	}
	if (pacer->interval) {
		__u64 earliest = (now - LONGEST_BURST_NS) << 10;

		if (pacer->due > now << 10)
			return 0;
		if (pacer->due < earliest)
			pacer->due = earliest;
		pacer->due += pacer->interval;
	}
	pacer->last = now;
	return 1;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 only = 0, number;
	struct pacer *at = bpf_map_lookup_elem(&pacer, &only);
	struct mirrored *frame = data;
	__u64 *to = data;

	if (!at || data + sizeof(at->headers) + 4 > end)
		return XDP_ABORTED;
	if (!is_due(at))
		return XDP_DROP;
	number = at->number++;
	at->sent++;
#pragma unroll
	for (__u32 i = 0; i < sizeof(at->headers) / sizeof(__u64) + 1; i++)
		to[i] = ((const __u64 *)&at->headers)[i];
	make_datagram(frame, at, number);
	return bpf_redirect_map(&wire, 0, XDP_ABORTED);
}

char LICENSE[] SEC("license") = "GPL";
