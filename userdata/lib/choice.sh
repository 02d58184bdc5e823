# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Which XDP engine runs: the first that can, of those that were asked for?
# $RUN/hooked    ENGINE MODE, as attached last
# $RUN/refused   ENGINE MODE REASON, a line each: not tried again until `attach` or the next boot
# $RUN/skipped   what was not even tried, in words

# Prints ENGINE MODE, best first: what was asked for, and what is left if that is refused.
candidates() {
	case ${SETTING[XDP_ENGINE]}:${SETTING[XDP_MODE]} in
	bridge:*) say 'bridge generic' ;;
	*:generic) printf '%s\n' 'direct generic' 'bridge generic' ;;
	*) printf '%s\n' 'direct driver' 'direct generic' 'bridge generic' ;;
	esac
}

# The one that is attached comes first: a crash, or a setting that has changed since, is no reason to change it.
candidates_now() {
	local attached=none
	if [[ -e $RUN/hooked ]] && xdp_is_attached; then
		attached=$(<"$RUN/hooked")
		say "$attached"
	fi
	candidates | grep -vxF "$attached"
}

in_words() { if [[ $1 == bridge ]]; then say 'the bridge engine'; else say "the direct engine in $2 mode"; fi; } # ENGINE MODE

loader_options() { # -> into the array of this name; ENGINE MODE
	local -n to=$1
	to=(--engine "$2" --mode "$3" "${MATCH_AND_SPLIT[@]}")
	if [[ $2 == bridge ]]; then
		to+=(--interface br0)
		return
	fi
	to+=(--interface "$(cat "$RUN/primary")" --secondary "$(cat "$RUN/eni")" --vni "${SETTING[VNI]}"
		--egress-mtu "${SETTING[EGRESS_MTU]}" "${DESTINATION[@]}")
	if [[ -e $RUN/handover ]]; then to+=(--handover-mac "$(<"$RUN/handover")"); fi
}

# Attaches the first engine that can, and leaves the loader's options for it in the array of this name. Exit code 78: none
# can; another: not now.
attach_best() {
	local candidate engine mode code list
	: >"$RUN/skipped"
	links_are_there || return
	mapfile -t list < <(candidates_now)
	for candidate in "${list[@]}"; do
		read -r engine mode <<<"$candidate"
		if grep -qs "^$engine $mode " "$RUN/refused"; then continue; fi
		code=0
		try_engine "$1" "$engine" "$mode" || code=$?
		((code != 0)) || return 0
		((code == 78)) || return $code
	done
	if ! xdp_is_attached; then restore_links; fi
	return 78
}

# Exit code 78: it cannot, and why is known.
try_engine() { # OPTIONS ENGINE MODE
	local faults code=0
	loader_options "$1" "$2" "$3"
	local -n given=$1
	faults=$("$LOADER" preflight "${given[@]}" | sed -n 's/^FAIL //p')
	if grep -q '^interface ' <<<"$faults"; then
		say "$faults" >&2 # gone since
		return 1
	fi
	if [[ $faults ]]; then
		pass_over "$2" "$3" "$faults"
		return 78
	fi
	attach_engine "$@" || code=$?
	if ((code == 78)); then refuse "$2" "$3" "$(tail -n 1 "$RUN/attach.log")"; fi
	return $code
}

# What sizes, channels and kernel rule out was to be expected.
pass_over() { # ENGINE MODE FAULTS
	local faults
	faults=$(tr -s ' ' <<<"$3" | paste -sd ';')
	if grep -qvE '^(sizes|queues|copies) ' <<<"$3"; then
		refuse "$1" "$2" "$faults"
	else
		say "$(in_words "$1" "$2") cannot run: $faults" | tee -a "$RUN/skipped" >&2
	fi
}

refuse() { # ENGINE MODE REASON
	say "$1 $2 $3" >>"$RUN/refused"
	say "$(in_words "$1" "$2") is refused: $3" >&2
}

# Puts the interfaces into the state that this engine needs, and out of those that others needed.
attach_engine() { # OPTIONS ENGINE MODE
	if [[ $3 == driver ]]; then fit_links || return 78; fi
	if [[ $2 == direct && $3 == generic ]]; then load_punt_rules || return; fi
	loader_options "$@"
	attach_program "$1" || return
	say "$2 $3" >"$RUN/hooked"
	if [[ $2 != direct || $3 != generic ]]; then drop_punt_rules; fi
	# Again, because it looked at the MTU.
	if [[ $3 != driver && -e $RUN/links ]]; then restore_links && attach_program "$1"; fi
}

attach_program() { # OPTIONS
	local -n with=$1
	local code=0
	"$LOADER" attach "${with[@]}" 2>"$RUN/attach.log" || code=$?
	cat "$RUN/attach.log" >&2
	return $code
}

# --- preflight: a line for each thing that an engine needs, ok, note or FAIL with the remedy ---------------------------

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
	local frame=${LIMIT[mirror_packet_length]} header=${LIMIT[ethernet_header]}
	if ((longest > frame - header)); then longest=$((frame - header)); fi
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
	say "note fragments    egress_mtu $egress_mtu cuts longer datagrams, and of fragments EC2 drops what is beyond ${LIMIT[ec2_fragments_per_second]} a second; set egress_mtu to 9001, or $remedy (ENA's fragment bypass is $bypass)"
}
