# SPDX-License-Identifier: Apache-2.0
# Prints what scripts need of settings.json, a line each: `live NAME NAME_IN_GATEWAY_ENV`, `netfilter NAME`, `limit NAME VALUE`.
(.settings | to_entries[] | select(.value.live) | "live \(.value.live) \(.key | ascii_upcase)",
	(select(.value.netfilter) | "netfilter \(.value.live)")),
(.limits | to_entries[] | "limit \(.key) \(.value.value)")
