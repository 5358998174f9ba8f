#!/usr/bin/env bash
# Draws docs/flame.svg, where the time of the kernel goes on set A, and prints the share of each stage in
# time and in instructions: bench/flame.sh [MESSAGES]. Needs perf and valgrind. See bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${1:-1000000}
passes=5
work=$PWD/target/bench
drawn=$work/inferno/bin
[[ -x $drawn/inferno-flamegraph ]] ||
  cargo install --quiet --locked inferno --version 0.12.8 --no-default-features --features cli --root "$work/inferno"
cargo build --release --package tidemill --example bench_data --example kernel_speed
# Stacks need frame pointers, which what is shipped does not have: a build of its own.
RUSTFLAGS="-C force-frame-pointers=yes" CARGO_PROFILE_RELEASE_DEBUG=line-tables-only \
  cargo build --release --package tidemill --example kernel_speed --target-dir target/flame

read -r config data < <(cd bench && python3 -B -c "import kernel; print(*kernel.configured('a', $messages))")

perf record -q -g -e cpu-clock -F 1999 -o "$work/flame.perf" -- \
  target/flame/release/examples/kernel_speed "$config" "$data" "$passes" >"$work/flame.json"
perf script --no-inline -i "$work/flame.perf" 2>/dev/null |
  "$drawn/inferno-collapse-perf" --kernel >"$work/flame.folded" 2>/dev/null
python3 -B bench/stages.py --lane "$work/flame.folded" >"$work/flame.lane"
"$drawn/inferno-flamegraph" --title "Decode, fold and rows of set A, samples of the processor clock" \
  --minwidth 0.2 --nametype "" --countname ns --hash <"$work/flame.lane" |
  sed '/^ *\/\/ /d' >docs/flame.svg # without the comments of the script in it
if grep -nE '/(root|home|work)/' docs/flame.svg; then
  echo "bench/flame.sh: docs/flame.svg names folders of this machine" >&2; exit 1
fi

valgrind --tool=callgrind --callgrind-out-file="$work/flame.callgrind" \
  '--toggle-collect=kernel_speed::take' '--toggle-collect=kernel_speed::end' \
  target/release/examples/kernel_speed "$config" "$data" 1 >"$work/flame.counted" 2>"$work/flame.log"
callgrind_annotate --threshold=100 "$work/flame.callgrind" >"$work/flame.functions"
python3 -B bench/stages.py "$work/flame.lane" "$work/flame.functions" "$messages" "$passes"
