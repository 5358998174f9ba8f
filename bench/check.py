#!/usr/bin/env python3
"""Holds the instructions per message of decoding and folding against the stored ones.

    bench/check.py             fails if any is more than 3 % above bench/instructions.json
    bench/check.py --write     stores what it counts, to be committed with the change that explains it

Callgrind counts what the code executes, whatever else the machine does, so this needs no quiet
machine; what an instruction costs it does not say. Counted are the micro-benchmarks of decoding and
folding and, for a lane as a whole, `kernel_speed`, as they are shipped, and of them only the
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
DECODED = ["short decimals", "one order", "one order, spaced", "three fields may lack",
           "ids of 37 bytes", "four orders", "every order", "three long numbers"]
FOLDED = [500, 10_000]
# What an iteration of these benchmarks reads and folds, and how many are counted.
DECODED_AT_ONCE, DECODED_TIMES = 20_000, 3
FOLDED_AT_ONCE, FOLDED_TIMES = 16 * 256, 20
# So few that no window closes before the end: what a row takes is counted apart.
LANE_MESSAGES = 50_000
LANE_SETS = ["a", "c", "e", "absent20", "own"]


def run(command, **options):
    return subprocess.run(command, cwd=ROOT, check=True, text=True, **options)


def build():
    """Builds what is counted; returns where the executables are, by their names."""
    cargo = ["cargo", "build", "--release", "--quiet", "--message-format=json"]
    said = "".join(run([*cargo, "-p", crate, *target], stdout=subprocess.PIPE).stdout
                   for crate, *target in (("tidemill-decode", "--bench", "decode"),
                                          ("tidemill-kernel", "--bench", "fold"),
                                          ("tidemill", "--example", "kernel_speed"),
                                          ("tidemill", "--example", "bench_data")))
    built = [json.loads(line) for line in said.splitlines()]
    return {one["target"]["name"]: one["executable"] for one in built if one.get("executable")}


def instructions(executable, function, arguments):
    """Counts what a function of a program executes."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out",
                   f"--toggle-collect={function}*", executable, *map(str, arguments)]
        said = run(command, capture_output=True).stderr
    counted = int(re.search(r"Collected : (\d+)", said).group(1))
    if counted == 0:
        raise RuntimeError(f"{executable} never called {function}: {arguments}")
    return counted


def iterations(executable, function, name, count):
    """Counts what a function executes in so many iterations of a micro-benchmark."""
    options = ["--bench", "--exact", name, "--sample-size", 1, "--sample-count", count]
    return instructions(executable, function, options)


def lane(built, function, arguments):
    """Counts what a function executes on the way of messages through a lane."""
    return instructions(built["kernel_speed"], f"kernel_speed::{function}", arguments)


def count(built):
    counts = {}
    for name in DECODED:
        total = iterations(built["decode"], "decode::sweep", f"decode::json::{name}", DECODED_TIMES)
        counts[f"decode: {name}"] = total / (DECODED_AT_ONCE * DECODED_TIMES)
    for devices in FOLDED:
        name = f"fold::known_devices::{devices}"
        total = iterations(built["fold"], "fold::fold", name, FOLDED_TIMES)
        counts[f"fold: {devices} devices"] = total / (FOLDED_AT_ONCE * FOLDED_TIMES)
    for name in LANE_SETS:
        config, data = kernel.configured(name, LANE_MESSAGES)
        total = lane(built, "take", [config, data, 1])
        counts[f"lane: set {name}"] = total / LANE_MESSAGES
    config, data = kernel.configured("b", LANE_MESSAGES)
    rows = len({line.split(b'"', 4)[3] for line in data.read_bytes().splitlines()})
    counts["lane: a row of set b"] = lane(built, "end", [config, data, 1]) / rows
    return {name: round(value, 1) for name, value in counts.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    counts = count(build())
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
