#!/usr/bin/env python3
"""Writes the first inputs of each fuzz target: python3 seeds.py FOLDER

Without them the fuzzer would have to guess protobuf, JSON, archives and the layout of partial
states (docs/formats.md), which is written here a second time, independently of the code under test.
"""

import gzip
import struct
import sys
import zlib
from pathlib import Path

EVENT = (
    '{"device_id":"sensor_1","time":"2026-01-01T00:00:01.5Z","site_id":"a","temperature":22.5,'
    '"humidity":40,"motion_detected":true,"status":1,"error_count":0,"packets_sent":17}'
)


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sized(data):
    return struct.pack(">I", len(data)) + data


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def entry(body, compression=0, count=None, **more):
    metadata = field(1, b"p") + field(2, 7) + field(3, 1_767_225_600_000)
    metadata += field(6, b"sensor_1") if count is None else b""
    if compression:
        metadata += field(8, compression)
    metadata += field(9, more.get("size", len(body)))
    metadata += b"" if count is None else field(11, count)
    return sized(metadata + more.get("tail", b"")) + body


def batch(payloads):
    return b"".join(sized(field(2, b"k") + field(3, len(p)) + field(5, 9)) + p for p in payloads)


def lz4_literals(data):
    head = bytes([len(data) << 4]) if len(data) < 15 else bytes([0xF0, len(data) - 15])
    return head + data


def frame(kind, command, payload=b""):
    base = sized(field(1, kind) + field(kind, command))
    return struct.pack(">I", len(base) + len(payload)) + base + payload


def pulsar_entries():
    plain = batch([b"one", b"", b"three"])
    checked = entry(plain, count=3)
    checked = b"\x0e\x01" + struct.pack(">I", crc32c(checked)) + checked
    broker = b"\x0e\x02" + sized(field(1, 1_767_225_600_001) + field(2, 4)) + checked
    message = field(1, 1) + field(2, field(1, 3) + field(2, 9)) + field(3, 1)
    yield entry(b"alone")
    yield entry(plain, count=3)
    yield entry(plain[:-2], count=3)
    yield entry(lz4_literals(plain), compression=1, count=3, size=len(plain))
    yield entry(plain, count=3, tail=field(13, field(1, b"key") + field(2, b"v")))
    yield checked
    yield broker
    yield frame(3, field(1, b"broker") + field(2, 21)) + frame(9, message, broker) + frame(18, b"")


def partials():
    def state(key, count, absent, sum_bytes, codes):
        out = struct.pack("<q", 60_000) + varint(len(key)) + key + varint(count) + varint(0)
        out += struct.pack("<qqQ", 1_000, 1_000, 1 << 1)
        out += b"".join(varint(number) for number in absent)
        out += sum_bytes + struct.pack("<dd", 22.5, 22.5) + struct.pack("<qd", 1_000, 22.5) * 2
        out += (3).to_bytes(16, "little") + struct.pack("<qq", 3, 3) + struct.pack("<qq", 1_000, 3) * 2
        out += struct.pack("<q", 1_000) + varint(5) + b"north" + varint(1) + varint(len(codes))
        return out + b"".join(varint(code) + varint(number) for code, number in codes)

    small = b"\x00" + (int(22.5 * 2) << 75).to_bytes(16, "little", signed=True)
    wide = b"\x01" + (1 << 1800).to_bytes(272, "little", signed=True)
    yield b"\x00" + state(b"\x01d", 1, [0] * 5, small, [(1, 1)])
    yield b"\x00" + state(b"\x01e", 1, [0] * 5, small, [(1, 1)])
    yield b"\x00" + state(b"\x01d", 1, [0] * 5, wide, [(1, 1)])
    yield b"\x00" + state(b"\x01d", 3, [2, 2, 0, 2, 2], small, [(1, 1), (4, 2)])


def archives():
    lines = b"".join(b'{"n":%d}\n' % number for number in range(300)) + b"x" * 150 + b"\nlast"
    packed = gzip.compress(lines, mtime=0)
    named = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x02\x00ab" + b"name\x00" + b"comment\x00"
    named += struct.pack("<H", zlib.crc32(named) & 0xFFFF) + packed[10:]
    skipped = b"\x53\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"
    frame = b"\x28\xb5\x2f\xfd"
    # By RFC 8878: a single segment of 6 bytes, one raw block, no checksum; the same byte 200,000
    # times with a window of 1 KiB; a window of 256 MiB, which is refused.
    raw = frame + b"\x20\x06" + struct.pack("<I", 6 << 3 | 1)[:3] + b"one\ntw"
    run = frame + b"\x00\x00" + struct.pack("<I", 1024 << 3 | 1 << 1)[:3] + b"\n"
    run += struct.pack("<I", 1 | 1000 << 3 | 1 << 1)[:3] + b"y"
    large = frame + b"\x00\x90" + struct.pack("<I", 1 | 1 << 3)[:3] + b"z"
    for archive in (lines, packed, named, packed[:-3], packed + packed[:20], raw, skipped + raw,
                    raw + skipped + raw, run, large, gzip.compress(bytes(3_000_000), mtime=0)):
        yield b"\x00" + archive
    yield b"\x02" + lines
    yield b"\x03" + lines


def messages():
    yield "\n".join([EVENT, EVENT, EVENT.replace("22.5", "-1.25e1"), EVENT])
    yield "\n".join([EVENT, EVENT.replace(":40", ":null"), EVENT.replace("true", "NaN"), "{}", ""])
    yield EVENT.replace("device_id", "device\\u005fid").replace("sensor_1", "\\ud83d\\ude00é")
    yield EVENT.replace("22.5", "17976931348623157e292").replace("17}", '9223372036854775807,"x":[{}]}')
    yield '{"sensorId":7,"timestamp":1767225600000,"metadata":{"latitude":1.5},"status":"ERROR"}'
    yield '{"device_id":"a","device_id":"b","time":1}\n[1]\n{"time":"2026-01-01 00:00:00"}'


def main():
    folder = Path(sys.argv[1])
    seeds = {
        "json": [text.encode() for text in messages()],
        "config": [b'pipeline.name = "a"\nschema.preset = "sensor"\nsink.stdout = {}\n'
                   b'source.file.paths = ["a"]\n[window]\nsise = "${HOME}"\n'],
        "pulsar_entry": [bytes([cut]) + data for cut in (0, 255) for data in pulsar_entries()],
        "partial": list(partials()),
        "archive": list(archives()),
    }
    for target, inputs in seeds.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for index, data in enumerate(inputs):
            (folder / target / f"seed-{index}").write_bytes(data)


main()
