# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # read by the other files
# Which settings are in force, how do programs get them, and how are they changed? Every list of settings is here.
#
# load_settings sets, and nothing else does:
#   SETTING, DEPLOYED         what is in force and what was deployed, by the names of gateway.env
#   MATCH, MATCH_AND_SPLIT    options of our programs: which datagrams; and which share of the flows XDP takes
#   DESTINATION               options of the loader: where datagrams go
#   NFT_MATCH, NFT_DESTINATION    the same for nft
declare -A SETTING=() DEPLOYED=()

# What can change under traffic, in the order in which it is shown, and its name in gateway.env.
readonly LIVE_KEYS=(target_port min_packet_size max_packet_size traffic_percent)
declare -rA ENV_NAME=([target_port]=TARGET_PORT [min_packet_size]=MIN_PACKET_SIZE [max_packet_size]=MAX_PACKET_SIZE
	[traffic_percent]=XDP_TRAFFIC_PERCENT)

# drivers/net/ethernet/amazon/ena/ena_xdp.h: what fits a page; a mirrored datagram is 50 bytes shorter than its frame's MTU.
readonly DRIVER_MODE_MTU=3498
# constructs/config/limits.ts has both with their sources: what a mirror session copies whole, what EC2 lets out of an interface.
readonly LARGEST_MIRRORED=8486 EC2_FRAGMENTS_PER_SECOND=1024

# Reads what was deployed, then what `config set` changed: data, never executed.
load_settings() {
	local file key value
	[[ -r $ETC/gateway.env ]] || fail "$ETC/gateway.env is missing; the user data writes it: see /var/log/cloud-init-output.log"
	for file in "$ETC/gateway.env" "$ETC/runtime.env"; do
		[[ -r $file ]] || continue
		while IFS='=' read -r key value; do
			[[ $key =~ ^[A-Z_]+$ ]] || continue
			SETTING[$key]=$value
			if [[ $file == "$ETC/gateway.env" ]]; then DEPLOYED[$key]=$value; fi
		done <"$file"
	done
	set_options
}

set_options() {
	local key ip=${SETTING[AWS_IPSEC_VM_IP]} port=${SETTING[AWS_IPSEC_VM_PORT]}
	MATCH=() MATCH_AND_SPLIT=() NFT_MATCH=()
	for key in target_port min_packet_size max_packet_size; do
		MATCH+=("--${key//_/-}" "${SETTING[${ENV_NAME[$key]}]}")
		NFT_MATCH+=(-D "$key=${SETTING[${ENV_NAME[$key]}]}")
	done
	MATCH_AND_SPLIT=("${MATCH[@]}" --traffic-percent "${SETTING[XDP_TRAFFIC_PERCENT]}")
	DESTINATION=(--ipsec-vm-ip "$ip" --ipsec-vm-port "$port")
	NFT_DESTINATION=(-D "ipsec_vm_ip=$ip" -D "ipsec_vm_port=$port")
}

# For what goes on while `config set` changes them.
reload_settings() { if [[ -r $ETC/gateway.env ]]; then load_settings; fi; }

xdp_is_asked_for() { [[ ${SETTING[ENABLE_XDP]} == true ]]; }
xdp_leaves_flows() { ((SETTING[XDP_TRAFFIC_PERCENT] < 100)); }

check_key() { [[ $1 != *' '* && " ${LIVE_KEYS[*]} " == *" $1 "* ]] || fail "config: no key '$1'; it must be one of ${LIVE_KEYS[*]}"; }

# Prints what was deployed of the live settings, a KEY=value line each.
deployed_settings() {
	local key
	for key in "${LIVE_KEYS[@]}"; do say "$key=${DEPLOYED[${ENV_NAME[$key]}]:-}"; done
}

# Prints a flat JSON object as KEY=value lines.
pairs() { jq -r "$1"' | to_entries[] | "\(.key)=\(.value)"'; }

# Changes settings now and for the next start. The loader checks the values as the stack does and, while XDP is attached,
# applies them between two packets.
config_set() {
	local match="${MATCH[*]}"
	[[ $# -gt 0 ]] || fail 'config set: nothing to set; give KEY=VALUE'
	store_settings "$@"
	load_settings
	apply_to_a_loader_just_starting
	if [[ -e $RUN/eni ]] && ip link show br0 &>/dev/null; then load_rules; fi
	if [[ ${MATCH[*]} != "$match" ]] && queue_is_served; then nfqueue restart; fi
	if xdp_is_attached; then apply_split; fi
	notice "settings: $(config_get "" | paste -sd ' ')"
}

store_settings() {
	local pair key value settings changed=()
	for pair in "$@"; do
		key=${pair%%=*}
		check_key "$key"
		[[ $pair == *=* ]] || fail "config: '$pair' has no value; give $key=VALUE"
		[[ $key != max_packet_size ]] || check_driver_mode "${pair#*=}"
		changed+=("--${key//_/-}" "${pair#*=}")
	done
	settings=$("$LOADER" config "${MATCH_AND_SPLIT[@]}" "${changed[@]}")
	pairs . <<<"$settings" | while IFS='=' read -r key value; do
		say "${ENV_NAME[$key]}=$value"
	done >"$ETC/runtime.env.new"
	mv "$ETC/runtime.env.new" "$ETC/runtime.env"
}

check_driver_mode() {
	[[ $1 =~ ^[0-9]{1,5}$ && $(loader_status | jq -r .xdp_mode) == driver ]] && ((10#$1 > DRIVER_MODE_MTU - 50)) || return 0
	fail "config: max_packet_size '$1' does not fit driver mode, where it is at most $((DRIVER_MODE_MTU - 50)); deploy with xdp_mode=generic"
}

# It may have read the settings before they changed, and put them in force after.
apply_to_a_loader_just_starting() {
	if systemd_runs && [[ $(systemctl is-active xdp-processor) == activating ]]; then
		systemctl start xdp-processor || true # waits for it
		"$LOADER" config "${MATCH_AND_SPLIT[@]}" >/dev/null
	fi
}

# Prints a single value for scripts; all of them for people.
config_get() { # [KEY]
	local key=${1:-} value deployed
	if [[ $key ]]; then
		check_key "$key"
		loader_status | jq -r --arg key "$key" '.config[$key]'
		return
	fi
	while IFS='=' read -r key value; do
		deployed=${DEPLOYED[${ENV_NAME[$key]}]}
		if [[ $value == "$deployed" ]]; then say "$key=$value"; else say "$key=$value (deployed: $deployed)"; fi
	done < <(loader_status | pairs .config)
}
