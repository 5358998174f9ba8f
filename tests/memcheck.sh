#!/usr/bin/env bash
# The tests of the modules with unsafe code under valgrind: kernel/src/processor, app/src/memory.rs and
# decode/src/json/quick/simd.rs, the last by everything that reads through it. Ends with an error
# where memory is read or written that is not the program's, or decides without having been set.
# Needs valgrind; a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "memcheck needs valgrind" >&2; exit 2; }
host=$(rustc -vV | sed -n 's/^host: //p')
runner="CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUNNER"
export "$runner=valgrind --quiet --error-exitcode=99"
# The decoder's random messages: fewer, since each takes fifty times as long.
export TIDEMILL_DIFFERENTIAL_MESSAGES=20000
cargo test --package tidemill-kernel --lib -- --test-threads 1 processor
cargo test --package tidemill --lib -- --test-threads 1 memory::
cargo test --package tidemill-decode --lib --test guesses --test differential -- --test-threads 1
