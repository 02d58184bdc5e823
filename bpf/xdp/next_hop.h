/* SPDX-License-Identifier: GPL-2.0-only */
/* Finds the next hop as the kernel would forward a datagram that came in by br0. */
#ifndef XDP_NEXT_HOP_H
#define XDP_NEXT_HOP_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "frame.h"
#include "scratch.h"
#include "tx.h"

#define AF_INET 2  /* sys/socket.h is no header for BPF */
#define MIN_MTU 68 /* RFC 791: with the longest header, it leaves room for 8 bytes */

/* Asks the kernel's routes and neighbours. Returns PASS_NONE with `hop` filled, or why not. */
static __always_inline enum pass_reason ask_fib(
	struct xdp_md *ctx, const struct iphdr *ip, const struct direct_config *rules, struct next_hop *hop)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_UDP,
		.tos = ip->tos,
		.ipv4_src = ip->saddr,
		.ipv4_dst = rules->ipsec_vm_ip,
		.ifindex = rules->bridge_ifindex,
		.tot_len = 1, /* less than any MTU; the answer, since Linux 5.12, stands in the same place */
	};

	switch (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		break;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return PASS_NO_NEIGHBOUR;
	default:
		return PASS_NO_ROUTE;
	}
	if (fib.ifindex != rules->bridge_ifindex || is_group_mac(fib.dmac))
		return PASS_NO_ROUTE;
	copy_mac(hop->dest_mac, fib.dmac);
	copy_mac(hop->source_mac, fib.smac);
	hop->mtu = fib.tot_len > 1 ? fib.tot_len : rules->egress_mtu;
	return hop->mtu < MIN_MTU ? PASS_NO_ROUTE : PASS_NONE;
}

/*
 * Keeps an answer until the next tick of the kernel's clock, ten milliseconds at most: asking costs more than all the rest.
 * It is another one for another TOS, but not for another source: the rules that hosts have about sources are about their own.
 */
static __always_inline enum pass_reason lookup_next_hop(
	struct xdp_md *ctx, const struct frame *frame, const struct direct_config *rules, struct next_hop *hop)
{
	const struct iphdr *ip = frame->datagram.ip;
	const struct bpf_devmap_val *egress;
	__u64 now = bpf_jiffies64();
	enum pass_reason reason;
	__u32 only = 0;

	/*
	 * The kernel empties the entry of an interface that is gone. Asked by the redirect that a single frame needs anyway:
	 * it is only noted, and another may follow it.
	 */
	if (bpf_redirect_map(&tx_single, 0, XDP_PASS) != XDP_REDIRECT)
		return PASS_NO_EGRESS;
	if (hop->tick == now && hop->tos == ip->tos && hop->destination == rules->ipsec_vm_ip &&
		hop->bridge_ifindex == rules->bridge_ifindex && hop->egress_ifindex == rules->egress_ifindex)
		return PASS_NONE;
	hop->tick = 0;
	egress = bpf_map_lookup_elem(&tx_single, &only);
	if (!egress || egress->ifindex != rules->egress_ifindex)
		return PASS_NO_EGRESS;
	reason = ask_fib(ctx, ip, rules, hop);
	if (reason != PASS_NONE)
		return reason;
	hop->tick = now;
	hop->tos = ip->tos;
	hop->destination = rules->ipsec_vm_ip;
	hop->bridge_ifindex = rules->bridge_ifindex;
	hop->egress_ifindex = rules->egress_ifindex;
	return PASS_NONE;
}

#endif
