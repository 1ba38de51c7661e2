# What there is to do here. `make` alone lists it.

CARGO ?= cargo
export CARGO_TARGET_DIR ?= $(CURDIR)/target

.PHONY: help setup demo run test lint check-alerts check-dashboards check-deploy dashboards-preview audit bench soak check-dockerfile

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing for the targets below
	scripts/setup.sh

demo: ## from a script to a page: Redis, exporter, Prometheus, Alertmanager, a pager (DEMO_SECONDS=N ends it)
	@scripts/setup.sh
	@$(CARGO) build --locked --release --bin redis-script-exporter --example demo
	@"$$CARGO_TARGET_DIR/release/examples/demo"

run: ## run the exporter (ARGS="--redis.addr redis://…")
	$(CARGO) run --locked --release -- $(ARGS)

test: ## everything that must hold: lint, alert rules, documentation, unit and integration tests
	scripts/setup.sh
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory check-alerts
	$(MAKE) --no-print-directory check-dashboards
	$(MAKE) --no-print-directory check-deploy
	$(CARGO) test --locked --doc
	$(CARGO) test --locked --lib --test integration

lint: ## formatting, clippy, documentation without warnings
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --document-private-items

check-alerts: ## check and test the alert rules and the Alertmanager example with promtool and amtool
	scripts/check-alerts.sh

check-dashboards: ## check the dashboards against Grafana's schema, and deploy/compose/
	scripts/check-dashboards.sh
	scripts/check-compose.sh

check-deploy: ## check deploy/kubernetes/ against the published schemas, and the systemd unit
	scripts/check-deploy.sh

dashboards-preview: ## draw the dashboards from a real Prometheus' answers (pictures with Chromium)
	scripts/preview-dashboards.sh

bench: ## speed, memory and cost for the server, beside redis_exporter and nginx
	scripts/setup.sh --bench
	$(CARGO) bench --locked --bench exporter --bench scale

audit: ## known vulnerabilities, licences and sources of the dependencies (needs cargo-deny and the internet)
	$(CARGO) deny --locked check

soak: ## random faults against real servers, every slow call reckoned (SOAK_SECONDS=300, SOAK_SEED)
	scripts/setup.sh
	$(CARGO) build --locked --release --bin redis-script-exporter --example soak
	"$$CARGO_TARGET_DIR/release/examples/soak"

check-dockerfile: ## run the build lines of the Dockerfile here, in a folder with just what it copies
	scripts/check-dockerfile.sh
