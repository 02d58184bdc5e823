/* SPDX-License-Identifier: GPL-2.0-only */
/* Updates one's complement checksums by what changes (RFC 1624), and sums up IPv4 headers (RFC 1071). */
#ifndef XDP_CHECKSUM_H
#define XDP_CHECKSUM_H

#include <linux/ip.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

/* Folds a sum of 16-bit words, as is done at the end (RFC 1071). */
static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Returns what replacing a word adds to a sum: equation 3 of RFC 1624. */
static __always_inline __u32 checksum_diff(__u16 from, __u16 to)
{
	return (__u16)~from + to;
}

static __always_inline __u32 checksum_diff_address(__be32 from, __be32 to)
{
	return checksum_diff(from, to) + checksum_diff(from >> 16, to >> 16);
}

/* Returns ~(~HC + ~m + m') of the same equation. The checksum need not be right for it: a broken one stays broken. */
static __always_inline __u16 checksum_update(__u16 checksum, __u32 diff)
{
	return ~fold((__u16)~checksum + diff);
}

/* Sums up a header without its options. A header with its checksum sums up to 0xffff. */
static __always_inline __u32 ipv4_header_sum(const struct iphdr *ip)
{
	const __u32 *words = (const __u32 *)ip;
	__u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	return fold(sum) + (sum >> 32);
}

#endif
