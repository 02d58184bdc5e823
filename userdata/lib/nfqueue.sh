# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Does the NFQUEUE daemon (modify_udp_df, modify_udp.service) run, and does its queue get datagrams?

readonly LARGE_DF=0x4d470002 # the mark that mirror-gateway.nft gives

# Adds or deletes the rule that feeds the daemon.
queue_rule() { # add|delete
	local rule=(PREROUTING -m mark --mark "$LARGE_DF" -j NFQUEUE --queue-num 0 --queue-bypass)
	case $1 in
	add) iptables-nft -t raw -C "${rule[@]}" 2>/dev/null || iptables-nft -t raw -A "${rule[@]}" ;;
	delete) while iptables-nft -t raw -D "${rule[@]}" 2>/dev/null; do :; done ;;
	*) fail "queue: '$1' is neither add nor delete" ;;
	esac
}

nfqueue() { # start|stop|restart
	if systemd_runs; then
		unit "$1" modify_udp
		return
	fi
	if [[ $1 != start ]]; then stop_daemon; fi
	if [[ $1 != stop ]]; then start_daemon; fi
}

start_daemon() {
	local waited=0 pid=''
	end_daemon
	if ! queue_is_served; then
		queue_rule delete # of a daemon that crashed
		# It writes its own number, before it can be orphaned by an interruption.
		(
			say $BASHPID >"$RUN/modify_udp_df.pid"
			exec setsid "$DAEMON" "${MATCH[@]}" >"$RUN/modify_udp_df.log" 2>&1 </dev/null 9>&-
		) &
		pid=$!
	fi
	until queue_is_served; do
		sleep 0.1
		if ((waited++ > 200)) || ! kill -0 "$pid" 2>/dev/null; then
			fail "modify_udp_df does not serve its queue: $(tail -n 1 "$RUN/modify_udp_df.log")"
		fi
	done
	queue_rule add
}

# The rule goes first: what waits in a queue is lost when its program exits.
stop_daemon() {
	queue_rule delete
	mv -f "$RUN/modify_udp_df.pid" "$RUN/modify_udp_df.ending" 2>/dev/null || true
	end_daemon
}

# Also ends what an interrupted stop has begun: its program serves the queue for a while yet, but not for long.
end_daemon() {
	local pid waited=0
	pid=$(pgrep -F "$RUN/modify_udp_df.ending" modify_udp_df 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null || return 0
	while readlink -q "/proc/$pid/exe" >/dev/null && ((waited++ < 100)); do sleep 0.1; done
}

# The daemon runs if XDP leaves flows, else not.
apply_split() { if xdp_leaves_flows; then nfqueue start; else nfqueue stop; fi; }
