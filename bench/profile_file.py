"""Where file to rows spends: instructions by callgrind, and time by perf where it is permitted.

Functions that were inlined count for the one they are in. Instructions are no time: waiting for
memory and the kernel do not show, and filling memory shows one instruction per byte.
"""
import re
import shutil
import subprocess

from file_rows import configured
from process import TIDEMILL, WORK, run

MESSAGES = 50_000
FUNCTIONS = 15
TIMED_MESSAGES = 1_000_000
LINE = re.compile(r"^\s*([\d,]+) \(\s*([\d.]+)%\)\s+[^:]*:(.+?)(?: \[[^\[\]]*\])?$")


def measure(results):
    """Adds the functions with the largest shares to the summary."""
    instructions(results)
    time(results)


def prepare(messages):
    """Makes the messages and the configuration; the store is empty."""
    data, config, store = (WORK / f"profile.{end}" for end in ("ndjson", "toml", "db"))
    run([TIDEMILL, "generate", "--messages", messages, "--out", data], WORK / "profile-data.log")
    return configured(config, data, store)


def instructions(results):
    if not shutil.which("valgrind"):
        print("-- no profile: valgrind is not there (Debian: valgrind)", flush=True)
        return
    config, counts = prepare(MESSAGES), WORK / "profile.callgrind"
    print(f"-- profile of file to rows, {MESSAGES:,} messages under callgrind", flush=True)
    run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}", TIDEMILL, "run", config],
        WORK / "profile.log")
    listing = subprocess.run(["callgrind_annotate", "--threshold=100", counts],
                             capture_output=True, text=True, check=True).stdout
    total, rows = 0, []
    for line in listing.splitlines():
        match = LINE.match(line)
        if match:
            count = int(match.group(1).replace(",", ""))
            rows.append((count, float(match.group(2)), match.group(3)))
        elif "PROGRAM TOTALS" in line:
            total = int(line.split()[0].replace(",", ""))
    table = "\n".join(f"| {share:.1f} % | {count / MESSAGES:,.0f} | `{name}` |"
                      for count, share, name in rows[:FUNCTIONS])
    results.section(f"""
## Where the instructions of file to rows go

{MESSAGES:,} messages, 500 devices, start of the process included; {total / MESSAGES:,.0f}
instructions per message in all.

| share | instructions per message | function |
| ---: | ---: | --- |
{table}
""")


def time(results):
    """Samples the processor clock, which needs no counters of the processor."""
    samples, config = WORK / "profile.perf", prepare(TIMED_MESSAGES)
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "2999", "-o", samples, "--",
               TIDEMILL, "run", config]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        print("-- no shares of time: perf is not there or not permitted", flush=True)
        return
    listing = subprocess.run(["perf", "report", "-i", samples, "--stdio", "--sort", "comm,symbol"],
                             capture_output=True, text=True, check=True).stdout
    lines = [re.sub(r"(\s+-)*\s*$", "", line) for line in listing.splitlines()]
    rows = [line.split(None, 3) for line in lines if re.match(r"\s+[\d.]+%", line)]
    table = "\n".join(f"| {share} | {thread} | `{where} {name}` |"
                      for share, thread, where, name in rows[:FUNCTIONS])
    results.section(f"""
## Where the time of file to rows goes

{TIMED_MESSAGES:,} messages, 500 devices; samples of the processor clock (`[k]`: in the kernel;
thread `tidemill` reads the file).

| share | thread | function |
| ---: | --- | --- |
{table}
""")
