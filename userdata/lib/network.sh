# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What is the network that mirrored packets pass: br0, vxlan1, addresses, routes, netfilter rules? Made, and taken down.

# Without the lock while it waits: other verbs need not.
network_up() {
	local name secondary
	nft -f "$HOME_DIR/netfilter/silence.nft"
	read -r _ name _ < <(find_interface 0) || fail 'no interface with IMDS device number 0; does the metadata service answer?'
	say "$name" >"$RUN/primary"
	await_secondary secondary
	# shellcheck disable=SC2086 # MAC NAME ADDRESS SUBNET
	locked make_network $secondary
}

make_network() { # MAC NAME ADDRESS SUBNET
	local mac=$1 name=$2 address=$3 subnet=$4
	say "$name" >"$RUN/eni"
	keep_dhcp_away "$mac" "$name"
	ip addr flush dev "$name"
	add_links "$mac" "$name"
	load_rules # before the first frame can pass, and before the kernel forwards anything
	if engine_punts; then load_punt_rules; fi
	set_sysctls
	join_links "$name"
	ip addr replace "$address/${subnet#*/}" dev br0 noprefixroute
	drop_other_addresses "$address"
	add_routes "$address" "$subnet"
	start_enabled_engine
	say "network is up: $name and vxlan1 (VNI ${SETTING[VNI]}) on br0, $address, MTU ${SETTING[EGRESS_MTU]}, to ${SETTING[AWS_IPSEC_VM_IP]}:${SETTING[AWS_IPSEC_VM_PORT]}"
}

add_links() { # MAC NAME
	# Born with its address: udev would give it one of its own.
	ip link show br0 &>/dev/null || ip link add br0 address "$1" type bridge stp_state 0 mcast_snooping 0
	ip link show vxlan1 &>/dev/null || ip link add vxlan1 type vxlan id "${SETTING[VNI]}" dstport 4789 nolearning
	without_ipv6 br0
	without_ipv6 vxlan1
	without_ipv6 "$2"
	fit_egress_mtu "$2"
	ip link set br0 address "$1" mtu "${SETTING[EGRESS_MTU]}"
}

join_links() { # NAME
	ip link set vxlan1 master br0 up
	ip link set "$1" master br0 up
	bridge link set dev vxlan1 learning off flood off mcast_flood off bcast_flood off
	bridge link set dev "$1" learning off
	ip link set br0 up
}

network_down() {
	sysctl -qw net.ipv4.ip_forward=0
	ip link del vxlan1 2>/dev/null || true
	ip link del br0 2>/dev/null || true
	nft -f - <<<'table bridge mirror_gateway; delete table bridge mirror_gateway; table ip mirror_gateway; delete table ip mirror_gateway; table ip mirror_gateway_handover; delete table ip mirror_gateway_handover'
	say 'network is down: br0, vxlan1 and the netfilter rules are gone'
}

# --- interfaces -----------------------------------------------------------------------------------------------------

# Debian's images run DHCP on whatever is plugged in: another default route would take the instance off its VPC. But a reload
# while netplan writes its files anew, which it does at each daemon-reload, leaves the primary interface without settings.
keep_dhcp_away() { # MAC NAME
	local file=/etc/systemd/network/05-mirror-gateway.network unmanaged
	systemd_runs || return 0
	printf -v unmanaged '[Match]\nPermanentMACAddress=%s\n[Link]\nUnmanaged=yes' "$1"
	if [[ $(contents "$file") == "$unmanaged" && $(networkctl list --no-legend "$2") == *unmanaged* ]]; then return 0; fi
	install -m 0644 /dev/stdin "$file" <<<"$unmanaged" # readable: networkd is not root
	networkctl reload
}

without_ipv6() { if [[ -e /proc/sys/net/ipv6 ]]; then sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"; fi; }

# Sources are foreign: no filter on the way, and no word back. What the direct engine punts comes in by the primary interface.
set_sysctls() {
	local ours=(net.ipv4.conf.{all,br0}.{rp_filter,send_redirects,accept_redirects,accept_source_route,log_martians}'=0'
		'net.ipv4.conf.br0.arp_ignore=1' "net.ipv4.conf.$(<"$RUN/primary").rp_filter=0")
	# With 1 the bridge would run iptables itself and forward frames past XDP and the IP layer, DF set.
	if [[ -e /proc/sys/net/bridge ]]; then ours+=('net.bridge.bridge-nf-call-iptables=0'); fi
	sysctl -qw net.ipv4.ip_forward=1 "${ours[@]}" # first: its change resets others (Documentation/networking/ip-sysctl.rst)
}

# Nobody else tells the second interface what a VPC carries (keep_dhcp_away), so ENA leaves it at Ethernet's 1500
# (alloc_etherdev_mq in ena_probe, drivers/net/ethernet/amazon/ena/ena_netdev.c). What driver mode lowered, detach restores.
fit_egress_mtu() { # NAME
	local name mtu egress_mtu=${SETTING[EGRESS_MTU]}
	if read -r name mtu _ < <(grep -s "^$1 " "$RUN/links"); then
		if ((mtu < egress_mtu)); then sed -i "s/^$name $mtu/$name $egress_mtu/" "$RUN/links"; fi
	elif (($(mtu_of "$1") < egress_mtu)); then
		ip link set "$1" mtu "$egress_mtu" || fail "$1 takes no MTU of $egress_mtu; deploy with a lower egress_mtu"
	fi
}

# Of a second interface that another one has replaced.
drop_other_addresses() { # ADDRESS
	local other
	for other in $(ip -j -4 addr show dev br0 | jq -r --arg address "$1" '.[0].addr_info[] | select(.local != $address) | "\(.local)/\(.prefixlen)"'); do
		ip addr del "$other" dev br0
	done
}

# --- routes ---------------------------------------------------------------------------------------------------------

to_number() {
	local a b c d
	IFS=. read -r a b c d <<<"$1"
	say $(((a << 24) + (b << 16) + (c << 8) + d))
}

# No route to the subnet itself: with both interfaces in one subnet it would draw the instance's own traffic, health
# checks included, to the wrong interface. The VPC's router is the subnet's first address.
add_routes() { # ADDRESS SUBNET
	local bits=${2#*/} network router prefix via
	network=$(to_number "${2%/*}")
	router=$((network >> 24)).$((network >> 16 & 255)).$((network >> 8 & 255)).$(((network & 255) + 1))
	for prefix in "${SETTING[AWS_IPSEC_VM_IP]}/32" ${SETTING[EGRESS_CIDRS]//,/ }; do
		via=(via "$router" onlink)
		if ((${prefix#*/} >= bits && $(to_number "${prefix%/*}") >> (32 - bits) == network >> (32 - bits))); then via=(scope link); fi
		ip route replace "$prefix" "${via[@]}" dev br0 src "$1"
	done
}

# --- netfilter rules ------------------------------------------------------------------------------------------------

# Whoever comes last has the newest settings: a network that is being made while they change loads them, too.
load_rules() (
	exec 8>>"$RUN/rules.lock"
	flock 8
	load_settings
	nft -D eni="$(<"$RUN/eni")" -D br0_mac="$(ip -j link show br0 | jq -r '.[0].address')" "${NFT_MATCH[@]}" \
		-D id_start=$((SRANDOM & 0x7fff)) "${NFT_DESTINATION[@]}" -f "$HOME_DIR/netfilter/mirror-gateway.nft"
)

# Lets pass what the direct engine punts to the stack ("hands over"), which netfilter knows by an address in $RUN/handover:
# random, and as long as the program is attached the same, because what is on its way was sent under it.
load_punt_rules() {
	[[ -s $RUN/handover ]] || (umask 077 && printf '02%s\n' "$(od -An -N5 -tx1 /dev/urandom | tr ' ' :)" >"$RUN/handover")
	nft -D primary="$(<"$RUN/primary")" -D handover_mac="$(<"$RUN/handover")" "${NFT_DESTINATION[@]}" \
		-f "$HOME_DIR/netfilter/handover.nft"
}

# Its hook stays: whenever one goes, the kernel drops what waits in queues (nf_queue_nf_hook_drop, net/netfilter/core.c).
drop_punt_rules() {
	if [[ -e $RUN/handover ]]; then nft -f - <<<'table ip mirror_gateway_handover; flush table ip mirror_gateway_handover'; fi
	rm -f "$RUN/handover"
}
