# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # read by the scripts that source this
# Where does everything lie on an instance, and how does a script speak? Every script sources this first.

readonly HOME_DIR=/opt/ebpf-xdp-processor ETC=/etc/mirror-gateway RUN=/run/mirror-gateway
readonly LOADER=$HOME_DIR/bpf/udp_df_modifier_loader DAEMON=$HOME_DIR/netfilter/modify_udp_df
readonly PINS=/sys/fs/bpf/mirror_gateway
readonly IMDS=http://169.254.169.254/latest

say() { printf '%s\n' "$*"; }

# Returns whether systemd has connected this descriptor to the journal. The variable alone is inherited: by SSM's commands, say.
is_journal() { [[ ${JOURNAL_STREAM:-} == "$(stat -Lc %d:%i "/dev/fd/$1")" ]]; }

# Ends the script with one line, which the journal keeps as an error.
fail() {
	if is_journal 2; then printf '<3>' >&2; fi
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Prints a file, and nothing where there is none.
contents() { if [[ -r $1 ]]; then printf '%s\n' "$(<"$1")"; fi; }

# Prints a token of the instance metadata service (IMDSv2).
imds_token() { curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$IMDS/api/token"; }

imds() { curl -sf -m 2 -H "X-aws-ec2-metadata-token: $1" "$IMDS/$2"; } # TOKEN PATH
