#!/usr/bin/env bash
# Coverage-guided fuzzing with the stable compiler: fuzz/run.sh TARGET SECONDS
# What is found is written to target/fuzz/finds and shown; the grown corpus stays for the next run.
# Needs a C++ compiler (for libFuzzer) and Python 3 (for the first inputs).
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?usage: fuzz/run.sh json|config|pulsar_entry|partial|archive SECONDS}
seconds=${2:?usage: fuzz/run.sh TARGET SECONDS}
[ -f "targets/$target.rs" ] || { echo "no such target: $target" >&2; exit 2; }

out=$(cd .. && pwd)/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags reach what is fuzzed and spare build scripts and derive macros, which
# would not link against the fuzzer's run time.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Clink-dead-code"
cargo build --quiet --bin "$target" --target "$host" --target-dir "$out/build"

mkdir -p "$out/corpus/$target" "$out/finds" "$out/tmp"
export TMPDIR=$out/tmp
python3 seeds.py "$out/seeds"
seeds=("$out/seeds/$target")
if [ "$target" = config ]; then seeds+=(../config); fi
exec "$out/build/$host/debug/$target" "$out/corpus/$target" "${seeds[@]}" \
  -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 -max_len=8192 \
  -artifact_prefix="$out/finds/$target-" -print_final_stats=1
