# SPDX-License-Identifier: Apache-2.0
# Makes the header of settings and limits that programs include; leaves one that says the same as old as it is.
../lib/settings.h: ../userdata/settings.json ../lib/settings.jq
	@jq -r -f ../lib/settings.jq $< >$@.new && if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
