// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/if_link.h>

#include "../../lib/settings.h"
#include "direct.h"
#include "errors.h"
#include "links.h"
#include "pins.h"

const char *mode_name(__u32 mode)
{
	return mode == XDP_FLAGS_SKB_MODE ? "generic" : mode == XDP_FLAGS_DRV_MODE ? "driver" : "none";
}

struct xdp_state query_xdp(int ifindex)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, now);

	if (bpf_xdp_query(ifindex, 0, &now))
		die("cannot ask the kernel for the XDP program of interface %d: %s", ifindex, reason());
	if (now.skb_prog_id)
		return (struct xdp_state){ now.skb_prog_id, XDP_FLAGS_SKB_MODE };
	return (struct xdp_state){ now.drv_prog_id, now.drv_prog_id ? XDP_FLAGS_DRV_MODE : 0 };
}

struct pinned_link open_pinned_link(const char *pin_dir, const char *name)
{
	struct pinned_link pinned = { .fd = open_pin(pin_dir, name) };
	struct bpf_link_info info = { 0 };
	__u32 size = sizeof(info);

	if (pinned.fd < 0)
		pinned.fd = open_new_pin(pin_dir, name); /* of a loader that was killed before it had its name */
	if (pinned.fd < 0)
		return pinned;
	if (bpf_obj_get_info_by_fd(pinned.fd, &info, &size) || info.type != BPF_LINK_TYPE_XDP) {
		close(pinned.fd);
		return (struct pinned_link){ .fd = -1, .is_foreign = true };
	}
	pinned.program = info.prog_id;
	pinned.ifindex = info.xdp.ifindex;
	if (!pinned.ifindex || !if_indextoname(pinned.ifindex, pinned.interface))
		return pinned;
	/* In this namespace the index may be another interface's: our program on it is the proof. */
	struct xdp_state now = query_xdp(pinned.ifindex);

	if (now.program == pinned.program)
		pinned.mode = now.mode;
	else
		pinned.interface[0] = '\0';
	return pinned;
}

void refuse_foreign_program(const struct attach_point *point, __u32 ours)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info), id = query_xdp(point->ifindex).program;

	if (!id || id == ours)
		return;
	bpf_obj_get_info_by_fd(bpf_prog_get_fd_by_id(id), &info, &size);
	die_refused("interface '%s' carries another XDP program, '%s' (id %u), not pinned in '%s': it is left alone; "
		    "detach it with its own tool, or 'ip link set dev %s xdp off'",
		point->interface, info.name, id, point->pin_dir, point->interface);
}

static void die_refused_by_driver(const struct attach_point *point)
{
	if (!is_final(errno))
		die("interface '%s' takes no XDP program now: %s", point->interface, reason());
	if (errno == EEXIST)
		die_refused(
			"interface '%s' refuses XDP: it, or the bridge that it belongs to, carries another program; "
			"see: bpftool net",
			point->interface);
	if (point->mode == XDP_FLAGS_SKB_MODE)
		die_refused("interface '%s' refuses XDP: %s; an XDP link needs Linux 5.9", point->interface, reason());
	die_refused("interface '%s' refuses --mode driver: %s; a bridge or VXLAN device has no such mode, ENA wants an "
		    "MTU of at most %d and at most half its channels; or use --mode generic",
		point->interface, reason(), DRIVER_MODE_MTU);
}

static void detach_old(const struct pinned_link *old)
{
	if (old->fd < 0)
		return;
	say("the hook on interface '%s' is replaced", old->ifindex ? old->interface : "(gone)");
	bpf_link_detach(old->fd);
}

/*
 * Detaches our program from the bridge where that is in the way: no port of a bridge takes a program while the bridge has
 * one (dev_xdp_attach, net/core/dev.c). Until the new one is attached, packets take the way without XDP.
 */
static int create_link(const struct attach_point *point, int program)
{
	LIBBPF_OPTS(bpf_link_create_opts, how, .flags = point->mode);
	int link = bpf_link_create(program, point->ifindex, BPF_XDP, &how);

	if (link >= 0 || errno != EEXIST)
		return link;
	struct pinned_link attached = open_pinned_link(point->pin_dir, PRIMARY_LINK);

	if (attached.ifindex && attached.ifindex == point->bridge_ifindex)
		bpf_link_detach(attached.fd);
	close(attached.fd);
	return bpf_link_create(program, point->ifindex, BPF_XDP, &how);
}

void attach_link(const struct attach_point *point, int program, const struct pinned_link *old)
{
	bool stays = old->ifindex == point->ifindex;
	int link;

	if (stays && old->mode == point->mode) {
		if (bpf_link_update(old->fd, program, NULL))
			die("cannot update the program on interface '%s': %s", point->interface, reason());
		return;
	}
	/* An interface runs one mode at a time: there the old link must go first. */
	if (stays)
		detach_old(old);
	link = create_link(point, program);
	if (link < 0) {
		int error = errno;

		if (point->owns_secondary_link)
			remove_pin(point->pin_dir, SECONDARY_LINK);
		errno = error;
		die_refused_by_driver(point);
	}
	pin(point->pin_dir, link, point->pin_name);
	close(link);
	if (!stays)
		detach_old(old);
}

/*
 * What was redirected before has left when no packet is in the program any more that redirects. The kernel lets go of a link
 * without a pin in its own time (kernel/bpf/inode.c, bpf_free_inode), but ENA takes a larger MTU only without a program.
 */
void detach_secondary(const char *pin_dir)
{
	struct pinned_link secondary = open_pinned_link(pin_dir, SECONDARY_LINK);

	if (secondary.fd < 0)
		return;
	wait_rcu_grace_period();
	bpf_link_detach(secondary.fd);
	close(secondary.fd);
	remove_pin(pin_dir, SECONDARY_LINK);
}
