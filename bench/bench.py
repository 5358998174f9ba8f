"""Runs the benchmarks; bench/run.sh builds what they need and calls this. See bench/README.md."""
import argparse
import sys
from pathlib import Path

import catch_up
import consumer
import drain
import file_rows
import kernel
import limits
import memory
import peers
import profile_file
import replay
import steady
from process import WORK
from results import Results

PARTS = ["kernel", "limits", "file", "consumer", "peers", "memory", "steady", "drain", "replay",
         "catch-up", "profile", "all"]

# Sizes that are not given: of all parts in one go, and of a look.
BRIEF = {"kernel_repeats": 3, "repeats": 2, "seconds": 60, "steady_seconds": 60, "minutes": 3}
QUICK = {"kernel_messages": 500_000, "kernel_repeats": 3, "messages": 500_000,
         "topic_messages": 500_000, "peer_messages": 500_000, "repeats": 1, "seconds": 30,
         "steady_seconds": 30, "minutes": 1}


def main():
    parser = argparse.ArgumentParser(prog="bench/run.sh", description=__doc__)
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--messages", type=int, default=3_000_000, help="of each file")
    parser.add_argument("--topic-messages", type=int, default=2_000_000)
    parser.add_argument("--devices", type=int, nargs="+", default=[500, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kernel-messages", type=int, default=4_000_000, help="of A, B and C")
    parser.add_argument("--kernel-repeats", type=int, default=5)
    parser.add_argument("--sets", nargs="+", choices=kernel.NAMES, default=kernel.NAMES)
    parser.add_argument("--quick", action="store_true", help="500,000 messages each, fewer repeats")
    parser.add_argument("--seconds", type=int, default=180, help="of the sensor job")
    parser.add_argument("--partitions", type=int, nargs="+", default=[4])
    parser.add_argument("--peer-messages", type=int, default=4_000_000, help="of set A")
    parser.add_argument("--peers-python", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--vmagent", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--steady-seconds", type=int, default=120)
    parser.add_argument("--minutes", type=int, default=6, help="of messages to catch up with")
    parser.add_argument("--no-flink", action="store_true", help="the file without the other side")
    parser.add_argument("--flink-home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lines", type=Path, help=argparse.SUPPRESS)
    if "all" in sys.argv[1:2]:
        parser.set_defaults(**BRIEF)
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    results = Results()
    everything = options.what == "all"
    if everything or options.what == "kernel":
        kernel.measure(results, options.kernel_messages, options.kernel_repeats, options.sets)
    if everything or options.what == "limits":
        limits.measure(results, options.kernel_repeats)
    if everything or options.what == "file":
        for devices in options.devices:
            file_rows.measure(results, options.flink_home, options.messages, devices,
                              options.repeats)
    if everything or options.what == "consumer":
        consumer.measure(results, options.lines, options.topic_messages, options.repeats)
    if everything or options.what == "peers":
        tools = peers.Tools(options.peers_python, options.flink_home, options.vmagent)
        peers.measure(results, tools, options.peer_messages, options.repeats)
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
