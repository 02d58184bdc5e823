# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Is the network still whole? What is deleted, unplugged or flushed is made again as soon as the kernel says so, or within ten
# seconds; mirror-gateway-network.service runs this.

keep_network_whole() {
	local events said='' now
	# A watch that was restarted speaks at once, and goes on where packets flow though the metadata service does not answer.
	mapfile -t now < <(publish_health)
	"$0" network-up || [[ ${now[0]} != broken ]] # its lock goes with it
	if [[ ${NOTIFY_SOCKET:-} ]]; then systemd-notify --ready; fi
	exec {events}< <(exec ip -o monitor link)
	while :; do
		reload_settings
		mapfile -t now < <(publish_health)
		if [[ ${now[0]} == broken ]]; then
			[[ ${now[1]} == "$said" ]] || notice "packets cannot flow: ${now[1]}"
			said=${now[1]}
			mend_network
		elif [[ $said ]]; then
			notice 'packets can flow again'
			said=''
		fi
		keep_next_hop
		await_event "$events"
	done
}

# A process of its own, where the first failure is the last step. Only with an interface to make it of.
mend_network() { if find_interface 1 >/dev/null; then MIRROR_GATEWAY_UNIT='' "$0" network-up || true; fi; }

# The kernel asks again for an address that its own packets use. Those of the direct engine do not count as such.
keep_next_hop() {
	local hop
	hop=$(ip -j route get "${SETTING[AWS_IPSEC_VM_IP]}" 2>/dev/null | jq -r '.[0].gateway // .[0].dst // empty')
	[[ -z $hop ]] || ip neigh replace "$hop" dev br0 use 2>/dev/null || true
}

# Events come in bursts: looks once they are over, but not for ever.
await_event() { # DESCRIPTOR
	local code=0 limit
	read -r -t 10 -u "$1" || code=$?
	((code <= 128)) || return 0
	((code == 0)) || sleep 10 # no more events from there
	limit=$((SECONDS + 5))
	while ((SECONDS < limit)) && read -r -t 0.2 -u "$1"; do :; done
}
