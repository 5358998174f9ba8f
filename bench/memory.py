"""Memory and processor share of the sensor job: real Pulsar, real pace, embedded store."""
import signal
import subprocess

from job import DEVICES, RATE_PER_S, configure, embedded, produce, pulsar
from process import TIDEMILL, WORK, Broker, tail

TOPIC = "persistent://public/default/iot-sensor-data"


def measure(results, seconds, partitions):
    """Runs the job for so long and records the peak of its resident memory."""
    print(f"-- sensor job, {RATE_PER_S:,} messages/s, {partitions} partitions, {seconds} s",
          flush=True)
    with Broker() as broker:
        broker.create_topic(TOPIC, partitions)
        config = configure(WORK / "memory.toml", "sensors", pulsar(broker.url, TOPIC),
                           embedded(WORK / "memory.db"))
        log = WORK / "memory.log"
        with open(log, "wb") as out:
            job = subprocess.Popen([TIDEMILL, "run", config], stdout=out, stderr=out)
        try:
            samples = produce(job, log, broker.url, TOPIC, seconds)
            job.send_signal(signal.SIGTERM)
            if job.wait(60) != 0:
                raise SystemExit("the job failed:\n" + tail(log))
        finally:
            job.kill()
        verify = subprocess.run([TIDEMILL, "verify", config], capture_output=True, text=True)
    report(results, seconds, partitions, samples, verify)


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
