# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What does each XDP engine need, and is it there? A line for each thing: ok, note or FAIL with the remedy.

# Everything is tried before anything is touched. What builds the program is needed only where it is not built yet.
preflight() {
	local engine mode failed=1 options
	if [[ -x $LOADER && -e $HOME_DIR/bpf/udp_df_modifier.bpf.o && -e $HOME_DIR/bpf/udp_df_direct.bpf.o ]]; then
		say "ok   program      built in $HOME_DIR/bpf"
		check_fragments
		while read -r engine mode; do
			say "$(in_words "$engine" "$mode"):"
			loader_options options "$engine" "$mode"
			if "$LOADER" preflight "${options[@]}"; then failed=0; fi
		done < <(candidates)
	else
		say "FAIL program      not built; see why: deploy_xdp.sh build bpf"
		check_tool clang "$(command -v clang)"
		check_tool libbpf-dev "$(ls /usr/include/bpf/libbpf.h 2>/dev/null)"
	fi
	return $failed
}

check_tool() { # PACKAGE FOUND
	if [[ $2 ]]; then
		say "ok   build        $1 is there"
	else
		say "FAIL build        $1 is missing; install it: deploy_xdp.sh install"
	fi
}

# Says whether EC2 will drop fragments, and never refuses an engine: all of them meet the same limit.
check_fragments() {
	local longest=${SETTING[MAX_PACKET_SIZE]} egress_mtu=${SETTING[EGRESS_MTU]} bypass remedy
	if ((longest > LARGEST_MIRRORED)); then longest=$LARGEST_MIRRORED; fi
	if ((egress_mtu >= longest)); then
		say "ok   fragments    none: egress_mtu $egress_mtu takes every mirrored datagram whole"
		return
	fi
	bypass=$(fragment_bypass)
	case $bypass in
	on) say "ok   fragments    egress_mtu $egress_mtu cuts longer datagrams; ENA's fragment bypass is on" && return ;;
	off) remedy='load the driver with enable_frag_bypass=1 and without enable_bql' ;;
	*) remedy="have Amazon's own ENA driver, 2.13.3 or newer, with enable_frag_bypass=1" ;;
	esac
	say "note fragments    egress_mtu $egress_mtu cuts longer datagrams, and of fragments EC2 drops what is beyond $EC2_FRAGMENTS_PER_SECOND a second; set egress_mtu to 9001, or $remedy (ENA's fragment bypass is $bypass)"
}
