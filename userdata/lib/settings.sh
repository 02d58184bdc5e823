# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # read by the other files
# Which settings are in force, and how do programs get them? Every list of settings is here.
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

# Prints what was deployed of the live settings, a KEY=value line each.
deployed_settings() {
	local key
	for key in "${LIVE_KEYS[@]}"; do say "$key=${DEPLOYED[${ENV_NAME[$key]}]:-}"; done
}
