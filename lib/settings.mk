# SPDX-License-Identifier: Apache-2.0
# Makes the header of settings and limits that programs include.
../lib/settings.h: ../userdata/settings.json ../lib/settings.jq
	@jq -r -f ../lib/settings.jq $< >$@.new && mv $@.new $@
