"""Holds what a store has against what is expected."""

import pickle
import struct

from stores import ClickHouse, Sqlite

DIFFERENCES_MAX = 20
ORDINAL_MASK = (1 << 44) - 1


def compare(arguments):
    """Prints the differences; returns the exit status."""
    with open(arguments.expected, "rb") as file:
        lanes = pickle.load(file)
    if arguments.sqlite:
        store = Sqlite(arguments.sqlite, arguments.table)
    else:
        store = ClickHouse(arguments.clickhouse, arguments.table)
    differences = Differences()
    for name, lane in lanes.items():
        where = (arguments.pipeline, name)
        compare_rows(name, lane, store.rows(*where), arguments.pipeline, differences)
        compare_letters(name, lane, store.letters(*where), differences)
        ledger = store.ledger(*where)
        if ledger != lane.ledger():
            differences.add(f"partition {name}: ledger {ledger}, expected {lane.ledger()}")
    strangers = store.partitions() - {(arguments.pipeline, name) for name in lanes}
    if strangers:
        differences.add(f"rows of nobody expected: {sorted(strangers)}")
    rows = sum(len(lane.rows) for lane in lanes.values())
    letters = sum(len(lane.letters) for lane in lanes.values())
    print(f"{rows} rows and {letters} dead letters expected, {differences.count} differences")
    return 1 if differences.count else 0


class Differences:
    """Counts them and prints the first ones."""

    def __init__(self):
        self.count = 0

    def add(self, text):
        self.count += 1
        if self.count <= DIFFERENCES_MAX:
            print(text)


def same(found, expected):
    """Equal in type and value; floats in all their bits."""
    if isinstance(found, float) and isinstance(expected, float):
        return struct.pack("<d", found) == struct.pack("<d", expected)
    return type(found) is type(expected) and found == expected


def compare_rows(name, lane, rows, pipeline, differences):
    seen = set()
    for row in rows:
        end_ms, device = row["time"] * 1000, row["device_id"]
        place = f"partition {name}, {end_ms}, {device}"
        if (end_ms, device) in seen:
            differences.add(f"{place}: stored twice")
        seen.add((end_ms, device))
        ordinal = row.pop("revision") & ORDINAL_MASK
        expected = lane.rows.get((end_ms, device))
        if expected is None:
            expected = lane.open_row(end_ms, device, ordinal)
        else:
            last, closing = lane.revisions[(end_ms, device)]
            if not last <= ordinal <= closing:
                differences.add(f"{place}: revision {ordinal} is not in {last}..={closing}")
        if expected is None:
            differences.add(f"{place}: a row that must not be there: {row}")
            continue
        expected = dict(expected, pipeline=pipeline, source_partition=name)
        for column in sorted(expected.keys() | row.keys()):
            if column not in row or column not in expected:
                differences.add(f"{place}: column {column} is on one side only")
            elif not same(row[column], expected[column]):
                wanted = expected[column]
                differences.add(f"{place}: {column} = {row[column]!r}, {wanted!r} expected")
    for end_ms, device in sorted(lane.rows.keys() - seen):
        differences.add(f"partition {name}, {end_ms}, {device}: the row is missing")


def compare_letters(name, lane, letters, differences):
    seen = set()
    for letter in letters:
        position = (letter.pop("segment"), letter.pop("offset"), letter.pop("batch_index"))
        place = f"partition {name}, letter {position}"
        if position in seen:
            differences.add(f"{place}: stored twice")
        seen.add(position)
        expected = lane.letters.get(position)
        if expected is None:
            differences.add(f"{place}: a letter that must not be there: {letter}")
            continue
        letter["revision"] &= ORDINAL_MASK
        for column, value in expected.items():
            if not same(letter[column], value):
                differences.add(f"{place}: {column} = {letter[column]!r}, {value!r} expected")
    for position in sorted(lane.letters.keys() - seen):
        reason = lane.letters[position]["reason"]
        differences.add(f"partition {name}, letter {position} ({reason}): missing")
