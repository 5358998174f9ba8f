"""NDJSON file to rows: the tidemill process against the Flink baseline, on the same file.

Tidemill stores rows, commits and ledger in SQLite; Flink discards its rows and takes no
checkpoints. Both results are summed up and compared, so that equal work is proved. Without Flink
(`--no-flink`) the same file packed with zstd is read instead, and compared likewise.
"""
import shutil
import sqlite3
import subprocess

from flink import Cluster
from job import configure, embedded
from process import TIDEMILL, WORK, run

GAUGES = ["temperature", "humidity", "pressure", "co2_level", "noise_level", "light_level",
          "battery_level", "signal_strength", "memory_usage", "cpu_usage"]
COUNTERS = ["error_count", "packets_sent", "packets_received", "bytes_sent", "bytes_received"]


def measure(results, flink_home, messages, devices, repeats):
    """Measures one number of devices, both sides in turn."""
    case = f"{devices} devices"
    data = generated(messages, devices)
    if flink_home is None:
        return measure_alone(results, data, messages, devices, repeats)
    in_memory(data)
    sums = []
    for repeat in range(1, repeats + 1):
        print(f"-- file to rows, {case}, {messages:,} messages, repeat {repeat}", flush=True)
        sums.append(run_tidemill(results, case, data, messages, repeat))
        sums.append(run_flink(results, flink_home, case, data, messages, repeat))
    agree(sums, messages)
    table = results.table("file", case, ("tidemill", "whole"),
                          [("flink", "steady"), ("flink", "whole")])
    rows = int(sums[0][0])
    results.section(f"""
## File to rows, {case}

{messages:,} messages ({data.stat().st_size / messages:.0f} bytes each, one file), {rows:,} rows.
Tidemill: the whole process, rows and commits in SQLite. Flink: the TaskManager, the whole job and
its steady part (from 30 % to 97 % of the messages); rows discarded, no checkpoints. Rows,
messages, counters and means of both sides agree.

{table}
""")


def measure_alone(results, data, messages, devices, repeats):
    """Measures one number of devices without another side: the plain file and the packed one."""
    case = f"{devices} devices"
    files = {"plain": data}
    if shutil.which("zstd"):
        files["zstd"] = packed(data)
    else:
        print("-- no zstd file: zstd is not there (Debian: zstd)", flush=True)
    sums = []
    for file in files.values():
        in_memory(file)
    for repeat in range(1, repeats + 1):
        print(f"-- file to rows, {case}, {messages:,} messages, repeat {repeat}", flush=True)
        for part, file in files.items():
            sums.append(run_tidemill(results, case, file, messages, repeat, part))
    agree(sums, messages)
    parts = [("tidemill", part) for part in files]
    packing = ""
    if "zstd" in files:
        share = files["zstd"].stat().st_size / data.stat().st_size
        packing = f" The packed file has {share:.0%} of its size and gives the same rows."
    results.section(f"""
## File to rows, {case}, Tidemill alone

{messages:,} messages ({data.stat().st_size / messages:.0f} bytes each, one file), {sums[0][0]:,}
rows; the whole process, rows and commits in SQLite.{packing}

{results.table("file", case, parts[0], parts[1:])}
""")


def generated(messages, devices):
    """Makes the file of messages, or takes the one of an earlier run."""
    data = WORK / f"sensors-{devices}-{messages}.ndjson"
    if not data.exists():
        partial = data.with_suffix(".partial")
        subprocess.run([TIDEMILL, "generate", "--messages", str(messages), "--devices",
                        str(devices), "--out", str(partial)], check=True)
        partial.rename(data)
    return data


def packed(data):
    """Packs the file as `zstd` does by default."""
    archive = data.with_suffix(".ndjson.zst")
    if not archive.exists():
        partial = data.with_suffix(".partial")
        subprocess.run(["zstd", "-q", "-f", "-o", str(partial), str(data)], check=True)
        partial.rename(archive)
    return archive


def in_memory(path):
    """Reads a file once: whoever is first would else pay for the disk."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def run_tidemill(results, case, data, messages, repeat, part="whole"):
    store = WORK / "file-rows.db"
    config = configured(WORK / "file-rows.toml", data, store)
    usage = run([TIDEMILL, "run", config], WORK / "file-rows.log")
    results.add("file", case, "tidemill", part, repeat, messages, usage.cpu_s, usage.wall_s,
                usage.rss_max_kib)
    return stored_sums(store)


def configured(path, data, store):
    """Writes the configuration of the job that reads a file into an embedded store."""
    source = {"source.file": {"paths": [str(data)]}}
    return configure(path, "bench", source, embedded(store), {"commit_interval": "1s"})


def stored_sums(store):
    """What is compared with the other side: rows, messages, sums over the rows."""
    means = " + ".join(GAUGES)
    counters = " + ".join(COUNTERS)
    with sqlite3.connect(store) as database:
        return database.execute(
            f"SELECT count(*), sum(record_count), sum(motion_detected), sum({counters}), "
            f"sum({means}), sum(temperature_min + temperature_max) FROM bench").fetchone()


def run_flink(results, flink_home, case, data, messages, repeat, bench="file"):
    with Cluster(flink_home) as cluster:
        used = cluster.run("--path", str(data))
    add = lambda *values: results.add(bench, case, "flink", *values, used["rss_max_kib"])
    add("steady", repeat, used["steady_messages"], used["steady_cpu_s"], used["steady_wall_s"])
    add("whole", repeat, messages, used["whole_cpu_s"], used["wall_s"])
    print(f"   (not counted: JobManager {used['job_manager_cpu_s']:.1f} s of CPU)", flush=True)
    return used["result"]


def agree(sums, messages):
    """Fails where two results differ: integers at all, sums of floats beyond their rounding."""
    for one in sums:
        exact = list(map(int, one[:4])) == list(map(int, sums[0][:4])) and one[1] == messages
        close = all(abs(a - b) <= 1e-9 * abs(b) + 0.002 for a, b in zip(one[4:], sums[0][4:]))
        if not (exact and close):
            raise SystemExit(f"the results differ: {one} and {sums[0]}")
