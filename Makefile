# Thin: every target is a script in .ci/ or one cargo command. `make help` lists them.

CARGO ?= cargo
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build

.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*/\1/p' Makefile)

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## Install the Debian packages and the test users that are missing
	.ci/deps

build: ## Build the debug binary
	$(CARGO) build --workspace --locked

release: ## Build the static release binary, target/strata
	.ci/release

bases: deps ## Make the root file systems that tests and the demo start from (.test-cache/)
	.ci/bases

test: bases ## Run all tests, end-to-end cases both as root and as an ordinary user
	.ci/test

test-crash: bases ## Kill builds and prunes a thousand times (STRATA_CRASH_KILLS, STRATA_CRASH_SEED)
	$(CARGO) test --workspace --locked --test e2e -- --ignored --nocapture a_thousand_kills

# The generated cases: STRATA_DIFFERENTIAL_CASES=N of them, from STRATA_DIFFERENTIAL_SEED=N on; 0 leaves them out.
test-differential: bases ## Compare with docker.io and buildah (STRATA_DIFFERENTIAL=NAME,… for some cases)
	STRATA_TEST_REQUIRE=1 nice -n 19 $(CARGO) test --workspace --locked --test e2e -- --ignored --nocapture \
		every_fixture_agrees
	STRATA_TEST_REQUIRE=1 nice -n 19 $(CARGO) test -p strata-cli --locked --test e2e -- --ignored --nocapture \
		generated_cases_agree

test-seccomp: bases ## Compare the system call filter with docker.io's, call by call
	STRATA_TEST_REQUIRE=1 $(CARGO) test --workspace --locked --test e2e -- --ignored --nocapture \
		every_call_is_answered_as_under_docker

test-flood: bases ## A step that writes a gigabyte of output
	STRATA_TEST_REQUIRE=1 $(CARGO) test --workspace --locked --test e2e -- --ignored --nocapture \
		a_gigabyte_of_output

fuzz: ## Fuzz every target for FUZZ_SECONDS (600); what it finds is in .test-cache/fuzz
	.ci/fuzz

test-power: bases ## Cut the power of a store's disk 240 times (STRATA_POWER_CUTS, STRATA_POWER_SEED)
	$(CARGO) test --workspace --locked --test e2e -- --ignored --nocapture two_hundred_power_cuts

test-incremental: bases ## Hold a thousand edits against fresh builds (STRATA_EDITS, STRATA_EDITS_SEED)
	$(CARGO) test -p strata-cli --locked --test e2e -- --ignored --nocapture a_thousand_edits

test-cgroup2: bases ## Run the tests of limits in a virtual machine with control groups of version 2 only, and of AppArmor and SELinux
	.ci/cgroup2

demo: bases release ## Build a real image, run it, edit a source, build again
	fixtures/demo/run.sh

fmt: ## Check the formatting
	$(CARGO) fmt --all --check

clippy: ## Lint; warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## Build the documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

deny: ## Check licences, sources and banned or doubled dependencies
	.ci/deny

crates: ## Check that the crates depend on each other in one direction
	.ci/crates

bench-curves: bases release ## Measure how costs grow with files, steps, layers, records and bytes (BENCH="--scale 0.1")
	$(CARGO) build --release --locked -p strata-cache --example fill_store
	benches/curves --strata target/strata --fill target/release/examples/fill_store --busybox .test-cache/busybox.tar $(BENCH)

bench-compare: bases release ## Measure strata beside buildah, docker.io and the machine's limits (BENCH="--only P1 --scale 0.1")
	$(CARGO) build --release --locked -p strata-cache --example limits
	python3 benches/compare $(BENCH)

bench-profile: bases release ## Sample the workloads of bench-compare that miss their goals: flame graphs (BENCH="--only P1 --page")
	python3 benches/profile $(BENCH)

bench-micro: bases ## Time the parser, keys, walks, hashes, archives and codecs alone (BENCH="recipe_keys --min-time 1")
	$(CARGO) bench --workspace --locked --bench parser --bench keys --bench walk --bench hash --bench archives \
		--bench compression -- $(BENCH)

bench-guard: build bases ## Fail if a build that finds everything costs more than it did (GUARD=--update writes it down)
	python3 benches/guard $(GUARD)
