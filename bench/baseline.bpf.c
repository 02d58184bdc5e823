// SPDX-License-Identifier: GPL-2.0-only
/* The least that a gateway in the driver must do: takes the outer headers off, and sends the rest on by another interface. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "traffic.h"

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} wire SEC(".maps");

SEC("xdp")
int baseline(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_head(ctx, OUTER_HEADERS))
		return XDP_DROP;
	return bpf_redirect_map(&wire, 0, XDP_DROP);
}

char LICENSE[] SEC("license") = "GPL";
