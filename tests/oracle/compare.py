"""Holds what a store has against what is expected."""

import pickle
import struct

from expect import Merged
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
        compare_letters(name, lane, store.letters(arguments.pipeline, name), differences)
    letters = sum(len(lane.letters) for lane in lanes.values())
    if arguments.merged:
        lanes = {"*": Merged(lanes.values())}
    for name, lane in lanes.items():
        where = (arguments.pipeline, name)
        compare_rows(name, lane, store.rows(*where), arguments.pipeline, differences)
        ledger = store.ledger(*where)
        if ledger != lane.ledger():
            differences.add(f"partition {name}: ledger {ledger}, expected {lane.ledger()}")
    strangers = store.partitions() - {(arguments.pipeline, name) for name in lanes}
    if strangers and not arguments.some:
        differences.add(f"rows of nobody expected: {sorted(strangers)}")
    rows = sum(len(lane.rows) for lane in lanes.values())
    print(f"{rows} rows and {letters} dead letters expected, {differences.count} differences")
    return 1 if differences.count else 0


def same_tables(arguments):
    """Compares two tables, each as read by one job; returns the exit status."""
    stores = [ClickHouse(arguments.clickhouse, name) for name in (arguments.table, arguments.other)]
    differences = Differences()
    lanes = [store.partitions() for store in stores]
    if lanes[0] != lanes[1]:
        differences.add(f"partitions {sorted(lanes[0])}, {sorted(lanes[1])}")
    counts = [0, 0]
    for where in sorted(lanes[0] & lanes[1]):
        closed = [store.closed_until_ms(*where) for store in stores]
        if closed[0] != closed[1]:
            differences.add(f"{where}: closed until {closed[0]}, {closed[1]}")
        # Windows that are open may be written early, as they stood at any time.
        found = [keyed(store.rows(*where), ("time", "device_id"), min(closed), where, differences)
                 for store in stores]
        counts[0] += len(found[1])
        same_values(where, *found, differences)
        key = ("segment", "offset", "batch_index")
        found = [keyed(store.letters(*where), key, None, where, differences) for store in stores]
        counts[1] += len(found[1])
        same_values(where, *found, differences)
        ledgers = [store.ledger(*where) for store in stores]
        if ledgers[0] != ledgers[1]:
            differences.add(f"{where}: ledger {ledgers[0]}, {ledgers[1]}")
    print(f"{counts[0]} rows and {counts[1]} dead letters, {differences.count} differences")
    return 1 if differences.count or not counts[0] else 0


def keyed(rows, names, closed_until_ms, where, differences):
    """The rows of closed windows by their keys, without revision."""
    found = {}
    for row in rows:
        del row["revision"]
        if closed_until_ms is None or row["time"] * 1000 <= closed_until_ms:
            key = tuple(row[name] for name in names)
            if key in found:
                differences.add(f"{where}, {key}: stored twice")
            found[key] = row
    return found


def same_values(where, found, expected, differences):
    for key in sorted(found.keys() | expected.keys()):
        if key not in found or key not in expected:
            differences.add(f"{where}, {key}: on one side only")
            continue
        for column in sorted(found[key].keys() | expected[key].keys()):
            values = [row[key].get(column) for row in (found, expected)]
            if not same(*values):
                differences.add(f"{where}, {key}: {column} = {values[0]!r}, {values[1]!r}")


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
        # What it encodes shows when more is merged into it.
        row.pop("partial_state", None)
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
