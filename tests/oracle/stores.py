"""Reads rows, letters and records out of the stores, without Tidemill and without loss."""

import sqlite3
import struct
import urllib.error
import urllib.parse
import urllib.request

LEDGER = ("messages", "aggregated", "open", "late", "rejected")


class Sqlite:
    """The embedded store."""

    def __init__(self, path, table):
        self.connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.connection.row_factory = sqlite3.Row
        self.table = table

    def select(self, what, table, where="1", *parameters):
        query = f'SELECT {what} FROM "{self.table}{table}" WHERE {where}'
        return [dict(row) for row in self.connection.execute(query, parameters)]

    def rows(self, pipeline, partition):
        where = "pipeline = ? AND source_partition = ?"
        return self.select("*", "_rows", where, pipeline, partition)

    def letters(self, pipeline, partition):
        where = "pipeline = ? AND partition = ?"
        letters = self.select("*", "_dead_letters", where, pipeline, partition)
        for letter in letters:
            if isinstance(letter["payload"], str):
                letter["payload"] = letter["payload"].encode()
        return letters

    def ledger(self, pipeline, partition):
        where = "pipeline = ? AND partition = ?"
        records = self.select("*", "_commits", where, pipeline, partition)
        return {name: records[0][name] for name in LEDGER} if records else None

    def partitions(self):
        rows = self.select("DISTINCT pipeline, source_partition", "_rows")
        return {(row["pipeline"], row["source_partition"]) for row in rows}


class ClickHouse:
    """A server over HTTP, read as RowBinary: floats come as their bits."""

    def __init__(self, url, table):
        self.url, self.table = url, table

    def ask(self, query):
        request = urllib.request.Request(self.url + "/", data=query.encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{query}: {error.read().decode(errors='replace')}") from error

    def select(self, table, where, final=""):
        table = f"{self.table}{table}"
        described = self.ask(f"DESCRIBE TABLE {table} FORMAT TSV").decode().splitlines()
        columns = [tuple(line.split("\t")[:2]) for line in described]
        names = ", ".join(f"`{name}`" for name, _ in columns)
        query = f"SELECT {names} FROM {table} {final} WHERE {where} FORMAT RowBinary"
        reader = RowBinary(self.ask(query))
        readers = [(name, reader.of(kind.replace("\\'", "'"))) for name, kind in columns]
        rows = []
        while not reader.at_end():
            rows.append({name: read() for name, read in readers})
        return rows

    def rows(self, pipeline, partition):
        # The view, as everybody reads it.
        rows = self.select("", f"pipeline = '{pipeline}' AND source_partition = '{partition}'")
        return [decoded(row) for row in rows]

    def letters(self, pipeline, partition):
        where = f"pipeline = '{pipeline}' AND partition = '{partition}'"
        letters = self.select("_dead_letters", where, "FINAL")
        return [{**decoded(letter), "payload": letter["payload"]} for letter in letters]

    def ledger(self, pipeline, partition):
        where = f"pipeline = '{pipeline}' AND partition = '{partition}'"
        records = self.select("_commits", where)
        if not records:
            return None
        newest = max(records, key=lambda record: (record["revision"], record["commit_number"]))
        return {name: newest[name] for name in LEDGER}

    def closed_until_ms(self, pipeline, partition):
        where = f"pipeline = '{pipeline}' AND partition = '{partition}'"
        return max(record["closed_until_ms"] for record in self.select("_commits", where))

    def partitions(self):
        query = f"SELECT DISTINCT pipeline, source_partition FROM {self.table}_rows FORMAT TSV"
        return {tuple(line.split("\t")) for line in self.ask(query).decode().splitlines()}


def decoded(row):
    return {name: value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
            for name, value in row.items()}


class RowBinary:
    """A cursor over ClickHouse's RowBinary."""

    FIXED = {"Float64": "<d", "Int64": "<q", "UInt64": "<Q", "UInt32": "<I", "UInt8": "<B",
             "DateTime": "<I", "DateTime64": "<q"}

    def __init__(self, data):
        self.data, self.at = data, 0

    def at_end(self):
        return self.at >= len(self.data)

    def of(self, kind):
        """Returns the function that reads a value of that type."""
        for wrapper in ("LowCardinality", "Nullable"):
            if kind.startswith(wrapper + "("):
                inner = self.of(kind[len(wrapper) + 1:-1])
                if wrapper == "Nullable":
                    return lambda: None if self.fixed("<B") else inner()
                return inner
        if kind == "String":
            return self.text
        code = self.FIXED[kind.split("(")[0]]
        return lambda: self.fixed(code)

    def fixed(self, code):
        value, = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return value

    def text(self):
        length = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        self.at += length
        return self.data[self.at - length:self.at]
