"""Reads one message: why it is refused, or its device, time and values."""

import json
import math
import re
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
TIMES = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|z|[+-]\d\d:\d\d)?")


class Repeated:
    """A member that stands in its object more than once."""


REPEATED = Repeated()


def members(pairs):
    """Makes a dictionary of an object; a name that comes twice has no value any more."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        for name in found:
            if names.count(name) > 1:
                found[name] = REPEATED
    return found


class Decoder:
    """Decodes messages by the fields of a preset."""

    def __init__(self, fields):
        role = {field["role"]: field for field in fields}
        self.key, self.time = sources(role["key"]), sources(role["time"])
        metrics = [field for field in fields if field["role"] not in ("key", "time")]
        self.metrics = [(sources(field), reader(field)) for field in metrics]
        self.days = {}

    def decode(self, payload):
        """Returns (reason or None, device, time in ms, number of invalid values, values)."""
        if not payload.strip(b" \t\r\n"):
            return refused("empty")
        try:
            message = json.loads(payload.decode("utf-8"), object_pairs_hook=members)
        except ValueError:
            return refused("malformed")
        if not isinstance(message, dict):
            return refused("malformed")
        key = pick(message, self.key)
        if key is None:
            return refused("missing_key")
        if key is REPEATED:
            return refused("duplicate_key")
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)
        if not isinstance(key, str) or not key or len(key.encode()) > 256:
            return refused("invalid_key")
        time = pick(message, self.time)
        if time is None:
            return refused("missing_time")
        time_ms = self.instant(time)
        if time_ms is None:
            return refused("invalid_time")
        values, invalid = [], 0
        for places, read in self.metrics:
            value = message.get(places[0][0]) if len(places) == 1 else pick(message, places)
            if value is not None:
                value = read(value)
                invalid += value is None
            values.append(value)
        return None, key, time_ms, invalid, tuple(values)

    def instant(self, time):
        """Returns whole milliseconds since 1970, rounded down, or None."""
        if isinstance(time, int) and not isinstance(time, bool):
            return epoch(time)
        match = TIMES.fullmatch(time) if isinstance(time, str) else None
        if match is None:
            return None
        day, clock, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}{zone_of(zone)}")
        except ValueError:
            return None
        ms = (moment - EPOCH) // timedelta(milliseconds=1) + int(((fraction or "") + "000")[:3])
        return ms if 0 <= ms < 2**32 * 1000 else None


def zone_of(zone):
    return "+00:00" if zone in (None, "Z", "z") else zone


def epoch(number):
    """Tells seconds, milliseconds, microseconds and nanoseconds apart by their size."""
    if number < 0:
        return None
    for limit, multiply, divide in ((10**11, 1000, 1), (10**14, 1, 1), (10**17, 1, 1000)):
        if number < limit:
            return number * multiply // divide
    return number // 10**6


def refused(reason):
    return reason, None, None, 0, ()


def sources(field):
    """Returns the places of a field, each a list of names, the first that counts first."""
    paths = [field.get("path", field["name"]), *field.get("aliases", [])]
    return [path.split(".") for path in paths]


def pick(message, places):
    for path in places:
        value = message
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def reader(field):
    """Returns the function that gives a field's value, or None for an invalid one."""
    low, high = field.get("range", (-math.inf, math.inf))
    words = field.get("words", {})
    kind = field.get("type") or {"attribute": "text", "gauge": "float", "flag": "bool",
                                 "code": "int", "counter": "int"}[field["role"]]

    def number(value):
        if type(value) not in (int, float):
            return None
        try:
            value = float(value)
        except OverflowError:
            return None
        return value + 0.0 if math.isfinite(value) and low <= value <= high else None

    def integer(value):
        if type(value) is str:
            value = words.get(value)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not -2**63 <= value < 2**63:
            return None
        return value if low <= value <= high else None

    def flag(value):
        if type(value) is bool:
            return int(value)
        return int(value) if type(value) in (int, float) and value in (0, 1) else None

    def text(value):
        if type(value) is int:
            value = str(value)
        return value if type(value) is str and len(value.encode()) <= 4096 else None

    return {"float": number, "int": integer, "bool": flag, "text": text}[kind]
