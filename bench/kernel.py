"""Decode + fold + rows, from memory to rows that nobody keeps: one lane, one thread, per data set.

The figure is CPU time of the thread (crates/app/examples/kernel_speed.rs), the data is made by
crates/app/examples/bench_data.rs. Each target is one line, reached or not.
"""
import json
import statistics
import subprocess

from process import REPOSITORY, WORK, run

TYPED_PARSER = WORK / "typed-parser" / "release" / "typed-parser-bench"
EXAMPLES = REPOSITORY / "target" / "release" / "examples"
SETS = WORK / "sets"

CONFIG = """\
[pipeline]
name = "bench"

[source.file]
paths = ["{data}"]

[sink.stdout]

[http]
enabled = false

{schema}
"""

# Set, what it is, messages per second that are wanted.
TARGETS = [
    ("a", "A: 10,000 devices, short decimals", 6.5e6),
    ("b", "B: 1,000,000 devices", 3.0e6),
    ("c", "C: 17-digit numbers, RFC 3339", 4.5e6),
    ("absent5", "A, a field absent in 5 %", 5.5e6),
    ("absent20", "A, a field absent in 20 %", 5.5e6),
    ("null5", "A, a field null in 5 %", 5.5e6),
    ("null20", "A, a field null in 20 %", 5.5e6),
    ("e", "E: 4 orders, unknown fields", 3.5e6),
    ("ids37", "A, ids of 37 bytes", 5.5e6),
    ("d", "D: order shuffled in every message", 1.0e6),
    ("own", "a schema of 12 other fields", None),
]
NAMES = [name for name, _, _ in TARGETS]
# Beside those of A, B and C a quarter of the messages: as dense, over a shorter time.
WHOLE = ("a", "b", "c")
# Fewer are less than three windows.
STEADY_MESSAGES_MIN = 3_000_000
OPEN_BYTES_MAX = 600
FIELD_RATIO_MAX = 1.2


def data_set(name, messages):
    """Returns the file of a set, made the first time."""
    data = SETS / f"{name}-{messages}.ndjson"
    if not data.exists():
        SETS.mkdir(parents=True, exist_ok=True)
        partial = data.with_suffix(".partial")
        subprocess.run([EXAMPLES / "bench_data", name, str(messages), partial], check=True)
        partial.rename(data)
    return data


def configured(name, messages):
    """Returns the configuration for a set, written anew, and the set's file."""
    data = data_set(name, messages)
    schema = "[schema]\npreset = \"sensor\""
    if name == "own":
        schema = (REPOSITORY / "bench" / "machine.toml").read_text()
    config = WORK / f"kernel-{name}.toml"
    config.write_text(CONFIG.format(data=data, schema=schema))
    return config, data


def measure(results, messages, repeats, sets):
    """Measures the sets in turn and holds them against the targets."""
    print(f"-- kernel: decode, fold, rows; {messages:,} messages of A, B, C", flush=True)
    found = {}
    for name in NAMES:
        if name in sets:
            count = messages if name in WHOLE else max(messages // 4, min(messages, 500_000))
            found[name] = one(results, name, count, repeats)
    typed = typed_parser(results, found["d"]["messages"], repeats) if "d" in found else None
    lines = ["| data | target M msg/s | median | least | reached of target | ns, median "
             "| steady M msg/s, median (least) | rows | a row at the end, ns "
             "| bytes per open device-minute |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, title, target in TARGETS:
        if name in found:
            lines.append(line(title, target, found[name]))
    notes = extra(found, typed)
    for text in [*lines, *notes]:
        print(text, flush=True)
    table, notes = "\n".join(lines), "\n".join(notes)
    results.section(f"""
## Kernel: decode, fold and rows from memory

One lane, one thread, schema from TOML, exact sums, rows discarded; CPU time of the thread from the
first entry to the last row. Median: of {repeats} passes, each with a lane of its own (its pages are
mapped anew). Least: each entry of 1,000 messages at its fastest pass, summed up. Steady, of five
minutes: the last three, where two windows have mapped what the later ones use again. Bytes: what
the lane counts, and by how much resident memory grew, when the last message is in. A row at the
end: closing the windows that are open then and writing their rows, per row.

{table}

{notes}
""")


def one(results, name, messages, repeats):
    """Runs one set; every pass is a line of raw.csv."""
    config, data = configured(name, messages)
    usage = run([EXAMPLES / "kernel_speed", config, data, repeats], WORK / "kernel.log")
    found = json.loads(usage.output)
    for number, used in enumerate(found["passes"], 1):
        # The messages are in memory too: they are no part of what the kernel takes.
        results.add("kernel", name, "tidemill", "whole", number, found["messages"], used["cpu_s"],
                    used["cpu_s"], found["resident_bytes"] // 1024)
    results.add("kernel", name, "tidemill", "least", 1, found["messages"], found["least_s"],
                found["least_s"], found["resident_bytes"] // 1024)
    return found


def typed_parser(results, messages, repeats):
    """sonic-rs into a struct, and our fold and rows behind it, on set D."""
    usage = run([TYPED_PARSER, data_set("d", messages), repeats], WORK / "typed-parser.log")
    found = json.loads(usage.output)
    for number, spent_s in enumerate(found["passes"], 1):
        results.add("kernel", "d", "sonic-rs", "typed + fold", number, messages, spent_s, spent_s,
                    usage.rss_max_kib)
    return found


def median_ns(found):
    return statistics.median(used["cpu_s"] for used in found["passes"]) * 1e9 / found["messages"]


def line(title, target, found):
    median, least = median_ns(found), found["least_s"] * 1e9 / found["messages"]
    spent = [statistics.median(used["steady_s"] for used in found["passes"]),
             found["steady_least_s"]]
    steady, steady_least = (found["steady_messages"] / spent_s / 1e6 for spent_s in spent)
    is_long = found["messages"] >= STEADY_MESSAGES_MIN
    of_row = statistics.median(used["end_s"] for used in found["passes"]) / found["open_rows"]
    per_open = [found[key] / found["open_rows"] for key in ("open_bytes", "resident_bytes")]
    reached = f"**{1e9 / median / target:.2f}**" if target else ""
    return (f"| {title} | {f'{target / 1e6:.1f}' if target else ''} | {1e3 / median:.2f} "
            f"| {1e3 / least:.2f} | {reached} | {median:.0f} "
            f"| {f'{steady:.2f} ({steady_least:.2f})' if is_long else ''} | {found['rows']:,} "
            f"| {of_row * 1e9:.0f} | {per_open[0]:.0f} (resident {per_open[1]:.0f}) |")


def extra(found, typed):
    """The targets that are no rate."""
    notes = []
    if typed:
        if typed["rows"] != found["d"]["rows"]:
            raise SystemExit(f"sonic-rs gives {typed['rows']} rows of D, not {found['d']['rows']}")
        theirs = statistics.median(typed["passes"]) * 1e9 / typed["messages"]
        ours = median_ns(found["d"])
        notes.append(f"- D: sonic-rs into a struct known when compiled, with the same fold: "
                     f"{theirs:.0f} ns, ours {ours:.0f} ns: {ours / theirs:.2f} ×, target at most "
                     "1 ×.")
    if "b" in found:
        of_b = found["b"]["open_bytes"] / found["b"]["open_rows"]
        share = statistics.median(used["system_s"] for used in found["b"]["passes"])
        faults = statistics.median(used["faults"] for used in found["b"]["passes"])
        notes.append(f"- B: {of_b:.0f} bytes per open device-minute, target at most "
                     f"{OPEN_BYTES_MAX}; {share:.2f} s of a pass in the operating system, "
                     f"{faults:,.0f} pages mapped.")
    if "a" in found and "own" in found:
        preset, own = (median_ns(found[name]) / found[name]["fields"] for name in ("a", "own"))
        notes.append(f"- Per field: preset {preset:.2f} ns ({found['a']['fields']} fields), own "
                     f"schema {own:.2f} ns ({found['own']['fields']} fields): {own / preset:.2f} ×, "
                     f"target at most {FIELD_RATIO_MAX} ×.")
    return notes
