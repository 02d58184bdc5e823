#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The operator's one command on a gateway; the units and the lab call the same verbs.
set -euo pipefail

readonly HOME_DIR=/opt/ebpf-xdp-processor ETC=/etc/mirror-gateway RUN=/run/mirror-gateway
readonly LOADER=$HOME_DIR/bpf/udp_df_modifier_loader LEGACY=$HOME_DIR/netfilter/modify_udp_df
readonly QUEUES=/proc/net/netfilter/nfnetlink_queue IMDS=http://169.254.169.254/latest
readonly PINS=/sys/fs/bpf/mirror_gateway AGENT=/opt/aws/amazon-cloudwatch-agent
readonly LARGE_DF=0x4d470002 # the mark that mirror-gateway.nft gives
# drivers/net/ethernet/amazon/ena/ena_xdp.h: what fits a page; a mirrored datagram is 50 bytes shorter than its frame's MTU.
readonly DRIVER_MODE_MTU=3498
# constructs/config/limits.ts has both with their sources: what a mirror session copies whole, what EC2 lets out of an interface.
readonly LARGEST_MIRRORED=8486 EC2_FRAGMENTS_PER_SECOND=1024
readonly FRAGMENT_BYPASS=/sys/module/ena/parameters/enable_frag_bypass
readonly KEYS=(target_port min_packet_size max_packet_size traffic_percent)

usage() {
	cat <<'HELP'
usage: deploy_xdp.sh VERB
  install                   packages, build, units
  agent                     the CloudWatch agent: its package where it is missing, its settings
  network-up, network-down  br0, vxlan1, routes and netfilter rules
  preflight                 what each XDP engine needs, probed: a line each, with the remedy where it fails
  attach                    the best XDP engine that can takes the traffic; modify_udp_df the share of flows it leaves
  detach                    XDP lets go; the standby rule takes over
  rollback                  modify_udp_df takes the traffic
  status                    can packets flow, by which engine, how many now and in all, what is lost; settings, version
         --watch [SECONDS]  again and again, every 2 seconds unless told otherwise
         --json             for programs: counters, state, settings, version
         --prometheus       for programs: counters and state in Prometheus's text format
  stats                     every counter of every part
  config get [KEY]          what can change under traffic, and where it differs from what was deployed
  config set KEY=VALUE...   change it, now and for the next start
  health                    can packets flow? exit 0 or 1
for the units:
  run network|xdp|legacy    keep the network whole; the programs, in the foreground
  build FOLDER              bpf, health or netfilter: what is not built yet, or runs no more since a library changed
  share                     modify_udp_df runs if XDP leaves flows, else not
  ended network|xdp         after a unit's program: what goes with a stop, and not with a crash or a restart
  queue add|delete          feed modify_udp_df or not
HELP
}

say() { printf '%s\n' "$*"; }
# Whether systemd has connected a descriptor to the journal. The variable alone is inherited: by SSM's commands, say.
is_journal() { [[ ${JOURNAL_STREAM:-} == "$(stat -Lc %d:%i "/dev/fd/$1")" ]]; }
# A change of what carries the traffic: for whoever typed the verb, and for the journal with its facts as fields.
notice() {
	is_journal 1 || say "$*"
	systemd_runs || return 0
	logger --journald <<-END
		MESSAGE=$*
		PRIORITY=5
		SYSLOG_IDENTIFIER=deploy_xdp.sh
		OBJECT_SYSTEMD_UNIT=xdp-processor.service
		ENGINE=$(engine)
		XDP_MODE=$(loader_status | jq -r .xdp_mode)
		INTERFACE=$(loader_status | jq -r .interface)
	END
}
align() { while read -r key value; do printf '%-32s %s\n' "$key" "$value"; done; }
fail() {
	if is_journal 2; then printf '<3>' >&2; fi
	printf 'deploy_xdp.sh: %s\n' "$*" >&2
	exit 1
}

# --- settings -------------------------------------------------------------------------------------------------------

declare -A DEPLOYED # the settings of gateway.env by their names there

# What was deployed, then what `config set` changed. Data, never executed.
load_settings() {
	local file key value
	[[ -r $ETC/gateway.env ]] || fail "$ETC/gateway.env is missing; the user data writes it: see /var/log/cloud-init-output.log"
	for file in "$ETC/gateway.env" "$ETC/runtime.env"; do
		[[ -r $file ]] || continue
		while IFS='=' read -r key value; do
			[[ $key =~ ^[A-Z_]+$ ]] || continue
			printf -v "$key" %s "$value"
			if [[ $file == "$ETC/gateway.env" ]]; then DEPLOYED[$key]=$value; fi
		done <"$file"
	done
	RULE=(--target-port "$TARGET_PORT" --min-packet-size "$MIN_PACKET_SIZE" --max-packet-size "$MAX_PACKET_SIZE")
	RULE_AND_SHARE=("${RULE[@]}" --traffic-percent "$XDP_TRAFFIC_PERCENT")
}

# For what goes on while `config set` changes them.
reload_settings() { if [[ -r $ETC/gateway.env ]]; then load_settings; fi; }

known_key() { [[ " ${KEYS[*]} " == *" $1 "* ]] || fail "config: no key '$1'; it must be one of ${KEYS[*]}"; }

# A flat JSON object as KEY=value lines.
pairs() { jq -r 'to_entries[] | "\(.key)=\(.value)"'; }

env_name() {
	local key=${1/#traffic/xdp_traffic}
	say "${key^^}"
}

# The loader checks the values as the stack does and, while XDP is attached, applies them between two packets.
config_set() {
	local pair key value settings changed=() rule="${RULE[*]}"
	[[ $# -gt 0 ]] || fail 'config set: nothing to set; give KEY=VALUE'
	for pair in "$@"; do
		key=${pair%%=*}
		known_key "$key"
		[[ $pair == *=* ]] || fail "config: '$pair' has no value; give $key=VALUE"
		[[ $key != max_packet_size ]] || check_driver_mode "${pair#*=}"
		changed+=("--${key//_/-}" "${pair#*=}")
	done
	settings=$("$LOADER" config "${RULE_AND_SHARE[@]}" "${changed[@]}")
	pairs <<<"$settings" | while IFS='=' read -r key value; do
		say "$(env_name "$key")=$value"
	done >"$ETC/runtime.env.new"
	mv "$ETC/runtime.env.new" "$ETC/runtime.env"
	load_settings
	apply_to_a_loader_just_starting
	if [[ -e $RUN/eni ]] && ip link show br0 &>/dev/null; then load_rules; fi
	if [[ ${RULE[*]} != "$rule" ]] && queue_is_served; then legacy restart; fi
	if xdp_is_attached; then share; fi
	notice "settings: $(config_get | paste -sd ' ')"
}

check_driver_mode() {
	[[ $1 =~ ^[0-9]{1,5}$ && $(loader_status | jq -r .xdp_mode) == driver ]] && ((10#$1 > DRIVER_MODE_MTU - 50)) || return 0
	fail "config: max_packet_size '$1' does not fit driver mode, where it is at most $((DRIVER_MODE_MTU - 50)); deploy with xdp_mode=generic"
}

# It may have read the settings before they changed, and put them in force after.
apply_to_a_loader_just_starting() {
	if systemd_runs && [[ $(systemctl is-active xdp-processor) == activating ]]; then
		systemctl start xdp-processor || true # waits for it
		"$LOADER" config "${RULE_AND_SHARE[@]}" >/dev/null
	fi
}

# A single value for scripts; all of them for people.
config_get() {
	local key=${1:-} value deployed
	if [[ $key ]]; then
		known_key "$key"
		loader_status | jq -r --arg key "$key" '.config[$key]'
		return
	fi
	while IFS='=' read -r key value; do
		deployed=${DEPLOYED[$(env_name "$key")]}
		if [[ $value == "$deployed" ]]; then say "$key=$value"; else say "$key=$value (deployed: $deployed)"; fi
	done < <(loader_status | jq .config | pairs)
}

# --- network --------------------------------------------------------------------------------------------------------

imds_token() { curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$IMDS/api/token"; }

# Where the caller has no TOKEN for several questions, with one of its own.
imds() {
	local token
	token=${TOKEN:-$(imds_token)} && curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" "$IMDS/meta-data/$1"
}

# DEVICE_NUMBER -> MAC, NAME, ADDRESS, SUBNET. The second one is attached while the instance boots, perhaps late.
find_interface() {
	local macs=network/interfaces/macs TOKEN
	TOKEN=$(imds_token) || return
	for MAC in $(imds $macs/); do
		MAC=${MAC%/}
		[[ $(imds "$macs/$MAC/device-number") == "$1" ]] || continue
		NAME=$(ip -j link show | jq -er --arg mac "$MAC" 'map(select(.address == $mac and .ifname != "br0"))[0].ifname') &&
			ADDRESS=$(imds "$macs/$MAC/local-ipv4s" | head -n 1) && SUBNET=$(imds "$macs/$MAC/subnet-ipv4-cidr-block") && return
	done
	return 1
}

await_secondary() {
	local limit=$((SECONDS + 600)) said=0
	until find_interface 1; do
		((SECONDS < limit)) || fail 'no second network interface (IMDS device number 1) within 600 s; see the log of what attaches it'
		((said++ % 15)) || say 'waiting for the second network interface'
		sleep 2
	done
}

# A table that was flushed is still there.
network_is_up() {
	[[ $(ip link show br0 2>/dev/null) == *[\<,]UP[,\>]* ]] &&
		[[ $(nft list chain bridge mirror_gateway datagram 2>/dev/null) == *'pkttype set'* ]] &&
		[[ $(nft list chain ip mirror_gateway translate 2>/dev/null) == *notrack* ]] &&
		{ ! hands_over || [[ $(nft list chain ip mirror_gateway_handover prerouting 2>/dev/null) == *notrack* ]]; }
}

hands_over() { grep -qsx 'direct generic' "$RUN/hooked"; }

need_network() { network_is_up || fail 'br0 or the netfilter rules are missing or incomplete; run: deploy_xdp.sh network-up'; }

# Sources are foreign: no filter on the way, and no word back. What the direct engine hands over comes in by the primary one.
kernel_settings() {
	local ours=(net.ipv4.conf.{all,br0}.{rp_filter,send_redirects,accept_redirects,accept_source_route,log_martians}'=0'
		'net.ipv4.conf.br0.arp_ignore=1' "net.ipv4.conf.$(<"$RUN/primary").rp_filter=0")
	# With 1 the bridge would run iptables itself and forward frames past XDP and the IP layer, DF set.
	if [[ -e /proc/sys/net/bridge ]]; then ours+=('net.bridge.bridge-nf-call-iptables=0'); fi
	sysctl -qw net.ipv4.ip_forward=1 "${ours[@]}" # first: its change resets others (Documentation/networking/ip-sysctl.rst)
}

without_ipv6() { if [[ -e /proc/sys/net/ipv6 ]]; then sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"; fi; }

# Debian's images run DHCP on whatever is plugged in: another default route would take the instance off its VPC. But a reload
# while netplan writes its files anew, which it does at each daemon-reload, leaves the primary interface without settings.
keep_dhcp_away() {
	local file=/etc/systemd/network/05-mirror-gateway.network unmanaged
	systemd_runs || return 0
	printf -v unmanaged '[Match]\nPermanentMACAddress=%s\n[Link]\nUnmanaged=yes' "$MAC"
	if [[ $(cat "$file" 2>/dev/null) == "$unmanaged" && $(networkctl list --no-legend "$NAME") == *unmanaged* ]]; then return 0; fi
	install -m 0644 /dev/stdin "$file" <<<"$unmanaged" # readable: networkd is not root
	networkctl reload
}

# Whoever comes last has the newest settings: a network that is being made while they change loads them, too.
load_rules() (
	exec 8>>"$RUN/rules.lock"
	flock 8
	load_settings
	nft -D eni="$(<"$RUN/eni")" -D br0_mac="$(ip -j link show br0 | jq -r '.[0].address')" \
		-D target_port="$TARGET_PORT" -D min_packet_size="$MIN_PACKET_SIZE" -D max_packet_size="$MAX_PACKET_SIZE" \
		-D id_start=$((SRANDOM & 0x7fff)) -D ipsec_vm_ip="$AWS_IPSEC_VM_IP" -D ipsec_vm_port="$AWS_IPSEC_VM_PORT" -f "$HOME_DIR/netfilter/mirror-gateway.nft"
)

to_number() {
	local a b c d
	IFS=. read -r a b c d <<<"$1"
	say $(((a << 24) + (b << 16) + (c << 8) + d))
}

# No route to the subnet itself: with both interfaces in one subnet it would draw the instance's own traffic, health
# checks included, to the wrong interface. The VPC's router is the subnet's first address.
add_routes() {
	local bits=${SUBNET#*/} network router prefix via
	network=$(to_number "${SUBNET%/*}")
	router=$((network >> 24)).$((network >> 16 & 255)).$((network >> 8 & 255)).$(((network & 255) + 1))
	for prefix in "$AWS_IPSEC_VM_IP/32" ${EGRESS_CIDRS//,/ }; do
		via=(via "$router" onlink)
		if ((${prefix#*/} >= bits && $(to_number "${prefix%/*}") >> (32 - bits) == network >> (32 - bits))); then via=(scope link); fi
		ip route replace "$prefix" "${via[@]}" dev br0 src "$ADDRESS"
	done
}

# Without the lock while it waits: other verbs need not.
network_up() {
	local MAC NAME ADDRESS SUBNET
	nft -f "$HOME_DIR/netfilter/silence.nft"
	find_interface 0 || fail 'no interface with IMDS device number 0; does the metadata service answer?'
	say "$NAME" >"$RUN/primary"
	await_secondary
	locked make_network
}

make_network() {
	say "$NAME" >"$RUN/eni"
	keep_dhcp_away
	ip addr flush dev "$NAME"
	# Born with its address: udev would give it one of its own.
	ip link show br0 &>/dev/null || ip link add br0 address "$MAC" type bridge stp_state 0 mcast_snooping 0
	ip link show vxlan1 &>/dev/null || ip link add vxlan1 type vxlan id "$VNI" dstport 4789 nolearning
	without_ipv6 br0
	without_ipv6 vxlan1
	without_ipv6 "$NAME"
	fit_egress_mtu
	ip link set br0 address "$MAC" mtu "$EGRESS_MTU"
	load_rules # before the first frame can pass, and before the kernel forwards anything
	if hands_over; then let_handed_over_pass; fi
	kernel_settings
	ip link set vxlan1 master br0 up
	ip link set "$NAME" master br0 up
	bridge link set dev vxlan1 learning off flood off mcast_flood off bcast_flood off
	bridge link set dev "$NAME" learning off
	ip link set br0 up
	ip addr replace "$ADDRESS/${SUBNET#*/}" dev br0 noprefixroute
	drop_other_addresses
	add_routes
	start_enabled_engine
	say "network is up: $NAME and vxlan1 (VNI $VNI) on br0, $ADDRESS, MTU $EGRESS_MTU, to $AWS_IPSEC_VM_IP:$AWS_IPSEC_VM_PORT"
}

# Nobody else tells the second interface what a VPC carries (keep_dhcp_away), so ENA leaves it at Ethernet's 1500
# (alloc_etherdev_mq in ena_probe, drivers/net/ethernet/amazon/ena/ena_netdev.c). What driver mode lowered, detach restores.
fit_egress_mtu() {
	local name mtu
	if read -r name mtu _ < <(grep -s "^$NAME " "$RUN/links"); then
		if ((mtu < EGRESS_MTU)); then sed -i "s/^$name $mtu/$name $EGRESS_MTU/" "$RUN/links"; fi
	elif (($(mtu_of "$NAME") < EGRESS_MTU)); then
		ip link set "$NAME" mtu "$EGRESS_MTU" || fail "$NAME takes no MTU of $EGRESS_MTU; deploy with a lower egress_mtu"
	fi
}

# Of a second interface that another one has replaced.
drop_other_addresses() {
	local other
	for other in $(ip -j -4 addr show dev br0 | jq -r --arg address "$ADDRESS" '.[0].addr_info[] | select(.local != $address) | "\(.local)/\(.prefixlen)"'); do
		ip addr del "$other" dev br0
	done
}

# Also when the second interface came so late that the engine's own start was given up. Never waits: a unit whose job is
# in hand may be waiting for this one.
start_enabled_engine() {
	local unit
	systemd_runs || return 0
	for unit in xdp-processor modify_udp; do
		(
			exec 6>>"$RUN/$unit.lock"
			flock -n 6 || exit 0
			if systemctl -q is-enabled $unit; then systemctl start --no-block $unit; fi
		)
	done
}

# -> what keeps packets from flowing, in words; nothing when they can
network_fault() {
	local eni
	eni=$(cat "$RUN/eni" 2>/dev/null || say 'the second network interface')
	if ! network_is_up; then
		say 'br0 or the netfilter rules are missing or incomplete'
	elif ! is_port "$eni"; then
		say "$eni is no active port of br0"
	elif ! is_port vxlan1; then
		say 'vxlan1 is no active port of br0'
	elif [[ $(ip route get "$AWS_IPSEC_VM_IP" 2>/dev/null) != *' dev br0 '* ]]; then
		say "no route to $AWS_IPSEC_VM_IP by br0"
	elif [[ $(</proc/sys/net/ipv4/ip_forward) != 1 ]]; then
		say 'net.ipv4.ip_forward is off'
	fi
}

is_port() { [[ $(ip link show "$1" 2>/dev/null) == *[\<,]LOWER_UP[,\>]*' master br0 '* ]]; }

# What is deleted, unplugged or flushed is made again as soon as the kernel says so, or within ten seconds.
keep_network_whole() {
	local events said='' XDP NOW MODE STATE REASON
	# A watch that was restarted speaks at once, and goes on where packets flow though the metadata service does not answer.
	publish_health
	"$0" network-up || [[ $STATE != broken ]] # its lock goes with it
	if [[ ${NOTIFY_SOCKET:-} ]]; then systemd-notify --ready; fi
	exec {events}< <(exec ip -o monitor link)
	while :; do
		reload_settings
		publish_health
		if [[ $STATE == broken ]]; then
			[[ $REASON == "$said" ]] || notice "packets cannot flow: $REASON"
			said=$REASON
			mend_network
		elif [[ $said ]]; then
			notice 'packets can flow again'
			said=''
		fi
		keep_next_hop
		await_event "$events"
	done
}

# The kernel asks again for an address that its own packets use. Those of the direct engine do not count as such.
keep_next_hop() {
	local hop
	hop=$(ip -j route get "$AWS_IPSEC_VM_IP" 2>/dev/null | jq -r '.[0].gateway // .[0].dst // empty')
	[[ -z $hop ]] || ip neigh replace "$hop" dev br0 use 2>/dev/null || true
}

# Events come in bursts: looks once they are over, but not for ever.
await_event() {
	local code=0 limit
	read -r -t 10 -u "$1" || code=$?
	((code <= 128)) || return 0
	((code == 0)) || sleep 10 # no more events from there
	limit=$((SECONDS + 5))
	while ((SECONDS < limit)) && read -r -t 0.2 -u "$1"; do :; done
}

# A process of its own, where the first failure is the last step. Only with an interface to make it of.
mend_network() {
	local MAC NAME ADDRESS SUBNET
	if find_interface 1; then MIRROR_GATEWAY_UNIT='' "$0" network-up || true; fi
}

network_down() {
	sysctl -qw net.ipv4.ip_forward=0
	ip link del vxlan1 2>/dev/null || true
	ip link del br0 2>/dev/null || true
	nft -f - <<<'table bridge mirror_gateway; delete table bridge mirror_gateway; table ip mirror_gateway; delete table ip mirror_gateway; table ip mirror_gateway_handover; delete table ip mirror_gateway_handover'
	say 'network is down: br0, vxlan1 and the netfilter rules are gone'
}

# --- engines --------------------------------------------------------------------------------------------------------

# A lab has no systemd of its own: there the verbs do what the units would.
systemd_runs() { [[ -d /run/systemd/system && -e /etc/systemd/system/xdp-processor.service ]]; }
xdp_is_attached() { loader_status | jq -e .attached >/dev/null; }
# In mode 2 the program gets packets. Until it has asked for that, the kernel drops what the rule feeds its queue.
queue_row() { grep -sE '^ *0 +[0-9]+ +[0-9]+ 2 ' "$QUEUES"; }
queue_is_served() { queue_row >/dev/null; }

# Also where there is no loader that runs, because it could not be built: the pins are what holds the program.
loader_status() {
	local attached=true engine=none mode=none
	if [[ -x $LOADER ]] && "$LOADER" status "${RULE_AND_SHARE[@]}"; then return; fi
	if [[ -e $PINS/link ]]; then read -r engine mode <"$RUN/hooked" || true; else attached=false; fi
	printf '{"attached":%s,"engine":"%s","interface":"","xdp_mode":"%s","config":{}}\n' "$attached" "$engine" "$mode"
}

run() {
	case $1 in
	network) keep_network_whole ;;
	xdp) run_xdp ;;
	legacy) exec "$LEGACY" "${RULE[@]}" ;;
	*) fail "run: '$1' is none of network, xdp and legacy" ;;
	esac
}

run_xdp() {
	local ARGS
	hook_best || exit
	exec "$LOADER" run "${ARGS[@]}"
}

queue_rule() {
	local rule=(PREROUTING -m mark --mark "$LARGE_DF" -j NFQUEUE --queue-num 0 --queue-bypass)
	case $1 in
	add) iptables-nft -t raw -C "${rule[@]}" 2>/dev/null || iptables-nft -t raw -A "${rule[@]}" ;;
	delete) while iptables-nft -t raw -D "${rule[@]}" 2>/dev/null; do :; done ;;
	*) fail "queue: '$1' is neither add nor delete" ;;
	esac
}

# A unit now and at the next boot, which comes after what traffic waits for. One at a time: a start that crosses a stop
# cancels it, and either may come from another unit.
unit() ( # start|stop|restart UNIT
	local code=0
	exec 6>>"$RUN/$2.lock"
	flock 6
	systemctl "$1" "$2" || code=$?
	if [[ $1 == stop ]]; then at_boot disable "$2"; else at_boot enable "$2"; fi
	return $code
)

# enable or disable, but only to change what is: systemd reads all its units again after it. With --no-reload it would not, but
# warn at each later start or stop that they changed.
at_boot() {
	local now=disable
	if systemctl -q is-enabled "$2"; then now=enable; fi
	[[ $now == "$1" ]] || systemctl -q "$1" "$2"
}

# start, stop or restart.
legacy() {
	if systemd_runs; then
		unit "$1" modify_udp
		return
	fi
	if [[ $1 != start ]]; then legacy_stop; fi
	if [[ $1 != stop ]]; then legacy_start; fi
}

legacy_start() {
	local waited=0 pid=''
	legacy_end
	if ! queue_is_served; then
		queue_rule delete # of a program that crashed
		# It writes its own number, before it can be orphaned by an interruption.
		(
			say $BASHPID >"$RUN/modify_udp_df.pid"
			exec setsid "$LEGACY" "${RULE[@]}" >"$RUN/modify_udp_df.log" 2>&1 </dev/null 9>&-
		) &
		pid=$!
	fi
	until queue_is_served; do
		sleep 0.1
		if ((waited++ > 200)) || ! kill -0 "$pid" 2>/dev/null; then
			fail "modify_udp_df does not serve its queue: $(tail -n 1 "$RUN/modify_udp_df.log")"
		fi
	done
	queue_rule add
}

# The rule goes first: what waits in a queue is lost when its program exits.
legacy_stop() {
	queue_rule delete
	mv -f "$RUN/modify_udp_df.pid" "$RUN/modify_udp_df.ending" 2>/dev/null || true
	legacy_end
}

# Also what an interrupted stop has begun: its program serves the queue for a while yet, but not for long.
legacy_end() {
	local pid waited=0
	pid=$(pgrep -F "$RUN/modify_udp_df.ending" modify_udp_df 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null || return 0
	while readlink -q "/proc/$pid/exe" >/dev/null && ((waited++ < 100)); do sleep 0.1; done
}

share() { if ((XDP_TRAFFIC_PERCENT < 100)); then legacy start; else legacy stop; fi; }

# --- choosing an XDP engine -----------------------------------------------------------------------------------------
# $RUN/hooked    ENGINE MODE, as hooked last
# $RUN/refused   ENGINE MODE REASON, a line each: not tried again until `attach` or the next boot
# $RUN/skipped   what was not even tried, in words
# $RUN/links     NAME MTU CHANNELS, before driver mode changed them
# $RUN/handover  the address by which netfilter knows what the direct engine hands over

# ENGINE MODE, best first: what was asked for, and what is left if that is refused.
candidates() {
	case $XDP_ENGINE:$XDP_MODE in
	bridge:*) say 'bridge generic' ;;
	*:generic) printf '%s\n' 'direct generic' 'bridge generic' ;;
	*) printf '%s\n' 'direct driver' 'direct generic' 'bridge generic' ;;
	esac
}

# The one that is hooked comes first: a crash, or a setting that has changed since, is no reason to change it.
candidates_now() {
	local hooked=none
	if [[ -e $RUN/hooked ]] && xdp_is_attached; then
		hooked=$(<"$RUN/hooked")
		say "$hooked"
	fi
	candidates | grep -vxF "$hooked"
}

# ENGINE MODE -> ARGS
loader_args() {
	ARGS=(--engine "$1" --mode "$2" "${RULE_AND_SHARE[@]}")
	if [[ $1 == bridge ]]; then
		ARGS+=(--interface br0)
		return
	fi
	ARGS+=(--interface "$(cat "$RUN/primary")" --secondary "$(cat "$RUN/eni")" --vni "$VNI" --egress-mtu "$EGRESS_MTU"
		--ipsec-vm-ip "$AWS_IPSEC_VM_IP" --ipsec-vm-port "$AWS_IPSEC_VM_PORT")
	if [[ -e $RUN/handover ]]; then ARGS+=(--handover-mac "$(<"$RUN/handover")"); fi
}

in_words() { if [[ $1 == bridge ]]; then say 'the bridge engine'; else say "the direct engine in $2 mode"; fi; }

# -> ARGS of the first engine that can. Exit code 78: none can; another: not now.
hook_best() {
	local engine mode reason code list
	: >"$RUN/skipped"
	links_are_there || return
	mapfile -t list < <(candidates_now)
	for reason in "${list[@]}"; do
		read -r engine mode <<<"$reason"
		if grep -qs "^$engine $mode " "$RUN/refused"; then continue; fi
		loader_args "$engine" "$mode"
		reason=$("$LOADER" preflight "${ARGS[@]}" | sed -n 's/^FAIL //p')
		if grep -q '^interface ' <<<"$reason"; then
			say "$reason" >&2 # gone since
			return 1
		fi
		if [[ $reason ]]; then
			pass_over "$engine" "$mode" "$reason"
			continue
		fi
		code=0
		hook_one "$engine" "$mode" || code=$?
		((code != 0)) || return 0
		((code == 78)) || return $code
		refuse "$engine" "$mode" "$(tail -n 1 "$RUN/attach.log")"
	done
	if [[ -e $RUN/links ]] && ! xdp_is_attached; then restore_links; fi
	return 78
}

# What sizes, channels and kernel rule out was to be expected.
pass_over() { # ENGINE MODE FAULTS
	local faults
	faults=$(tr -s ' ' <<<"$3" | paste -sd ';')
	if grep -qvE '^(sizes|queues|copies) ' <<<"$3"; then
		refuse "$1" "$2" "$faults"
	else
		say "$(in_words "$1" "$2") cannot run: $faults" | tee -a "$RUN/skipped" >&2
	fi
}

# One that is gone for a moment is no reason for another engine.
links_are_there() {
	local name
	for name in br0 "$(cat "$RUN/primary")" "$(cat "$RUN/eni")"; do ip link show "$name" >/dev/null || return; done
}

refuse() { # ENGINE MODE REASON
	say "$1 $2 $3" >>"$RUN/refused"
	say "$(in_words "$1" "$2") is refused: $3" >&2
}

# Puts the interfaces into the state that this engine needs, and out of those that others needed.
hook_one() {
	if [[ $2 == driver ]]; then fit_links || return 78; fi
	if [[ $1 == direct && $2 == generic ]]; then let_handed_over_pass || return; fi
	loader_args "$1" "$2"
	attach_program || return
	say "$1 $2" >"$RUN/hooked"
	if [[ $1 != direct || $2 != generic ]]; then drop_handover; fi
	# Again, because it looked at the MTU.
	if [[ $2 != driver && -e $RUN/links ]]; then restore_links && attach_program; fi
}

attach_program() {
	local code=0
	"$LOADER" attach "${ARGS[@]}" 2>"$RUN/attach.log" || code=$?
	cat "$RUN/attach.log" >&2
	return $code
}

mtu_of() { ip -j link show "$1" | jq .[0].mtu; }

# NAME -> the most that it can have, and what it has; nothing where a driver does not tell
channels() { ethtool -l "$1" 2>/dev/null | sed -n 's/^Combined:[^0-9]*\([0-9]\)/\1/p'; }

# ENA has no XDP in its driver with more than half of its channels: the program needs one to send for each to receive.
fit_links() {
	local name most now
	for name in "$(<"$RUN/primary")" "$(<"$RUN/eni")"; do
		most='' now=''
		{ read -r most && read -r now; } < <(channels "$name") || true
		grep -qs "^$name " "$RUN/links" || say "$name $(mtu_of "$name") $now" >>"$RUN/links"
		if (($(mtu_of "$name") > DRIVER_MODE_MTU)) && ! ip link set "$name" mtu $DRIVER_MODE_MTU 2>"$RUN/attach.log"; then return 1; fi
		[[ $(ethtool -i "$name" 2>/dev/null) == *'driver: ena'* ]] || continue
		if ((now > most / 2)) && ! ethtool -L "$name" combined $((most / 2)) 2>"$RUN/attach.log"; then return 1; fi
	done
}

# What is not restored is known yet, for the next time.
restore_links() {
	local name mtu count left=()
	while read -r name mtu count; do
		restore_link "$name" "$mtu" "$count" || left+=("$name $mtu $count")
	done <"$RUN/links"
	rm -f "$RUN/links"
	if ((${#left[@]})); then printf '%s\n' "${left[@]}" >"$RUN/links"; fi
}

# NAME MTU [CHANNELS]. A driver may need a moment after its program has gone.
restore_link() {
	local tries
	for tries in {1..10}; do
		if ! ip link show "$1" &>/dev/null; then return 0; fi
		if ip link set "$1" mtu "$2" 2>"$RUN/links.log"; then
			if [[ ${3:-} && $(channels "$1" | tail -n 1) != "$3" ]]; then ethtool -L "$1" combined "$3" 2>/dev/null || true; fi
			return 0
		fi
		sleep 0.1
	done
	say "$1: its MTU stays $(mtu_of "$1"), not $2: $(<"$RUN/links.log"), after $tries tries; mend that, then: deploy_xdp.sh detach, attach" >&2
	return 1
}

# Random, and as long as the program is hooked the same: what is on its way was sent under it.
let_handed_over_pass() {
	[[ -s $RUN/handover ]] || (umask 077 && printf '02%s\n' "$(od -An -N5 -tx1 /dev/urandom | tr ' ' :)" >"$RUN/handover")
	nft -D primary="$(<"$RUN/primary")" -D handover_mac="$(<"$RUN/handover")" \
		-D ipsec_vm_ip="$AWS_IPSEC_VM_IP" -D ipsec_vm_port="$AWS_IPSEC_VM_PORT" -f "$HOME_DIR/netfilter/handover.nft"
}

# Its hook stays: whenever one goes, the kernel drops what waits in queues (nf_queue_nf_hook_drop, net/netfilter/core.c).
drop_handover() {
	if [[ -e $RUN/handover ]]; then nft -f - <<<'table ip mirror_gateway_handover; flush table ip mirror_gateway_handover'; fi
	rm -f "$RUN/handover"
}

# Everything is tried before anything is touched. What builds the program is needed only where it is not built yet.
preflight() {
	local engine mode failed=1 ARGS
	if [[ -x $LOADER && -e $HOME_DIR/bpf/udp_df_modifier.bpf.o && -e $HOME_DIR/bpf/udp_df_direct.bpf.o ]]; then
		say "ok   program      built in $HOME_DIR/bpf"
		check_fragments
		while read -r engine mode; do
			say "$(in_words "$engine" "$mode"):"
			loader_args "$engine" "$mode"
			if "$LOADER" preflight "${ARGS[@]}"; then failed=0; fi
		done < <(candidates)
	else
		say "FAIL program      not built; see why: deploy_xdp.sh build bpf"
		check_tool clang "$(command -v clang)"
		check_tool libbpf-dev "$(ls /usr/include/bpf/libbpf.h 2>/dev/null)"
	fi
	return $failed
}

# Says whether EC2 will drop fragments, and never refuses an engine: all of them meet the same limit.
check_fragments() {
	local most=$((MAX_PACKET_SIZE < LARGEST_MIRRORED ? MAX_PACKET_SIZE : LARGEST_MIRRORED)) bypass remedy
	if ((EGRESS_MTU >= most)); then
		say "ok   fragments    none: egress_mtu $EGRESS_MTU takes every mirrored datagram whole"
		return
	fi
	bypass=$(fragment_bypass)
	case $bypass in
	on) say "ok   fragments    egress_mtu $EGRESS_MTU cuts longer datagrams; ENA's fragment bypass is on" && return ;;
	off) remedy='load the driver with enable_frag_bypass=1 and without enable_bql' ;;
	*) remedy="have Amazon's own ENA driver, 2.13.3 or newer, with enable_frag_bypass=1" ;;
	esac
	say "note fragments    egress_mtu $EGRESS_MTU cuts longer datagrams, and of fragments EC2 drops what is beyond $EC2_FRAGMENTS_PER_SECOND a second; set egress_mtu to 9001, or $remedy (ENA's fragment bypass is $bypass)"
}

# on, off or absent. A parameter of Amazon's own driver (github.com/amzn/amzn-drivers, kernel/linux/ena: RELEASENOTES.md, 2.13.3;
# README.rst), read when an interface comes up; together with enable_bql the driver switches it off (ENA_Linux_Best_Practices.rst).
fragment_bypass() {
	local value
	{ read -r value <$FRAGMENT_BYPASS; } 2>/dev/null || value=absent
	case $value in
	absent) say absent ;;
	0 | N) say off ;;
	*) say on ;;
	esac
}

# Fragments that the kernel's IP layer made since the boot. A line of names, then one of numbers.
kernel_fragments() {
	local names numbers i
	while read -ra names && read -ra numbers; do
		[[ ${names[0]} == Ip: ]] || continue
		for i in "${!names[@]}"; do
			if [[ ${names[i]} == FragCreates ]]; then say "${numbers[i]}"; fi
		done
	done </proc/net/snmp
}

check_tool() {
	if [[ $2 ]]; then
		say "ok   build        $1 is there"
	else
		say "FAIL build        $1 is missing; install it: deploy_xdp.sh install"
	fi
}

attach() {
	local checks
	need_network
	rm -f "$RUN/refused" "$RUN/hooked" # the whole list again
	checks=$(preflight) || fall_back "$(grep ^FAIL <<<"$checks")"
	hook || fall_back "$(why_not_hooked)"
	share
	cat "$RUN/skipped"
	notice "XDP is attached, $(in_words "$(engine)" "$(loader_status | jq -r .xdp_mode)"), and takes $XDP_TRAFFIC_PERCENT % of the flows"
}

hook() {
	local ARGS
	if ! systemd_runs; then
		hook_best 2>"$RUN/hook.log"
		return
	fi
	unit restart xdp-processor # also takes up what was built or set since
}

# The verifier's own words are among them.
why_not_hooked() {
	if systemd_runs; then
		journalctl -o cat "_SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID xdp-processor)"
	else
		cat "$RUN/hook.log"
	fi
}

# Netfilter carries what XDP cannot: a refusal never costs a datagram, and never passes in silence.
fall_back() {
	say "$1" >&2
	xdp_is_attached || (legacy start) || true
	notice "XDP is refused; now carrying the traffic: $(engine)" >/dev/null
	fail "XDP is refused for the reason above; now carrying the traffic: $(engine)"
}

detach() {
	if systemd_runs; then unit stop xdp-processor; fi
	unhook
	notice "XDP is detached; now carrying the traffic: $(engine)"
}

# Without a loader that runs, removing the pins unhooks the program as well.
unhook() {
	if [[ -e $PINS ]] && ! { [[ -x $LOADER ]] && "$LOADER" detach; }; then rm -rf "$PINS"; fi
	if [[ -e $RUN/links ]]; then restore_links; fi
	rm -f "$RUN/hooked" # first: while it says `direct generic`, the network is whole only with the hand-over's rules
	drop_handover
}

# A crash or a restart leaves the program on its interface and the network as it is, an orderly stop does not.
unit_ended() {
	local hooked
	case $1 in
	network) if is_stopping mirror-gateway-network; then network_down; fi ;;
	xdp)
		if is_stopping xdp-processor; then
			unhook
		elif [[ ${EXIT_STATUS:-} == 79 ]]; then # the loader's EXIT_GIVEN_UP; the next start takes the next engine
			read -ra hooked <"$RUN/hooked"
			refuse "${hooked[@]}" 'redirected frames were lost, see: journalctl -u xdp-processor'
		elif ! xdp_is_attached && network_is_up; then
			legacy start
			notice "XDP is not attached; now carrying the traffic: $(engine)"
		fi
		;;
	*) fail "ended: '$1' is neither network nor xdp" ;;
	esac
	publish_after
}

is_stopping() {
	local jobs
	systemd_runs || return 1
	jobs=$(systemctl list-jobs --no-legend)
	grep -Eq "$1\.service +stop " <<<"$jobs"
}

# The standby has the traffic while the one goes and the other comes, and keeps it where the other cannot.
rollback() {
	local served=1
	need_network
	(legacy start) || served=0
	detach
	# A loader that was just starting may have found its share and stopped it.
	queue_is_served || (legacy start) || served=0
	((served)) || fail "rolled back, but modify_udp_df does not run, for the reason above; now carrying the traffic: $(engine)"
	notice 'rolled back: modify_udp_df takes the traffic, the standby rule what it leaves'
}

# --- looking --------------------------------------------------------------------------------------------------------

engine() { engine_of "$(loader_status | jq -r .engine)"; }

# What the loader says is hooked, or what carries the traffic without it.
engine_of() {
	if [[ $1 != none ]]; then
		say "$1"
	elif queue_is_served; then
		say nfqueue
	elif network_is_up; then
		say standby
	else
		say none
	fi
}

# For jq: what `nft -j list counters` says, by name.
readonly OURS='[.nftables[].counter // empty | select(.table | startswith("mirror_gateway")) | {(.name): .}] | add // {}'

# packets_*: the XDP program's own numbers while it is attached, netfilter's otherwise. Numbers that go together were read
# `uptime` seconds after the boot. They begin anew, all but those of netfilter, when stats_map or nfqueue_socket changes.
# Columns of the queue: number, port id, waiting, mode, range, dropped in the kernel, dropped on the way up, last id.
status_json() {
	local queue=(0 0 0 0 0 0 0 0) row uptime vxlan netfilter XDP NOW MODE STATE REASON
	read -r uptime _ </proc/uptime
	XDP=$(loader_status)
	netfilter=$(nft -j list counters)
	vxlan=$(ip -j -s link show vxlan1 2>/dev/null) || vxlan='[]'
	if row=$(queue_row); then read -ra queue <<<"$row"; fi
	judge
	# What is too short for an IP header, VXLAN itself refuses.
	printf '%s\n' "$XDP" "$netfilter" "$vxlan" |
		jq -cs --arg engine "$NOW" --arg state "$STATE" --arg reason "$REASON" --argjson uptime "$uptime" \
			--arg version "${GATEWAY_VERSION:-unknown}" --arg bypass "$(fragment_bypass)" --argjson fragments "$(kernel_fragments)" \
			--argjson socket "${queue[1]}" --argjson queued "${queue[7]}" --argjson dropped $((queue[5] + queue[6])) '
		.[0] as $xdp | (.[1] | '"$OURS"') as $nft | (.[2][0].stats64.rx.errors // 0) as $refused |
		def n($name): $nft[$name].packets // 0;
		{version: $version, engine: $engine, xdp_mode: $xdp.xdp_mode, interface: (if $xdp.attached then $xdp.interface else "br0" end), attached: $xdp.attached,
			state: $state, reason: $reason, uptime: ($xdp.uptime // $uptime)}
		+ if $xdp.attached
			then $xdp | {packets_seen, packets_matched, packets_modified, bytes_processed, packets_left_to_netfilter}
			else {packets_seen: n("datagrams_steered"), packets_matched: n("large_df"), packets_modified: n("large_df"),
				bytes_processed: ($nft.large_df.bytes // 0), packets_left_to_netfilter: 0} end
		+ {packets_malformed: ($xdp.packets_malformed + n("packets_malformed") + $refused),
			fragments_seen: ($xdp.fragments_seen + n("fragments_seen")), frames_unmatched: n("frames_unmatched"),
			standby_packets: n("standby_packets"), packets_expired: n("packets_expired"), packets_misrouted: n("packets_misrouted"),
			nfqueue_packets: $queued, nfqueue_dropped: $dropped, kernel_fragments: $fragments, fragment_bypass: $bypass}
		+ ($xdp | {redirects_refused, redirects_unsent, fragments_due, fragments_sent, copies_lost, forged, failed} | map_values(. // 0))
		+ {stats_map: ($xdp.stats_map // 0), nfqueue_socket: $socket, config: $xdp.config}'
}

# With the machine's own losses, and for how many seconds what carries the traffic has been there.
sample() {
	local status losses running=null uptime socket='"engine":"nfqueue".*"nfqueue_socket":([1-9][0-9]*)'
	status=$(status_json)
	losses=$("$HOME_DIR/userdata/xdp-monitoring.sh" --losses)
	if [[ $status == *'"attached":true'* ]]; then
		if uptime=$(stat -c %Y "$PINS/link" 2>/dev/null); then running=$((EPOCHSECONDS - uptime)); fi
	elif [[ $status =~ $socket ]]; then # its number is that of the process
		running=$(ps -o etimes= -p "${BASH_REMATCH[1]}") || running=null
	fi
	read -r uptime _ </proc/uptime
	printf '{"uptime":%s,"processors":%s,"status":%s,"machine":%s,"running":%s}\n' "$uptime" "$(nproc)" "$status" "$losses" "$running"
}

prometheus() {
	local sample
	sample=$(sample)
	jq -r -L "$HOME_DIR/userdata" --argjson list "$(<"$HOME_DIR/userdata/metrics.json")" -f "$HOME_DIR/userdata/prometheus.jq" <<<"$sample"
}

is_terminal() { [[ -t 1 && ${TERM:-dumb} != dumb ]]; }

# BEFORE NOW SECONDS: two samples, for people. SECONDS of 0: the only view.
view() {
	local key colour=false rows=0 deployed=''
	for key in "${KEYS[@]}"; do deployed+="$key=${DEPLOYED[$(env_name "$key")]:-}"$'\n'; done
	if is_terminal; then
		[[ ${NO_COLOR:-} ]] || colour=true # https://no-color.org
		if (($3)); then rows=$(stty size 2>/dev/null </dev/tty) || rows=24; fi
	fi
	jq -nr -L "$HOME_DIR/userdata" --argjson list "$(<"$HOME_DIR/userdata/metrics.json")" --argjson enable_xdp "$ENABLE_XDP" \
		--arg deployed "$deployed" --argjson colour $colour --argjson every "$3" --argjson rows "${rows% *}" \
		-f "$HOME_DIR/userdata/status.jq" <<<"$1$2"
}

# Rates need a second at least.
status_once() {
	local before now
	before=$(sample)
	sleep 1.05
	now=$(sample)
	view "$before" "$now" 0
}

status_watch() { # SECONDS
	local before now
	[[ $1 =~ ^[1-9][0-9]{0,3}$ ]] || fail "status: --watch '$1' is no number of seconds; it must be a whole number from 1 to 9999"
	trap 'exit 0' INT TERM HUP
	if is_terminal; then
		trap 'printf "\e[?7h\e[?25h"' EXIT
		printf '\e[?25l\e[?7l\e[2J' # no cursor, no second line of what is too long
	fi
	before=$(sample)
	sleep 1.05
	while :; do
		reload_settings
		now=$(sample)
		view "$before" "$now" "$1"
		before=$now
		sleep "$1" & # a trap waits for a program, but not for this
		wait $!
	done
}

status() {
	case "$*" in
	'') status_once ;;
	--json) status_json ;;
	--prometheus) prometheus ;;
	--watch) status_watch 2 ;;
	'--watch '*) status_watch "${*:2}" ;;
	*) fail "status: no option '$*'; it is one of --json, --prometheus, --watch [SECONDS], or none" ;;
	esac
}

stats() {
	{
		loader_status | jq -r 'to_entries[] | select(.value | type == "number") | "xdp.\(.key) \(.value)"'
		nft -j list counters | jq -r "$OURS"' | .[] | "\(.family).\(.name) \(.packets)"'
		say "kernel.fragments $(kernel_fragments)"
	} | align
}

health() {
	local XDP NOW MODE STATE REASON
	XDP=$(loader_status)
	judge
	verdict
	[[ $STATE != broken ]]
}

verdict() { jq -cn --arg state "$STATE" --arg engine "$NOW" --arg xdp_mode "$MODE" --arg reason "$REASON" '$ARGS.named'; }

# -> STATE and REASON; and for health_endpoint, which answers from $RUN/health: when this was, the HTTP status, the verdict.
# Whoever looked last writes last. A file that cannot be written grows old, and that is seen.
publish_health() {
	local at code='200 OK'
	{
		flock -w 5 5 || true
		read -r at _ </proc/uptime
		XDP=$(loader_status)
		judge
		if [[ $STATE == broken ]]; then code='503 Service Unavailable'; fi
		if printf '%s %s\n%s\n' "${at%.*}" "$code" "$(verdict)" >"$RUN/health.new"; then mv "$RUN/health.new" "$RUN/health"; fi
	} 5>>"$RUN/health.lock"
}

publish_after() {
	local XDP NOW MODE STATE REASON
	publish_health 2>/dev/null
}

# XDP, the loader's status -> NOW and MODE, what carries the traffic; STATE and REASON, whether packets can flow, and by
# what was asked for
judge() {
	local fields='"engine":"([a-z]+)".*"xdp_mode":"([a-z]+)"'
	[[ $XDP =~ $fields ]]
	MODE=${BASH_REMATCH[2]}
	NOW=$(engine_of "${BASH_REMATCH[1]}")
	STATE=healthy
	REASON=$(network_fault)
	if [[ $REASON ]]; then
		STATE=broken
	else
		REASON=$(shortfall "$NOW" "$MODE")
		[[ -z $REASON ]] || STATE=degraded
	fi
}

# ENGINE MODE -> what is less than was asked for, in words. An engine that `auto` passes over is none of that.
shortfall() {
	local engine mode why
	if [[ $ENABLE_XDP != true ]]; then
		[[ $1 == nfqueue ]] || say "$1 carries the traffic, nfqueue was asked for"
	elif [[ $1 != bridge && $1 != direct ]]; then
		say "$1 carries the traffic, XDP was asked for"
	elif read -r engine mode why 2>/dev/null <"$RUN/refused"; then
		say "$(in_words "$1" "$2") carries the traffic, $(in_words "$engine" "$mode") is refused: $why"
	elif [[ $XDP_ENGINE == direct && $1 != direct || $XDP_MODE == driver && $2 != driver ]]; then
		say "$(in_words "$1" "$2") carries the traffic; $(paste -sd ';' "$RUN/skipped")"
	elif ((XDP_TRAFFIC_PERCENT < 100)) && ! queue_is_served; then
		say "modify_udp_df does not run: the standby carries what XDP leaves, $((100 - XDP_TRAFFIC_PERCENT)) % of the flows"
	fi
}

# --- installing -----------------------------------------------------------------------------------------------------

install_packages() {
	local package tries=0 missing=() apt=(apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
	while read -r package; do
		[[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
	done <"$HOME_DIR/userdata/packages.txt"
	if [[ ${#missing[@]} -eq 0 ]]; then say 'packages: all present' && return; fi
	say "packages: installing ${missing[*]}"
	# Unlike installing, this does not wait for another apt.
	until "${apt[@]}" update; do
		((++tries < 30)) || fail 'apt-get update failed 30 times; is there a way to the package mirror?'
		sleep 10
	done
	DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# Last, and never a reason not to forward: a package from a bucket of AWS in this region.
fetch_package() { # FILE BUCKET KEY
	local region domain
	region=$(imds placement/region) && domain=$(imds services/domain) &&
		curl -sf -m 300 -o "$1" "https://s3.$region.$domain/$2-$region/$3" &&
		apt-get -qq -o DPkg::Lock::Timeout=300 install -y "$1" >/dev/null
}

# How operators get in. Ubuntu's images have it, Debian's do not.
install_ssm_agent() {
	[[ ! -e /usr/bin/amazon-ssm-agent && ! -e /snap/amazon-ssm-agent ]] || return 0
	fetch_package "$RUN/ssm.deb" amazon-ssm "latest/debian_$(dpkg --print-architecture)/amazon-ssm-agent.deb" ||
		say 'no amazon-ssm-agent: Session Manager cannot reach this instance'
	rm -f "$RUN/ssm.deb"
}

# Takes metrics and journals to CloudWatch. An image may bring it along.
install_cloudwatch_agent() {
	local system
	if [[ ! -x $AGENT/bin/amazon-cloudwatch-agent-ctl ]]; then
		system=$(sed -n 's/^ID=//p' /etc/os-release)
		fetch_package "$RUN/cloudwatch.deb" amazoncloudwatch-agent "$system/$(dpkg --print-architecture)/latest/amazon-cloudwatch-agent.deb" || true
		rm -f "$RUN/cloudwatch.deb"
	fi
	if [[ ! -x $AGENT/bin/amazon-cloudwatch-agent-ctl ]]; then
		say 'no amazon-cloudwatch-agent: this instance sends neither metrics nor logs; once its package can be fetched: deploy_xdp.sh agent'
		return
	fi
	usermod -aG systemd-journal cwagent 2>/dev/null || true
	if configure_agent .; then return; fi
	if configure_agent 'del(.logs.logs_collected)'; then
		say 'amazon-cloudwatch-agent does not know the journal (it is from before May 2026): the logs stay on this instance'
	else
		say 'amazon-cloudwatch-agent does not take its settings: this instance sends neither metrics nor logs'
	fi
}

# FILTER: for an agent that knows less. It checks the settings itself, and starts with them.
configure_agent() {
	jq --arg group "${LOG_GROUP:-/aws/ec2/xdp-packet-processor}" "$1"' | (.. | objects | select(.log_group_name).log_group_name) = $group' \
		"$HOME_DIR/userdata/cloudwatch-config.json" >"$RUN/cloudwatch.json" &&
		timeout 120 "$AGENT/bin/amazon-cloudwatch-agent-ctl" -a fetch-config -m ec2 -s -c "file:$RUN/cloudwatch.json" &>/dev/null
}

# A gateway that nobody watches forwards all the same.
start_monitoring() {
	local watchers=(xdp-monitoring.service xdp-latency.timer)
	if ! systemctl -q enable "${watchers[@]}" || ! systemctl restart "${watchers[@]}"; then
		say 'no monitoring; see: systemctl status xdp-monitoring xdp-latency.timer'
	fi
}

# Two units may want it at once.
build() { # FOLDER [FLAG]
	(
		exec 7>>"$RUN/build.lock"
		flock 7
		make -s --no-print-directory -j"$(nproc)" -C "$HOME_DIR/$1" ${2:+"$2"}
	) || {
		say "$1: not built, for the reason above"
		return 1
	}
}

# fetch_bundle.sh puts a new bundle in place without programs. Where an image brings this bundle with its programs, they
# are taken if they start: they may be of another architecture or for other libraries.
build_what_fails() {
	local program
	case $1 in
	bpf) program=$LOADER ;;
	health) program=$HOME_DIR/health/health_endpoint ;;
	netfilter) program=$LEGACY ;;
	*) fail "build: '$1' is not allowed; give bpf, health or netfilter" ;;
	esac
	if "$program" --help &>/dev/null; then build "$1"; else build "$1" -B; fi
}

install_units() {
	local units=/etc/systemd/system service
	install -m 0644 -t "$units" "$HOME_DIR"/userdata/*.{service,socket,timer}
	for service in "$HOME_DIR"/userdata/*.service; do
		install -D -m 0644 "$HOME_DIR/userdata/hardening.conf" "$units/${service##*/}.d/hardening.conf"
	done
	mkdir -p "$units/mirror-gateway-health.socket.d"
	printf '[Socket]\nListenStream=0.0.0.0:%s\n' "$HEALTH_PORT" >"$units/mirror-gateway-health.socket.d/port.conf"
	ln -sf "$HOME_DIR/userdata/deploy_xdp.sh" /usr/local/sbin/
	systemctl daemon-reload
}

# Where it runs already, by another version perhaps, it is renewed in place: a kill starts the watch anew, a stop would
# take the network down.
start_network() {
	if ! systemctl -q is-active mirror-gateway-network; then
		systemctl start mirror-gateway-network
		return
	fi
	"$0" network-up # in a process of its own, which takes its lock along
	systemctl kill --signal=KILL mirror-gateway-network
}

# Anew, for the port and the program may be others. The socket does not start while its service runs.
start_health_endpoint() {
	systemctl stop mirror-gateway-health.socket mirror-gateway-health.service 2>/dev/null || true
	systemctl -q enable --now mirror-gateway-health.socket || say 'no health endpoint; see: systemctl status mirror-gateway-health.socket'
}

# The lock is for what changes the traffic, and that is done by verbs of their own: a rollback need not wait for apt.
install_all() {
	local engines=(modify_udp) failed=0 folder
	if [[ $ENABLE_XDP == true ]]; then engines=('xdp-processor'); fi
	if ((XDP_TRAFFIC_PERCENT < 100)); then engines+=(modify_udp); fi
	install_packages
	for folder in health bpf netfilter; do build_what_fails $folder || failed=1; done
	install_units
	systemctl -q enable mirror-gateway-network "${engines[@]}"
	start_health_endpoint
	start_network
	if [[ $ENABLE_XDP == true ]]; then "$0" attach || failed=1; else "$0" rollback || failed=1; fi
	start_monitoring
	install_ssm_agent
	install_cloudwatch_agent
	return $failed
}

# --- the story ------------------------------------------------------------------------------------------------------

# One change at a time. What a unit does runs under the lock of the verb that started it.
locked() {
	if [[ -z ${MIRROR_GATEWAY_UNIT:-} ]]; then
		exec 9>>"$RUN/lock"
		if ! flock -n 9; then
			sleep 0.1 # until it has said who it is
			say "waiting for another deploy_xdp.sh: $(<"$RUN/lock")" >&2
			flock -w 60 9 || fail "another deploy_xdp.sh holds $RUN/lock for 60 s: $(<"$RUN/lock"); let it end, or end it"
		fi
		say "$1, process $$" >"$RUN/lock"
		load_settings # again: another config set may have been faster
	fi
	trap 'publish_after || true' EXIT # however it ends: the load balancer need not wait for the watch
	"$@"
}

main() {
	local verb=${1:-help}
	case $verb in help | -h | --help) usage && return ;; esac
	[[ $EUID -eq 0 ]] || fail "$verb needs root; run: sudo deploy_xdp.sh $verb"
	mkdir -p "$RUN"
	load_settings
	case $verb in
	install) install_all ;;
	agent) install_cloudwatch_agent ;;
	network-up) network_up ;;
	network-down) locked network_down ;;
	preflight) preflight ;;
	attach | detach | rollback) locked "$verb" ;;
	status | stats) "$@" ;;
	config)
		case ${2:-} in
		get) config_get "${@:3}" ;;
		set) locked config_set "${@:3}" ;;
		*) fail "config: '${2:-}' is neither get nor set" ;;
		esac
		;;
	build) build_what_fails "${2:-}" ;;
	share) share ;;
	ended) unit_ended "${2:-}" ;;
	queue) queue_rule "${2:-}" ;;
	run) run "${2:-}" ;;
	health) health ;;
	*) fail "no verb '$verb'; see: deploy_xdp.sh --help" ;;
	esac
}

main "$@"
