# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# How are settings looked up and changed under traffic: config get, config set?

check_key() { [[ $1 != *' '* && " ${LIVE_KEYS[*]} " == *" $1 "* ]] || fail "config: no key '$1'; it must be one of ${LIVE_KEYS[*]}"; }

# Prints a flat JSON object as KEY=value lines.
pairs() { jq -r "$1"' | to_entries[] | "\(.key)=\(.value)"'; }

# Changes settings now and for the next start. The loader checks the values as the stack does and, while XDP is attached,
# applies them between two packets.
config_set() {
	local before="${MATCH[*]}"
	[[ $# -gt 0 ]] || fail 'config set: nothing to set; give KEY=VALUE'
	store_settings "$@"
	load_settings
	apply_to_a_loader_just_starting
	if [[ -e $RUN/eni ]] && ip link show br0 &>/dev/null; then load_rules; fi
	if [[ ${MATCH[*]} != "$before" ]] && queue_is_served; then nfqueue restart; fi
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
	local mtu=${LIMIT[driver_mode_mtu]} headers=${LIMIT[mirror_headers]}
	[[ $1 =~ ^[0-9]{1,5}$ && $(loader_status | jq -r .xdp_mode) == driver ]] && ((10#$1 > mtu - headers)) || return 0
	fail "config: max_packet_size '$1' does not fit driver mode, where it is at most $((mtu - headers)); deploy with xdp_mode=generic"
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
	local key=${1:-} value was
	if [[ $key ]]; then
		check_key "$key"
		loader_status | jq -r --arg key "$key" '.config[$key]'
		return
	fi
	while IFS='=' read -r key value; do
		was=${DEPLOYED[${ENV_NAME[$key]}]}
		if [[ $value == "$was" ]]; then say "$key=$value"; else say "$key=$value (deployed: $was)"; fi
	done < <(loader_status | pairs .config)
}
