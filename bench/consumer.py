"""Pulsar consumer: the one of this repository against the `pulsar` crate, on the same topic."""
from process import WORK, Broker, run

PROGRAM = WORK / "pulsar-consumer" / "release" / "pulsar-consumer-bench"
TOPIC = "persistent://public/default/bench-consumer"
# The crate's default, and as much as ours may have under way.
PERMITS_OF_THE_CRATE = (1_000, 50_000)


def measure(results, lines, messages, repeats):
    """Fills a topic once and reads it in turn with both clients."""
    case = "1000 x 500 bytes, LZ4"
    with Broker() as broker:
        print(f"-- Pulsar consumer, {messages:,} messages, batches of {case}", flush=True)
        fill = [PROGRAM, "fill", broker.url, TOPIC, messages, lines]
        filled = run(fill, WORK / "fill.log").output
        # Once without being counted: the broker's caches and its own warm-up.
        run([PROGRAM, "ours", broker.url, TOPIC, messages, "warm"], WORK / "consume.log")
        for repeat in range(1, repeats + 1):
            one(results, case, broker, filled, messages, repeat, "ours", [])
            for permits in PERMITS_OF_THE_CRATE:
                one(results, case, broker, filled, messages, repeat, "theirs", [permits])
    table = results.table("consumer", case, ("tidemill", "whole"),
                          [("pulsar", f"permits {permits}") for permits in PERMITS_OF_THE_CRATE])
    results.section(f"""
## Pulsar consumer

{messages:,} messages of 500 bytes in LZ4 batches of 1,000 from one topic of a real broker; one
thread, one process per run; every message's payload and key are looked at; cumulative
acknowledgement every 50,000 messages. The CPU-seconds are the consumer's alone.

{table}
""")


def one(results, case, broker, filled, messages, repeat, side, more):
    subscription = "-".join(map(str, [side, repeat, *more]))
    usage = run([PROGRAM, side, broker.url, TOPIC, messages, subscription, *more],
                WORK / "consume.log")
    if usage.output != filled:
        raise SystemExit(f"{side} saw {usage.output!r} of {filled!r}")
    name, part = ("tidemill", "whole") if side == "ours" else ("pulsar", f"permits {more[0]}")
    results.add("consumer", case, name, part, repeat, messages, usage.cpu_s, usage.wall_s,
                usage.rss_max_kib)
