# SPDX-License-Identifier: Apache-2.0
# A sample of deploy_xdp.sh in, the text format of Prometheus (0.0.4) out. Counters are those of metrics.json ($list).

include "rates";

def escaped: tostring | gsub("\\\\"; "\\\\") | gsub("\n"; "\\n") | gsub("\""; "\\\"");
def labels: if . == {} then "" else "{" + (to_entries | map("\(.key)=\"\(.value | escaped)\"") | join(",")) + "}" end;

# NAME, TYPE, HELP; [{labels, value}] -> lines; none where nothing is known
def family($name; $type; $help):
  [.[] | select(.value != null)] | select(length > 0)
  | "mirror_gateway_\($name)" as $name
  | "# HELP \($name) \($help)", "# TYPE \($name) \($type)", (.[] | "\($name)\(.labels | labels) \(.value)");

def gauge($name; $help; value): [{labels: {}, value: value}] | family($name; "gauge"; $help);

# Where a counter began anew, another series begins, too: a rate over both would be wrong. So with each interface.
def series($name; $labels):
  each_of($name) as $key | .[$key]
  | {labels: ($labels + ($key | if . == $name then {} else {interface: split(" ")[1]} end) + if .origin? then {origin} else {} end),
    value: .value?};

def metric: if . == "bytes_processed" then "processed_bytes" else . end | . + "_total";

. as $sample | .status as $status
| (counters | if .copies_lost then .copies_missing = .copies_lost else . end) as $counters
| gauge("up"; "whether packets can flow"; if $status.state == "broken" then 0 else 1 end),
  gauge("degraded"; "whether less carries the traffic than was asked for, or nothing does"; if $status.state == "healthy" then 0 else 1 end),
  gauge("xdp_attached"; "whether the XDP program is on its interface"; if $status.attached then 1 else 0 end),
  gauge("fragment_bypass"; "whether ENA's driver takes fragments past EC2's limit"; if $status.fragment_bypass == "on" then 1 else 0 end),
  ([{labels: ($status | {engine, xdp_mode, interface, state}), value: 1}] | family("info"; "gauge"; "what carries the traffic, and where")),
  ($list.counters[]
    | if .meaning then . as $group
        | [.names | keys_unsorted[] as $place | $counters | series($place; {$place})] | family("packets_\($group.group)_total"; "counter"; $group.meaning)
      else .names | to_entries[] | . as {$key, value: $help}
        | [$counters | series($key; {})] | family($key | metric; "counter"; $help) end)
