#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How does a new gateway get its programs? This is the first thing that it runs: takes the bundle out of its private bucket, with
# the credentials of the instance's role, and puts it in its place if its SHA-256 is the one that the user data names. Where that bundle already is, it does
# nothing. The bucket keeps old versions of its one object, because a rollback launches older user data, which names an
# older bundle: the versions are tried, newest first, and the hash decides.
#
# usage: fetch_bundle.sh [FILE]    FILE holds the settings (/etc/mirror-gateway/bundle.env)
set -euo pipefail

readonly SETTINGS=${1:-/etc/mirror-gateway/bundle.env}
readonly OLDEST_CURL=7.88 # Debian 12; the one of Ubuntu 22.04 does not sign a session token
readonly NO_CONTENT=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 # SHA-256 of what a GET sends

# What steps tell each other: REASON, why the last one failed, with the remedy; ANSWER, the file with what curl got, and WHY it did
# not; TOKEN, SIGNATURE and VERSIONS, of the metadata service and of the bucket; WORK, a folder.

say() { printf 'fetch_bundle.sh: %s\n' "$*"; }
fail() {
	say "$*" >&2
	exit 1
}

# Data, never executed.
load_settings() {
	local key value
	[[ -r $SETTINGS ]] || fail "$SETTINGS is missing; the user data writes it: see /var/log/cloud-init-output.log"
	while IFS='=' read -r key value; do
		if [[ $key =~ ^[A-Z0-9_]+$ ]]; then printf -v "$key" %s "$value"; fi
	done <"$SETTINGS"
}

# Runs it until it works or the retry window is over. What did not work leaves in REASON what, why and the remedy.
retry_until_done() {
	local said=
	until "$@"; do
		((SECONDS < PATIENCE_SECONDS)) || fail "$REASON; given up after $SECONDS s"
		[[ $REASON == "$said" ]] || say "$REASON; trying again"
		said=$REASON
		sleep 2
	done
}

# --- curl -----------------------------------------------------------------------------------------------------------

# Not every image has one. Another apt may be at work: installing waits for it, updating does not.
install_curl() {
	local apt=(apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
	REASON='curl: apt-get cannot install it; is there a way to the package mirror (management_cidrs)?'
	"${apt[@]}" update && DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends curl ca-certificates >/dev/null
}

need_curl() {
	local version
	if ! command -v curl >/dev/null; then
		say 'curl: installing'
		retry_until_done install_curl
	fi
	version=$(curl --version | sed -n '1s/^curl \([0-9.]*\).*/\1/p')
	printf '%s\n' $OLDEST_CURL "$version" | sort -CV ||
		fail "curl: $version cannot sign for S3, it must be $OLDEST_CURL or newer; take an image of Debian 12, Ubuntu 24.04 or newer (base_ami)"
}

# Runs curl with the rest of its configuration from stdin, where no process list shows it; sets ANSWER. A status other than 200 is
# a failure, and sets WHY. Not behind a pipe, where it could set neither.
ask() {
	local status
	ANSWER=$WORK/answer
	status=$(curl --config - --silent --show-error --connect-timeout 5 --max-time 60 \
		--output "$ANSWER" --write-out '%{http_code}' "$@" 2>"$WORK/said") || {
		WHY=$(head -n 1 "$WORK/said")
		return 1
	}
	WHY="HTTP status $status$(sed -n 's/.*<Code>\([A-Za-z]*\)<.*/ \1/p' "$ANSWER")"
	[[ $status == 200 ]]
}

# --- credentials ----------------------------------------------------------------------------------------------------

# A page of the metadata service, which needs a token for it.
imds() { ask "$IMDS_URL/meta-data/$1" < <(printf 'header = "X-aws-ec2-metadata-token: %s"\n' "$TOKEN"); }

# Prints a field of a JSON document that has no quotes in its strings, as credentials have none. jq comes later, with the packages.
field() { sed -n "s/.*\"$1\" *: *\"\([A-Za-z0-9+/=]*\)\".*/\1/p" "$ANSWER"; }

# Sets SIGNATURE: what curl needs to sign, and S3 to see signed. An instance may be up some seconds before the credentials
# of its role are.
load_credentials() {
	local roles=iam/security-credentials/ id secret session
	REASON="$IMDS_URL: no answer; is the metadata service of this instance enabled?"
	ask --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$IMDS_URL/api/token" </dev/null || return
	TOKEN=$(<"$ANSWER")
	REASON="$IMDS_URL/meta-data/$roles: no credentials; does the launch template name an instance profile, and that a role?"
	imds $roles && imds "$roles$(head -n 1 "$ANSWER")" || return
	id=$(field AccessKeyId) secret=$(field SecretAccessKey) session=$(field Token)
	[[ $id && $secret && $session ]] || return
	printf -v SIGNATURE 'user = "%s:%s"\nheader = "x-amz-security-token: %s"\nheader = "x-amz-content-sha256: %s"\n' \
		"$id" "$secret" "$session" $NO_CONTENT
}

# --- the bundle -----------------------------------------------------------------------------------------------------

# Parameters in alphabetical order and each with its "=": that is how they are signed, and an older curl does not see to it.
s3() {
	ask --aws-sigv4 "aws:amz:$REGION:s3" "$BUCKET_URL/$1" < <(printf '%s' "$SIGNATURE") && return
	REASON="$BUCKET_URL/$1: $WHY; can this subnet reach S3, and may the instance's role read the bucket?"
	return 1
}

# Sets VERSIONS to their ids, newest first; what a deletion has left is none.
list_versions() {
	s3 "?prefix=$KEY&versions=" || return
	read -ra VERSIONS -d '' < <(tr -d '\n' <"$ANSWER" | sed 's/<Version>\|<DeleteMarker>/\n&/g' |
		sed -n 's/^<Version>.*<VersionId>\([^<]*\)<.*/\1/p') || true
}

is_ours() { sha256sum --check --status <<<"$SHA256  $ANSWER"; }

# Sets ANSWER to the bundle.
find_bundle() {
	local version
	load_credentials && list_versions || return
	for version in "${VERSIONS[@]}"; do
		s3 "$KEY?versionId=$version" || return
		if is_ours; then return; fi
		say "version $version is another bundle"
	done
	fail "$BUCKET_URL/$KEY: none of ${#VERSIONS[@]} versions has the SHA-256 $SHA256; deploy the stack again"
}

is_in_place() { [[ $(cat "$DIRECTORY/.sha256" 2>/dev/null) == "$SHA256" ]]; }

# Complete or not at all: what is there is replaced by renaming.
put_in_place() {
	local new=$DIRECTORY.new old=$DIRECTORY.old
	rm -rf "$new" "$old"
	mkdir -p "$new"
	tar -xzf "$ANSWER" --no-same-owner -C "$new" || fail "$new: tar cannot unpack the bundle there; is the disk full (df -h)?"
	printf '%s\n' "$SHA256" >"$new/.sha256"
	if [[ -e $DIRECTORY ]]; then mv "$DIRECTORY" "$old"; fi
	mv "$new" "$DIRECTORY"
	rm -rf "$old"
}

main() {
	load_settings
	if is_in_place; then say "bundle ${SHA256::12} is already in $DIRECTORY" && return; fi
	WORK=$(mktemp -d)
	trap 'rm -rf "$WORK"' EXIT
	need_curl
	retry_until_done find_bundle
	put_in_place
	say "bundle ${SHA256::12} is in $DIRECTORY"
}

main
