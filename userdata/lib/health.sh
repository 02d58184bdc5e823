# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What carries the traffic, and can packets flow? Gathers what is known; jq/health.jq evaluates it.

readonly JQ=$USERDATA/jq QUEUES=/proc/net/netfilter/nfnetlink_queue

# Prints the loader's status; also where there is no loader that runs, because it could not be built: the pins are what holds
# the program.
loader_status() {
	local attached=true engine=none mode=none
	if [[ -x $LOADER ]] && "$LOADER" status "${MATCH_AND_SPLIT[@]}"; then return; fi
	if [[ ! -e $PINS/link ]]; then
		attached=false
	elif [[ -r $RUN/hooked ]]; then
		read -r engine mode <"$RUN/hooked" || true
	fi
	printf '{"attached":%s,"engine":"%s","interface":"","xdp_mode":"%s","config":{}}\n' "$attached" "$engine" "$mode"
}

xdp_is_attached() { loader_status | jq -e .attached >/dev/null; }

# Prints the queue's row if the NFQUEUE daemon takes packets, which it does in mode 2. Until it has asked for that, the kernel
# drops what the rule feeds its queue. Columns: number, port id, waiting, mode, range, dropped in the kernel, dropped on the way
# up, last id.
queue_row() {
	local row
	[[ -r $QUEUES ]] || return
	while read -ra row; do
		if [[ ${row[0]} == 0 && ${row[3]} == 2 ]]; then say "${row[*]}" && return; fi
	done <"$QUEUES"
	return 1
}

queue_is_served() { queue_row >/dev/null; }

# Whether the direct engine punts to the stack what it cannot fragment itself.
engine_punts() { [[ $(contents "$RUN/hooked") == 'direct generic' ]]; }

chain() { nft -j list chain "$@" 2>/dev/null || say null; } # FAMILY TABLE CHAIN

# Prints as JSON what jq/health.jq wants to know of the network.
network_state() {
	local links route punts=false punt=null ip=${SETTING[AWS_IPSEC_VM_IP]}
	links=$(ip -j link show 2>/dev/null) || links='[]'
	route=$(ip -j route get "$ip" 2>/dev/null) || route='[]'
	if engine_punts; then punts=true punt=$(chain ip mirror_gateway_handover prerouting); fi
	printf '{"links":%s,"route":%s,"destination":"%s","egress":"%s","ip_forward":%s,"punts":%s,' \
		"$links" "$route" "$ip" "$(contents "$RUN/eni")" "$(</proc/sys/net/ipv4/ip_forward)" $punts
	printf '"chains":{"datagram":%s,"translate":%s,"punt":%s}}\n' \
		"$(chain bridge mirror_gateway datagram)" "$(chain ip mirror_gateway translate)" "$punt"
}

network_is_up() { network_state | jq -e -L "$JQ" 'include "health"; network_is_up' >/dev/null; }

need_network() { network_is_up || fail 'br0 or the netfilter rules are missing or incomplete; run: deploy_xdp.sh network-up'; }

# Runs jq on all that is known: of the network, of the engines, of what was asked for.
known_state() { # LOADER-STATUS JQ-ARGUMENT...
	local served=false
	if queue_is_served; then served=true; fi
	network_state | jq -L "$JQ" --argjson xdp "$1" --argjson queue_is_served $served \
		--arg refused "$(contents "$RUN/refused")" --arg skipped "$(contents "$RUN/skipped")" \
		--arg enable_xdp "${SETTING[ENABLE_XDP]}" --arg xdp_engine "${SETTING[XDP_ENGINE]}" --arg xdp_mode "${SETTING[XDP_MODE]}" \
		--arg traffic_percent "${SETTING[XDP_TRAFFIC_PERCENT]}" "${@:2}"
}

# Prints the state, the reason, and both with the engine as JSON, a line each.
# shellcheck disable=SC2016 # jq's variables
evaluate_health() {
	known_state "$(loader_status)" -r 'include "health"; . + $ARGS.named | health | .state, .reason, tojson'
}

# Prints what carries the traffic.
# shellcheck disable=SC2016 # jq's variables
carrier() { known_state "$(loader_status)" -r 'include "health"; . + $ARGS.named | engine'; }

health() {
	local now
	mapfile -t now < <(evaluate_health)
	((${#now[@]} == 3)) || fail 'health: cannot be evaluated; see the lines above'
	say "${now[2]}"
	[[ ${now[0]} != broken ]]
}

# Prints what evaluate_health does, and writes it for the health endpoint, which answers from $RUN/health: when this was, the
# HTTP status, the JSON. Whoever looked last writes last. A file that cannot be written grows old, and that is seen.
publish_health() {
	local at code='200 OK' now
	{
		flock -w 5 5 || true
		read -r at _ </proc/uptime
		mapfile -t now < <(evaluate_health)
		((${#now[@]} == 3)) || return
		if [[ ${now[0]} == broken ]]; then code='503 Service Unavailable'; fi
		if printf '%s %s\n%s\n' "${at%.*}" "$code" "${now[2]}" >"$RUN/health.new"; then mv "$RUN/health.new" "$RUN/health"; fi
	} 5>>"$RUN/health.lock"
	printf '%s\n' "${now[@]}"
}

publish_quietly() { publish_health >/dev/null 2>&1; }
