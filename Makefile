# Targets of the project. `make` without arguments lists them.

CARGO ?= cargo
export CARGO_TARGET_DIR ?= $(CURDIR)/target

# Most tests wait for servers, so more of them than there are cores run in parallel; fewer in CI, whose machine may have
# other work. The status page tests need the CPU, and some other tests take up to a minute each, so these run alongside the
# rest from the start.
TEST_THREADS ?= $(if $(CI),6,9)
LONG_TESTS = incidents:: paging:: status_page::
LONG_TEST_THREADS ?= 2

# In `make test`: skips checks that have passed with the same files. Targets such as `make check-alerts` always run the
# check.
ONCE ?=

.PHONY: help setup demo run test unit-tests long-tests integration-tests lint rehearse-table rehearse-accuracy check-alerts check-dashboards check-deploy dashboards-preview readme-picture audit bench soak fuzz test-libraries check-dockerfile release-check check-workflows check-languages msrv

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install missing programs for the targets below
	scripts/setup.sh

demo: ## run Redis, exporter, Prometheus and Alertmanager with slow scripts, and print the notifications (DEMO_SECONDS=N ends it)
	@scripts/setup.sh --demo
	@$(CARGO) build --locked --profile demo --bin redis-script-exporter --example demo
	@"$$CARGO_TARGET_DIR/demo/examples/demo"

run: ## run the exporter (ARGS="--redis.addr redis://…")
	$(CARGO) run --locked --release -- $(ARGS)

test: ## run all linters and tests
	scripts/setup.sh
	$(MAKE) --no-print-directory -j 2 -O ONCE=scripts/once.sh unit-tests check-deploy check-alerts check-dashboards check-workflows
	@echo 'Integration tests: about 5 minutes on two cores, 12 with SERVERS=all. Their output follows when each half has ended.'
	$(MAKE) --no-print-directory -j 2 -O long-tests integration-tests

# Sequential, because concurrent cargo processes block each other. The integration tests are compiled here, alongside the
# checks that need no compiler.
unit-tests: lint
	$(CARGO) test --locked --no-run --lib --test integration
	$(CARGO) test --locked --no-fail-fast --lib

long-tests:
	$(CARGO) test --locked --test integration -- --test-threads $(LONG_TEST_THREADS) $(LONG_TESTS)

integration-tests:
	$(CARGO) test --locked --test integration -- --test-threads $(TEST_THREADS) $(addprefix --skip ,$(LONG_TESTS))

test-libraries: ## run programs that use public libraries in four languages, and check the names of their scripts
	scripts/setup.sh
	tests/libraries/setup.sh
	$(CARGO) test --locked --test integration -- --ignored --nocapture scripts_of_real_programs_are_named

check-languages: ## compile the programs in tests/languages/, and compare the SHA1s of their scripts with expected.txt
	scripts/check-languages.sh

lint: ## check formatting, clippy and rustdoc
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --document-private-items

check-alerts: ## check and test the alert rules and the Alertmanager example with promtool and amtool
	$(ONCE) scripts/check-alerts.sh

check-workflows: ## check .github/ with actionlint, and the repository's address in all files
	scripts/check-workflows.sh

check-dashboards: ## check the dashboards (schema, rules of dashboard-linter, every number) and deploy/compose/
	$(ONCE) scripts/check-dashboards.sh
	$(ONCE) scripts/check-compose.sh

check-deploy: ## check the chart and deploy/kubernetes/ against the published schemas, the mixin, and the systemd unit
	$(ONCE) scripts/check-deploy.sh

dashboards-preview: ## draw the dashboards in each situation of an artificial history (needs Chromium)
	scripts/preview-dashboards.sh

readme-picture: ## take the picture of the status page for README.md (needs Chromium)
	scripts/readme-picture.sh

rehearse-table: ## rehearse scripts of published packages and the labelled set of lint, and write the tables in docs/
	scripts/setup.sh
	$(CARGO) build --locked --release --bin redis-script-exporter --example lint-doc
	scripts/rehearse-table.py "$$CARGO_TARGET_DIR/release/redis-script-exporter"
	"$$CARGO_TARGET_DIR/release/examples/lint-doc" > docs/lint.md

rehearse-accuracy: ## rehearse 20 scripts of known growth, ROUNDS times (default 10), and compare the sizes of 1 s with real runs
	$(CARGO) build --locked --release --bin redis-script-exporter
	scripts/rehearse-accuracy.py "$$CARGO_TARGET_DIR/release/redis-script-exporter" --rounds $${ROUNDS:-10} --verify

bench: ## measure speed, memory and load on the server, compared with redis_exporter and nginx
	scripts/setup.sh --bench
	$(CARGO) bench --locked --bench exporter --bench scale

audit: ## check dependencies for vulnerabilities, licences and sources (needs the internet)
	scripts/audit.sh

msrv: ## check that the exporter compiles with the oldest supported Rust
	scripts/check-msrv.sh

fuzz: ## fuzz each parser for FUZZ_SECONDS (60); scripts/fuzz.sh TARGET… fuzzes some of them
	scripts/fuzz.sh

soak: ## inject random faults into servers of all versions, alongside hostile ones, and verify the counts (SOAK_SECONDS=300, SOAK_SEED)
	SERVERS=all scripts/setup.sh
	$(CARGO) build --locked --release --bin redis-script-exporter --example soak
	@# In memory: servers and exporter wait for a disk that other programs use.
	SERVERS=all TMPDIR=$$(test -d /dev/shm && echo /dev/shm || echo /tmp) "$$CARGO_TARGET_DIR/release/examples/soak"

release-check: ## build the files of a release, install and test them in a clean root
	scripts/setup.sh --release
	scripts/release-check.sh

check-dockerfile: ## run the build steps of the Dockerfile without Docker
	scripts/check-dockerfile.sh
