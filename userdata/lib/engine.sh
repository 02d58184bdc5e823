# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# How does the traffic go from one engine to another without a gap: attach, detach, rollback, and what ends with a unit?

attach() {
	local checks
	need_network
	rm -f "$RUN/refused" "$RUN/hooked" # the whole list again
	checks=$(preflight) || fall_back "$(grep ^FAIL <<<"$checks")"
	attach_or_restart || fall_back "$(why_not_attached)"
	apply_split
	cat "$RUN/skipped"
	notice "XDP is attached, $(in_words "$(carrier)" "$(loader_status | jq -r .xdp_mode)"), and takes ${SETTING[XDP_TRAFFIC_PERCENT]} % of the flows"
}

attach_or_restart() {
	# shellcheck disable=SC2034 # attach_best fills it
	local options
	if ! systemd_runs; then
		attach_best options 2>"$RUN/hook.log"
		return
	fi
	unit restart xdp-processor # also takes up what was built or set since
}

# The verifier's own words are among them.
why_not_attached() {
	if systemd_runs; then
		journalctl -o cat "_SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID xdp-processor)"
	else
		cat "$RUN/hook.log"
	fi
}

# Netfilter carries what XDP cannot: a refusal never costs a datagram, and never passes in silence.
fall_back() { # REASON
	say "$1" >&2
	xdp_is_attached || (nfqueue start) || true
	notice "XDP is refused; now carrying the traffic: $(carrier)" >/dev/null
	fail "XDP is refused for the reason above; now carrying the traffic: $(carrier)"
}

# The fallback rule takes over.
detach() {
	if systemd_runs; then unit stop xdp-processor; fi
	detach_program
	notice "XDP is detached; now carrying the traffic: $(carrier)"
}

# Without a loader that runs, removing the pins detaches the program as well.
detach_program() {
	if [[ -e $PINS ]] && ! { [[ -x $LOADER ]] && "$LOADER" detach; }; then rm -rf "$PINS"; fi
	restore_links
	rm -f "$RUN/hooked" # first: while it says `direct generic`, the network is whole only with the rules for what is punted
	drop_punt_rules
}

# The fallback rule has the traffic while the one goes and the other comes, and keeps it where the other cannot.
rollback() {
	local served=1
	need_network
	(nfqueue start) || served=0
	detach
	# A loader that was just starting may have found its share and stopped it.
	queue_is_served || (nfqueue start) || served=0
	((served)) || fail "rolled back, but modify_udp_df does not run, for the reason above; now carrying the traffic: $(carrier)"
	notice 'rolled back: modify_udp_df takes the traffic, the standby rule what it leaves'
}

# --- for the units --------------------------------------------------------------------------------------------------

run() { # network|xdp|legacy
	case $1 in
	network) keep_network_whole ;;
	xdp) run_xdp ;;
	legacy) exec "$DAEMON" "${MATCH[@]}" ;;
	*) fail "run: '$1' is none of network, xdp and legacy" ;;
	esac
}

run_xdp() {
	local options
	attach_best options || exit
	exec "$LOADER" run "${options[@]}"
}

# A crash or a restart leaves the program on its interface and the network as it is, an orderly stop does not.
unit_ended() { # network|xdp
	local attached
	case $1 in
	network) if is_stopping mirror-gateway-network; then network_down; fi ;;
	xdp)
		if is_stopping xdp-processor; then
			detach_program
		elif [[ ${EXIT_STATUS:-} == 79 ]]; then # the loader's EXIT_GIVEN_UP; the next start takes the next engine
			read -ra attached <"$RUN/hooked"
			refuse "${attached[@]}" 'redirected frames were lost, see: journalctl -u xdp-processor'
		elif ! xdp_is_attached && network_is_up; then
			nfqueue start
			notice "XDP is not attached; now carrying the traffic: $(carrier)"
		fi
		;;
	*) fail "ended: '$1' is neither network nor xdp" ;;
	esac
	publish_quietly
}
