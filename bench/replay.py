"""Entries of a broker that costs nothing: a server of our own gives the same ones again and again.

`crates/pulsar/examples/replay_server` keeps what `tidemill generate` sends and serves it as often
as asked, with rising entry ids and the event times as they were. So all rounds fall into the same
windows; `max_out_of_orderness` is wide enough that nothing is late. What is measured is all that a
real broker's consumer does: frames, checksum, LZ4, decoding, folding, commits. Only Tidemill's
CPU-seconds count.
"""
import signal
import statistics
import subprocess
import time

from drain import read
from job import configure, embedded, pulsar
from process import REPOSITORY, TIDEMILL, WORK, cpu_s, free_port, memory_kib, run, tail

SERVER = REPOSITORY / "target" / "release" / "examples" / "replay_server"
DEVICES = 10_000
PARTITIONS = 4
KEPT_MESSAGES = 400_000
ROUNDS = 15
TOPIC = "persistent://public/default/bench-replay"


def measure(results, repeats):
    """Lets the server keep the entries once and reads them several times."""
    messages, case = KEPT_MESSAGES * ROUNDS, f"{PARTITIONS} partitions"
    print(f"-- replay, {messages:,} messages, {case}", flush=True)
    address = f"127.0.0.1:{free_port()}"
    url = f"pulsar://{address}"
    server = subprocess.Popen([str(SERVER), address, str(PARTITIONS), str(ROUNDS)])
    try:
        time.sleep(0.2)
        run([TIDEMILL, "generate", "--pulsar", url, "--topic", TOPIC, "--messages", KEPT_MESSAGES,
             "--devices", DEVICES], WORK / "replay-generate.log")
        for repeat in range(1, repeats + 1):
            one(results, case, url, messages, repeat)
    finally:
        server.kill()
        server.wait()
    rates = results.rates("replay", case, "tidemill", "whole")
    results.section(f"""
## Replay: entries of a broker that costs nothing

{messages:,} messages of {DEVICES:,} devices in LZ4 entries of up to 1,000, {PARTITIONS} partitions,
rows into the embedded store, start of the process included.

Messages per CPU-second of Tidemill: **{statistics.median(rates):,.0f}** (median of
{", ".join(f"{rate:,}" for rate in rates)}).
""")


def one(results, case, url, messages, repeat):
    port, log = free_port(), WORK / "replay.log"
    config = configure(WORK / "replay.toml", "replay", pulsar(url, TOPIC),
                       embedded(WORK / "replay.db"), window={"max_out_of_orderness": "1m"},
                       port=port)
    began = time.monotonic()
    with open(log, "wb") as out:
        job = subprocess.Popen([TIDEMILL, "run", config], stdout=out, stderr=out)
    try:
        while read(port) < messages:
            if job.poll() is not None or time.monotonic() > began + 120:
                raise SystemExit("the job does not read it all:\n" + tail(log))
            time.sleep(0.1)
        wall_s = time.monotonic() - began
        used_s, peak_kib = cpu_s(job.pid), memory_kib(job.pid, "VmHWM")
        job.send_signal(signal.SIGTERM)
        if job.wait(60) != 0:
            raise SystemExit("the job failed:\n" + tail(log))
    finally:
        job.kill()
    if "late=0 rejected=0" not in log.read_text():
        raise SystemExit("some messages are in no window:\n" + tail(log))
    results.add("replay", case, "tidemill", "whole", repeat, messages, used_s, wall_s, peak_kib)
