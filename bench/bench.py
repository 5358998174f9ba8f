"""Runs the benchmarks; bench/run.sh builds what they need and calls this. See bench/README.md."""
import argparse
from pathlib import Path

import catch_up
import consumer
import drain
import file_rows
import memory
import profile_file
import replay
import steady
from process import WORK
from results import Results

PARTS = ["file", "consumer", "memory", "steady", "drain", "replay", "catch-up",
         "profile", "all"]


def main():
    parser = argparse.ArgumentParser(prog="bench/run.sh", description=__doc__)
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--messages", type=int, default=3_000_000, help="of each file")
    parser.add_argument("--topic-messages", type=int, default=2_000_000)
    parser.add_argument("--devices", type=int, nargs="+", default=[500, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=180, help="of the sensor job")
    parser.add_argument("--partitions", type=int, nargs="+", default=[4])
    parser.add_argument("--steady-seconds", type=int, default=120)
    parser.add_argument("--minutes", type=int, default=6, help="of messages to catch up with")
    parser.add_argument("--no-flink", action="store_true", help="the file without the other side")
    parser.add_argument("--flink-home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lines", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    results = Results()
    everything = options.what == "all"
    if everything or options.what == "file":
        for devices in options.devices:
            file_rows.measure(results, options.flink_home, options.messages, devices,
                              options.repeats)
    if everything or options.what == "consumer":
        consumer.measure(results, options.lines, options.topic_messages, options.repeats)
    if everything or options.what == "memory":
        for partitions in options.partitions:
            memory.measure(results, options.seconds, partitions)
    if everything or options.what == "steady":
        steady.measure(results, options.steady_seconds)
    if everything or options.what == "drain":
        drain.measure(results, options.topic_messages, options.repeats)
    if everything or options.what == "replay":
        replay.measure(results, options.repeats)
    if everything or options.what == "catch-up":
        catch_up.measure(results, options.minutes)
    if everything or options.what == "profile":
        profile_file.measure(results)
    print(f"written to {results.folder}")


main()
