"""Keeps what was measured: raw.csv line by line as it comes, summary.md at the end."""
import csv
import datetime
import os
import statistics

from process import REPOSITORY, cpu_model, load, machine

COLUMNS = ["bench", "case", "side", "part", "repeat", "messages", "cpu_s", "wall_s",
           "messages_per_cpu_s", "rss_max_kib", "load1"]


class Results:
    """One folder of runs/, named by time and machine."""

    def __init__(self):
        began = datetime.datetime.now(datetime.timezone.utc)
        self.began = began.strftime("%Y-%m-%d %H:%M UTC")
        self.folder = REPOSITORY / "bench" / "runs" / f"{began:%Y%m%d-%H%M%S}-{machine()}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows, self.sections = [], []
        with open(self.folder / "raw.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(COLUMNS)

    def add(self, bench, case, side, part, repeat, messages, cpu_s, wall_s, rss_max_kib):
        rate = round(messages / cpu_s)
        row = dict(zip(COLUMNS, (bench, case, side, part, repeat, messages, round(cpu_s, 3),
                                 round(wall_s, 3), rate, rss_max_kib, round(load(), 2))))
        self.rows.append(row)
        with open(self.folder / "raw.csv", "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row.values())
        print(f"   {side:9} {part:13} {rate:>9,} messages per CPU-second  "
              f"(CPU {cpu_s:.2f} s, wall {wall_s:.1f} s, {rss_max_kib // 1024} MiB, "
              f"load {row['load1']})", flush=True)

    def rates(self, bench, case, side, part):
        wanted = (bench, case, side, part)
        return [row["messages_per_cpu_s"] for row in self.rows
                if (row["bench"], row["case"], row["side"], row["part"]) == wanted]

    def table(self, bench, case, ours, theirs):
        """Medians and ratios of ours = (side, part) against each of theirs, as a table."""
        own = self.rates(bench, case, *ours)
        lines = ["| side | part | messages per CPU-second, median | repeats | ours against it |",
                 "| --- | --- | ---: | --- | ---: |"]
        for side, part in [ours, *theirs]:
            rates = self.rates(bench, case, side, part)
            median = statistics.median(rates)
            ratio = statistics.median(own) / median
            repeats = ", ".join(f"{rate:,}" for rate in rates)
            shown = "" if (side, part) == ours else f"**{ratio:.1f} ×**"
            lines.append(f"| {side} | {part} | {median:,.0f} | {repeats} | {shown} |")
            if shown:
                print(f"== {bench}, {case}: {ratio:.1f} × {side} ({part})", flush=True)
        return "\n".join(lines)

    def section(self, text):
        self.sections.append(text.strip() + "\n")
        self.write()

    def write(self):
        loads = [row["load1"] for row in self.rows] or [load()]
        head = (f"# Figures of {self.began}\n\n{cpu_model()}, {os.cpu_count()} processors; load "
                f"average of the last minute during the runs {min(loads):.1f} to {max(loads):.1f}. "
                "Raw values: [raw.csv](raw.csv).\n")
        (self.folder / "summary.md").write_text("\n".join([head, *self.sections]))
