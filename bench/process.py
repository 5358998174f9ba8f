"""Starts the measured processes and reads what they used: processor time, wall time, memory."""
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
WORK = REPOSITORY / "target" / "bench"
TIDEMILL = REPOSITORY / "target" / "release" / "tidemill"
SERVICES = REPOSITORY / "tests" / "service"
PULSAR = SERVICES / "pulsar" / "start-pulsar.sh"
CLICKHOUSE = SERVICES / "clickhouse-modern" / "clickhouse-modern.sh"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage:
    """What an ended process and its children used."""

    def __init__(self, cpu_s, wall_s, rss_max_kib, output):
        self.cpu_s, self.wall_s, self.rss_max_kib, self.output = cpu_s, wall_s, rss_max_kib, output


def run(command, log, timeout_s=300):
    """Runs to the end; fails where the exit code is not 0. Errors and logs go to `log`."""
    output = log.with_suffix(".out")
    began = time.monotonic()
    with open(log, "wb") as errors, open(output, "wb") as out:
        child = subprocess.Popen([str(word) for word in command], stdout=out, stderr=errors)
        usage, rss_max_kib = wait(child, began + timeout_s)
    wall_s = time.monotonic() - began
    if child.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {child.returncode}:\n{tail(log)}{tail(output)}")
    return Usage(usage.ru_utime + usage.ru_stime, wall_s, rss_max_kib, output.read_text())


def wait(child, deadline):
    """wait4 on one child, so that its usage is not mixed with that of others.

    The peak of its memory is read while it runs: ru_maxrss would include this interpreter, which
    the child was before it became another program.
    """
    rss_max_kib = 0
    while True:
        try:
            rss_max_kib = max(rss_max_kib, memory_kib(child.pid, "VmHWM"))
        except (OSError, AttributeError):
            pass  # It has ended and has no memory any more.
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return usage, rss_max_kib
        if time.monotonic() > deadline:
            child.send_signal(signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.02)


def cpu_s(pid):
    """Processor time of a running process so far, its ended children included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def memory_kib(pid, field):
    """A field of /proc/PID/status in KiB, such as VmHWM (the peak) or VmRSS."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.M).group(1))


def tail(path, lines=15):
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def load():
    """The load average of the last minute: how busy the machine was with this and with others."""
    return os.getloadavg()[0]


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def machine():
    """Processor model and number of processors as one word; no host name."""
    words = f"{cpu_model()} {os.cpu_count()} cpus".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


class Broker:
    """A real Pulsar broker on free ports, stopped and wiped at the end."""

    def __init__(self):
        self.ports = [free_port() for _ in range(3)]
        self.data = WORK / "pulsar"

    def script(self, command, *more):
        options = zip(("--broker-port", "--web-port", "--bookie-port"), map(str, self.ports))
        words = [word for pair in options for word in pair]
        with open(WORK / "pulsar-script.log", "ab") as log:
            subprocess.run([str(PULSAR), command, "--data", str(self.data), *words, *more],
                           check=command != "kill", stdout=log, stderr=log)

    def __enter__(self):
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.script("kill")
        self.script("wipe")
        self.script("start", "--timeout", "300")
        self.url = f"pulsar://127.0.0.1:{self.ports[0]}"
        self.admin = f"http://127.0.0.1:{self.ports[1]}"
        self.pid = int((self.data / "pulsar.pid").read_text())
        return self

    def create_topic(self, topic, partitions):
        """Makes a partitioned topic, named persistent://TENANT/NAMESPACE/TOPIC."""
        path = topic.replace("://", "/")
        request = urllib.request.Request(f"{self.admin}/admin/v2/{path}/partitions",
                                         data=str(partitions).encode(), method="PUT",
                                         headers={"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).close()

    def __exit__(self, *_):
        self.script("stop")
        self.script("wipe")


class ModernClickHouse:
    """The engine of ClickHouse 26.9 on a free port, stopped and wiped at the end."""

    def __init__(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.state = WORK / "clickhouse"
        self.options = ["--http", str(port), "--state", str(self.state)]

    def script(self, command, *more):
        with open(WORK / "clickhouse-script.log", "ab") as log:
            subprocess.run([str(CLICKHOUSE), command, *self.options, *more], check=True,
                           stdout=log, stderr=log)

    def __enter__(self):
        self.script("down", "--wipe")
        self.script("up")
        self.pid = int((self.state / "pid").read_text())
        return self

    def __exit__(self, *_):
        self.script("down", "--wipe")
