# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # read by the other files
# Which settings are in force, and how do programs get them? Which there are, settings.json says.
#
# load_settings sets, and nothing else does:
#   LIVE_KEYS, ENV_NAME       what can change under traffic, in the order in which it is shown, and its names in gateway.env
#   NETFILTER_KEYS            which of them rules and the NFQUEUE daemon read too
#   LIMIT                     what EC2 and drivers allow, by the names of settings.json
#   SETTING, DEPLOYED         what is in force and what was deployed, by the names of gateway.env
#   MATCH, MATCH_AND_SPLIT    options of our programs: which datagrams; and which share of the flows XDP takes
#   DESTINATION               options of the loader: where datagrams go
#   NFT_MATCH, NFT_DESTINATION    the same for nft
declare -A SETTING=() DEPLOYED=() ENV_NAME=() LIMIT=()
declare -a LIVE_KEYS=() NETFILTER_KEYS=()

# Knows nothing before the first install, which brings jq, and does all that asks from here in processes of their own.
load_names() {
	local kind name value
	if ((${#LIVE_KEYS[@]})) || ! type -P jq >/dev/null; then return 0; fi
	while read -r kind name value; do
		case $kind in
		live) LIVE_KEYS+=("$name") ENV_NAME[$name]=$value ;;
		netfilter) NETFILTER_KEYS+=("$name") ;;
		limit) LIMIT[$name]=$value ;;
		esac
	done < <(jq -r -f "$USERDATA/jq/settings.jq" "$USERDATA/settings.json")
	((${#LIMIT[@]})) || fail "$USERDATA/settings.json cannot be read, for the reason above; restore it: rm $HOME_DIR/.sha256, then fetch_bundle.sh, then deploy_xdp.sh install"
}

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
	load_names
	set_options
}

set_options() {
	local key ip=${SETTING[AWS_IPSEC_VM_IP]} port=${SETTING[AWS_IPSEC_VM_PORT]}
	MATCH=() MATCH_AND_SPLIT=() NFT_MATCH=()
	for key in "${NETFILTER_KEYS[@]}"; do
		MATCH+=("--${key//_/-}" "${SETTING[${ENV_NAME[$key]}]}")
		NFT_MATCH+=(-D "$key=${SETTING[${ENV_NAME[$key]}]}")
	done
	for key in "${LIVE_KEYS[@]}"; do MATCH_AND_SPLIT+=("--${key//_/-}" "${SETTING[${ENV_NAME[$key]}]}"); done
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
