/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Holds what the direct engine's programs and their loader agree on. The maps of settings and counters have the names and the
 * beginnings of those of the bridge engine (udp_df_modifier.h), so that counters live on when the engine changes.
 */
#ifndef UDP_DF_DIRECT_H
#define UDP_DF_DIRECT_H

#include <linux/bpf.h>
#include <linux/types.h>

#include "udp_df_modifier.h"

/* Programs of the object: for the primary ENI, for each copy on its way out, and for the secondary ENI. */
#define DIRECT_PROGRAM "udp_df_direct"
#define CUT_PROGRAM "cut_fragment"
#define PASS_PROGRAM "pass"

/* Further programs of it, for kernels with type information: they count frames that are lost after a redirect. */
#define UNSENT_PROGRAM "count_unsent"
#define REFUSED_PROGRAM "count_refused"

/*
 * Device maps: `tx_single` has one entry, `tx_broadcast_2` to `tx_broadcast_9` as many as their names say. Every entry names the
 * secondary ENI and the program for copies: in driver mode the kernel runs one for all that it sends in a bulk. In generic mode
 * `tx_single` needs none, and where nothing can be fragmented in driver mode no entry has one.
 */
#define TX_SINGLE_MAP "tx_single"
#define TX_BROADCAST_MAP "tx_broadcast_" /* and a digit */
#define MOST_FRAGMENTS 9

/*
 * New IP identifications for datagrams that leave without DF (RFC 6864), as if this gateway were their source: 0 to 32767, of
 * which netfilter gives none (mirror-gateway.nft has the other half). A CPU takes them in blocks from a counter that all CPUs
 * share, one for each hash of a source address. The loader lets each begin at random; the map is pinned, so counters go on when
 * the program is replaced.
 */
#define IDS_MAP "ids"
#define ID_COUNTERS 1024 /* a power of two */
#define ID_BLOCK 32      /* identifications */
#define ID_BLOCKS 1024   /* of them, before a counter begins anew */
/*
 * A CPU drops the rest of a block when this many more were taken from its counter, so that an identification does not come
 * again before another (ID_BLOCKS - ID_BLOCK_LIFETIME) * ID_BLOCK, some 24,000, were taken. Of these every CPU that gives few
 * drops up to 31 a block, three times in that span: with 32 CPUs, some 3,000.
 */
#define ID_BLOCK_LIFETIME 256

struct id_counter {
	struct bpf_spin_lock lock;
	__u32 blocks; /* taken so far; its lowest bits name the next one */
};

/* How a datagram is fragmented that is longer than the next hop's MTU. */
enum fragmenting {
	FRAGMENT_IN_BUFFER, /* generic mode: its fragments are built in its buffer, or it is punted to the stack */
	FRAGMENT_COPIES,    /* driver mode: the device maps' program makes each copy a fragment */
	FRAGMENT_NEVER, /* driver mode, where none fits the primary ENI that does not fit br0: no device map has a program */
};

/* Numbers in host byte order; addresses and ports of the wire (__be) and MAC addresses as they lie there. */
struct direct_config {
	struct gateway_config rule;
	__u32 vni;
	__u32 egress_mtu;     /* for kernels whose route lookup does not tell the MTU: before Linux 5.12 */
	__u32 bridge_ifindex; /* of br0: what is forwarded comes in and goes out by it, as far as routes are concerned */
	__u32 egress_ifindex; /* of the secondary ENI */
	__u32 primary_ifindex;
	__u32 longest_frame; /* that the secondary ENI's driver takes, with its Ethernet header */
	__u32 fragmenting;   /* enum fragmenting */
	__be32 ipsec_vm_ip;
	__be32 primary_ip;   /* what mirrored packets are sent to */
	__be32 secondary_ip; /* br0's */
	__be16 ipsec_vm_port;
	__u16 primary_mac[3];
	__u16 handover_mac[3]; /* the secret by which netfilter knows what generic mode punts to the stack; see below */
	__u16 unused;
};

/*
 * Generic mode punts datagrams whose fragments it cannot build to the stack, translated, from this source address to the primary
 * ENI. It is drawn when the mode is taken up, and a frame that arrives with it is dropped: nobody else can send what
 * netfilter lets pass for it.
 */

struct direct_config_slots {
	__u32 active; /* 0 or 1 */
	struct direct_config slots[2];
};

/* Says why a frame is passed up as it came, in the order in which it is found out. */
enum pass_reason {
	PASS_NOT_MIRRORED, /* no VXLAN to us; or framed as no mirror session does: IP options, fragments, congestion marks */
	PASS_OTHER_VNI,      /* VXLAN of another network, or with flags that the kernel's VXLAN refuses */
	PASS_NOT_UDP,        /* inside: no UDP over IPv4, or no unicast Ethernet frame without a tag */
	PASS_MALFORMED,      /* inside: lengths that contradict, or a wrong IP checksum */
	PASS_FRAGMENT,       /* inside: a fragment */
	PASS_OTHER_PORT,     /* inside: not to the target port */
	PASS_ADDRESS,        /* inside: from or to an address that no forwarding host accepts */
	PASS_EXPIRED,        /* inside: TTL 1 or 0 */
	PASS_OPTIONS,        /* inside: IP options that each router has to work on, or malformed ones */
	PASS_OUTER_CHECKSUM, /* a UDP checksum around it that is not zero, and wrong or left to the hardware */
	PASS_TRAFFIC_SPLIT,  /* a flow that is not XDP's; the large ones with DF are packets_left_to_netfilter, too */
	PASS_NO_NEIGHBOUR,   /* the next hop's MAC address is not known yet */
	PASS_NO_ROUTE,       /* none, or not by the bridge */
	PASS_NO_EGRESS,      /* the secondary ENI is gone from the maps */
	PASS_KEEPS_DF,       /* larger than the MTU, and its DF is not ours to clear */
	PASS_TOO_LONG,       /* more fragments than maps, or a frame that the secondary ENI does not take */
	PASS_REASONS,
	PASS_NONE = PASS_REASONS, /* it does not: the program takes it */
};

/* New counters go to the end. Those of the rule have room to grow, so that what follows stays where older versions have it. */
#define ROOM_FOR_RULE 16
struct direct_stats {
	union {
		struct gateway_stats rule; /* packets_seen: mirrored packets of our VNI */
		__u64 room[ROOM_FOR_RULE];
	};
	__u64 passed[PASS_REASONS];
	__u64 sent_whole;     /* datagrams redirected in one piece */
	__u64 sent_cut;       /* datagrams redirected as copies, one for each fragment */
	__u64 handed_over;    /* datagrams punted to the stack, which fragments them */
	__u64 fragments_sent; /* made of copies, and given to the driver */
	__u64 copies_lost;    /* never made; noticed some datagrams later */
	__u64 forged;         /* dropped: spoofed frames, with the address of punted ones */
	__u64 failed;         /* dropped: the kernel refused to move a frame's ends, which it has no reason to */
	__u64 redirects_refused; /* frames lost after a redirect: kernel or driver said no; counted while the loader runs */
	__u64 redirects_unsent; /* the same: the driver's queue was full, or the interface down */
	__u64 fragments_due; /* of the datagrams in sent_cut; what lacks in fragments_sent, was never copied or is on its way */
};

#endif
