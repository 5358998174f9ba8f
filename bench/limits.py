"""What a message costs the kernel beside what the machine can do at most with the same bytes."""
import json
import statistics

from kernel import EXAMPLES, configured, median_ns
from process import WORK, run

MESSAGES = 1_000_000
LIMITS = [
    ("sum_ns", "sum over the bytes, 8 at a time"),
    ("copy_ns", "copy of the bytes (`memcpy`)"),
    ("update_5_mb_ns", "one cache line of 5 MB changed at random"),
    ("update_470_mb_ns", "one cache line of 470 MB changed at random"),
]


def measure(results, repeats):
    """Measures set A on the kernel, the limits, and the kernel again."""
    print(f"-- limits of the machine, {MESSAGES:,} messages of A", flush=True)
    config, data = configured("a", MESSAGES)
    before = kernel(results, config, data, repeats)
    found = json.loads(run([EXAMPLES / "machine_limits", data, repeats],
                           WORK / "limits.log").output)
    after = kernel(results, config, data, repeats)
    message_bytes = found["bytes"] / found["messages"]
    lines = ["| | ns per message, median | least | GB/s, median |", "| --- | ---: | ---: | ---: |"]
    for name, title in LIMITS:
        values = found[name]
        for number, value in enumerate(values, 1):
            spent_s = value * found["messages"] / 1e9
            results.add("limits", name, "machine", "whole", number, found["messages"], spent_s,
                        spent_s, 0)
        median = statistics.median(values)
        rate = "" if "update" in name else f"{message_bytes / median:.1f}"
        lines.append(f"| {title} | {median:.1f} | {min(values):.1f} | {rate} |")
    for title, used in (("the kernel, before", before), ("the kernel, after", after)):
        median, least = median_ns(used), used["least_s"] * 1e9 / used["messages"]
        lines.append(f"| {title} | {median:.1f} | {least:.1f} | {message_bytes / median:.1f} |")
    table = "\n".join(lines)
    print(table, flush=True)
    results.section(f"""
## Limits of the machine

{MESSAGES:,} messages of set A ({message_bytes:.0f} bytes each), one thread, its CPU time, {repeats}
repeats each; memory of the limits is mapped before, that of the kernel is not.

{table}
""")


def kernel(results, config, data, repeats):
    """Decode, fold and rows of the same messages."""
    found = json.loads(run([EXAMPLES / "kernel_speed", config, data, repeats],
                           WORK / "limits-kernel.log").output)
    for number, used in enumerate(found["passes"], 1):
        results.add("limits", "a", "tidemill", "kernel", number, found["messages"], used["cpu_s"],
                    used["cpu_s"], found["resident_bytes"] // 1024)
    return found
