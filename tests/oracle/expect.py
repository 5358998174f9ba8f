"""The expected rows, letters and ledgers of a dumped topic, partition by partition."""

import math
import multiprocessing
import os
import pickle
import tomllib
from collections import Counter

from messages import Decoder

LETTER_BYTES_MAX = 4096
SLOTS = 60


def expect(arguments):
    """Computes what is expected of every partition in the folder and keeps it in a file."""
    with open(arguments.preset, "rb") as file:
        fields = tomllib.load(file)["schema"]["field"]
    names = sorted(name[:-4] for name in os.listdir(arguments.logs) if name.endswith(".log"))
    jobs = [(os.path.join(arguments.logs, f"{name}.log"), fields, arguments) for name in names]
    with multiprocessing.Pool(min(len(jobs), os.cpu_count() or 1)) as pool:
        partitions = dict(zip(names, pool.starmap(expect_partition, jobs)))
    with open(arguments.out, "wb") as file:
        pickle.dump(partitions, file)
    for name, lane in partitions.items():
        print(f"partition {name}: {lane.ledger()} rows={len(lane.rows)}")
    return 0


def expect_partition(path, fields, rules):
    """Reads a partition's log message by message."""
    lane = Lane(fields, rules.window_ms, rules.merged or rules.amend, rules.amend)
    decode = Decoder(fields).decode
    hold_back_ms = rules.out_of_orderness_ms + rules.lateness_ms
    with open(path, "rb") as log:
        for line in log:
            position, publish_ms, payload = line.rstrip(b"\n").split(b"\t", 2)
            lane.take(position, int(publish_ms), payload, decode, rules.skew_ms, hold_back_ms)
    lane.amend_rows()
    return lane


class Lane:
    """A partition: its open windows and all that came of it."""

    def __init__(self, fields, size_ms, keeps_events=False, amends=False):
        self.metrics = [field for field in fields if field["role"] not in ("key", "time")]
        self.size_ms = size_ms
        self.ordinal = self.aggregated = self.late = self.rejected = 0
        self.highest_ms = self.closed_until_ms = None
        self.open = {}       # window end -> device -> [(time, ordinal, invalid, values)]
        self.rows = {}       # (window end, device) -> {column: value}
        self.revisions = {}  # (window end, device) -> (last ordinal in it, ordinal of closing)
        self.closings = []   # (closed until, ordinal), rising
        self.events = {} if keeps_events else None  # of closed windows, like `open`
        self.letters = {}    # position -> {column: value}
        self.amends = amends
        self.late_counts = Counter()  # (window end, device) -> late messages that count

    def ledger(self):
        opened = sum(len(events) for window in self.open.values() for events in window.values())
        return {"messages": self.ordinal, "aggregated": self.aggregated, "open": opened,
                "late": self.late, "rejected": self.rejected}

    def take(self, position, publish_ms, payload, decode, skew_ms, hold_back_ms):
        self.ordinal += 1
        reason, device, time_ms, invalid, values = decode(payload)
        if reason is None:
            end_ms = (time_ms // self.size_ms + 1) * self.size_ms
            if time_ms > publish_ms + skew_ms:
                reason = "future"
            elif self.closed_until_ms is not None and end_ms <= self.closed_until_ms:
                reason = "late"
        if reason == "late" and self.amends:
            window = self.events.setdefault(end_ms, {})
            window.setdefault(device, []).append((time_ms, self.ordinal, invalid, values))
            self.late_counts[(end_ms, device)] += 1
            self.aggregated += 1
            return
        if reason is not None:
            self.letter(reason, position, publish_ms, payload, device, time_ms)
            return
        window = self.open.setdefault(end_ms, {})
        window.setdefault(device, []).append((time_ms, self.ordinal, invalid, values))
        if self.highest_ms is None or time_ms > self.highest_ms:
            self.highest_ms = time_ms
            edge_ms = (time_ms - hold_back_ms) // self.size_ms * self.size_ms
            if self.closed_until_ms is None or edge_ms > self.closed_until_ms:
                self.closed_until_ms = edge_ms
                self.closings.append((edge_ms, self.ordinal))
                for end_ms in sorted(end for end in self.open if end <= edge_ms):
                    self.close(end_ms)

    def letter(self, reason, position, publish_ms, payload, device, time_ms):
        if reason == "late":
            self.late += 1
        else:
            self.rejected += 1
        ledger, entry, index = (int(part) for part in position.split(b":"))
        self.letters[(ledger, entry, index)] = {
            "ordinal": self.ordinal, "revision": self.ordinal, "reason": reason,
            "publish_time": publish_ms, "event_time": time_ms, "key": device,
            "payload": payload[:LETTER_BYTES_MAX], "payload_bytes": len(payload)}

    def close(self, end_ms):
        window = self.open.pop(end_ms)
        if self.events is not None:
            self.events[end_ms] = window
        for device, events in window.items():
            self.aggregated += len(events)
            self.rows[(end_ms, device)] = self.row(end_ms, device, events, "final")
            self.revisions[(end_ms, device)] = (events[-1][1], self.ordinal)

    def amend_rows(self):
        """Makes the rows of all that came late again."""
        for end_ms, device in self.late_counts:
            events = self.events[end_ms][device]
            self.rows[(end_ms, device)] = self.row(end_ms, device, events, "amended")
            self.revisions[(end_ms, device)] = (events[-1][1], self.ordinal)

    def open_row(self, end_ms, device, ordinal):
        """The row of a window that is not closed, as it stood behind the message `ordinal`."""
        events = self.open.get(end_ms, {}).get(device, [])
        events = [event for event in events if event[1] <= ordinal]
        return self.row(end_ms, device, events, "provisional") if events else None

    def row(self, end_ms, device, events, finality=None):
        start_ms = end_ms - self.size_ms
        times = [event[0] for event in events]
        slots = {(time - start_ms) * SLOTS // self.size_ms for time in times}
        gap = max(map(len, "".join("x" if n in slots else "." for n in range(SLOTS)).split("x")))
        row = {
            "time": end_ms // 1000, "device_id": device, "window_start": start_ms // 1000,
            "record_count": len(events), "invalid_count": sum(event[2] for event in events),
            "first_event_time": min(times), "last_event_time": max(times),
            "coverage": len(slots) / SLOTS, "max_gap_ms": gap * self.size_ms // SLOTS}
        if self.amends:
            row["late_count"], row["finality"] = self.late_counts[(end_ms, device)], finality
        for index, field in enumerate(self.metrics):
            values = [(event[0], event[3][index]) for event in events
                      if event[3][index] is not None]
            for aggregate in aggregates_of(field):
                row[column_of(field, aggregate)] = AGGREGATES[aggregate](values)
        return row


class Merged:
    """All partitions as one: their windows merged where every partition has closed them."""

    def __init__(self, lanes):
        self.lanes = list(lanes)
        self.letters = {}
        self.rows, self.revisions, self.aggregated = {}, {}, 0
        closed_until_ms = min(lane.closed_until_ms for lane in self.lanes)
        for end_ms in sorted({end for lane in self.lanes for end in lane.events}):
            if end_ms > closed_until_ms:
                continue
            ordinal = sum(next(at for until, at in lane.closings if until >= end_ms)
                          for lane in self.lanes)
            for device, events in self.devices(end_ms).items():
                self.aggregated += len(events)
                self.rows[(end_ms, device)] = self.lanes[0].row(end_ms, device, events)
                # An early row may have held all of them before.
                self.revisions[(end_ms, device)] = (1, ordinal)

    def devices(self, end_ms):
        devices = {}
        for lane in self.lanes:
            for device, events in {**lane.events, **lane.open}.get(end_ms, {}).items():
                devices.setdefault(device, []).extend(events)
        return devices

    def open_row(self, end_ms, device, ordinal):
        """Of which messages an early row is, its revision does not say: the last one is of all."""
        events = self.devices(end_ms).get(device, [])
        return self.lanes[0].row(end_ms, device, events) if events else None

    def ledger(self):
        ledgers = [lane.ledger() for lane in self.lanes]
        ledger = {name: sum(ledger[name] for ledger in ledgers) for name in ledgers[0]}
        ledger["open"] += ledger["aggregated"] - self.aggregated
        ledger["aggregated"] = self.aggregated
        return ledger


MAIN = {"attribute": "first", "gauge": "avg", "flag": "majority", "code": "most_frequent",
        "counter": "sum"}


def aggregates_of(field):
    return field.get("aggregates", [MAIN[field["role"]]])


def column_of(field, aggregate):
    name = field["name"]
    return name if aggregate == MAIN[field["role"]] else f"{name}_{aggregate}"


def total(values):
    numbers = [value for _, value in values]
    if all(isinstance(number, int) for number in numbers):
        return min(max(sum(numbers), -2**63), 2**63 - 1)
    return math.fsum(numbers)


def mean(values):
    numbers = [value for _, value in values]
    if all(isinstance(number, int) for number in numbers):
        return float(sum(numbers)) / len(numbers)
    return math.fsum(numbers) / len(numbers)


def most_frequent(values):
    counts = Counter(value for _, value in values)
    most = max(counts.values())
    return min(value for value, count in counts.items() if count == most)


def unless_none(aggregate):
    return lambda values: aggregate(values) if values else None


AGGREGATES = {
    "count": len,
    "avg": unless_none(mean),
    "sum": unless_none(total),
    "min": unless_none(lambda values: min(value for _, value in values)),
    "max": unless_none(lambda values: max(value for _, value in values)),
    "first": unless_none(lambda values: min(values)[1]),
    "last": unless_none(lambda values: min((-time, value) for time, value in values)[1]),
    "majority": unless_none(lambda values: int(sum(v for _, v in values) * 2 > len(values))),
    "most_frequent": unless_none(most_frequent),
}
