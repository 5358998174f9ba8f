#!/usr/bin/env bash
# Measures Tidemill: bench/run.sh [PART|all] [--quick] [--repeats N] [--messages N] [--devices N ...]
# Builds the shipped binary and what it is compared with; results go to bench/runs/. See bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
[[ $# -eq 0 ]] || shift
work=$PWD/target/bench
mkdir -p "$work"
options=()
with_flink=1
for option; do
  if [[ $option == --no-flink ]]; then with_flink=; fi
done

cargo build --release --package tidemill --bin tidemill
if [[ $what == kernel || $what == limits || $what == peers || $what == all ]]; then
  cargo build --release --package tidemill --example bench_data --example kernel_speed
fi
if [[ $what == limits || $what == all ]]; then
  cargo build --release --package tidemill-kernel --example machine_limits
fi
if [[ $what == kernel || $what == all ]]; then
  # The parser picks its instructions when it is compiled.
  RUSTFLAGS="-C target-cpu=native" cargo build --release --locked --manifest-path bench/typed-parser/Cargo.toml --target-dir "$work/typed-parser"
fi
if [[ $what == peers || ($with_flink && ($what == file || $what == all)) ]]; then
  options+=(--flink-home "$(bench/flink-baseline/setup.sh "$work/flink-baseline")")
fi
if [[ $what == consumer || $what == all ]]; then
  command -v protoc >/dev/null ||
    { echo "bench/run.sh: protoc is needed to build the pulsar crate (Debian: protobuf-compiler)" >&2; exit 1; }
  cargo build --release --locked --manifest-path bench/pulsar-consumer/Cargo.toml --target-dir "$work/pulsar-consumer"
  lines=$work/consumer-lines.ndjson
  [[ -s $lines ]] || target/release/tidemill generate --messages 100000 --out "$lines"
  options+=(--lines "$lines")
fi
if [[ $what == peers || $what == all ]]; then
  python=$work/peers-venv/bin/python
  [[ -x $python ]] || python3 -m venv "$work/peers-venv"
  "$python" -m pip install -q --disable-pip-version-check -r bench/peers/requirements.txt
  options+=(--peers-python "$python")
  # Without Go there is no vmagent in the table.
  if command -v go >/dev/null && bench/peers/vmagent.sh "$work/vmagent"; then
    options+=(--vmagent "$work/vmagent")
  fi
fi
if [[ $what == steady || $what == all ]]; then
  cargo build --release --package tidemill-pulsar --example arrivals
fi
if [[ $what == replay || $what == all ]]; then
  cargo build --release --package tidemill-pulsar --example replay_server
fi
if [[ $what == catch-up || $what == all ]]; then
  cargo build --release --package tidemill-source --example retime
fi
exec env PYTHONDONTWRITEBYTECODE=1 python3 bench/bench.py "$what" "${options[@]+"${options[@]}"}" "$@"
