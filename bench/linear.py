#!/usr/bin/env python3
"""Draws what a message costs a lane over devices, fields, open windows and partitions.

    bench/linear.py [--repeats N] [--quick]

Each point is the median of the repeats, CPU time of one thread from JSON to rows that nobody
stores (crates/engine/examples/lane_cost.rs). Writes raw.csv and cost.svg into a folder of
bench/runs, and cost.svg to docs/.
"""

import argparse
import csv
import datetime
import json
import math
import pathlib
import statistics
import subprocess

from process import cpu_model, machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
USUAL = {"devices": 10_000, "fields": 20, "windows": 2, "partitions": 1}
SWEEPS = {
    "devices": [100, 1_000, 10_000, 100_000, 1_000_000],
    "fields": [5, 10, 20, 50, 100, 200],
    "windows": [1, 2, 4, 8, 15, 30, 60],
    "partitions": [1, 4, 16, 64, 256],
}
# So that sixty windows stay a matter of seconds.
BESIDE = {"windows": {"devices": 1_000}}
COLUMNS = ["sweep", *USUAL, "repeat", "messages", "bytes_per_message", "ns_per_message",
           "ns_without_rows", "rows", "open_bytes"]
WIDTH, HEIGHT, MARGIN = 420, 260, 56


def measure(setting):
    command = [ROOT / "target/release/examples/lane_cost", *(str(setting[name]) for name in USUAL)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def panel(name, points, left, top):
    """One plot from 0 upwards: (size, whole cost, cost without rows or None) for each point.

    Fields go linearly to the right, where a straight line is linear cost; all else by powers.
    """
    scale = float if name == "fields" else math.log10
    low = 0.0 if name == "fields" else scale(points[0][0])
    high = scale(points[-1][0])
    most = max(whole for _, whole, _ in points) * 1.15
    x = lambda at: left + MARGIN + (scale(at) - low) / (high - low) * (WIDTH - 2 * MARGIN)
    y = lambda value: top + HEIGHT - MARGIN + value / most * (2 * MARGIN - HEIGHT)
    quiet = [(at, without) for at, _, without in points if without is not None]
    # The smallest sizes of a linear axis would lie upon each other.
    hidden = (10,) if name == "fields" else ()
    parts = [f'<text x="{left + WIDTH / 2}" y="{top + 24}" class="title">CPU ns per message over '
             f'{name}</text>',
             f'<path d="M{left + MARGIN - 16} {top + MARGIN - 10}V{top + HEIGHT - MARGIN}'
             f'H{left + WIDTH - MARGIN / 2}"/>',
             line(quiet, x, y, "quiet"), line([point[:2] for point in points], x, y, "whole")]
    for at, whole, without in points:
        parts.append(f'<circle cx="{x(at):.1f}" cy="{y(whole):.1f}" r="3"/>')
        if at in hidden:
            continue
        parts.append(f'<text x="{x(at):.1f}" y="{y(whole) - 8:.1f}">{whole:.0f}</text>')
        parts.append(f'<text x="{x(at):.1f}" y="{top + HEIGHT - MARGIN + 18}">{at:,}</text>')
        if without is not None and y(without) - y(whole) > 14:
            parts.append(f'<text x="{x(at):.1f}" y="{y(without) + 14:.1f}" class="quiet">'
                         f'{without:.0f}</text>')
    return parts


def line(points, x, y, kind):
    places = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
    return f'<polyline points="{places}" class="{kind}"/>'


def draw(medians):
    height = 2 * HEIGHT + 24
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {height}">',
             "<style>text{font:11px sans-serif;text-anchor:middle;fill:#333}"
             "text.title{font-size:14px}text.quiet{fill:#7a9cb8}path,polyline{fill:none;"
             "stroke:#888}polyline.whole{stroke:#1668a8;stroke-width:2}"
             "polyline.quiet{stroke:#9fc3de;stroke-width:2}circle{fill:#1668a8}</style>",
             f'<rect width="{2 * WIDTH}" height="{height}" fill="#fff"/>']
    for index, (name, points) in enumerate(medians.items()):
        parts += panel(name, points, index % 2 * WIDTH, index // 2 * HEIGHT)
    parts.append(f'<text x="{WIDTH}" y="{height - 12}">dark: all; light: entries of 1,000 messages '
                 "that close no window, so without rows</text>")
    return "\n".join([*parts, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without the million devices")
    arguments = parser.parse_args()
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "tidemill-engine",
                    "--example", "lane_cost"], cwd=ROOT, check=True)
    began = datetime.datetime.now(datetime.timezone.utc)
    folder = ROOT / "bench" / "runs" / f"{began:%Y%m%d-%H%M}-linear-{machine()}"
    folder.mkdir(parents=True)
    medians = {}
    with open(folder / "raw.csv", "w", newline="") as file:
        out = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        out.writeheader()
        for name, values in SWEEPS.items():
            medians[name] = []
            for value in values:
                if arguments.quick and value == 1_000_000:
                    continue
                setting = {**USUAL, **BESIDE.get(name, {}), name: value}
                found = []
                for repeat in range(arguments.repeats if value < 1_000_000 else 1):
                    row = measure(setting)
                    out.writerow({**row, "sweep": name, "repeat": repeat})
                    found.append(row)
                whole = statistics.median(row["ns_per_message"] for row in found)
                quiet = [row["ns_without_rows"] for row in found]
                quiet = None if None in quiet else statistics.median(quiet)
                medians[name].append((value, whole, quiet))
                print(f"{name} {value:>9,}: {whole:8.1f} ns per message, without rows {quiet}",
                      flush=True)
    picture = draw(medians)
    (folder / "cost.svg").write_text(picture)
    (ROOT / "docs" / "cost.svg").write_text(picture)
    print(f"{cpu_model()}: {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
