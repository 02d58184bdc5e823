# SPDX-License-Identifier: Apache-2.0
# What two samples of the gateway's counters tell. A rate is never guessed: there is none for the first sample, nor where a
# counter began anew.

# Copies that may be on their way while counters are read: a batch of the driver, of the most fragments, on each processor.
def in_flight: 64 * 9 * .processors;

# Other than before, if counters of this name began anew. Of the rest only their having become smaller tells.
def origin($name; $status):
  if $name | startswith("nfqueue_") then "nfqueue-\($status.nfqueue_socket)"
  elif $name | IN("standby_packets", "frames_unmatched", "packets_expired", "packets_misrouted", "kernel_fragments") then null
  elif $status.attached then "xdp-\($status.stats_map)"
  else "netfilter" end;

# -> {NAME: {value, time, origin}}; of interfaces {"NAME INTERFACE": the same}
def counters:
  . as $sample | (.status // {}) as $status |
  [ ($status | to_entries[] | select(.value | type == "number") | select(.key | IN("uptime", "stats_map", "nfqueue_socket") | not)
      | .value = {value, time: $status.uptime, origin: origin(.key; $status)}),
    (.machine | to_entries[] | .value = {value, time: $sample.uptime, origin: null}) ]
  | from_entries
  # What the others cleared is counted apart anyway.
  | if $status.attached then .xdp_packets = .packets_modified else . end;

# Fragments that are due and never came. What is only late is not lost, and what was once taken for lost stays so.
def with_missing_copies($processors; $before):
  if .copies_lost then
    (.fragments_due.value - .fragments_sent.value - ({processors: $processors} | in_flight)) as $late
    | $before.copies_missing as $old
    | .copies_missing = .copies_lost
    | .copies_missing.value = ([.copies_lost.value, $late, if $old.origin == .copies_lost.origin then $old.value else 0 end] | max)
  else . end;

# The counters of this name: one, or one for each interface. These come, go and begin anew each for itself, so it is their
# growth that is added up: in a sum, one that joins would bring along all that it counted before.
def each_of($name): keys_unsorted[] | select(. == $name or startswith($name + " "));

# -> null where there is none
def total($name): . as $counters | [each_of($name) as $key | $counters[$key].value] | add;

# Those counters that can be compared, as {growth, seconds}.
def grown($names; $now; $before):
  [ $names[] as $name | ($now.counters | each_of($name)) as $key | $now.counters[$key] as $new | $before.counters[$key] as $old
    | select($new and $old and $new.origin == $old.origin and $new.value >= $old.value and $new.time - $old.time >= 1)
    | {growth: ($new.value - $old.value), seconds: ($new.time - $old.time)} ];

def rate($names; $now; $before): [grown($names; $now; $before)[] | .growth / .seconds] | add;
