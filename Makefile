# SPDX-License-Identifier: Apache-2.0
# Wraps what needs more than Node: system packages, root, namespaces, virtual machines. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Empty: what a stack runs by default. MODE is for ENGINE=direct: driver or generic. EGRESS_MTU: longer packets leave in
# fragments. EC2_FRAGMENT_LIMIT=1: of those, as many arrive as EC2 lets out.
ENGINE ?=
MODE ?=
EGRESS_MTU ?=
EC2_FRAGMENT_LIMIT ?=
.NOTPARALLEL: # the suites share root, namespaces and ports
export CHECKPOINT_DISABLE := 1

# What a lab needs beside Node: the instance's own packages and those of the labs.
PACKAGES := $(shell cat userdata/packages.txt lab/packages.txt)
ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$$PATH")
TS := node -r ts-node/register/transpile-only
C_SOURCES = $(wildcard bpf/*.[ch] bpf/loader/*.[ch] bpf/xdp/*.h bpf/tests/*.[ch] lib/journal.[ch] health/*.c netfilter/*.cpp netfilter/tests/*.cpp lab/*.c bench/*.[ch])
SCRIPTS := $(wildcard userdata/*.sh userdata/lib/*.sh) __tests__/support/isolated .ci/run .ci/diff-comment

.PHONY: help setup packages build synth dashboard user-data-size lint lint-rules lint-types lint-format python-tools plan test-unit test-terraform test-aws test-bpf test-lab test-vm test test-all fuzz bench performance lab-up lab-down lab-status demo clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name what; do printf '  %-15s %s\n' "$$name" "$$what"; done

setup: packages node_modules/.package-lock.json ## install what is missing: Debian packages, npm packages

packages:
	@missing=(); for name in $(PACKAGES); do \
		[[ $$(dpkg-query -W -f='$${db:Status-Status}' $$name 2>/dev/null) == installed ]] || missing+=($$name); done; \
	if [[ $${#missing[@]} -gt 0 && -n '$(ROOT)' && ! -t 0 ]] && ! sudo -n true 2>/dev/null; then \
		echo "not installed, for want of root, and what needs them fails: sudo apt-get install $${missing[*]}" >&2; \
	elif [[ $${#missing[@]} -gt 0 ]]; then \
		echo "installing Debian packages: $${missing[*]}"; \
		$(ROOT) apt-get -qq update; \
		DEBIAN_FRONTEND=noninteractive $(ROOT) apt-get -qq install -y --no-install-recommends "$${missing[@]}" >/dev/null; \
	fi

node_modules/.package-lock.json: package.json package-lock.json
	@echo 'installing npm packages'
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@

python-tools: setup ## install the Python tools of lab/requirements.txt into a virtual environment in the cache
	@$(TS) lab/support/python-tools.ts

build: setup ## build the XDP programs, their loader, the health endpoint, the NFQUEUE daemon and the lab's traffic
	@$(MAKE) -s --no-print-directory -C health
	@$(MAKE) -s --no-print-directory -C bpf
	@$(MAKE) -s --no-print-directory -C netfilter
	@$(MAKE) -s --no-print-directory -C lab

synth: setup ## synthesize the stack into cdktf.out
	@npx cdktf synth

dashboard: synth ## draw docs/dashboard.svg: the synthesized dashboard with a sample fleet
	@$(TS) lab/aws/dashboard.ts

plan: node_modules/.package-lock.json ## what a first deployment would create, without an AWS account: needs Terraform
	@$(TS) lab/terraform/plan.ts

user-data-size: setup ## each file's share of the user data, and what is in the bundle
	@$(TS) constructs/user-data/size.ts

lint: setup ## every linter and formatter, and the types
	@$(MAKE) -s --no-print-directory -j2 lint-rules lint-types lint-format

lint-rules:
	@npx eslint --cache --cache-location node_modules/.cache/eslint/ .

lint-types:
	@npx tsc --noEmit

lint-format:
	@npx prettier --check --log-level warn .
	@clang-format --dry-run -Werror $(C_SOURCES)
	@shellcheck $(SCRIPTS)

# Suites, one by one; what a machine cannot run is skipped, with the remedy (__tests__/support/run.ts).
RUN_TESTS := $(TS) __tests__/support/run.ts

test-unit: setup lint ## linters, types and unit tests: no root, three minutes; while typing
	@$(RUN_TESTS) unit

test-terraform: python-tools ## the stack through the cdktf CLI, real Terraform (with a stand-in for the AWS provider) and checkov
	@$(RUN_TESTS) terraform

test-aws: python-tools ## against AWS on loopback: the functions with failures injected, the fetching of the bundle, the states of all alarms, the service models
	@$(RUN_TESTS) aws

test-bpf: build ## the XDP program, packet by packet, in the running kernel
	@$(RUN_TESTS) bpf

test-lab: build python-tools ## every engine in network namespaces
	@$(RUN_TESTS) lab

test-vm: build python-tools ## gateways that boot from the synthesized user data, in containers; the XDP programs on Debian's kernels
	@$(RUN_TESTS) vm

test: lint build python-tools ## every suite, side by side where they bear it: before a push
	@$(MAKE) -s --no-print-directory -C bpf test-tools
	@$(RUN_TESTS)

test-all: lint build python-tools ## the same, and what takes longer: when `make test` says that a change asks for it, and before a release
	@$(MAKE) -s --no-print-directory -C bpf test-tools
	@$(RUN_TESTS) --all

fuzz: build ## nightly, twenty minutes: five million packets against the model, 200 000 datagrams through each XDP engine, every parser under libFuzzer
	@$(ROOT) $(TS) lab/fuzz.ts

bench: build ## what each engine delivers, loses and costs, two to three hours: BENCH=--quick takes a minute or two (BENCH=--help lists more)
	@$(MAKE) -s --no-print-directory -C bpf test-tools
	@$(MAKE) -s --no-print-directory -C bench
	@$(ROOT) $(TS) bench/run.ts $(BENCH)

performance: node_modules/.package-lock.json ## write docs/performance.md and its charts from docs/performance.json
	@$(TS) bench/report/performance.ts

lab-up: build ## a gateway in network namespaces: ENGINE=direct|bridge|standby|nfqueue, of direct MODE=generic|driver; EGRESS_MTU=1400 fragments, EC2_FRAGMENT_LIMIT=1 drops fragments as EC2 does
	@$(ROOT) $(TS) lab/namespaces/namespaces.ts up '$(ENGINE)' '$(MODE)' '$(EGRESS_MTU)' '$(EC2_FRAGMENT_LIMIT)'

lab-down: ## take it down
	@$(ROOT) $(TS) lab/namespaces/namespaces.ts down

lab-status: ## what its gateway says, and what EC2's fragment limit dropped (make lab-up first)
	@$(ROOT) $(TS) lab/namespaces/namespaces.ts status

demo: build python-tools ## boot a machine from the synthesized user data, send mirrored datagrams through it, whole and in fragments: ENGINE=direct|bridge|nfqueue, of direct MODE=generic|driver
	@$(ROOT) $(TS) lab/demo.ts '$(ENGINE)' '$(MODE)'

clean: ## remove what was built here (virtual machine images stay in the cache)
	@$(MAKE) -s --no-print-directory -C health clean
	@$(MAKE) -s --no-print-directory -C bpf clean
	@$(MAKE) -s --no-print-directory -C netfilter clean
	@$(MAKE) -s --no-print-directory -C lab clean
	@$(MAKE) -s --no-print-directory -C bench clean
	@$(MAKE) -s --no-print-directory -C bpf/tests clean
	@$(MAKE) -s --no-print-directory -C netfilter/tests clean
	@rm -rf cdktf.out coverage
