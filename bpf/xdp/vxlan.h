/* SPDX-License-Identifier: GPL-2.0-only */
/* Looks at what is around a mirrored frame: whether it is VXLAN to us, of our network, from where it claims to be. */
#ifndef XDP_VXLAN_H
#define XDP_VXLAN_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "checksum.h"
#include "frame.h"
#include "scratch.h"

#define VXLAN_PORT 4789
#define IP_ECN 3 /* the bits of TOS that a tunnel's end must merge with the inner header's */

/*
 * Accepts what the kernel's IP, UDP and VXLAN would take for us without a second thought. The UDP checksum is looked at last:
 * mirror sessions send none.
 */
static __always_inline int is_mirrored(struct frame *frame, const struct direct_config *rules)
{
	const struct ethhdr *eth = frame->data;
	const struct iphdr *ip = (const void *)(eth + 1);
	const struct udphdr *udp = (const void *)(ip + 1);
	const void *inner = (const void *)(udp + 1) + sizeof(struct vxlan_header);
	__u32 packet, length;

	if (inner + sizeof(struct ethhdr) > frame->end)
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || !is_same_mac(eth->h_dest, rules->primary_mac))
		return 0;
	if (*(const __u8 *)ip != 0x45 || ip->protocol != IPPROTO_UDP || ip->daddr != rules->primary_ip)
		return 0;
	if (udp->dest != bpf_htons(VXLAN_PORT) || is_fragment(ip) || ip->tos & IP_ECN)
		return 0;
	if (is_no_source(ip->saddr, rules) || ipv4_header_sum(ip) != 0xffff)
		return 0;
	packet = bpf_ntohs(ip->tot_len);
	length = bpf_ntohs(udp->len);
	if (packet > frame->end - (const void *)ip || length + sizeof(*ip) > packet)
		return 0;
	if (length < sizeof(*udp) + sizeof(struct vxlan_header) + sizeof(struct ethhdr))
		return 0;
	frame->inner = (struct ethhdr *)inner;
	frame->length = length - sizeof(*udp) - sizeof(struct vxlan_header);
	return 1;
}

/* Refuses whatever it does not know, as the kernel's VXLAN does: only the I flag, and nothing beside the VNI. */
static __always_inline int is_our_vni(const struct frame *frame, const struct direct_config *rules)
{
	const struct vxlan_header *vxlan = (const void *)frame->inner - sizeof(*vxlan);

	return vxlan->flags == bpf_htonl(0x08000000) && vxlan->vni == bpf_htonl(rules->vni << 8);
}

/* Recognizes frames from the address that tells netfilter that a frame is ours. */
static __always_inline int is_spoofed(const struct frame *frame, const struct direct_config *rules)
{
	const struct ethhdr *eth = frame->data;
	const __u16 *secret = rules->handover_mac;

	if ((const void *)(eth + 1) > frame->end || !(secret[0] | secret[1] | secret[2]))
		return 0;
	return is_same_mac(eth->h_source, secret);
}

/* Accepts an Ethernet frame without a tag, from one host to another. */
static __always_inline int is_plain_ipv4(const struct ethhdr *eth)
{
	const __u16 *source = (const __u16 *)eth->h_source;

	if (eth->h_proto != bpf_htons(ETH_P_IP) || is_group_mac(eth->h_dest) || is_group_mac(eth->h_source))
		return 0;
	return source[0] | source[1] | source[2];
}

/* What bpf_csum_diff() takes at once before Linux 6.13. */
#define CHUNK 512
#define MAX_MTU 9216

/* Adds that many bytes, a constant for the verifier, if as many are left. */
static __always_inline void add_chunk(
	volatile struct checksum_progress *progress, const void *datagram, const void *end, const __u32 size)
{
	const void *chunk = datagram + (progress->at & 0x3fff);

	if (progress->left < size || chunk + size > end)
		return;
	progress->sum = bpf_csum_diff(NULL, 0, (__be32 *)chunk, size, progress->sum);
	progress->at += size;
	progress->left -= size;
}

/*
 * Returns whether the outer datagram sums up to its UDP checksum. A function of its own, as few packets have one; not static,
 * for the same reason as read_options().
 */
__noinline int is_outer_checksum_right(struct xdp_md *ctx)
{
	const struct iphdr *ip = (void *)(long)ctx->data + sizeof(struct ethhdr);
	const struct udphdr *udp = (const void *)(ip + 1);
	const void *end = (void *)(long)ctx->data_end;
	__u32 only = 0, length, sum;
	struct scratch *scratch = bpf_map_lookup_elem(&cpu_scratch, &only);
	volatile struct checksum_progress *progress;
	const __u8 *last;

	if (!scratch || (const void *)(udp + 1) > end)
		return 0;
	length = bpf_ntohs(udp->len);
	progress = &scratch->checksum;
	progress->at = 0;
	progress->left = length;
	progress->sum = 0;
#pragma nounroll
	for (int chunks = 0; chunks < MAX_MTU / CHUNK; chunks++)
		add_chunk(progress, udp, end, CHUNK);
	add_chunk(progress, udp, end, 256);
	add_chunk(progress, udp, end, 128);
	add_chunk(progress, udp, end, 64);
	add_chunk(progress, udp, end, 32);
	add_chunk(progress, udp, end, 16);
	add_chunk(progress, udp, end, 8);
	add_chunk(progress, udp, end, 4);
	sum = fold(progress->sum);
	/* The pseudo header of RFC 768. */
	sum += (ip->saddr & 0xffff) + (ip->saddr >> 16) + (ip->daddr & 0xffff) + (ip->daddr >> 16);
	sum += bpf_htons(IPPROTO_UDP) + bpf_htons(length);
#pragma nounroll
	for (__u32 odd = 0; odd < 3; odd++) {
		last = (const void *)udp + (progress->at & 0x3fff);
		if (!progress->left || last + 1 > (const __u8 *)end)
			break;
		sum += bpf_htons(*last << (odd % 2 ? 0 : 8));
		progress->at++;
		progress->left--;
	}
	return !progress->left && fold(sum) == 0xffff;
}

#endif
