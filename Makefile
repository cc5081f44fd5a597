# What a developer types. `make` alone lists the targets.

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help test test-rust test-python test-plugins lint demo bench bench-kinds bench-postgres soak

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## Install what the tests need (root: by apt), then run every test: Rust, Python, and the worked drivers
	scripts/install-test-needs
	$(MAKE) --no-print-directory test-rust test-python test-plugins

test-rust: ## Run the Rust tests, the Postgres store's included
	cargo test --locked

test-python: ## Run the Python client's tests against the built broker
	cargo build --locked
	SUBLET_BIN="$(abspath $(TARGET))/debug/sublet" scripts/python-tests

test-plugins: ## Test the worked drivers in Go and Python with `sublet plugin test`
	cargo build --locked
	SUBLET_BIN="$(abspath $(TARGET))/debug/sublet" scripts/plugin-tests

lint: ## Check format and lints; warnings are errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

demo: ## Show many clients sharing few sessions, over real gRPC
	cargo run --locked --release -- demo

bench: ## Print the figures: beside deadpool, bb8 and a bare gRPC server, and of 10,000 leases
	cargo bench --locked --bench pool --bench execute --bench leases

bench-kinds: ## Print how soon each kind of backend stops when a client dies; what tunnels, Redis, HTTP/2 and tokens cost
	scripts/install-test-needs
	cargo bench --locked --bench kinds

bench-postgres: ## Print the figures of PostgreSQL sessions beside PgBouncer's, which it installs (root: by apt)
	scripts/install-bench-needs
	cargo bench --locked --bench postgres

soak: ## Kill the broker a hundred times per store, drop 10,000 calls, and stream and copy for long
	SUBLET_SOAK_KILLS=100 cargo test --locked --test it kill_9
	SUBLET_SOAK_CANCELS=10000 cargo test --locked --test it dropped_calls_reach_no
	SUBLET_SOAK_ROWS=1000000 SUBLET_SOAK_COPY_MIB=1024 SUBLET_SOAK_PROBES_APART=12 \
		cargo test --locked --test it postgres::streams -- --nocapture --test-threads 1
