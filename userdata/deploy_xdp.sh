#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Which verbs does a gateway have? The operator's one command; the units and the lab call the same verbs. What they do is in lib/.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

USERDATA=$(readlink -f "${BASH_SOURCE[0]}")
readonly USERDATA=${USERDATA%/*}
source "$USERDATA/lib/common.sh"
source "$USERDATA/lib/settings.sh"
source "$USERDATA/lib/units.sh"
source "$USERDATA/lib/config.sh"
source "$USERDATA/lib/interfaces.sh"
source "$USERDATA/lib/network.sh"
source "$USERDATA/lib/health.sh"
source "$USERDATA/lib/watch.sh"
source "$USERDATA/lib/nfqueue.sh"
source "$USERDATA/lib/choice.sh"
source "$USERDATA/lib/engine.sh"
source "$USERDATA/lib/losses.sh"
source "$USERDATA/lib/status.sh"
source "$USERDATA/lib/agents.sh"
source "$USERDATA/lib/install.sh"

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
	trap 'publish_quietly || true' EXIT # however it ends: the load balancer need not wait for the watch
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
	share) apply_split ;;
	ended) unit_ended "${2:-}" ;;
	queue) queue_rule "${2:-}" ;;
	run) run "${2:-}" ;;
	health) health ;;
	*) fail "no verb '$verb'; see: deploy_xdp.sh --help" ;;
	esac
}

main "$@"
