#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The operator's one command on a gateway. The units of this folder call the same verbs, and so does the lab, unchanged.
set -euo pipefail

readonly HOME_DIR=/opt/ebpf-xdp-processor ETC=/etc/mirror-gateway RUN=/run/mirror-gateway PINS=/sys/fs/bpf/mirror_gateway
readonly LOADER=$HOME_DIR/bpf/udp_df_modifier_loader LEGACY=$HOME_DIR/netfilter/modify_udp_df
readonly QUEUE=0 LARGE_DF=0x4d470002 # the mark that netfilter/mirror-gateway.nft gives
readonly IMDS=http://169.254.169.254/latest

usage() {
	cat <<'HELP'
usage: deploy_xdp.sh VERB
  install                   install what is missing, build, and start the units
  network-up, network-down  make or remove br0, vxlan1, the routes and the netfilter rules
  attach                    XDP takes the traffic (what xdp_traffic_percent leaves goes to modify_udp_df)
  detach                    XDP lets go; the standby rule takes over with the next packet
  rollback                  netfilter takes the traffic: modify_udp_df and, behind it, the standby rule
  status [--json]           which engine carries the traffic, and its counters
  stats                     every counter of every part, one a line
  config get [KEY]          settings in force
  config set KEY=VALUE ...  change target_port, min_packet_size, max_packet_size or traffic_percent at once
  queue add|delete          hand large DF datagrams to modify_udp_df, or stop doing so (for its unit)
  health [--http]           can packets flow? exit 0 (yes) or 1; --http speaks HTTP on stdin and stdout
HELP
}

say() { printf '%s\n' "$*"; }
align() { while read -r key value; do printf '%-34s %s\n' "$key" "$value"; done; }
fail() {
	printf 'deploy_xdp.sh: %s\n' "$*" >&2
	exit 1
}

# --- settings -------------------------------------------------------------------------------------------------------

declare -A SETTING

# Later files override earlier ones: what was deployed, then what `config set` changed. Read as data, never executed.
load_settings() {
	local file key value
	[[ -r $ETC/gateway.env ]] || fail "$ETC/gateway.env is missing; the user data writes it: check /var/log/cloud-init-output.log"
	for file in "$ETC/gateway.env" "$ETC/runtime.env"; do
		[[ -r $file ]] || continue
		while IFS='=' read -r key value; do
			[[ $key =~ ^[A-Z_]+$ ]] && SETTING[$key]=$value
		done <"$file"
	done
	for key in ENABLE_XDP XDP_ENGINE XDP_MODE XDP_TRAFFIC_PERCENT AWS_IPSEC_VM_IP AWS_IPSEC_VM_PORT TARGET_PORT MIN_PACKET_SIZE \
		MAX_PACKET_SIZE VNI EGRESS_MTU HEALTH_PORT; do
		[[ -n ${SETTING[$key]:-} ]] || fail "$key is not set in $ETC/gateway.env; deploy the stack again or add the line"
	done
}

# Key of the command line and the status JSON -> name in gateway.env.
declare -rA ENV_NAME=([target_port]=TARGET_PORT [min_packet_size]=MIN_PACKET_SIZE [max_packet_size]=MAX_PACKET_SIZE
	[traffic_percent]=XDP_TRAFFIC_PERCENT)
declare -rA BOUNDS=([target_port]='1 65535' [min_packet_size]='28 9001' [max_packet_size]='28 9001' [traffic_percent]='0 100')

check_setting() {
	local key=$1 value=$2 low high
	[[ -n ${BOUNDS[$key]:-} ]] || fail "config: no key '$key'; it must be one of: ${!BOUNDS[*]}"
	read -r low high <<<"${BOUNDS[$key]}"
	if [[ ! $value =~ ^(0|[1-9][0-9]{0,5})$ ]] || ((value < low || value > high)); then
		fail "config: $key is '$value', it must be a whole number from $low to $high"
	fi
}

rule_flags() { # the rule, as both programs take it -> FLAGS
	FLAGS=(--target-port "${SETTING[TARGET_PORT]}" --min-packet-size "${SETTING[MIN_PACKET_SIZE]}"
		--max-packet-size "${SETTING[MAX_PACKET_SIZE]}")
}

config_get() {
	local key
	if [[ $# -gt 0 ]]; then
		[[ -n ${ENV_NAME[$1]:-} ]] || fail "config: no key '$1'; it must be one of: ${!ENV_NAME[*]}"
		say "${SETTING[${ENV_NAME[$1]}]}"
		return
	fi
	for key in target_port min_packet_size max_packet_size traffic_percent; do say "$key=${SETTING[${ENV_NAME[$key]}]}"; done
}

config_set() {
	local pair key
	[[ $# -gt 0 ]] || fail "config set: nothing to set; give KEY=VALUE, KEY one of: ${!ENV_NAME[*]}"
	for pair in "$@"; do
		[[ $pair == *=* ]] || fail "config set: '$pair' is not KEY=VALUE"
		check_setting "${pair%%=*}" "${pair#*=}"
		SETTING[${ENV_NAME[${pair%%=*}]}]=${pair#*=}
	done
	((SETTING[MIN_PACKET_SIZE] < SETTING[MAX_PACKET_SIZE])) ||
		fail "config set: min_packet_size ${SETTING[MIN_PACKET_SIZE]} is not below max_packet_size ${SETTING[MAX_PACKET_SIZE]}"
	for key in "${ENV_NAME[@]}"; do say "$key=${SETTING[$key]}"; done | sort >"$ETC/runtime.env.new"
	mv "$ETC/runtime.env.new" "$ETC/runtime.env"
	rule_flags
	if link_is_pinned; then "$LOADER" config "${FLAGS[@]}" --traffic-percent "${SETTING[XDP_TRAFFIC_PERCENT]}" >/dev/null; fi
	if network_is_up; then load_rules; fi
	if queue_is_served; then legacy_restart; fi
	if link_is_pinned; then serve_the_rest; fi
	config_get
}

# --- instance metadata ----------------------------------------------------------------------------------------------

imds() {
	local token
	token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$IMDS/api/token") &&
		curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" "$IMDS/meta-data/$1"
}

# MAC of the interface with IMDS device number 1. The Lambda attaches it while the instance boots: it may come late.
secondary_mac() {
	local mac macs
	macs=$(imds network/interfaces/macs/) || return 1
	for mac in $macs; do
		mac=${mac%/}
		[[ $(imds "network/interfaces/macs/$mac/device-number") == 1 ]] && say "$mac" && return
	done
	return 1
}

interface_by_mac() { # the device itself, not the bridge that took over its address
	ip -j link show | jq -er --arg mac "$1" '[.[] | select(.address == $mac and .ifname != "br0")][0].ifname'
}

await_secondary() { # -> MAC and NAME
	local waited=0 limit=${ENI_WAIT_SECONDS:-600}
	until MAC=$(secondary_mac) && NAME=$(interface_by_mac "$MAC"); do
		((waited < limit)) || fail "no second network interface (IMDS device number 1) within $limit s; check the ENI Lambda's log"
		((waited % 30)) || say "waiting for the second network interface (device number 1): $waited s of $limit s"
		sleep 2
		((waited += 2))
	done
}

# --- network --------------------------------------------------------------------------------------------------------

network_is_up() { ip link show br0 &>/dev/null && nft list table ip mirror_gateway &>/dev/null; }

to_number() {
	local a b c d
	IFS=. read -r a b c d <<<"$1"
	say $(((a << 24) + (b << 16) + (c << 8) + d))
}

# Foreign sources, foreign destinations: no filter on the way, and no word back.
kernel_settings() {
	local pair
	for pair in ip_forward=1 conf.{all,br0}.{rp_filter,send_redirects,accept_redirects,accept_source_route,log_martians}=0 \
		conf.br0.arp_ignore=1; do
		sysctl -qw "net.ipv4.${pair%=*}=${pair#*=}"
	done
	# With 1 the bridge itself would run iptables and forward the frame past XDP and the IP layer, DF still set.
	if [[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]]; then sysctl -qw net.bridge.bridge-nf-call-iptables=0; fi
}

without_ipv6() {
	if [[ -e /proc/sys/net/ipv6/conf/$1 ]]; then sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"; fi
}

# Debian's images run DHCP on whatever is plugged in; an address or default route there would take the instance off its VPC.
keep_dhcp_away() {
	local mac=$1 file=/etc/systemd/network/05-mirror-gateway.network
	systemd_runs && [[ -d ${file%/*} ]] || return 0
	printf '[Match]\nPermanentMACAddress=%s\n\n[Link]\nUnmanaged=yes\n' "$mac" >"$file.new"
	if cmp -s "$file.new" "$file"; then
		rm "$file.new"
	else
		mv "$file.new" "$file"
		networkctl reload
	fi
}

load_rules() {
	nft -D eni="$(cat "$RUN/eni")" -D br0_mac="$(ip -j link show br0 | jq -r '.[0].address')" \
		-D target_port="${SETTING[TARGET_PORT]}" -D min_packet_size="${SETTING[MIN_PACKET_SIZE]}" \
		-D max_packet_size="${SETTING[MAX_PACKET_SIZE]}" -D ipsec_vm_ip="${SETTING[AWS_IPSEC_VM_IP]}" \
		-D ipsec_vm_port="${SETTING[AWS_IPSEC_VM_PORT]}" -f "$HOME_DIR/netfilter/mirror-gateway.nft"
}

# Only what the gateway forwards leaves by br0: with both interfaces in one subnet, a subnet route there would draw the
# instance's own traffic, health checks included, to the wrong interface.
add_routes() {
	local address=$1 subnet=$2 network first via prefix
	network=$(to_number "${subnet%/*}")
	first=$((network + 1)) # the VPC router: the subnet's first address
	first=$((first >> 24 & 255)).$((first >> 16 & 255)).$((first >> 8 & 255)).$((first & 255))
	for prefix in "${SETTING[AWS_IPSEC_VM_IP]}/32" ${SETTING[EGRESS_CIDRS]//,/ }; do
		via=(via "$first" onlink)
		(($(to_number "${prefix%/*}") >> (32 - ${subnet#*/}) == network >> (32 - ${subnet#*/}))) && via=(scope link)
		ip route replace "$prefix" "${via[@]}" dev br0 src "$address"
	done
}

network_up() {
	local MAC NAME address subnet
	await_secondary
	address=$(imds "network/interfaces/macs/$MAC/local-ipv4s" | head -n 1)
	subnet=$(imds "network/interfaces/macs/$MAC/subnet-ipv4-cidr-block")
	[[ -n $address && -n $subnet ]] || fail "IMDS gives no address or subnet for $MAC (address '$address', subnet '$subnet')"
	mkdir -p "$RUN"
	say "$NAME" >"$RUN/eni"
	keep_dhcp_away "$MAC"
	ip addr flush dev "$NAME"
	without_ipv6 "$NAME"
	# udev would give a bridge an address of its own unless it is born with one.
	ip link show br0 &>/dev/null || ip link add br0 address "$MAC" type bridge stp_state 0 mcast_snooping 0
	ip link show vxlan1 &>/dev/null || ip link add vxlan1 type vxlan id "${SETTING[VNI]}" dstport 4789 nolearning
	without_ipv6 br0
	without_ipv6 vxlan1
	kernel_settings
	ip link set br0 address "$MAC" mtu "${SETTING[EGRESS_MTU]}"
	load_rules # before the first frame can pass
	ip link set vxlan1 master br0 up
	ip link set "$NAME" master br0 up
	bridge link set dev vxlan1 learning off flood off mcast_flood off bcast_flood off
	bridge link set dev "$NAME" learning off
	ip link set br0 up
	ip addr replace "$address/${subnet#*/}" dev br0 noprefixroute
	add_routes "$address" "$subnet"
	start_enabled_engine
	say "network is up: $NAME and vxlan1 (VNI ${SETTING[VNI]}) on br0, $address, MTU ${SETTING[EGRESS_MTU]}," \
		"datagrams go to ${SETTING[AWS_IPSEC_VM_IP]}:${SETTING[AWS_IPSEC_VM_PORT]}"
}

# Also when the second interface came so late that the engine's own start was given up.
start_enabled_engine() {
	local unit
	systemd_runs || return 0
	for unit in xdp-processor.service modify_udp.service; do
		if systemctl -q is-enabled "$unit"; then systemctl start --no-block "$unit"; fi
	done
}

network_down() {
	sysctl -qw net.ipv4.ip_forward=0
	ip link del vxlan1 2>/dev/null || true
	ip link del br0 2>/dev/null || true
	nft -f - <<<'table bridge mirror_gateway; delete table bridge mirror_gateway; table ip mirror_gateway; delete table ip mirror_gateway'
	say 'network is down: br0, vxlan1 and the netfilter rules are gone'
}

# --- engines --------------------------------------------------------------------------------------------------------

systemd_runs() { [[ -d /run/systemd/system && -e /etc/systemd/system/xdp-processor.service ]]; }
link_is_pinned() { [[ -e $PINS/link ]]; }
queue_is_served() { [[ -r /proc/net/netfilter/nfnetlink_queue ]] && grep -Eq "^ *$QUEUE " /proc/net/netfilter/nfnetlink_queue; }

queue_rule() {
	local rule=(PREROUTING -m mark --mark "$LARGE_DF" -j NFQUEUE --queue-num "$QUEUE" --queue-bypass)
	case ${1:-} in
	add) iptables-nft -t raw -C "${rule[@]}" 2>/dev/null || iptables-nft -t raw -A "${rule[@]}" ;;
	delete) while iptables-nft -t raw -D "${rule[@]}" 2>/dev/null; do :; done ;;
	*) fail "queue: '${1:-}' is neither add nor delete" ;;
	esac
}

# A lab has no systemd of its own: there the program runs in the background, with the unit's flags.
legacy_start() {
	local waited=0
	if systemd_runs; then
		systemctl enable --quiet modify_udp.service
		systemctl start modify_udp.service
		return
	fi
	if ! queue_is_served; then
		rule_flags
		setsid "$LEGACY" --queue "$QUEUE" "${FLAGS[@]}" >"$RUN/modify_udp_df.log" 2>&1 </dev/null 9>&- &
		say $! >"$RUN/modify_udp_df.pid"
		until queue_is_served; do
			((waited++ < 50)) || fail "modify_udp_df did not take queue $QUEUE within 5 s: $(tail -n 1 "$RUN/modify_udp_df.log")"
			sleep 0.1
		done
	fi
	queue_rule add
}

# The rule goes first: what waits in a queue is lost when its program exits.
legacy_stop() {
	local pid waited=0
	if systemd_runs; then
		systemctl disable --quiet modify_udp.service
		systemctl stop modify_udp.service
		return
	fi
	queue_rule delete
	[[ -r $RUN/modify_udp_df.pid ]] || return 0
	pid=$(<"$RUN/modify_udp_df.pid")
	if [[ $(readlink "/proc/$pid/exe") == "$LEGACY"* ]]; then
		kill "$pid"
		while [[ -e /proc/$pid ]] && ((waited++ < 100)); do sleep 0.1; done
	fi
	rm -f "$RUN/modify_udp_df.pid"
}

legacy_restart() {
	if systemd_runs; then
		systemctl restart modify_udp.service
	else
		legacy_stop
		legacy_start
	fi
}

# The share of flows that XDP leaves is the legacy program's.
serve_the_rest() {
	if ((SETTING[XDP_TRAFFIC_PERCENT] < 100)); then legacy_start; else legacy_stop; fi
}

attach() {
	network_is_up || fail 'br0 is missing; run: deploy_xdp.sh network-up'
	[[ ${SETTING[XDP_ENGINE]} != direct ]] || say 'xdp_engine=direct is not in this version; the bridge engine takes the traffic'
	[[ ${SETTING[XDP_MODE]} != driver ]] || say 'xdp_mode=driver: a bridge has no driver mode; generic mode is used'
	if systemd_runs; then
		systemctl enable --quiet xdp-processor.service
		systemctl start xdp-processor.service
	else
		rule_flags
		"$LOADER" attach --interface br0 --mode generic "${FLAGS[@]}" --traffic-percent "${SETTING[XDP_TRAFFIC_PERCENT]}"
	fi
	serve_the_rest
	say "XDP is attached to br0 and takes ${SETTING[XDP_TRAFFIC_PERCENT]} % of the flows"
}

# A restart or a crash of the service leaves the program on its interface; only an orderly stop unhooks it.
unhook_after_stop() {
	[[ $SERVICE_RESULT == success ]] || return 0
	systemctl list-jobs --no-legend 2>/dev/null | grep -Eq 'xdp-processor\.service +restart ' && return
	"$LOADER" detach
}

detach() {
	if [[ -n ${SERVICE_RESULT:-} ]]; then
		unhook_after_stop
		return
	fi
	if systemd_runs; then
		systemctl disable --quiet xdp-processor.service
		systemctl stop xdp-processor.service
	fi
	"$LOADER" detach # nothing left to do unless the service was not what attached it
	say 'XDP is detached; the standby rule clears DF'
}

rollback() {
	network_is_up || fail 'br0 is missing; run: deploy_xdp.sh network-up'
	legacy_start
	detach
	say 'rolled back: modify_udp_df takes the traffic, the standby rule what it leaves'
}

# --- looking --------------------------------------------------------------------------------------------------------

counter() { nft -j list counter "$1" mirror_gateway "$2" 2>/dev/null | jq '.nftables[1].counter | {packets, bytes}' || say '{"packets":0,"bytes":0}'; }

engine() {
	if link_is_pinned && [[ $(jq -r .attached <<<"$1") == true ]]; then
		say bridge
	elif queue_is_served; then
		say nfqueue
	elif network_is_up; then
		say standby
	else
		say none
	fi
}

# Whatever carries the traffic, packets_* count it: the XDP program's own numbers while it is attached, netfilter's otherwise.
status_json() {
	local xdp queued=0 queue_dropped=0 user_dropped=0
	xdp=$("$LOADER" status)
	if queue_is_served; then
		# Columns: queue, port id, waiting, copy mode, copy range, dropped in the kernel, dropped on the way up, last id.
		read -r _ _ _ _ _ queue_dropped user_dropped queued _ < <(grep -E "^ *$QUEUE " /proc/net/netfilter/nfnetlink_queue)
	fi
	jq -cn --argjson xdp "$xdp" --arg engine "$(engine "$xdp")" \
		--argjson queued "$queued" --argjson queue_dropped "$((queue_dropped + user_dropped))" \
		--argjson unmatched "$(counter bridge frames_unmatched)" --argjson malformed "$(counter bridge packets_malformed)" \
		--argjson fragments "$(counter bridge fragments_seen)" --argjson steered "$(counter bridge datagrams_steered)" \
		--argjson standby "$(counter ip standby_packets)" \
		--argjson config "$(for key in "${!ENV_NAME[@]}"; do say "$key ${SETTING[${ENV_NAME[$key]}]}"; done |
			jq -Rn '[inputs | split(" ") | {(.[0]): (.[1] | tonumber)}] | add')" '
		($queued + $standby.packets) as $netfilter
		| (if $xdp.attached then $xdp else {interface: "br0", xdp_mode: "none", attached: false,
			packets_seen: $steered.packets, packets_matched: $netfilter, packets_modified: $netfilter,
			bytes_processed: $standby.bytes, packets_left_to_netfilter: 0, packets_malformed: 0, fragments_seen: 0} end) as $now
		| {engine: $engine} + ($now | {xdp_mode, interface, attached, packets_seen, packets_matched, packets_modified,
			bytes_processed, packets_left_to_netfilter})
		+ {packets_malformed: ($now.packets_malformed + $malformed.packets),
			fragments_seen: ($now.fragments_seen + $fragments.packets), frames_unmatched: $unmatched.packets,
			standby_packets: $standby.packets, nfqueue_packets: $queued, nfqueue_dropped: $queue_dropped,
			config: (if $xdp.attached then $xdp.config else $config end)}'
}

status() {
	case ${1:-} in
	--json)
		status_json
		return
		;;
	?*) fail "status: no option '$1'; the only one is --json" ;;
	esac
	status_json | jq -r '(del(.config) + .config) | to_entries[] | "\(.key) \(.value)"' | align
}

stats() {
	local family
	{
		"$LOADER" status | jq -r 'to_entries[] | select(.value | type == "number") | "xdp.\(.key) \(.value)"'
		for family in bridge ip; do
			nft -j list counters table "$family" mirror_gateway 2>/dev/null |
				jq -r --arg family "$family" '.nftables[].counter // empty | "\($family).\(.name) \(.packets)"' || true
		done
	} | align
}

# -> one line of JSON; 1 when packets cannot flow
health_json() {
	local reason='' state=healthy wanted=nfqueue now eni
	eni=$(cat "$RUN/eni" 2>/dev/null || true)
	now=$(engine "$("$LOADER" status)")
	[[ ${SETTING[ENABLE_XDP]} == true ]] && wanted=bridge
	if ! network_is_up; then
		reason='br0 or the netfilter rules are missing'
	elif ! ip -j link show dev "$eni" 2>/dev/null | jq -e '.[0] | .master == "br0" and (.flags | index("LOWER_UP"))' >/dev/null; then
		reason="the second network interface (${eni:-unknown}) is not an active port of br0"
	elif ! ip -j link show dev vxlan1 2>/dev/null | jq -e '.[0] | .master == "br0" and (.flags | index("UP"))' >/dev/null; then
		reason='vxlan1 is not an active port of br0'
	fi
	if [[ -n $reason ]]; then
		state=broken
	elif [[ $now != "$wanted" ]]; then
		state=degraded reason="$now carries the traffic, $wanted was asked for"
	fi
	jq -cn --arg state "$state" --arg engine "$now" --arg reason "$reason" '{state: $state, engine: $engine, reason: $reason}'
	[[ $state != broken ]]
}

health_http() {
	local request header code='200 OK' body lines=0
	IFS= read -r -t 2 request || return 0
	while ((lines++ < 64)) && IFS= read -r -t 2 header && [[ $header != $'\r' && -n $header ]]; do :; done
	if [[ $request != 'GET /healthz '* ]]; then
		code='404 Not Found' body='{"error":"only GET /healthz is served"}'
	else
		body=$(health_json) || code='503 Service Unavailable'
	fi
	printf 'HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n' "$code" $((${#body} + 1)) "$body"
}

# --- installing -----------------------------------------------------------------------------------------------------

install_packages() {
	local package missing=()
	while read -r package; do
		[[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
	done <"$HOME_DIR/userdata/packages.txt"
	if [[ ${#missing[@]} -eq 0 ]]; then
		say 'packages: all present'
		return
	fi
	say "packages: installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	local apt=(apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
	"${apt[@]}" update
	"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
}

install_units() {
	local port=/etc/systemd/system/mirror-gateway-health.socket.d
	install -m 0644 "$HOME_DIR"/userdata/*.service "$HOME_DIR"/userdata/*.socket /etc/systemd/system/
	mkdir -p "$port"
	printf '[Socket]\nListenStream=0.0.0.0:%s\n' "${SETTING[HEALTH_PORT]}" >"$port/port.conf"
	ln -sf "$HOME_DIR/userdata/deploy_xdp.sh" /usr/local/sbin/deploy_xdp.sh
	systemctl daemon-reload
}

install_all() {
	local engine=modify_udp.service
	[[ ${SETTING[ENABLE_XDP]} != true ]] || engine='xdp-processor.service'
	install_packages
	make -C "$HOME_DIR/bpf"
	make -C "$HOME_DIR/netfilter"
	install_units
	systemctl enable --quiet --now mirror-gateway-health.socket
	systemctl enable --quiet mirror-gateway-network.service "$engine"
	systemctl start mirror-gateway-network.service
	if [[ ${SETTING[ENABLE_XDP]} == true ]]; then attach; else rollback; fi
}

# --- the story ------------------------------------------------------------------------------------------------------

# One change at a time; a unit that a verb starts runs under that verb's lock.
locked() {
	if [[ -z ${MIRROR_GATEWAY_UNIT:-} ]]; then
		mkdir -p "$RUN"
		exec 9>"$RUN/lock"
		flock -w 60 9 || fail "another deploy_xdp.sh has held $RUN/lock for 60 s; see who with: fuser $RUN/lock"
	fi
	"$@"
}

main() {
	local verb=${1:-help}
	shift || true
	case $verb in help | -h | --help)
		usage
		return
		;;
	esac
	[[ $EUID -eq 0 ]] || fail "$verb needs root; run: sudo deploy_xdp.sh $verb"
	load_settings
	case $verb in
	install) locked install_all ;;
	network-up) locked network_up ;;
	network-down) locked network_down ;;
	attach | detach | rollback) locked "$verb" ;;
	queue) queue_rule "$@" ;;
	status) status "$@" ;;
	stats) stats ;;
	config)
		case ${1:-} in
		get) config_get "${@:2}" ;;
		set) locked config_set "${@:2}" ;;
		*) fail "config: '${1:-}' is neither get nor set" ;;
		esac
		;;
	health)
		case ${1:-} in
		'') health_json ;;
		--http) health_http ;;
		*) fail "health: no option '$1'; the only one is --http" ;;
		esac
		;;
	*) fail "no verb '$verb'; see: deploy_xdp.sh --help" ;;
	esac
}

main "$@"
