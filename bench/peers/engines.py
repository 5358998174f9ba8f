"""The sensor job's minutes in another engine: engines.py ENGINE FILE RESULT.csv

ENGINE is duckdb, chdb or polars, on one thread as far as it lets itself be told. The file is read,
parsed and grouped; CPU-seconds of that alone go to standard output as JSON, start of Python and
loading of the engine are not in them. The rows are written afterwards, to be compared. Less is
asked than of the product: plain sums, no invalid values, no coverage; the mean of `status` stands
for its most frequent value.
"""
import json
import os
import resource
import sys
import time

TEXTS = ["device_type", "customer_id", "site_id"]
PLACES = ["latitude", "longitude", "altitude"]
GAUGES = ["temperature", "humidity", "pressure", "co2_level", "noise_level", "light_level",
          "battery_level", "signal_strength", "memory_usage", "cpu_usage"]
COUNTERS = ["error_count", "packets_sent", "packets_received", "bytes_sent", "bytes_received"]
FIRST = [*TEXTS, *PLACES]
TYPES = {"device_id": str, **{name: str for name in TEXTS}, **{name: float for name in PLACES},
         "time": int, **{name: float for name in GAUGES}, "motion_detected": int, "status": int,
         **{name: int for name in COUNTERS}}


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(work):
    began, cpu_before = time.monotonic(), cpu_s()
    work()
    print(json.dumps({"cpu_s": cpu_s() - cpu_before, "wall_s": time.monotonic() - began}))


def columns(first, mean):
    """What is selected, in SQL: the columns of the result file in their order."""
    return ", ".join([
        "count(*) AS n", "CAST(sum(motion_detected) * 2 > count(*) AS INT) AS motion",
        "min(temperature) AS low", "max(temperature) AS high", "sum(temperature) AS total",
        *(f"{mean}({name}) AS mean_{name}" for name in GAUGES),
        *(f"sum({name}) AS sum_{name}" for name in COUNTERS),
        *(f"{first}({name}) AS one_{name}" for name in FIRST), f"{mean}(status) AS mean_status"])


def duckdb(path, out):
    import duckdb
    sql = {str: "VARCHAR", float: "DOUBLE", int: "BIGINT"}
    types = ", ".join(f"{name}: '{sql[kind]}'" for name, kind in TYPES.items())
    base = duckdb.connect()
    base.execute("SET threads = 1; SET preserve_insertion_order = false")
    query = (f"SELECT device_id, time // 60000 * 60000 AS start, {columns('any_value', 'avg')} "
             f"FROM read_json('{path}', format = 'newline_delimited', columns = {{{types}}}) "
             "GROUP BY 1, 2")
    measured(lambda: base.execute(f"CREATE TABLE rows AS {query}").fetchall())
    base.execute(f"COPY rows TO '{out}' (HEADER false)")


def chdb(path, out):
    from chdb import session
    sql = {str: "String", float: "Float64", int: "Int64"}
    types = ", ".join(f"{name} {sql[kind]}" for name, kind in TYPES.items())
    base = session.Session()
    base.query("SELECT 1")
    query = (f"SELECT device_id, intDiv(time, 60000) * 60000 AS start, {columns('any', 'avg')} "
             f"FROM file('{path}', JSONEachRow, '{types}') GROUP BY device_id, start "
             "SETTINGS max_threads = 1, max_parsing_threads = 1, "
             "input_format_parallel_parsing = 0")
    measured(lambda: base.query(f"CREATE TABLE rows ENGINE = Memory AS {query}"))
    base.query(f"SELECT * FROM rows INTO OUTFILE '{out}' TRUNCATE FORMAT CSV")


def polars(path, out):
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars as pl
    kinds = {str: pl.String, float: pl.Float64, int: pl.Int64}
    schema = {name: kinds[kind] for name, kind in TYPES.items()}
    temperature, motion = pl.col("temperature"), pl.col("motion_detected")
    query = pl.scan_ndjson(path, schema=schema).group_by(
        "device_id", (pl.col("time") // 60_000 * 60_000).alias("start")).agg(
        pl.len().alias("n"), (motion.sum() * 2 > pl.len()).cast(pl.Int8).alias("motion"),
        temperature.min().alias("low"), temperature.max().alias("high"),
        temperature.sum().alias("total"),
        *(pl.col(name).mean().alias(f"mean_{name}") for name in GAUGES),
        *(pl.col(name).sum().alias(f"sum_{name}") for name in COUNTERS),
        *(pl.col(name).first().alias(f"one_{name}") for name in FIRST),
        pl.col("status").mean().alias("mean_status"))
    rows = []
    measured(lambda: rows.append(query.collect(engine="streaming")))
    rows[0].write_csv(out, include_header=False)


if __name__ == "__main__":
    {"duckdb": duckdb, "chdb": chdb, "polars": polars}[sys.argv[1]](*sys.argv[2:])
