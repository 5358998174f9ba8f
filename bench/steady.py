"""The sensor job at real pace: real Pulsar to real ClickHouse, and how soon a row can be read.

Two moments are compared for each partition and window. The first is when the message came that
lets the window close, the first whose event time is at or past its end and `max_out_of_orderness`:
a second consumer of the same partition (`crates/pulsar/examples/arrivals.rs`) notes it, by the
same client, at the same time. The second is when a query of the rows' table had its answer with a
row of that window: from the moment at which a window is due, the table is asked again 20 ms after
each answer, until all partitions have it. The time of the query and the pause before it are part
of the figure.
"""
import datetime
import http.client
import signal
import statistics
import subprocess
import threading
import time
import urllib.parse

from job import DEVICES, RATE_PER_S, clickhouse as into_clickhouse, configure, produce, pulsar
from process import REPOSITORY, TIDEMILL, WORK, Broker, ModernClickHouse, tail

ARRIVALS = REPOSITORY / "target" / "release" / "examples" / "arrivals"
PARTITIONS = 4
# Short, so that there are enough windows: 4 partitions x 24 of them in two minutes.
WINDOW_S = 5
OUT_OF_ORDERNESS_S = 2
POLL_S = 0.02
# Of the start of the process, which is no part of the pace.
WARM_UP_S = 15
TOPIC = "persistent://public/default/bench-steady"


class Rows:
    """Asks again and again up to which window each partition has rows."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc
        self.seen, self.took_s, self.ended = {}, [], threading.Event()
        self.thread = threading.Thread(target=self.poll, daemon=True)

    def poll(self):
        sql = ("SELECT source_partition, toUnixTimestamp(max(window_start)) FROM bench.sensors_rows "
               "GROUP BY source_partition FORMAT TSV")
        path = "/?" + urllib.parse.urlencode({"query": sql})
        connection = http.client.HTTPConnection(self.address, timeout=30)
        while not self.ended.is_set():
            began = time.time()
            due = int(began - OUT_OF_ORDERNESS_S) // WINDOW_S * WINDOW_S
            if all((partition, due) in self.seen for partition in range(PARTITIONS)):
                # Asking costs the machine more than the job does.
                time.sleep(max(0, due + WINDOW_S + OUT_OF_ORDERNESS_S - began))
                continue
            connection.request("GET", path)
            answer = connection.getresponse()
            text, now = answer.read().decode(), time.time()
            self.took_s.append(now - began)
            # Until the job has made it there is no table.
            for line in text.splitlines() if answer.status == 200 else []:
                partition, start = line.split("\t")
                self.seen.setdefault((int(partition), int(start) + WINDOW_S), now)
            time.sleep(POLL_S)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def measure(results, seconds):
    """Runs the job for so long."""
    print(f"-- steady, {RATE_PER_S:,} messages/s, {PARTITIONS} partitions, {seconds} s, Pulsar to "
          "ClickHouse", flush=True)
    with Broker() as broker, ModernClickHouse() as clickhouse:
        broker.create_topic(TOPIC, PARTITIONS)
        window = {"size": f"{WINDOW_S}s", "max_out_of_orderness": f"{OUT_OF_ORDERNESS_S}s"}
        config = configure(WORK / "steady.toml", "steady", pulsar(broker.url, TOPIC),
                           into_clickhouse(clickhouse.url, "bench.sensors"), window=window)
        log, noted = WORK / "steady.log", WORK / "steady-arrivals.out"
        with open(log, "wb") as out, open(noted, "wb") as lines:
            paced_at = time.time() + WARM_UP_S
            job = subprocess.Popen([TIDEMILL, "run", config], stdout=out, stderr=out)
            command = [ARRIVALS, broker.url, TOPIC, str(PARTITIONS)]
            arrivals = subprocess.Popen(command, stdout=lines, stderr=out)
        try:
            with Rows(clickhouse.url) as rows:
                samples = produce(job, log, broker.url, TOPIC, seconds)
                # The last windows are on their way.
                time.sleep(1)
            job.send_signal(signal.SIGTERM)
            if job.wait(60) != 0:
                raise SystemExit("the job failed:\n" + tail(log))
        finally:
            job.kill()
            arrivals.kill()
            arrivals.wait()
        verify = subprocess.run([TIDEMILL, "verify", config], capture_output=True, text=True)
    report(results, seconds, samples, latencies(noted, rows, paced_at), rows, verify)


def latencies(noted, rows, paced_at):
    """Returns the milliseconds of each partition and window that ended later than that, sorted."""
    passed = {}
    for line in noted.read_text().splitlines():
        partition, at_us, second = line.split()
        at = datetime.datetime.fromisoformat(second + "+00:00").timestamp() - OUT_OF_ORDERNESS_S
        # A lane whose messages leave a second out passes several at once.
        passed.setdefault(int(partition), []).append((at, int(at_us) / 1e6))
    found = []
    for (partition, end), seen in rows.seen.items():
        moments = [moment for event, moment in passed.get(partition, []) if event >= end]
        first = min((event for event, _ in passed.get(partition, [])), default=end)
        # What was closed before the other consumer was there cannot be said.
        if moments and first < end and min(moments) >= paced_at:
            found.append(1000 * (seen - min(moments)))
    return sorted(found)


def report(results, seconds, samples, found, rows, verify):
    took, used, _, peak, _ = samples[-1]
    first = next(sample for sample in samples if sample[0] >= WARM_UP_S)
    share = 100 * (used - first[1]) / (took - first[0])
    resident = sorted(sample[2] for sample in samples)[len(samples) // 2]
    messages = RATE_PER_S * seconds
    results.add("steady", f"{PARTITIONS} partitions", "tidemill", "whole", 1, messages, used, took,
                peak)
    at = lambda part: found[min(len(found) - 1, int(part * len(found)))]
    query_ms = 1000 * statistics.median(rows.took_s)
    busy = statistics.median(sample[4] for sample in samples)
    proof = {0: "proved", 1: "A DIFFERENCE", 2: "could not check"}.get(verify.returncode, "failed")
    print(f"== steady: {share:.1f} % of one processor, peak {peak / 1024:.1f} MiB; row visible "
          f"after {at(0.5):.0f} ms (p50), {at(0.99):.0f} ms (p99), {found[-1]:.0f} ms (most) of "
          f"{len(found)}; load {busy:.1f}; verify: {proof}", flush=True)
    results.section(f"""
## Steady: Pulsar to ClickHouse at real pace

{DEVICES} devices, {RATE_PER_S:,} messages/s from a real broker, {PARTITIONS} partitions, for
{took:.0f} s, into ClickHouse 26.9; windows of {WINDOW_S} s, events up to {OUT_OF_ORDERNESS_S} s out
of order. Broker, ClickHouse, producer, the watching consumer and the asking of the table share the
processors with the job: load average {busy:.1f}.

| share of one processor | resident, peak | resident, median | row visible, p50 | p99 | most | verify |
| ---: | ---: | ---: | ---: | ---: | ---: | --- |
| **{share:.1f} %** | **{peak / 1024:.1f} MiB** | {resident / 1024:.1f} MiB | {at(0.5):.0f} ms | **{at(0.99):.0f} ms** | {found[-1]:.0f} ms | {proof} |

From the watermark's passing the end of a window until a query has seen its row, {len(found)}
windows of a partition; the table was asked every {1000 * POLL_S:.0f} ms and a query took
{query_ms:.0f} ms (median), which is in the figure.
""")
