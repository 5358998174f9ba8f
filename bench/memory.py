"""Memory and processor share of the sensor job: real Pulsar, real pace, embedded store."""
import signal
import subprocess
import time

from process import TIDEMILL, WORK, Broker, cpu_s, load, memory_kib, tail

RATE_PER_S = 30_000
DEVICES = 500
TOPIC = "persistent://public/default/iot-sensor-data"

CONFIG = """\
[pipeline]
name = "sensors"

[source.pulsar]
url = "{url}"
topic = "{topic}"

[schema]
preset = "sensor"

[sink.embedded]
path = "{store}"

[http]
enabled = false
"""


def measure(results, seconds, partitions):
    """Runs the job for so long and records the peak of its resident memory."""
    print(f"-- sensor job, {RATE_PER_S:,} messages/s, {partitions} partitions, {seconds} s",
          flush=True)
    store = WORK / "memory.db"
    for suffix in ("", "-wal", "-shm"):
        (store.parent / (store.name + suffix)).unlink(missing_ok=True)
    with Broker() as broker:
        broker.create_topic(TOPIC, partitions)
        config = WORK / "memory.toml"
        config.write_text(CONFIG.format(url=broker.url, topic=TOPIC, store=store))
        log = WORK / "memory.log"
        with open(log, "wb") as out:
            job = subprocess.Popen([TIDEMILL, "run", config], stdout=out, stderr=out)
        try:
            samples = watch(job, broker, seconds)
            job.send_signal(signal.SIGTERM)
            if job.wait(60) != 0:
                raise SystemExit("the job failed:\n" + tail(log))
        finally:
            job.kill()
        verify = subprocess.run([TIDEMILL, "verify", config], capture_output=True, text=True)
    report(results, seconds, partitions, samples, verify)


def watch(job, broker, seconds):
    """Produces at real pace; returns, once a second, (seconds, CPU-seconds, RSS, peak, load)."""
    command = [TIDEMILL, "generate", "--pulsar", broker.url, "--topic", TOPIC, "--messages",
               RATE_PER_S * seconds, "--rate", RATE_PER_S, "--devices", DEVICES, "--real-pace",
               "--start-ms", int(time.time() * 1000)]
    samples = []
    with open(WORK / "generate.log", "wb") as out:
        producer = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
        began = time.monotonic()
        try:
            while producer.poll() is None:
                if job.poll() is not None:
                    raise SystemExit("the job ended:\n" + tail(WORK / "memory.log"))
                resident, peak = (memory_kib(job.pid, field) for field in ("VmRSS", "VmHWM"))
                samples.append((time.monotonic() - began, cpu_s(job.pid), resident, peak, load()))
                if time.monotonic() > began + seconds + 120:
                    raise SystemExit("the producer does not keep the pace")
                time.sleep(1)
        finally:
            producer.kill()
            code = producer.wait()
        if code != 0:
            raise SystemExit("the producer failed:\n" + tail(WORK / "generate.log"))
    return samples


def report(results, seconds, partitions, samples, verify):
    took, used, _, peak, _ = samples[-1]
    messages = RATE_PER_S * seconds
    # From the fifth second on: the start is no part of the pace.
    first = next(sample for sample in samples if sample[0] >= 5)
    share = 100 * (used - first[1]) / (took - first[0])
    resident = sorted(sample[2] for sample in samples)
    case = f"{partitions} partitions"
    results.add("memory", case, "tidemill", "whole", 1, messages, used, took, peak)
    proof = {0: "proved", 1: "A DIFFERENCE", 2: "could not check"}.get(verify.returncode, "failed")
    text = f"peak {peak / 1024:.1f} MiB, median {resident[len(resident) // 2] / 1024:.1f} MiB"
    print(f"== memory, {case}: {text}, {share:.1f} % of one processor; verify: {proof}", flush=True)
    results.section(f"""
## Memory of the sensor job, {partitions} partition(s)

{DEVICES} devices, {RATE_PER_S:,} messages/s from a real broker (LZ4 batches of 10 ms) at real pace
for {took:.0f} s ({messages / took:,.0f} messages/s reached), rows into the embedded store.

| resident memory, peak (VmHWM) | resident, median | share of one processor | verify |
| ---: | ---: | ---: | --- |
| **{peak / 1024:.1f} MiB** | {resident[len(resident) // 2] / 1024:.1f} MiB | {share:.1f} % | {proof} |

```text
{verify.stdout.strip()}
```
""")
