# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What does the gateway say of itself: to people, to programs, to Prometheus?

readonly FRAGMENT_BYPASS=/sys/module/ena/parameters/enable_frag_bypass

# Prints a line of JSON, which jq/status-json.jq describes.
status_json() {
	local queue=(0 0 0 0 0 0 0 0) row uptime xdp netfilter vxlan fragments
	read -r uptime _ </proc/uptime
	xdp=$(loader_status) || return
	netfilter=$(nft -j list counters) || return
	vxlan=$(ip -j -s link show vxlan1 2>/dev/null) || vxlan='[]'
	fragments=$(kernel_fragments) || return
	if row=$(queue_row); then read -ra queue <<<"$row"; fi
	known_state "$xdp" -c --argjson netfilter "$netfilter" --argjson vxlan "$vxlan" --argjson uptime "$uptime" \
		--arg version "${SETTING[GATEWAY_VERSION]:-unknown}" --arg fragment_bypass "$(fragment_bypass)" \
		--argjson kernel_fragments "$fragments" \
		--argjson queue "{\"socket\":${queue[1]},\"received\":${queue[7]},\"dropped\":$((queue[5] + queue[6]))}" \
		-f "$JQ/status-json.jq"
}

# Prints on, off or absent. A parameter of Amazon's own driver (github.com/amzn/amzn-drivers, kernel/linux/ena: RELEASENOTES.md,
# 2.13.3; README.rst), read when an interface comes up; together with enable_bql the driver switches it off
# (ENA_Linux_Best_Practices.rst).
fragment_bypass() {
	local value
	{ read -r value <$FRAGMENT_BYPASS; } 2>/dev/null || value=absent
	case $value in
	absent) say absent ;;
	0 | N) say off ;;
	*) say on ;;
	esac
}

# Prints the number of fragments that the kernel's IP layer made since the boot.
kernel_fragments() { columns /proc/net/snmp Ip FragCreates; }

# --- samples --------------------------------------------------------------------------------------------------------

# Prints a status with the machine's own losses, and for how many seconds what carries the traffic has been there.
sample() {
	local status losses uptime
	status=$(status_json)
	losses=$(losses /proc "$RUN")
	read -r uptime _ </proc/uptime
	printf '{"uptime":%s,"processors":%s,"status":%s,"machine":%s,"running":%s}\n' \
		"$uptime" "$(nproc)" "$status" "$losses" "$(seconds_running "$status")"
}

seconds_running() { # STATUS
	local attached engine process since
	read -r attached engine process < <(jq -r '"\(.attached) \(.engine) \(.nfqueue_socket)"' <<<"$1")
	if [[ $attached == true ]]; then
		since=$(stat -c %Y "$PINS/link" 2>/dev/null) && say $((EPOCHSECONDS - since)) && return
	elif [[ $engine == nfqueue && $process != 0 ]]; then # a socket's number is that of its process
		ps -o etimes= -p "$process" && return
	fi
	say null
}

# Runs a program that has a view of samples.
view() { # JQ-ARGUMENT...
	jq -r -L "$JQ" --argjson list "$(<"$USERDATA/metrics.json")" "$@"
}

prometheus() {
	local sample
	sample=$(sample)
	view -f "$JQ/prometheus.jq" <<<"$sample"
}

# --- for people -----------------------------------------------------------------------------------------------------

is_terminal() { [[ -t 1 && ${TERM:-dumb} != dumb ]]; }

show() { # BEFORE NOW SECONDS: two samples; SECONDS of 0: the only view
	local colour=false rows=0
	if is_terminal; then
		[[ ${NO_COLOR:-} ]] || colour=true # https://no-color.org
		if (($3)); then rows=$(stty size 2>/dev/null </dev/tty) || rows=24; fi
	fi
	view -n --argjson enable_xdp "${SETTING[ENABLE_XDP]}" --arg deployed "$(deployed_settings)" \
		--argjson ec2_fragments_per_second "${LIMIT[ec2_fragments_per_second]}" \
		--argjson colour $colour --argjson every "$3" --argjson rows "${rows% *}" -f "$JQ/status.jq" <<<"$1$2"
}

# Rates need a second at least.
status_once() {
	local before now
	before=$(sample)
	sleep 1.05
	now=$(sample)
	show "$before" "$now" 0
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
		show "$before" "$now" "$1"
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
		nft -j list counters | jq -r -L "$JQ" 'include "netfilter"; our_counters[] | "\(.family).\(.name) \(.packets)"'
		say "kernel.fragments $(kernel_fragments)"
	} | while read -r key value; do printf '%-32s %s\n' "$key" "$value"; done
}
