#!/usr/bin/env python3
"""Holds the instructions per message of decoding and folding against the stored ones.

    bench/check.py             fails if any is more than 3 % above bench/instructions.json
    bench/check.py --write     stores what it counts, to be committed with the change that explains it

Callgrind counts what the code executes, whatever else the machine does, so this needs no quiet
machine; what an instruction costs it does not say. Counted are the release builds of
`decode_speed`, `fold_speed` and, for a lane as a whole, `kernel_speed`, and of them only the
measured stretches.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import kernel

ROOT = pathlib.Path(__file__).resolve().parent.parent
STORED = ROOT / "bench" / "instructions.json"
MARGIN = 0.03
MESSAGES, SWEEPS = 20_000, 3
DECODED = ["short decimals", "one order", "one order, spaced", "three fields may lack",
           "ids of 37 bytes", "four orders", "every order", "three long numbers"]
FOLDED = {500: 40_000, 10_000: 80_000}
# The pool of blocks is filled and folded as a whole.
FOLDED_AT_ONCE = 16 * 256
# So few that no window closes before the end: what a row takes is counted apart.
LANE_MESSAGES = 50_000
LANE_SETS = ["a", "c", "e", "absent20", "own"]


def run(command, **options):
    return subprocess.run(command, cwd=ROOT, check=True, text=True, **options)


def build():
    for crate, example in (("tidemill-decode", "decode_speed"), ("tidemill-kernel", "fold_speed"),
                           ("tidemill", "kernel_speed"), ("tidemill", "bench_data")):
        run(["cargo", "build", "--release", "--quiet", "-p", crate, "--example", example])


def instructions(example, function, arguments):
    """Counts what a function of an example executes."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out",
                   f"--toggle-collect={example}::{function}*",
                   str(ROOT / "target/release/examples" / example), *map(str, arguments)]
        said = run(command, capture_output=True).stderr
    return int(re.search(r"Collected : (\d+)", said).group(1))


def count():
    counts = {}
    for name in DECODED:
        total = instructions("decode_speed", "sweep", [MESSAGES, name, SWEEPS])
        counts[f"decode: {name}"] = total / (MESSAGES * SWEEPS)
    for devices, messages in FOLDED.items():
        total = instructions("fold_speed", "fold", [devices, messages])
        # A first pool goes by before any is counted as sent.
        folded = -(-messages // FOLDED_AT_ONCE) * FOLDED_AT_ONCE
        counts[f"fold: {devices} devices"] = total / folded
    for name in LANE_SETS:
        config, data = kernel.configured(name, LANE_MESSAGES)
        total = instructions("kernel_speed", "take", [config, data, 1])
        counts[f"lane: set {name}"] = total / LANE_MESSAGES
    config, data = kernel.configured("b", LANE_MESSAGES)
    rows = len({line.split(b'"', 4)[3] for line in data.read_bytes().splitlines()})
    counts["lane: a row of set b"] = instructions("kernel_speed", "end", [config, data, 1]) / rows
    return {name: round(value, 1) for name, value in counts.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    build()
    counts = count()
    if arguments.write:
        STORED.write_text(json.dumps(counts, indent=2) + "\n")
    stored = json.loads(STORED.read_text())
    worse = []
    print(f"{'instructions per message':32} {'stored':>9} {'now':>9}")
    for name, now in counts.items():
        before = stored.get(name)
        change = (now / before - 1) if before else 0.0
        print(f"{name:32} {before or 0:9.1f} {now:9.1f} {change:+7.1%}")
        if before is None or change > MARGIN:
            worse.append(name)
    if worse:
        print(f"more than {MARGIN:.0%} above what is stored, or not stored: {', '.join(worse)}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
