#!/usr/bin/env python3
"""Sorts what the kernel executes into stages, by the function that it is in.

    bench/stages.py --lane FOLDED                   the stacks below a lane, without what measures it
    bench/stages.py LANE FUNCTIONS MESSAGES PASSES  a table: samples of LANE, in nanoseconds of so many
                                                    passes; callgrind's FUNCTIONS of one pass

A function that was inlined counts for the one it is in; the two builds may differ in that.
"""
import re
import sys
from collections import Counter

# The first that is found in a function's name; folding has two, for what looks like rows.
STAGES = [
    ("walk", r"quick::(walk|stage|repair|simd)"),
    ("conversion", r"quick::(convert|settle|long)|json::nearest"),
    ("the rest of decoding", r"tidemill_decode|event::rows|EventBlock"),
    ("looking up", r"rollup::ahead"),
    ("folding", r"processor::row"),
    ("rows", r"emit|::round|::row::|slice::sort|sort_by_key|window::order|RowWriter|close"),
    ("folding", r"fold|slots|window::Window|key_table|aggregate|Chunk"),
    ("operating system", r"_\[k\]$"),
    ("copying and filling (C library)", r"mem(cpy|move|set|cmp)|bcmp"),
]
# What gives entries to a lane, and ends it: the lane's own functions may be inlined there.
LANE = re.compile(r"kernel_speed::(take|end)$")
LINE = re.compile(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+[^:]*:(.+?)(?: \[[^\[\]]*\])?$")


def stage_of(function):
    for name, pattern in STAGES:
        if re.search(pattern, function):
            return name
    return "the rest"


def lane_stacks(path):
    """Yields the stacks that have a lane in them, from there on."""
    for line in open(path):
        stack, count = line.rstrip("\n").rsplit(" ", 1)
        frames = stack.split(";")
        at = next((at for at, frame in enumerate(frames) if LANE.match(frame)), None)
        if at is not None:
            yield frames[at:], int(count)


def main():
    if sys.argv[1] == "--lane":
        for frames, count in lane_stacks(sys.argv[2]):
            print(";".join(frames), count)
        return
    lane, functions, messages, passes = *sys.argv[1:3], *map(int, sys.argv[3:])
    samples, counts = Counter(), Counter()
    for frames, count in lane_stacks(lane):
        samples[stage_of(frames[-1])] += count
    for line in open(functions):
        match = LINE.match(line)
        if match and "PROGRAM TOTALS" not in line:
            counts[stage_of(match.group(2))] += int(match.group(1).replace(",", ""))
    print("| stage | instructions per message | share of them | ns per message | share of the time |")
    print("| --- | ---: | ---: | ---: | ---: |")
    whole, sampled = sum(counts.values()), sum(samples.values())
    for name in dict.fromkeys([*(name for name, _ in STAGES), "the rest"]):
        print(f"| {name} | {counts[name] / messages:,.0f} | {counts[name] / whole:.1%} "
              f"| {samples[name] / passes / messages:.1f} | {samples[name] / sampled:.1%} |")
    print(f"| all | {whole / messages:,.0f} | | {sampled / passes / messages:.1f} | |")


if __name__ == "__main__":
    main()
