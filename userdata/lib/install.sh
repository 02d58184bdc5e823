# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What makes an instance a gateway, or brings one up to date in place: packages, programs, units?

# The lock is for what changes the traffic, and that is done by verbs of their own: a rollback need not wait for apt.
install_all() {
	local engines=(modify_udp) failed=0 folder
	if xdp_is_asked_for; then engines=('xdp-processor'); fi
	if xdp_leaves_flows; then engines+=(modify_udp); fi
	install_packages
	for folder in health bpf netfilter; do build_what_fails $folder || failed=1; done
	install_units
	systemctl -q enable mirror-gateway-network "${engines[@]}"
	start_health_endpoint
	start_network
	if xdp_is_asked_for; then "$0" attach || failed=1; else "$0" rollback || failed=1; fi
	start_monitoring
	install_ssm_agent
	install_cloudwatch_agent
	return $failed
}

install_packages() {
	local package tries=0 missing=() apt=(apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
	while read -r package; do
		[[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
	done <"$USERDATA/packages.txt"
	if [[ ${#missing[@]} -eq 0 ]]; then say 'packages: all present' && return; fi
	say "packages: installing ${missing[*]}"
	# Unlike installing, this does not wait for another apt.
	until "${apt[@]}" update; do
		((++tries < 30)) || fail 'apt-get update failed 30 times; is there a way to the package mirror?'
		sleep 10
	done
	DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# --- programs -------------------------------------------------------------------------------------------------------

# Two units may want it at once.
build() { # FOLDER [FLAG]
	(
		exec 7>>"$RUN/build.lock"
		flock 7
		make -s --no-print-directory -j"$(nproc)" -C "$HOME_DIR/$1" ${2:+"$2"}
	) || {
		say "$1: not built, for the reason above"
		return 1
	}
}

# fetch_bundle.sh puts a new bundle in place without programs. Where an image brings this bundle with its programs, they
# are taken if they start: they may be of another architecture or for other libraries.
build_what_fails() { # FOLDER
	local program
	case $1 in
	bpf) program=$LOADER ;;
	health) program=$HOME_DIR/health/health_endpoint ;;
	netfilter) program=$DAEMON ;;
	*) fail "build: '$1' is not allowed; give bpf, health or netfilter" ;;
	esac
	if "$program" --help &>/dev/null; then build "$1"; else build "$1" -B; fi
}

# --- units ----------------------------------------------------------------------------------------------------------

install_units() {
	local units=/etc/systemd/system service
	install -m 0644 -t "$units" "$USERDATA"/units/*.{service,socket,timer}
	for service in "$USERDATA"/units/*.service; do
		install -D -m 0644 "$USERDATA/units/hardening.conf" "$units/${service##*/}.d/hardening.conf"
	done
	mkdir -p "$units/mirror-gateway-health.socket.d"
	printf '[Socket]\nListenStream=0.0.0.0:%s\n' "${SETTING[HEALTH_PORT]}" >"$units/mirror-gateway-health.socket.d/port.conf"
	ln -sf "$USERDATA/deploy_xdp.sh" /usr/local/sbin/
	systemctl daemon-reload
}

# Where it runs already, by another version perhaps, it is renewed in place: a kill starts the watch anew, a stop would
# take the network down.
start_network() {
	if ! systemctl -q is-active mirror-gateway-network; then
		systemctl start mirror-gateway-network
		return
	fi
	"$0" network-up # in a process of its own, which takes its lock along
	systemctl kill --signal=KILL mirror-gateway-network
}

# Anew, for the port and the program may be others. The socket does not start while its service runs.
start_health_endpoint() {
	systemctl stop mirror-gateway-health.socket mirror-gateway-health.service 2>/dev/null || true
	systemctl -q enable --now mirror-gateway-health.socket || say 'no health endpoint; see: systemctl status mirror-gateway-health.socket'
}

# A gateway that nobody watches forwards all the same.
start_monitoring() {
	local watchers=(xdp-monitoring.service xdp-latency.timer)
	if ! systemctl -q enable "${watchers[@]}" || ! systemctl restart "${watchers[@]}"; then
		say 'no monitoring; see: systemctl status xdp-monitoring xdp-latency.timer'
	fi
}
