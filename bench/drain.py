"""Reading what a topic already holds, as fast as it goes: real Pulsar to real ClickHouse.

The topic is filled beforehand; each repeat reads it with a subscription and tables of its own. The
broker's CPU-seconds are those of the same stretch of time, in which it serves nobody else.
"""
import re
import signal
import statistics
import subprocess
import time
import urllib.request

from job import clickhouse as into_clickhouse, configure, pulsar
from process import (TIDEMILL, WORK, Broker, ModernClickHouse, cpu_s, free_port, memory_kib, run,
                     tail)

DEVICES = 10_000
PARTITIONS = 4
TOPIC = "persistent://public/default/bench-drain"


def measure(results, messages, repeats):
    """Fills a topic once and reads it several times."""
    print(f"-- drain, {messages:,} messages, {PARTITIONS} partitions, Pulsar to ClickHouse",
          flush=True)
    with Broker() as broker, ModernClickHouse() as clickhouse:
        broker.create_topic(TOPIC, PARTITIONS)
        run([TIDEMILL, "generate", "--pulsar", broker.url, "--topic", TOPIC, "--messages", messages,
             "--devices", DEVICES], WORK / "drain-generate.log")
        # Once without being counted: the broker's caches and its own warm-up.
        for repeat in range(repeats + 1):
            one(results, broker, clickhouse, messages, repeat)
    rates = [results.rates("drain", f"{PARTITIONS} partitions", side, "whole")
             for side in ("tidemill", "broker")]
    ours, brokers = (statistics.median(rate) for rate in rates)
    shares = [broker / tidemill for tidemill, broker in zip(*rates)]
    print(f"== drain: {brokers / ours:.2f} of the broker's CPU-seconds", flush=True)
    results.section(f"""
## Drain: Pulsar to ClickHouse as fast as it goes

{messages:,} messages of {DEVICES:,} devices (LZ4 batches of up to 1,000) in {PARTITIONS} partitions
of a real broker, rows into ClickHouse 26.9, {repeats} repeats; start and end of the process
included.

| | messages per CPU-second, median | repeats |
| --- | ---: | --- |
| tidemill | {ours:,.0f} | {", ".join(f"{rate:,}" for rate in rates[0])} |
| broker | {brokers:,.0f} | {", ".join(f"{rate:,}" for rate in rates[1])} |

Tidemill's CPU-seconds for one of the broker's: **{statistics.median(shares):.2f}** (median).
""")


def one(results, broker, clickhouse, messages, repeat):
    """Runs the job until it has read everything; repeat 0 is not counted."""
    port, log = free_port(), WORK / "drain.log"
    source = pulsar(broker.url, TOPIC, subscription=f"drain-{repeat}")
    sink = into_clickhouse(clickhouse.url, f"bench{repeat}.sensors")
    config = configure(WORK / "drain.toml", "drain", source, sink, port=port)
    broker_s, began = cpu_s(broker.pid), time.monotonic()
    with open(log, "wb") as out:
        job = subprocess.Popen([TIDEMILL, "run", config], stdout=out, stderr=out)
    try:
        while read(port) < messages:
            if job.poll() is not None or time.monotonic() > began + 300:
                raise SystemExit("the job does not read it all:\n" + tail(log))
            time.sleep(0.1)
        wall_s = time.monotonic() - began
        peak_kib, used_s = memory_kib(job.pid, "VmHWM"), cpu_s(job.pid)
        broker_s = cpu_s(broker.pid) - broker_s
        job.send_signal(signal.SIGTERM)
        if job.wait(60) != 0:
            raise SystemExit("the job failed:\n" + tail(log))
    finally:
        job.kill()
    if repeat:
        case = f"{PARTITIONS} partitions"
        results.add("drain", case, "tidemill", "whole", repeat, messages, used_s, wall_s, peak_kib)
        results.add("drain", case, "broker", "whole", repeat, messages, broker_s, wall_s,
                    memory_kib(broker.pid, "VmHWM"))


def read(port):
    """Asks the job how many messages it has decoded and folded."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            page = answer.read().decode()
    except OSError:
        return 0
    found = re.findall(r"^tidemill_messages_total(?:\{.*\})? (\d+)", page, re.M)
    return sum(map(int, found))
