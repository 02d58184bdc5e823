# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Which network interfaces does the instance have, and in which state does an engine need them?
# $RUN/primary, $RUN/eni    the names of the first and the second one
# $RUN/links                NAME MTU CHANNELS of each, before driver mode changed them

# Prints MAC NAME ADDRESS SUBNET of the interface with this device number. The second one is attached while the instance
# boots, perhaps late.
find_interface() {
	local macs=meta-data/network/interfaces/macs token mac name address subnet
	token=$(imds_token) || return
	for mac in $(imds "$token" $macs/); do
		mac=${mac%/}
		[[ $(imds "$token" "$macs/$mac/device-number") == "$1" ]] || continue
		name=$(ip -j link show | jq -er --arg mac "$mac" 'map(select(.address == $mac and .ifname != "br0"))[0].ifname') &&
			address=$(imds "$token" "$macs/$mac/local-ipv4s" | head -n 1) &&
			subnet=$(imds "$token" "$macs/$mac/subnet-ipv4-cidr-block") && say "$mac $name $address $subnet" && return
	done
	return 1
}

# shellcheck disable=SC2034 # the caller's
await_secondary() { # -> what find_interface prints, into the variable of this name
	local -n interface_found=$1
	local limit=$((SECONDS + 600)) said=0
	until interface_found=$(find_interface 1); do
		((SECONDS < limit)) || fail 'no second network interface (IMDS device number 1) within 600 s; see the log of what attaches it'
		((said++ % 15)) || say 'waiting for the second network interface'
		sleep 2
	done
}

# One that is gone for a moment is no reason for another engine.
links_are_there() {
	local name
	for name in br0 "$(cat "$RUN/primary")" "$(cat "$RUN/eni")"; do ip link show "$name" >/dev/null || return; done
}

mtu_of() { ip -j link show "$1" | jq .[0].mtu; }

# Prints the most channels that it can have, and what it has; nothing where a driver does not tell. Debian 12's ethtool (6.1)
# has no JSON for them.
channels() { ethtool -l "$1" 2>/dev/null | sed -n 's/^Combined:[^0-9]*\([0-9]\)/\1/p'; }

is_ena() { [[ $(ethtool -i "$1" 2>/dev/null) == *'driver: ena'* ]]; }

# ENA has no XDP in its driver with more than half of its channels: the program needs one to send for each to receive.
fit_links() {
	# shellcheck disable=SC2153 # lib/settings.sh has it
	local name most now mtu=${LIMIT[driver_mode_mtu]}
	for name in "$(<"$RUN/primary")" "$(<"$RUN/eni")"; do
		most='' now=''
		{ read -r most && read -r now; } < <(channels "$name") || true
		grep -qs "^$name " "$RUN/links" || say "$name $(mtu_of "$name") $now" >>"$RUN/links"
		if (($(mtu_of "$name") > mtu)) && ! ip link set "$name" mtu "$mtu" 2>"$RUN/attach.log"; then return 1; fi
		is_ena "$name" || continue
		if ((now > most / 2)) && ! ethtool -L "$name" combined $((most / 2)) 2>"$RUN/attach.log"; then return 1; fi
	done
}

# What is not restored is known yet, for the next time.
restore_links() {
	local name mtu count left=()
	[[ -e $RUN/links ]] || return 0
	while read -r name mtu count; do
		restore_link "$name" "$mtu" "$count" || left+=("$name $mtu $count")
	done <"$RUN/links"
	rm -f "$RUN/links"
	if ((${#left[@]})); then printf '%s\n' "${left[@]}" >"$RUN/links"; fi
}

# A driver may need a moment after its program has gone.
restore_link() { # NAME MTU [CHANNELS]
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
