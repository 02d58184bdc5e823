# SPDX-License-Identifier: Apache-2.0
# Two samples of deploy_xdp.sh in, what a person wants to know of the gateway out, at most 80 columns wide. Rows are those of
# metrics.json ($list). $enable_xdp and $deployed are settings, $colour is whether to use any, $every the seconds between two
# views (0: there is only this one), $rows what the terminal has room for (0: any number).

include "rates";

def paint($code): if $colour then "\u001b[\($code)m\(.)\u001b[0m" else . end;
def right($width): (" " * ($width - length) // "") + .;
def left($width): . + (" " * ($width - length) // "");

def grouped: if . == null then "-" else
  round | tostring | [while(length > 0; .[:-3]) | .[-3:]] | reverse | join(",") end;

def in_words: if . < 120 then "\(floor) s" elif . < 7200 then "\(. / 60 | floor) min"
  elif . < 172800 then "\(. / 3600 | floor) h" else "\(. / 86400 | floor) d" end;

def wrapped: . as $text | reduce ($text | splits(" +")) as $word ([];
  if length > 0 and (last | length) + ($word | length) < 80 then .[:-1] + [last + " " + $word] else . + [$word] end) | .[];

# --- health ------------------------------------------------------------------------------------------------------------

def remedy:
  if .state == "broken" then "sudo deploy_xdp.sh network-up, if it is not mended within 10 s; journalctl -u mirror-gateway-network says why"
  elif .state == "healthy" then empty
  elif $enable_xdp then "sudo deploy_xdp.sh attach, which says why if it cannot"
  else "sudo deploy_xdp.sh rollback" end;

def health:
  {healthy: "1;32", degraded: "1;33", broken: "1;31"}[.state] as $code |
  (([.state, (.reason | select(. != ""))] | join(": ") | wrapped | paint($code)),
    (remedy | "to do: \(.)" | wrapped));

def carrier($running):
  ["engine \(.engine)", (.xdp_mode | select(. != "none") | "mode \(.)"), "interface \(.interface)",
    ($running | values | "for \(in_words)")] | join(", ");

# --- the table ----------------------------------------------------------------------------------------------------------

def row($name; $now; $before):
  ($now.counters | total($name)) as $total | rate([$name]; $now; $before) as $rate
  | {line: ("  " + ($name | left(33)) + ($rate | grouped | right(21)) + ($total | grouped | right(24))), $rate, $total};

def is_zero: (.rate // 0) == 0 and (.total // 0) == 0;

# What is nothing to worry about stands back, what is being lost stands out.
def painted($bad): if is_zero then .line | paint("2") elif $bad and (.rate // 0) > 0 then .line | paint("1;31") else .line end;

# Says of fragments that leave whether EC2 drops them.
def fragment_limit($bypass):
  (map(.rate // 0) | add) as $rate | ($ec2_fragments_per_second | grouped) as $limit
  | if $bypass == "on" then "  ENA's fragment bypass is on: EC2's limit of \($limit) a second does not count"
    elif $rate > $ec2_fragments_per_second then
      "  EC2 drops \($rate - $ec2_fragments_per_second | grouped) of them a second, all beyond \($limit);",
      "  to do: docs/troubleshooting.md, Fragments" | paint("1;31")
    else "  EC2 drops all beyond \($limit) a second; ENA's fragment bypass is \($bypass)" end;

# None where all leaves whole now. Those that are due, and were not sent, count as lost.
def fragments($now; $before):
  [.names | keys_unsorted[] | select(. != "fragments_due") | row(.; $now; $before)]
  | (map(.total // 0) | add) as $total
  | if all(is_zero) then "fragments: none" | paint("2")
    elif all((.rate // 0) == 0) then "fragments: none now, \($total | grouped) so far"
    else "fragments", (.[] | select(is_zero | not) | painted(false)), fragment_limit($now.status.fragment_bypass) end;

def table($now; $before):
  $list.counters[] | .group as $group | if $group == "fragments" then fragments($now; $before) else
  ($group | IN("traffic", "engines")) as $always
  | [.names | keys_unsorted[] | select($always or (. as $name | $now.counters | any(each_of($name); true))) | row(.; $now; $before)] | select(length > 0)
  | if $always then
      ($group | if . == "traffic" then left(35) + ("per second" | right(21)) + ("in total" | right(24)) else . end), (.[] | painted(false))
    elif all(is_zero) then "\($group): nothing" | paint("2")
    else $group, (.[] | select(is_zero | not) | painted($group != "not forwarded")) end end;

def settings:
  ([$deployed | splits("\n") | select(. != "") | capture("(?<key>[^=]*)=(?<value>.*)")] | from_entries) as $deployed
  | .config | to_entries | select(length > 0)
  | map("\(.key)=\(.value)" + if $deployed[.key] == (.value | tostring) then "" else " (deployed: \($deployed[.key]))" end)
  | "settings: " + join(" ");

# --- main -----------------------------------------------------------------------------------------------------------

def view($now; $before; $time):
  (if $every > 0 then "every \($every) s, \($time) UTC; Ctrl-C ends it" | paint("2") else empty end),
  ($now.status | health, carrier($now.running)), "", table($now; $before), ($now.status | (settings | wrapped), ("version \(.version)" | paint("2")));

def prepared: .processors as $processors | . + {counters: (counters | with_missing_copies($processors; {}))};

([inputs | prepared]) as [$before, $now] | [view($now; $before; now | gmtime | strftime("%H:%M:%S"))]
| if $rows == 0 then .[], if $every > 0 then "" else empty end
  # From the top left corner; what an earlier view left behind each line, and below, goes.
  else "\u001b[H" + (.[:$rows - 1] | map(. + "\u001b[K\n") | join("")) + "\u001b[J" end
