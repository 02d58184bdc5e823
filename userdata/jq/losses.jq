# SPDX-License-Identifier: Apache-2.0
# What did the machine itself lose? In: lines "NUMBER NAME" of lib/losses.sh; out: an object of their sums, to which the queues
# of these $interfaces add what they dropped ($qdiscs: `tc -s -j qdisc show root`).

def queues: $qdiscs[] | select(.dev as $dev | $interfaces | split(" ") | any(. == $dev)) | {number: .drops, name: "queue_dropped \(.dev)"};
def counts: inputs | capture("^(?<number>[0-9]+) (?<name>.*)$") | .number |= tonumber;

reduce (counts, queues) as {$number, $name} ({}; .[$name] += $number)
