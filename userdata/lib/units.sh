# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What do systemd's units do, now and at the next boot, and what does the journal hear of it?

# A lab has no systemd of its own: there the verbs do what the units would.
systemd_runs() { [[ -d /run/systemd/system && -e /etc/systemd/system/xdp-processor.service ]]; }

# A unit now and at the next boot, which comes after what traffic waits for. One at a time: a start that crosses a stop
# cancels it, and either may come from another unit.
unit() ( # start|stop|restart UNIT
	code=0
	exec 6>>"$RUN/$2.lock"
	flock 6
	systemctl "$1" "$2" || code=$?
	if [[ $1 == stop ]]; then at_boot disable "$2"; else at_boot enable "$2"; fi
	exit $code
)

# Enables or disables a unit, but only to change what is: systemd reads all its units again after it. With --no-reload it would
# not, but warn at each later start or stop that they changed.
at_boot() { # enable|disable UNIT
	local now=disable
	if systemctl -q is-enabled "$2"; then now=enable; fi
	[[ $now == "$1" ]] || systemctl -q "$1" "$2"
}

# Also when the second interface came so late that the engine's own start was given up. Never waits: a unit whose job is
# in hand may be waiting for this one.
start_enabled_engine() {
	local unit
	systemd_runs || return 0
	for unit in xdp-processor modify_udp; do
		(
			exec 6>>"$RUN/$unit.lock"
			flock -n 6 || exit 0
			if systemctl -q is-enabled $unit; then systemctl start --no-block $unit; fi
		)
	done
}

# list-jobs has no JSON.
is_stopping() {
	local jobs
	systemd_runs || return 1
	jobs=$(systemctl list-jobs --no-legend)
	grep -Eq "$1\.service +stop " <<<"$jobs"
}

# Tells of a change of what carries the traffic: whoever typed the verb, and the journal with its facts as fields.
notice() {
	local xdp mode interface
	is_journal 1 || say "$*"
	systemd_runs || return 0
	mapfile -t xdp < <(loader_status | jq -r '.xdp_mode, .interface')
	mode=${xdp[0]} interface=${xdp[1]}
	logger --journald <<-END
		MESSAGE=$*
		PRIORITY=5
		SYSLOG_IDENTIFIER=deploy_xdp.sh
		OBJECT_SYSTEMD_UNIT=xdp-processor.service
		ENGINE=$(carrier)
		XDP_MODE=$mode
		INTERFACE=$interface
	END
}
