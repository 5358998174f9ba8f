"""Catching up: an hour of messages, read as fast as it goes from standard input.

A file of one minute (1.8 million messages, 30,000 a second) is written to a pipe once for each
minute, re-timed by `crates/source/examples/retime.rs`, whose CPU-seconds are given apart. The wall
time is what counts, so the machine has to be quiet: the load average stands beside it.
"""
import subprocess
import time

from file_rows import in_memory
from job import DEVICES, RATE_PER_S, configure, embedded
from process import REPOSITORY, TIDEMILL, WORK, load, tail, wait

RETIME = REPOSITORY / "target" / "release" / "examples" / "retime"
MINUTE_MESSAGES = 60 * RATE_PER_S
# 2026-01-01T01:00:00Z: the hour and what is out of order before it are of one day.
START_MS = 1_767_229_200_000


def measure(results, minutes):
    """Feeds so many minutes of messages."""
    messages = minutes * MINUTE_MESSAGES
    print(f"-- catch-up, {messages:,} messages", flush=True)
    data = WORK / f"minute-{DEVICES}.ndjson"
    if not data.exists():
        partial = data.with_suffix(".partial")
        subprocess.run([str(word) for word in (
            TIDEMILL, "generate", "--messages", MINUTE_MESSAGES, "--devices", DEVICES, "--rate",
            RATE_PER_S, "--start-ms", START_MS, "--out", partial)], check=True)
        partial.rename(data)
    in_memory(data)
    log = WORK / "catch-up.log"
    config = configure(WORK / "catch-up.toml", "catch-up", {"source.stdin": {}},
                       embedded(WORK / "catch-up.db"))
    before, began = load(), time.monotonic()
    with open(log, "wb") as out:
        feed = subprocess.Popen([RETIME, data, str(minutes)], stdout=subprocess.PIPE)
        job = subprocess.Popen([TIDEMILL, "run", config], stdin=feed.stdout, stdout=out, stderr=out)
    feed.stdout.close()
    usage, peak_kib = wait(job, began + 600)
    wall_s = time.monotonic() - began
    fed, _ = wait(feed, began + 600)
    if job.returncode != 0 or f"messages={messages} aggregated={messages} " not in log.read_text():
        raise SystemExit("the job failed:\n" + tail(log))
    cpu_s = usage.ru_utime + usage.ru_stime
    feed_s = fed.ru_utime + fed.ru_stime
    results.add("catch-up", f"{minutes} minutes", "tidemill", "whole", 1, messages, cpu_s, wall_s,
                peak_kib)
    print(f"== catch-up: {messages:,} messages in {wall_s:.1f} s, load {before:.1f} at the "
          f"beginning; feed {feed_s:.1f} s of CPU", flush=True)
    results.section(f"""
## Catch-up: {minutes} minutes of {RATE_PER_S:,} messages/s

{messages:,} messages of {DEVICES} devices from a pipe into the embedded store, start of the process
and all commits included: **{wall_s:.1f} s** of the clock ({messages / wall_s:,.0f} messages/s),
{cpu_s:.1f} s of CPU; the writer of the pipe on the same processors {feed_s:.1f} s. Load average at
the beginning {before:.1f}.
""")
