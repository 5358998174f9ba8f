#!/usr/bin/env python3
"""What the sensor job must have stored, computed a second time, and the comparison with a store.

    oracle.py expect --logs DIR --preset FILE --out FILE [--window-ms N ...]
    oracle.py compare --expected FILE --pipeline NAME (--sqlite FILE | --clickhouse URL) --table T
                      [--some | --merged]
    oracle.py same --pipeline NAME --clickhouse URL --table T --other T

Shares no code and no method with Tidemill: messages are read by the json module, one by one; all
values of a window are kept until it closes; sums are math.fsum. `compare` holds rows (floats by
their bits), dead letters and ledger against that; it prints the differences and exits with 1. With
`--some` the expectation is of some of the partitions; with `--merged` (in `expect` as well) rows are
merged of all partitions, and a window counts as closed when every partition has closed it. With `expect --amend` late messages count for their rows. `same` holds the rows and letters of two
tables against each other, but for the revision.

DIR holds a file per partition, `NAME.log`, in log order. A line is
`ledger:entry:index TAB publish time in ms TAB payload`; payloads hold no line feed.
"""

import argparse
import sys

from expect import expect
from compare import compare, same_tables


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("expect")
    command.add_argument("--logs", required=True)
    command.add_argument("--preset", required=True)
    command.add_argument("--out", required=True)
    command.add_argument("--window-ms", type=int, default=60_000)
    command.add_argument("--out-of-orderness-ms", type=int, default=5_000)
    command.add_argument("--lateness-ms", type=int, default=0)
    command.add_argument("--skew-ms", type=int, default=300_000)
    command.add_argument("--merged", action="store_true")
    command.add_argument("--amend", action="store_true")
    command.set_defaults(run=expect)
    command = commands.add_parser("compare")
    command.add_argument("--expected", required=True)
    command.add_argument("--pipeline", required=True)
    store = command.add_mutually_exclusive_group(required=True)
    store.add_argument("--sqlite")
    store.add_argument("--clickhouse")
    command.add_argument("--table", required=True)
    command.add_argument("--some", action="store_true")
    command.add_argument("--merged", action="store_true")
    command.set_defaults(run=compare)
    command = commands.add_parser("same")
    command.add_argument("--pipeline", required=True)
    command.add_argument("--clickhouse", required=True)
    command.add_argument("--table", required=True)
    command.add_argument("--other", required=True)
    command.set_defaults(run=same_tables)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
