"""The sensor job in other engines: the same messages, in turn, one thread each, CPU-seconds.

Rows of all that have event-time windows are compared with those of `tidemill run`, every device
and minute; the run fails where they differ. bench/peers/ has what is run there.
"""
import csv
import http.client
import http.server
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import file_rows
import kernel
from process import REPOSITORY, TIDEMILL, WORK, cpu_s, free_port, memory_kib, run, tail

sys.path.insert(0, str(REPOSITORY / "bench" / "peers"))
from engines import COUNTERS, FIRST, GAUGES  # noqa: E402

ENGINES = ["duckdb", "chdb", "polars"]
VMAGENT_MESSAGES = 100_000
TARGETS = {"duckdb": 10, "flink, steady": 60}


class Tools(NamedTuple):
    """What bench/run.sh has put there."""
    python: Path  # with the engines
    flink: Path | None
    vmagent: Path | None


def measure(results, tools, messages, repeats):
    """Ours and the engines in turn; Flink and vmagent once."""
    data = kernel.data_set("a", messages)
    with data.open("rb") as file:
        while file.read(1 << 20):
            pass
    add = lambda side, part, repeat, count, used: results.add(
        "peers", "A", side, part, repeat, count, used["cpu_s"], used["wall_s"],
        used["rss_max_kib"])
    for repeat in range(1, repeats + 1):
        print(f"-- peers, set A, {messages:,} messages, repeat {repeat}", flush=True)
        add("tidemill", "kernel", repeat, messages, from_memory(messages))
        add("tidemill", "run", repeat, messages, from_file(data))
        ours = stored_rows()
        for engine in ENGINES:
            used = in_engine(tools.python, engine, data)
            add(engine, "one thread", repeat, messages, used)
            agree(engine, ours, engine_rows(engine))
    if tools.flink:
        flink(results, tools.flink, data, messages)
    if tools.vmagent:
        add("vmagent", "one thread", 1, VMAGENT_MESSAGES, vmagent(tools.vmagent, data))
    report(results, messages, len(ours))


def from_memory(messages):
    """The kernel alone; the messages that wait in memory are part of its peak."""
    config, data = kernel.configured("a", messages)
    usage = run([kernel.EXAMPLES / "kernel_speed", config, data, 1], WORK / "peers-kernel.log")
    spent = json.loads(usage.output)["passes"][0]["cpu_s"]
    return {"cpu_s": spent, "wall_s": spent, "rss_max_kib": usage.rss_max_kib}


def from_file(data):
    """The whole process: file, commits and ledger in SQLite."""
    store, config = WORK / "peers.db", WORK / "peers.toml"
    file_rows.configured(config, data, store)
    usage = run([TIDEMILL, "run", config], WORK / "peers-run.log")
    return {"cpu_s": usage.cpu_s, "wall_s": usage.wall_s, "rss_max_kib": usage.rss_max_kib}


def in_engine(python, engine, data):
    command = [python, "-B", REPOSITORY / "bench" / "peers" / "engines.py", engine, data,
               WORK / f"peers-{engine}.csv"]
    usage = run(command, WORK / f"peers-{engine}.log")
    return {**json.loads(usage.output), "rss_max_kib": usage.rss_max_kib}


def stored_rows():
    """Our rows: (device, start of the minute in ms) -> (exact values, means)."""
    exact = ["record_count", "motion_detected", "temperature_min", "temperature_max", *COUNTERS,
             *FIRST]
    names = ", ".join([*exact, "temperature_sum", *GAUGES])
    with sqlite3.connect(WORK / "peers.db") as base:
        rows = base.execute("SELECT device_id, CAST(strftime('%s', window_start) AS INT) * 1000, "
                            f"{names} FROM bench")
        return {row[:2]: (row[2:2 + len(exact)], row[2 + len(exact):]) for row in rows}


def engine_rows(engine):
    """An engine's rows in the same form; columns as engines.py writes them."""
    found = {}
    with open(WORK / f"peers-{engine}.csv", newline="") as file:
        for row in csv.reader(file):
            means, rest = row[6:7 + len(GAUGES)], row[7 + len(GAUGES):-1]
            counters, first = rest[:len(COUNTERS)], rest[len(COUNTERS):]
            exact = (int(row[2]), int(row[3]), float(row[4]), float(row[5]),
                     *map(int, counters), *first[:3], *map(float, first[3:]))
            found[row[0], int(row[1])] = (exact, tuple(map(float, means)))
    return found


def agree(engine, ours, theirs):
    """Fails where rows differ: what is exact at all, sums and means beyond rounding."""
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{engine} has {len(theirs)} rows, tidemill {len(ours)}, or other keys")
    for key, (exact, means) in ours.items():
        close = all(abs(a - b) <= 1e-9 * abs(a) + 1e-9 for a, b in zip(means, theirs[key][1]))
        if exact != theirs[key][0] or not close:
            raise SystemExit(f"{engine} and tidemill differ at {key}: {theirs[key]} and "
                             f"{(exact, means)}")


def flink(results, home, data, messages):
    """The Flink baseline; our rows of the same file are still there."""
    ours = file_rows.stored_sums(WORK / "peers.db")
    theirs = file_rows.run_flink(results, home, "A", data, messages, 1, bench="peers")
    file_rows.agree([ours, theirs], messages)


class Discard(http.server.BaseHTTPRequestHandler):
    """What vmagent sends its results to."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def lines_of(data, count):
    """Messages as Influx lines in blocks: vmagent reads no JSON of this shape."""
    texts = {"device_id", "device_type", "customer_id", "site_id", "time"}
    block = []
    with data.open() as file:
        for _, line in zip(range(count), file):
            message = json.loads(line)
            values = ",".join(f"{k}={v}" for k, v in message.items() if k not in texts)
            block.append(f"s,device_id={message['device_id']} {values}")
            if len(block) == 5_000:
                yield "\n".join(block).encode()
                block = []


def vmagent(program, data):
    """Feeds ready lines to vmagent's stream aggregation; its minutes are those of arrival."""
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Discard)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    blocks, port, log = list(lines_of(data, VMAGENT_MESSAGES)), free_port(), WORK / "vmagent.log"
    with tempfile.TemporaryDirectory(dir=WORK) as queue, open(log, "wb") as errors:
        agent = subprocess.Popen(
            [program, f"-httpListenAddr=127.0.0.1:{port}", "-streamAggr.dropInput",
             f"-remoteWrite.url=http://127.0.0.1:{sink.server_port}/",
             f"-streamAggr.config={REPOSITORY / 'bench' / 'peers' / 'vmagent.yaml'}",
             f"-remoteWrite.tmpDataPath={queue}"],
            env={**os.environ, "GOMAXPROCS": "1"}, stdout=errors, stderr=errors)
        try:
            agent_http = reached(agent, port, log)
            before, began = cpu_s(agent.pid), time.monotonic()
            for block in blocks:
                agent_http.request("POST", "/write", block)
                answer = agent_http.getresponse()
                answer.read()
                if answer.status >= 300:
                    raise SystemExit(f"vmagent answered {answer.status}:\n" + tail(log))
            used = {"cpu_s": cpu_s(agent.pid) - before, "wall_s": time.monotonic() - began,
                    "rss_max_kib": memory_kib(agent.pid, "VmHWM")}
        finally:
            agent.terminate()
            agent.wait()
            sink.shutdown()
    return used


def reached(agent, port, log):
    until = time.monotonic() + 30
    while time.monotonic() < until and agent.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/health")
            connection.getresponse().read()
            return connection
        except OSError:
            time.sleep(0.1)
    raise SystemExit("vmagent did not come up:\n" + tail(log))


def report(results, messages, row_count):
    sides = []
    for row in results.rows:
        if row["bench"] == "peers" and (row["side"], row["part"]) not in sides:
            sides.append((row["side"], row["part"]))
    median = {side: statistics.median(results.rates("peers", "A", *side)) for side in sides}
    lines = ["| side | messages per CPU-second, median | repeats | kernel against it "
             "| whole process against it | peak memory, MiB |",
             "| --- | ---: | --- | ---: | ---: | ---: |"]
    for side, part in sides:
        rates = ", ".join(f"{rate:,}" for rate in results.rates("peers", "A", side, part))
        peak = max(row["rss_max_kib"] for row in results.rows
                   if (row["bench"], row["side"], row["part"]) == ("peers", side, part))
        ratio = [median["tidemill", ours] / median[side, part] for ours in ("kernel", "run")]
        target = TARGETS.get(side) or TARGETS.get(f"{side}, {part}")
        wanted = f" (target {target} ×)" if target else ""
        shown = ["", ""] if side == "tidemill" else [f"**{ratio[0]:.1f} ×**{wanted}",
                                                     f"{ratio[1]:.1f} ×"]
        lines.append(f"| {side}, {part} | {median[side, part]:,.0f} | {rates} | {shown[0]} "
                     f"| {shown[1]} | {peak // 1024:,} |")
    table = "\n".join(lines)
    print(table, flush=True)
    results.section(f"""
## Peers

Set A, {messages:,} messages, {row_count:,} rows; one thread each. `tidemill, kernel`: decode, fold
and rows from memory (its peak has the messages in it); `tidemill, run`: the whole process from the
file to rows, commits and ledger in SQLite. DuckDB, chDB and Polars: the query alone, which reads
the same file and keeps its rows in memory; every row agrees with ours. Flink: as in the part
`file`, steady is from 30 % to 97 % of the messages; sums over all rows agree. vmagent:
{VMAGENT_MESSAGES:,} messages as ready-made Influx lines, 20 samples each, by minute of arrival;
its results are not compared.

{table}
""")
