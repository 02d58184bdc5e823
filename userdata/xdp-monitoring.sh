#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How is the gateway doing, for CloudWatch? Reads its counters every ten seconds and hands metrics to the CloudWatch agent on
# this instance, in the embedded metric format: which ones, metrics.json says; jq/xdp-monitoring.jq makes them. What is missing
# it says once, and goes on.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

USERDATA=$(readlink -f "${BASH_SOURCE[0]}")
readonly USERDATA=${USERDATA%/*}
source "$USERDATA/lib/common.sh"
source "$USERDATA/lib/settings.sh"
source "$USERDATA/lib/health.sh"
source "$USERDATA/lib/losses.sh"
source "$USERDATA/lib/status.sh"

# Tests have folders of their own.
readonly STATE=${RUN_FOLDER:-$RUN} PROC=${PROC_FOLDER:-/proc}
readonly AGENT_SOCKET=/dev/udp/127.0.0.1/25888
readonly INTERVAL=${INTERVAL_SECONDS:-10}

# Standard output carries the samples.
tell() { say "$@" >&2; }

declare -A TROUBLES # what was told of each KEY, and lasts

trouble() { # KEY WORDS
	if [[ ${TROUBLES[$1]:-} != "$2" ]]; then tell "$2"; fi
	TROUBLES[$1]=$2
}

no_trouble() { # KEY
	if [[ ${TROUBLES[$1]:-} ]]; then tell "no longer: ${TROUBLES[$1]}"; fi
	unset "TROUBLES[$1]"
}

# --- who we are -----------------------------------------------------------------------------------------------------

# Asked until it is known; it does not change. Without a group a metric has no name.
find_out() {
	local token document group
	until token=$(imds_token) && document=$(imds "$token" dynamic/instance-identity/document); do
		trouble imds "no metrics: the metadata service ($IMDS) does not answer"
		sleep "$INTERVAL"
	done
	no_trouble imds
	until group=$(imds "$token" meta-data/tags/instance/aws:autoscaling:groupName); do
		trouble group 'no metrics: this instance is in no Auto Scaling group, or its tags are not in its metadata'
		sleep "$INTERVAL"
		token=$(imds_token) || true
	done
	no_trouble group
	reload_settings
	jq -c --arg group "$group" --arg log_group "${SETTING[LOG_GROUP]:-/aws/ec2/xdp-packet-processor}" \
		'{$group, $log_group, instance: .instanceId, region}' <<<"$document"
}

# --- samples --------------------------------------------------------------------------------------------------------

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
		trouble agent "metrics go nowhere: no CloudWatch agent listens on ${AGENT_SOCKET#/dev/udp/}"
	fi
}

# In a process of its own, where the first failure is the last step, and which has the newest settings.
current_status() (
	load_settings
	status_json
)

read_status() { # -> into the variable of this name
	local -n status_read=$1
	if [[ -x $LOADER ]]; then
		no_trouble loader
	else
		trouble loader 'no counters of XDP: its loader is not built; see: deploy_xdp.sh build bpf'
	fi
	# shellcheck disable=SC2034 # the caller's
	if status_read=$(current_status 2>"$RUN/xdp-monitoring.log"); then
		no_trouble status
	else
		trouble status "no counters: $(tail -n 1 "$RUN/xdp-monitoring.log")"
		status_read=null
	fi
}

samples() {
	local at uptime latency processors status
	processors=$(nproc)
	while :; do
		await_turn
		look_for_agent
		at=${EPOCHREALTIME/[.,]/}
		read_status status
		latency=$(contents "$STATE/latency.json")
		read -r uptime _ <"$PROC/uptime"
		printf '{"at":%s,"uptime":%s,"processors":%s,"status":%s,"latency":%s,"machine":%s,"memory":%s,"disk":%s}\n' \
			"${at%???}" "$uptime" "$processors" "$status" "${latency:-null}" "$(losses "$PROC" "$STATE")" "$(memory)" "$(disk)"
	done
}

# --- main -----------------------------------------------------------------------------------------------------------

# One write, and so one datagram, each.
publish() {
	local document
	while IFS= read -r document; do printf '%s\n' "$document" >$AGENT_SOCKET || true; done
}

main() {
	local about list
	load_names # once, and not in each sample's subshell
	about=$(find_out)
	list=$(<"$USERDATA/metrics.json")
	samples | jq -nRc --unbuffered -L "$JQ" --argjson list "$list" --argjson about "$about" -f "$JQ/xdp-monitoring.jq" | publish
}

case ${1:-} in
'') main ;;
--losses) losses "$PROC" "$STATE" ;;
*) fail "no option '$1'; the only one is --losses: the machine's own, once" ;;
esac
