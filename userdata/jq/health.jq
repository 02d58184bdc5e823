# SPDX-License-Identifier: Apache-2.0
# What carries the traffic, can packets flow, and is that what was asked for? In: what known_state of lib/health.sh gathers.

# --- network ----------------------------------------------------------------------------------------------------------

def link($name): first(.links[] | select(.ifname == $name)) // {};
def has_flag($flag): any(.flags[]?; . == $flag);
def is_port($name): link($name) | .master == "br0" and has_flag("LOWER_UP");

def sets_packet_type: any(.. | objects | .mangle.key.meta.key; . == "pkttype");
def untracks: any(.. | objects; has("notrack"));

# A table that was flushed is still there, so rules are looked for.
def network_is_up:
  (link("br0") | has_flag("UP")) and (.chains.datagram | sets_packet_type) and (.chains.translate | untracks)
  and ((.punts | not) or (.chains.punt | untracks));

# -> what keeps packets from flowing, in words; nothing when they can
def network_fault:
  (if .egress == "" then "the second network interface" else .egress end) as $egress
  | if network_is_up | not then "br0 or the netfilter rules are missing or incomplete"
    elif is_port($egress) | not then "\($egress) is no active port of br0"
    elif is_port("vxlan1") | not then "vxlan1 is no active port of br0"
    elif .route[0].dev != "br0" then "no route to \(.destination) by br0"
    elif .ip_forward != 1 then "net.ipv4.ip_forward is off"
    else "" end;

# --- engine -----------------------------------------------------------------------------------------------------------

# What the loader says is attached, or what carries the traffic without it.
def engine:
  if .xdp.engine != "none" then .xdp.engine
  elif .queue_is_served then "nfqueue"
  elif network_is_up then "standby"
  else "none" end;

def in_words: if .engine == "bridge" then "the bridge engine" else "the direct engine in \(.mode) mode" end;

# Its first line: ENGINE MODE REASON
def refusal: capture("^(?<engine>\\S+) (?<mode>\\S+) ?(?<why>.*)");

# -> what is less than was asked for, in words. An engine that `auto` passes over is none of that.
def shortfall($now):
  "\($now.engine) carries the traffic" as $plain | "\($now | in_words) carries the traffic" as $words
  | if .enable_xdp != "true" then if $now.engine == "nfqueue" then "" else "\($plain), nfqueue was asked for" end
    elif $now.engine | IN("bridge", "direct") | not then "\($plain), XDP was asked for"
    elif .refused != "" then (.refused | refusal) as $it | "\($words), \($it | in_words) is refused: \($it.why)"
    elif (.xdp_engine == "direct" and $now.engine != "direct") or (.xdp_mode == "driver" and $now.mode != "driver")
      then "\($words); \(.skipped | split("\n") | join(";"))"
    elif (.traffic_percent | tonumber) < 100 and (.queue_is_served | not)
      then "modify_udp_df does not run: the standby carries what XDP leaves, \(100 - (.traffic_percent | tonumber)) % of the flows"
    else "" end;

# --- health -----------------------------------------------------------------------------------------------------------

def health:
  {engine: engine, mode: .xdp.xdp_mode} as $now | network_fault as $fault | (if $fault == "" then shortfall($now) else $fault end) as $reason
  | {state: (if $fault != "" then "broken" elif $reason != "" then "degraded" else "healthy" end),
    engine: $now.engine, xdp_mode: $now.mode, $reason};
