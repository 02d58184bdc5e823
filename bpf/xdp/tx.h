/* SPDX-License-Identifier: GPL-2.0-only */
/* Declares the device maps by which datagrams leave: in one frame, or in up to MOST_FRAGMENTS copies of one. */
#ifndef XDP_TX_H
#define XDP_TX_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#define DEVICE_MAP(entries)                                                                                            \
	{                                                                                                              \
		__uint(type, BPF_MAP_TYPE_DEVMAP);                                                                     \
		__uint(max_entries, entries);                                                                          \
		__uint(key_size, sizeof(__u32));                                                                       \
		__uint(value_size, sizeof(struct bpf_devmap_val));                                                     \
	}

struct DEVICE_MAP(1) tx_single SEC(".maps");
struct DEVICE_MAP(2) tx_broadcast_2 SEC(".maps");
struct DEVICE_MAP(3) tx_broadcast_3 SEC(".maps");
struct DEVICE_MAP(4) tx_broadcast_4 SEC(".maps");
struct DEVICE_MAP(5) tx_broadcast_5 SEC(".maps");
struct DEVICE_MAP(6) tx_broadcast_6 SEC(".maps");
struct DEVICE_MAP(7) tx_broadcast_7 SEC(".maps");
struct DEVICE_MAP(8) tx_broadcast_8 SEC(".maps");
struct DEVICE_MAP(9) tx_broadcast_9 SEC(".maps");

/* Redirects a copy to each entry of the map that has as many. */
static __always_inline long redirect_copies(__u32 fragments)
{
	switch (fragments) {
	case 2:
		return bpf_redirect_map(&tx_broadcast_2, 0, BPF_F_BROADCAST);
	case 3:
		return bpf_redirect_map(&tx_broadcast_3, 0, BPF_F_BROADCAST);
	case 4:
		return bpf_redirect_map(&tx_broadcast_4, 0, BPF_F_BROADCAST);
	case 5:
		return bpf_redirect_map(&tx_broadcast_5, 0, BPF_F_BROADCAST);
	case 6:
		return bpf_redirect_map(&tx_broadcast_6, 0, BPF_F_BROADCAST);
	case 7:
		return bpf_redirect_map(&tx_broadcast_7, 0, BPF_F_BROADCAST);
	case 8:
		return bpf_redirect_map(&tx_broadcast_8, 0, BPF_F_BROADCAST);
	default:
		return bpf_redirect_map(&tx_broadcast_9, 0, BPF_F_BROADCAST);
	}
}

#endif
