# SPDX-License-Identifier: Apache-2.0
# Makes a C header of userdata/settings.json: bounds and defaults, what can change under traffic, limits.
def define($name; $value): "#define \($name | ascii_upcase) \($value)";
def bounds: to_entries[] | (.value | {min, max, default}) as $of | .key as $key | $of | to_entries[]
	| select(.value != null) | define("\($key)_\(.key)"; .value);
def live: to_entries | map(select(.value.live) | .value | "X(\(.live), \"\(.live | gsub("_"; "-"))\", \(.min), \(.max), \(.default))") | join(", ");

"/* Made of userdata/settings.json by lib/settings.jq. */",
"#ifndef SETTINGS_H",
"#define SETTINGS_H",
(.settings | bounds),
define("LIVE_SETTINGS(X)"; .settings | live),
(.limits | to_entries[] | define(.key; .value.value)),
"#endif"
