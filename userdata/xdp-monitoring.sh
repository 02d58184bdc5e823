#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Reads the gateway's counters every ten seconds and hands metrics to the CloudWatch agent on this instance, in the embedded
# metric format: which ones, metrics.json says; xdp-monitoring.jq makes them. What is missing it says once, and goes on.
set -euo pipefail

readonly HOME_DIR=/opt/ebpf-xdp-processor ETC=/etc/mirror-gateway
readonly RUN=${RUN_FOLDER:-/run/mirror-gateway} PROC=${PROC_FOLDER:-/proc}
readonly IMDS=http://169.254.169.254/latest AGENT=/dev/udp/127.0.0.1/25888
readonly INTERVAL=${INTERVAL_SECONDS:-10}

# Standard output carries the samples.
say() { printf '%s\n' "$*" >&2; }

declare -A TROUBLES

trouble() { # KEY WORDS
	if [[ ${TROUBLES[$1]:-} != "$2" ]]; then say "$2"; fi
	TROUBLES[$1]=$2
}

no_trouble() { # KEY
	if [[ ${TROUBLES[$1]:-} ]]; then say "no longer: ${TROUBLES[$1]}"; fi
	unset "TROUBLES[$1]"
}

# --- who we are -----------------------------------------------------------------------------------------------------

imds() { curl -sf -m 2 -H "X-aws-ec2-metadata-token: $TOKEN" "$IMDS/$1"; }

# Asked until it is known; it does not change. Without a group a metric has no name.
find_out() {
	local document group key value log_group=/aws/ec2/xdp-packet-processor
	until TOKEN=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$IMDS/api/token") &&
		document=$(imds dynamic/instance-identity/document); do
		trouble imds "no metrics: the metadata service ($IMDS) does not answer"
		sleep "$INTERVAL"
	done
	no_trouble imds
	until group=$(imds meta-data/tags/instance/aws:autoscaling:groupName); do
		trouble group 'no metrics: this instance is in no Auto Scaling group, or its tags are not in its metadata'
		sleep "$INTERVAL"
		TOKEN=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$IMDS/api/token") || true
	done
	no_trouble group
	while IFS='=' read -r key value; do
		if [[ $key == LOG_GROUP ]]; then log_group=$value; fi
	done <"$ETC/gateway.env"
	jq -c --arg group "$group" --arg log_group "$log_group" '{$group, $log_group, instance: .instanceId, region}' <<<"$document"
}

# --- the machine's own losses ---------------------------------------------------------------------------------------
# Each adds to MACHINE. Those of the processors are the whole machine's, the others this network namespace's. Counters of
# interfaces are named "NAME INTERFACE", because each has a history of its own; what they grew by, rates.jq adds up.

count() { MACHINE[$1]=$((${MACHINE[$1]:-0} + $2)); } # NAME NUMBER

# A full backlog counts for the packet's interface, too, as dropped when received (enqueue_to_backlog, net/core/dev.c).
count_softnet() {
	local dropped
	while read -r _ dropped _; do count softnet_dropped "16#$dropped"; done <"$PROC/net/softnet_stat"
}

# Columns: the name, received bytes, packets, errors, drops and four more, then sent ones likewise. What our rules drop is in
# none of them. vxlan1: what its queue could not take (gro_cells_receive, net/core/gro_cells.c); it sends nothing, and its
# errors, frames too short to be any, are in packets_malformed.
count_interfaces() { # PRIMARY SECONDARY
	local row
	while read -ra row; do
		row[0]=${row[0]%:}
		case ${row[0]} in
		vxlan1) count 'interface_dropped vxlan1' "${row[4]}" ;;
		br0 | "$1" | "$2") count "interface_dropped ${row[0]}" $((row[3] + row[4] + row[11] + row[12])) ;;
		esac
	done <"$PROC/net/dev"
}

# The kernel's own queue before the driver's. br0 and vxlan1 have none.
count_queue() { # NAME
	local queue
	queue=$(tc -s qdisc show dev "$1" root 2>/dev/null) || return 0
	if [[ $queue =~ \(dropped\ ([0-9]+) ]]; then count "queue_dropped $1" "${BASH_REMATCH[1]}"; fi
}

# Of ENA alone.
count_allowances() { # NAME
	local statistics name
	statistics=$(ethtool -S "$1" 2>/dev/null) || return 0
	for name in pps bw_in bw_out conntrack; do
		if [[ $statistics =~ [[:space:]]${name}_allowance_exceeded:\ ([0-9]+) ]]; then
			count "ena_${name}_allowance_exceeded $1" "${BASH_REMATCH[1]}"
		fi
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
count_ip() {
	count_forwarding "$PROC/net/snmp" Ip FragFails InAddrErrors InDiscards
	count_forwarding "$PROC/net/netstat" IpExt InNoRoutes
	count_forwarding "$PROC/net/netstat" TcpExt IPReversePathFilter
}

# A line of names, then one of numbers.
count_forwarding() { # FILE PROTOCOL NAME...
	local names numbers i
	while read -ra names && read -ra numbers; do
		[[ ${names[0]} == "$2:" ]] || continue
		for i in "${!names[@]}"; do
			if [[ " ${*:3} " == *" ${names[i]} "* ]]; then count forwarding_dropped "${numbers[i]}"; fi
		done
	done <"$1"
}

# A line of names, then one of hexadecimal numbers for each processor: datagrams beyond those that wait for the next hop's
# address (__neigh_event_send, net/core/neighbour.c). Namespaces have no such file.
count_neighbours() {
	local names numbers i
	[[ -e $PROC/net/stat/arp_cache ]] || return 0
	{
		read -ra names
		while read -ra numbers; do
			for i in "${!names[@]}"; do
				if [[ ${names[i]} == unresolved_discards ]]; then count forwarding_dropped "16#${numbers[i]}"; fi
			done
		done
	} <"$PROC/net/stat/arp_cache"
}

machine() {
	local -A MACHINE=()
	local primary secondary name text=''
	primary=$(cat "$RUN/primary" 2>/dev/null) || true
	secondary=$(cat "$RUN/eni" 2>/dev/null) || true
	count_softnet
	count_interfaces "$primary" "$secondary"
	for name in $primary $secondary; do
		count_queue "$name"
		count_allowances "$name"
	done
	count_ip
	count_neighbours
	for name in "${!MACHINE[@]}"; do text+=",\"$name\":${MACHINE[$name]}"; done
	printf '{%s}\n' "${text:1}"
}

memory() {
	local name number _ total=0 available=0
	while read -r name number _; do
		case $name in
		MemTotal:) total=$number ;;
		MemAvailable:) available=$number && break ;;
		esac
	done <"$PROC/meminfo"
	printf '{"total":%s,"available":%s}' "$total" "$available"
}

disk() {
	local blocks free available
	read -r blocks free available < <(stat -f -c '%b %f %a' /)
	printf '{"used":%s,"available":%s}' $((blocks - free)) "$available"
}

# --- the story ------------------------------------------------------------------------------------------------------

# Sleeps until the middle of the clock's next interval. So a minute has six samples of a gateway, however long each takes and
# however late one begins: by their number an alarm (silent-gateway) knows how many gateways there are.
await_turn() {
	local now=${EPOCHREALTIME/[.,]/} length left
	printf -v length '%.0f' "${INTERVAL}e6"
	left=$((length - (now + length / 2) % length))
	printf -v left '%d.%06d' $((left / 1000000)) $((left % 1000000))
	sleep "$left"
}

look_for_agent() {
	local sockets
	sockets=$(<"$PROC/net/udp")
	if [[ $sockets == *:6520\ * ]]; then
		no_trouble agent
	else
		trouble agent "metrics go nowhere: no CloudWatch agent listens on ${AGENT#/dev/udp/}"
	fi
}

status() {
	if [[ -x $HOME_DIR/bpf/udp_df_modifier_loader ]]; then
		no_trouble loader
	else
		trouble loader 'no counters of XDP: its loader is not built; see: deploy_xdp.sh build bpf'
	fi
	if STATUS=$("$HOME_DIR/userdata/deploy_xdp.sh" status --json 2>"$RUN/xdp-monitoring.log"); then
		no_trouble status
	else
		trouble status "no counters: $(tail -n 1 "$RUN/xdp-monitoring.log")"
		STATUS=null
	fi
}

samples() {
	local STATUS uptime latency processors
	processors=$(nproc)
	while :; do
		await_turn
		look_for_agent
		local at=${EPOCHREALTIME/[.,]/}
		status
		latency=$(cat "$RUN/latency.json" 2>/dev/null) || true
		read -r uptime _ <"$PROC/uptime"
		printf '{"at":%s,"uptime":%s,"processors":%s,"status":%s,"latency":%s,"machine":%s,"memory":%s,"disk":%s}\n' \
			"${at%???}" "$uptime" "$processors" "$STATUS" "${latency:-null}" "$(machine)" "$(memory)" "$(disk)"
	done
}

# One write, and so one datagram, each.
publish() {
	local document
	while IFS= read -r document; do printf '%s\n' "$document" >$AGENT || true; done
}

main() {
	local about list
	about=$(find_out)
	list=$(<"$HOME_DIR/userdata/metrics.json")
	samples | jq -nRc --unbuffered -L "$HOME_DIR/userdata" --argjson list "$list" --argjson about "$about" \
		-f "$HOME_DIR/userdata/xdp-monitoring.jq" | publish
}

case ${1:-} in
'') main ;;
--losses) machine ;;
*) say "xdp-monitoring.sh: no option '$1'; the only one is --losses: the machine's own, once, for deploy_xdp.sh status" && exit 1 ;;
esac
