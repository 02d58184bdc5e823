# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What did the machine itself lose, before or after our programs? Functions print lines "NUMBER NAME", which jq/losses.jq adds up.
#
# Those of the processors are the whole machine's, the others this network namespace's. Counters of interfaces are named
# "NAME INTERFACE", because each has a history of its own; what they grew by, rates.jq adds up.

# Prints an object of all that was lost.
losses() { # PROC RUN
	local interfaces qdiscs
	read -ra interfaces -d '' < <(contents "$2/primary" && contents "$2/eni") || true
	qdiscs=$(tc -s -j qdisc show root 2>/dev/null) || qdiscs='[]'
	{
		softnet_losses "$1"
		interface_losses "$1" "${interfaces[@]}"
		allowances "${interfaces[@]}"
		forwarding_losses "$1"
		neighbour_losses "$1"
	} | jq -cnR --argjson qdiscs "$qdiscs" --arg interfaces "${interfaces[*]}" -f "$USERDATA/jq/losses.jq"
}

# A full backlog counts for the packet's interface, too, as dropped when received (enqueue_to_backlog, net/core/dev.c).
softnet_losses() { # PROC
	local dropped
	while read -r _ dropped _; do say "$((16#$dropped)) softnet_dropped"; done <"$1/net/softnet_stat"
}

# Columns: the name, received bytes, packets, errors, drops and four more, then sent ones likewise. What our rules drop is in
# none of them. vxlan1: what its queue could not take (gro_cells_receive, net/core/gro_cells.c); it sends nothing, and its
# errors, frames too short to be any, are in packets_malformed.
interface_losses() { # PROC INTERFACE...
	local row name
	while read -ra row; do
		name=${row[0]%:}
		if [[ $name == vxlan1 ]]; then
			say "${row[4]} interface_dropped vxlan1"
		elif [[ " br0 ${*:2} " == *" $name "* ]]; then
			say "$((row[3] + row[4] + row[11] + row[12])) interface_dropped $name"
		fi
	done <"$1/net/dev"
}

# Prints what ENA counts beyond an instance's allowances; Debian 12's ethtool (6.1) has no JSON for it.
allowances() { # INTERFACE...
	local interface statistics name
	for interface in "$@"; do
		statistics=$(ethtool -S "$interface" 2>/dev/null) || continue
		for name in pps bw_in bw_out conntrack; do
			if [[ $statistics =~ [[:space:]]${name}_allowance_exceeded:\ ([0-9]+) ]]; then
				say "${BASH_REMATCH[1]} ena_${name}_allowance_exceeded $interface"
			fi
		done
	done
}

# What the IP layer lost on the way from br0 to br0, by counters that nothing else has a part in on a gateway:
#   FragFails            longer than the MTU, with DF (net/ipv4/ip_forward.c)
#   InAddrErrors         forwarding is off on br0 (ip_error, net/ipv4/route.c). EC2 brings the primary interface nothing that
#                        is not addressed to it, and broadcasts are delivered
#   InNoRoutes           no route, where forwarding is on (the same); one datagram counts for one of the two
#   InDiscards           no memory (net/ipv4/ip_input.c)
#   IPReversePathFilter  somebody switched on the filter that network_up switches off: foreign sources are what it drops
# And not by these:
#   InHdrErrors          a wrong checksum, broken options: a scan of the primary interface may have them; used up TTLs
#                        netfilter drops first, as packets_expired
#   OutNoRoutes,         of what the machine itself sends (net/ipv4/ip_output.c, udp.c), and what a full queue drops of that
#   OutDiscards          counts there, too
#   in_martian_src       addresses that no host forwards, in whatever comes in
forwarding_losses() { # PROC
	{
		columns "$1/net/snmp" Ip FragFails InAddrErrors InDiscards
		columns "$1/net/netstat" IpExt InNoRoutes
		columns "$1/net/netstat" TcpExt IPReversePathFilter
	} | while read -r number; do say "$number forwarding_dropped"; done
}

# Prints the numbers of these columns. For each protocol there is a line of names, then one of numbers.
columns() { # FILE PROTOCOL NAME...
	local names numbers i
	while read -ra names && read -ra numbers; do
		[[ ${names[0]} == "$2:" ]] || continue
		for i in "${!names[@]}"; do
			if [[ " ${*:3} " == *" ${names[i]} "* ]]; then say "${numbers[i]}"; fi
		done
	done <"$1"
}

# A line of names, then one of hexadecimal numbers for each processor: datagrams beyond those that wait for the next hop's
# address (__neigh_event_send, net/core/neighbour.c). Namespaces have no such file.
neighbour_losses() { # PROC
	local names numbers i
	[[ -e $1/net/stat/arp_cache ]] || return 0
	{
		read -ra names
		while read -ra numbers; do
			for i in "${!names[@]}"; do
				if [[ ${names[i]} == unresolved_discards ]]; then say "$((16#${numbers[i]})) forwarding_dropped"; fi
			done
		done
	} <"$1/net/stat/arp_cache"
}
