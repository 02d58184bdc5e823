# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# How do people and CloudWatch reach the instance? AWS's agents come last, and are never a reason not to forward.

readonly AGENT=/opt/aws/amazon-cloudwatch-agent

# Installs a package from a bucket of AWS in this region.
fetch_package() { # FILE BUCKET KEY
	local token region domain
	token=$(imds_token) && region=$(imds "$token" meta-data/placement/region) &&
		domain=$(imds "$token" meta-data/services/domain) &&
		curl -sf -m 300 -o "$1" "https://s3.$region.$domain/$2-$region/$3" &&
		apt-get -qq -o DPkg::Lock::Timeout=300 install -y "$1" >/dev/null
}

# Operators get in by it. Ubuntu's images have it, Debian's do not.
install_ssm_agent() {
	[[ ! -e /usr/bin/amazon-ssm-agent && ! -e /snap/amazon-ssm-agent ]] || return 0
	fetch_package "$RUN/ssm.deb" amazon-ssm "latest/debian_$(dpkg --print-architecture)/amazon-ssm-agent.deb" ||
		say 'no amazon-ssm-agent: Session Manager cannot reach this instance'
	rm -f "$RUN/ssm.deb"
}

has_cloudwatch_agent() { [[ -x $AGENT/bin/amazon-cloudwatch-agent-ctl ]]; }

# Takes metrics and journals to CloudWatch. An image may bring it along.
install_cloudwatch_agent() {
	local system
	if ! has_cloudwatch_agent; then
		system=$(sed -n 's/^ID=//p' /etc/os-release)
		fetch_package "$RUN/cloudwatch.deb" amazoncloudwatch-agent "$system/$(dpkg --print-architecture)/latest/amazon-cloudwatch-agent.deb" || true
		rm -f "$RUN/cloudwatch.deb"
	fi
	if ! has_cloudwatch_agent; then
		say 'no amazon-cloudwatch-agent: this instance sends neither metrics nor logs; once its package can be fetched: deploy_xdp.sh agent'
		return
	fi
	usermod -aG systemd-journal cwagent 2>/dev/null || true
	if configure_agent .; then return; fi
	if configure_agent 'del(.logs.logs_collected)'; then
		say 'amazon-cloudwatch-agent does not know the journal (it is from before May 2026): the logs stay on this instance'
	else
		say 'amazon-cloudwatch-agent does not take its settings: this instance sends neither metrics nor logs'
	fi
}

# The agent checks the settings itself, and starts with them.
configure_agent() { # FILTER, for one that knows less
	jq --arg group "${SETTING[LOG_GROUP]:-/aws/ec2/xdp-packet-processor}" "$1"' | (.. | objects | select(.log_group_name).log_group_name) = $group' \
		"$USERDATA/cloudwatch-config.json" >"$RUN/cloudwatch.json" &&
		timeout 120 "$AGENT/bin/amazon-cloudwatch-agent-ctl" -a fetch-config -m ec2 -s -c "file:$RUN/cloudwatch.json" &>/dev/null
}
