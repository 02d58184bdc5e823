/* SPDX-License-Identifier: GPL-2.0-only */
/* Rewrites a datagram for its next hop: DNAT, TTL, MAC addresses, decapsulation. */
#ifndef XDP_REWRITE_H
#define XDP_REWRITE_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "checksum.h"
#include "frame.h"

static __always_inline void set_macs(struct frame *frame, const void *dest, const void *source)
{
	copy_mac(frame->inner->h_dest, dest);
	copy_mac(frame->inner->h_source, source);
}

/*
 * Translates address and port. UDP's checksum covers the addresses; zero is none (RFC 768), and stays it. `extra_diff` is what
 * else changes in the IP header.
 */
static __always_inline void dnat(const struct frame *frame, const struct direct_config *rules, __u32 extra_diff)
{
	struct iphdr *ip = frame->datagram.ip;
	struct udphdr *udp = frame->datagram.udp;
	__u32 diff = checksum_diff_address(ip->daddr, rules->ipsec_vm_ip);

	if (udp->check) {
		udp->check = checksum_update(udp->check, diff + checksum_diff(udp->dest, rules->ipsec_vm_port));
		if (!udp->check)
			udp->check = 0xffff;
	}
	udp->dest = rules->ipsec_vm_port;
	ip->check = checksum_update(ip->check, diff + frame->id_diff + extra_diff);
	ip->daddr = rules->ipsec_vm_ip;
}

/* Returns the checksum diff. */
static __always_inline __u32 decrement_ttl(struct iphdr *ip)
{
	__u16 *ttl_and_protocol = (__u16 *)&ip->ttl;
	__u16 old = *ttl_and_protocol;

	*ttl_and_protocol = old - bpf_htons(0x0100);
	return checksum_diff(old, *ttl_and_protocol);
}

/* Takes off what is behind the datagram, and what is before the inner frame but `keep` bytes of it. */
static __always_inline int decapsulate(struct xdp_md *ctx, const struct frame *frame, __u32 keep)
{
	__u32 behind = trailer_size(frame);

	if (bpf_xdp_adjust_head(ctx, OUTER_HEADERS - keep))
		return 0;
	return !behind || !bpf_xdp_adjust_tail(ctx, -(int)behind);
}

#endif
