# Index of commands. `make demo` and `make test` are all the set-up there is.

.PHONY: demo test check memcheck sim sim-disk soak soak-pulsar bench bench-check fuzz dist build

demo: build ## the sensor job on generated messages, into an embedded store: make demo ARGS="--for 30s"
	target/debug/tidemill demo $(ARGS)

test: ## everything: style, units, simulation, real Pulsar, real ClickHouse old and new
	tests/run.sh

check: ## formatting, lints, style
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --package tidemill --test tidy

memcheck: ## the tests of the unsafe modules under valgrind
	tests/memcheck.sh

sim: ## the simulator alone: make sim SEEDS=10000
	TIDEMILL_SEEDS=$(or $(SEEDS),10000) cargo test --package tidemill-engine --test simulation -- --nocapture

sim-disk: ## the embedded store on a disk that fails: make sim-disk SEEDS=3000
	TIDEMILL_DISK_SEEDS=$(or $(SEEDS),3000) cargo test --package tidemill-sink --test failing_disk -- --nocapture

soak: ## three replicas that are killed, paused and restarted: make soak SECONDS=600 RATE=30000 WINDOW=60
	TIDEMILL_SOAK_SECONDS=$(or $(SECONDS),600) TIDEMILL_SOAK_RATE=$(or $(RATE),30000) \
	TIDEMILL_SOAK_WINDOW_SECONDS=$(or $(WINDOW),60) \
	cargo test --package tidemill --test e2e_replicas rows_of_three_replicas -- --nocapture

soak-pulsar: ## two consumers while broker and consumers are killed: make soak-pulsar FOR=20m
	env -u TIDEMILL_PULSAR_URL cargo run --package tidemill-pulsar --example failover_soak -- --for $(or $(FOR),20m)

bench: ## what it costs, against targets and other engines: make bench ARGS=--quick
	bench/run.sh all $(ARGS)

bench-check: ## instructions per message against the stored ones; fails above +3 %
	python3 -B bench/check.py

fuzz: ## coverage-guided: make fuzz TARGET=json|config|pulsar_entry|partial|archive SECONDS=60
	fuzz/run.sh $(or $(TARGET),json) $(or $(SECONDS),60)

dist: ## the archive to ship: static binary, licences, unit, manual pages, checksums
	packaging/dist.sh

build:
	cargo build --package tidemill
