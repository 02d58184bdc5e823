# SPDX-License-Identifier: Apache-2.0
# Samples of xdp-monitoring.sh in, a line each; documents of CloudWatch's embedded metric format out, with the metrics that
# metrics.json ($list) has.

include "rates";

def percent($used; $all): if $all > 0 then 100 * $used / $all else null end;

def prepared($before):
  . as $sample | (counters | with_missing_copies($sample.processors; $before.counters)) as $counters |
  . + {
    # One that cannot be read now is compared with its last value when it can be read again.
    counters: ($before.counters + $counters),
    values: {
      attached: (if .status.attached == true then 1 elif .status.attached == false then 0 else null end),
      fragment_bypass: (if .status.fragment_bypass == "on" then 1 else 0 end),
      degraded: (if .status.state == null then null elif .status.state == "healthy" then 0 else 1 end),
      # Each measurement once.
      latency: (if $before and .latency.measured_at != $before.latency.measured_at then .latency.nanoseconds else null end),
      memory_used: percent(.memory.total - .memory.available; .memory.total),
      disk_used: percent(.disk.used; .disk.used + .disk.available)
    }
  };

# -> a number, or null where there is none to send
def value($metric; $now; $before):
  if $metric.value_of then $now.values[$metric.value_of]
  elif $metric.zero_while and $now.values[$metric.zero_while] == 1 then 0
  elif $metric.rate_of then rate($metric.rate_of; $now; $before)
  else [grown($metric.growth_of; $now; $before)[].growth] | add end
  | if . then . * 1000 | round / 1000 else . end;

def document:
  .now as $now | .before as $before |
  [ $list.metrics | to_entries[] | value(.value; $now; $before) as $value | select($value != null)
    | {Name: .key, Unit: .value.unit, value: $value} ] as $metrics |
  {
    _aws: {
      Timestamp: $now.at,
      LogGroupName: $about.log_group,
      LogStreamName: "\($about.instance)/metrics",
      CloudWatchMetrics: [{ Namespace: $list.namespace, Dimensions: $list.dimensions, Metrics: [$metrics[] | {Name, Unit}] }]
    },
    AutoScalingGroupName: $about.group,
    InstanceId: $about.instance,
    Region: $about.region,
    Engine: $now.status.engine,
    XdpMode: $now.status.xdp_mode,
    Interface: $now.status.interface,
    State: $now.status.state,
    Reason: ($now.status.reason | if . then .[:200] else . end)
  }
  + ([$metrics[] | {(.Name): .value}] | add // {})
  + { Counters: (reduce ($now.counters | to_entries[]) as {$key, $value} ({}; .[$key | split(" ")[0]] += $value.value)) }
  # bash writes no more at once, and a second write would be a second datagram.
  | if tojson | utf8bytelength < 4096 then . else del(.Counters) end;

foreach (inputs | fromjson? | objects) as $sample
  ({}; .now as $before | {before: $before, now: ($sample | prepared($before))}; document)
