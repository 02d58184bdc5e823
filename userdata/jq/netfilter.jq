# SPDX-License-Identifier: Apache-2.0
# Which of the counters that `nft -j list counters` lists are ours? By name.

def our_counters: [.nftables[].counter // empty | select(.table | startswith("mirror_gateway")) | {(.name): .}] | add // {};
