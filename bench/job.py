"""The sensor job as the parts of the benchmark run it: its configuration, and its producer at real
pace. What a part measures, and when, is its own.
"""
import json
import subprocess
import time

from process import TIDEMILL, WORK, cpu_s, load, memory_kib, tail

RATE_PER_S = 30_000
DEVICES = 500


def configure(path, name, source, sink, pipeline=None, window=None, port=None):
    """Writes the configuration of a job with preset `sensor`; without a port it serves no HTTP."""
    sections = {
        "pipeline": {"name": name, **(pipeline or {})},
        **source,
        "schema": {"preset": "sensor"},
        "window": window,
        **sink,
        "http": {"enabled": False} if port is None else {"listen": f"127.0.0.1:{port}"},
    }
    # Numbers, truth values and such texts are written in TOML as in JSON.
    lines = lambda keys: "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    texts = [f"[{title}]\n{lines(keys)}" for title, keys in sections.items() if keys is not None]
    path.write_text("\n".join(texts))
    return path


def pulsar(url, topic, **more):
    return {"source.pulsar": {"url": url, "topic": topic, **more}}


def clickhouse(url, table):
    return {"sink.clickhouse": {"url": url, "table": table}}


def embedded(store):
    """An embedded store, which is made anew."""
    for suffix in ("", "-wal", "-shm"):
        (store.parent / (store.name + suffix)).unlink(missing_ok=True)
    return {"sink.embedded": {"path": str(store)}}


def produce(job, log, url, topic, seconds):
    """Produces at real pace beside the job, whose log this is; returns (seconds, CPU-seconds, RSS,
    peak, load) of the job once a second."""
    command = [TIDEMILL, "generate", "--pulsar", url, "--topic", topic, "--messages",
               RATE_PER_S * seconds, "--rate", RATE_PER_S, "--devices", DEVICES, "--real-pace",
               "--start-ms", int(time.time() * 1000)]
    samples, said = [], WORK / "generate.log"
    with open(said, "wb") as out:
        producer = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
        began = time.monotonic()
        try:
            while producer.poll() is None:
                if job.poll() is not None:
                    raise SystemExit("the job ended:\n" + tail(log))
                resident, peak = (memory_kib(job.pid, field) for field in ("VmRSS", "VmHWM"))
                samples.append((time.monotonic() - began, cpu_s(job.pid), resident, peak, load()))
                if time.monotonic() > began + seconds + 120:
                    raise SystemExit("the producer does not keep the pace")
                time.sleep(1)
        finally:
            producer.kill()
            code = producer.wait()
        if code != 0:
            raise SystemExit("the producer failed:\n" + tail(said))
    return samples
