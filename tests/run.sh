#!/usr/bin/env bash
# Runs every test. Fetches what the services need, starts each real service once, stops them at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/target/services
mkdir -p "$work"

say() { printf '\n== %s\n' "$*"; }
# Below the ports of outgoing connections: a client that tries a stopped server again and again would
# else be connected to itself one day and keep the server's port taken.
free_port() { python3 -c '
import random, socket
while True:
    port = random.randrange(20000, 32000)
    try: socket.socket().bind(("127.0.0.1", port))
    except OSError: continue
    print(port)
    break'; }

stop_services() {
  status=$?
  say "stopping services"
  tests/service/pulsar/start-pulsar.sh stop --data "$work/pulsar" || true
  tests/service/clickhouse/clickhouse.sh down --state "$work/clickhouse" --http "${ch_http:-1}" || true
  tests/service/clickhouse-modern/clickhouse-modern.sh down --state "$work/clickhouse-modern" --http "${chm_http:-1}" || true
  if [ "$status" -eq 0 ]; then say "all tests passed"; else say "FAILED, logs of the services: $work"; fi
}

say "formatting and lints"
cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- -D warnings

say "fetching and starting Apache Pulsar (245 MB the first time) and ClickHouse old and new (16 + 175 MB)"
ch_http=$(free_port); chm_http=$(free_port)
broker=$(free_port); web=$(free_port); bookie=$(free_port); tls=$(free_port)
trap stop_services EXIT
# Left over from the run before: the tests' topics keep all their messages.
tests/service/pulsar/start-pulsar.sh stop --data "$work/pulsar" >/dev/null 2>&1 || true
tests/service/pulsar/start-pulsar.sh wipe --data "$work/pulsar" >/dev/null
tests/service/pulsar/start-pulsar.sh start --data "$work/pulsar" \
  --broker-port "$broker" --web-port "$web" --bookie-port "$bookie" --tls-port "$tls" >"$work/pulsar.start" 2>&1 &
pulsar_start=$!
tests/service/clickhouse/clickhouse.sh up --state "$work/clickhouse" --wipe \
  --http "$ch_http" --tcp "$(free_port)" --interserver "$(free_port)"
tests/service/clickhouse-modern/clickhouse-modern.sh up --state "$work/clickhouse-modern" --http "$chm_http"
say "building"
cargo test --workspace --no-run --quiet
wait "$pulsar_start" || { cat "$work/pulsar.start"; exit 1; }
cat "$work/pulsar.start"

export TIDEMILL_PULSAR_URL=pulsar://127.0.0.1:$broker
export TIDEMILL_PULSAR_ADMIN=http://127.0.0.1:$web
export TIDEMILL_PULSAR_DATA=$work/pulsar
export TIDEMILL_PULSAR_PORTS="--broker-port $broker --web-port $web --bookie-port $bookie --tls-port $tls"
export TIDEMILL_PULSAR_TLS_URL=pulsar+ssl://127.0.0.1:$tls
export TIDEMILL_CLICKHOUSE_URL=http://127.0.0.1:$ch_http
export TIDEMILL_CLICKHOUSE_MODERN_URL=http://127.0.0.1:$chm_http

say "tests"
# All of them, so that one failure does not hide the next.
cargo test --workspace --no-fail-fast -- --test-threads 2
