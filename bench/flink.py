"""A real Flink cluster (JobManager and one TaskManager with two slots) that runs the job once.

The processes are started as Flink's own shell scripts do it, with the parameters that Flink's
calculator prints. Rates come from the meter inside the job (bench.Meter): the steady part lies
between 30 % and 97 % of the messages, so that warm-up and wind-down are out.
"""
import json
import os
import subprocess
import time
import urllib.request

from process import WORK, cpu_s, free_port, tail

FOLDER = WORK / "flink"
JAR = WORK / "flink-baseline" / "flink-baseline.jar"
SLOTS = 2
TASK_MANAGER_MEMORY = os.environ.get("FLINK_MEMORY", "4g")

OPENS = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in (
    "java.lang", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.text",
    "java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic",
    "java.util.concurrent.locks")] + [
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED"]

CONFIG = """\
jobmanager: {{rpc: {{address: 127.0.0.1, port: {rpc}}}, bind-host: 127.0.0.1, \
memory: {{process: {{size: 1g}}}}}}
taskmanager: {{host: 127.0.0.1, bind-host: 127.0.0.1, numberOfTaskSlots: {slots}, \
memory: {{process: {{size: {memory}}}, managed: {{fraction: 0.1}}}}}}
rest: {{address: 127.0.0.1, bind-address: 127.0.0.1, port: {rest}, bind-port: "{rest}"}}
blob: {{server: {{port: "{blob}"}}}}
parallelism: {{default: {slots}}}
execution: {{checkpointing: {{dir: "file://{folder}/checkpoints"}}}}
io: {{tmp: {{dirs: {folder}/tmp}}}}
"""

LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.f.ref = F
appender.f.name = F
appender.f.type = FILE
appender.f.fileName = ${sys:log.file}
appender.f.layout.type = PatternLayout
appender.f.layout.pattern = %d %-5p %c - %m%n
"""


class Cluster:
    """A cluster of one's own for one job."""

    def __init__(self, home):
        self.home = home
        self.libraries = ":".join(sorted(str(jar) for jar in (home / "deps" / "lib").glob("*.jar")))
        self.rest = free_port()
        self.meter = FOLDER / "meter.txt"
        self.children = []

    def java(self, log, *words):
        logging = [f"-Dlog.file={FOLDER}/{log}.log",
                   f"-Dlog4j.configurationFile={FOLDER}/log4j.properties"]
        return ["java", *OPENS, *logging, *words]

    def parameters(self, command):
        """JVM parameters and dynamic parameters, as Flink calculates them."""
        calculator = f"{self.home}/deps/bin/bash-java-utils.jar:{self.libraries}"
        words = self.java("calculator", "-cp", calculator,
                          "org.apache.flink.runtime.util.bash.BashJavaUtils", command,
                          "--configDir", str(FOLDER))
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
        lines = [line[len(mark):] for line in out.splitlines() if line.startswith(mark)]
        return lines[0].split(), (lines[1].split() if len(lines) > 1 else [])

    def start(self, log, jvm, main, *words):
        command = self.java(log, *jvm, "-cp", self.libraries, main,
                            "--configDir", str(FOLDER), *words)
        with open(FOLDER / f"{log}.out", "wb") as out:
            child = subprocess.Popen(command, stdout=out, stderr=out)
        self.children.append(child)
        return child

    def __enter__(self):
        for name in ("tmp", "checkpoints"):
            (FOLDER / name).mkdir(parents=True, exist_ok=True)
        self.meter.unlink(missing_ok=True)
        (FOLDER / "config.yaml").write_text(CONFIG.format(
            rpc=free_port(), blob=free_port(), rest=self.rest, slots=SLOTS, folder=FOLDER,
            memory=TASK_MANAGER_MEMORY))
        (FOLDER / "log4j.properties").write_text(LOGGING)
        try:
            package = "org.apache.flink.runtime"
            jvm, dynamic = self.parameters("GET_JM_RESOURCE_PARAMS")
            self.job_manager = self.start(
                "job-manager", jvm, f"{package}.entrypoint.StandaloneSessionClusterEntrypoint",
                "--executionMode", "cluster", *dynamic)
            jvm, dynamic = self.parameters("GET_TM_RESOURCE_PARAMS")
            meter = ["-XX:+UseG1GC", f"-Dbench.report={self.meter}"]
            self.task_manager = self.start(
                "task-manager", meter + jvm, f"{package}.taskexecutor.TaskManagerRunner", *dynamic)
            self.wait_for_slots(time.monotonic() + 180)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait()

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}{path}", timeout=10) as answer:
            return json.load(answer)

    def wait_for_slots(self, deadline):
        while time.monotonic() < deadline:
            try:
                if self.ask("/overview")["slots-available"] == SLOTS:
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise SystemExit("the Flink cluster did not come up:\n" + tail(FOLDER / "task-manager.out"))

    def run(self, *words):
        """Runs the job and returns what it used."""
        before = cpu_s(self.task_manager.pid)
        command = self.java("client", "-Xmx512m", "-cp", self.libraries,
                            "org.apache.flink.client.cli.CliFrontend", "run", "-c",
                            "bench.BaselineJob", str(JAR), *words)
        environment = {**os.environ, "FLINK_CONF_DIR": str(FOLDER)}
        with open(FOLDER / "client.out", "wb") as out:
            code = subprocess.run(command, env=environment, stdout=out, stderr=out).returncode
        if code != 0:
            raise SystemExit("the Flink job failed:\n" + tail(FOLDER / "client.out", 40))
        whole_cpu_s = cpu_s(self.task_manager.pid) - before
        job_manager_cpu_s = cpu_s(self.job_manager.pid)
        wall_s = self.ask("/jobs/overview")["jobs"][0]["duration"] / 1000
        return {"whole_cpu_s": whole_cpu_s, "job_manager_cpu_s": job_manager_cpu_s,
                "wall_s": wall_s, **self.metered()}

    def metered(self):
        lines = [line.split() for line in self.meter.read_text().splitlines()]
        ticks = [list(map(int, line[1:])) for line in lines if line[0] == "M"]
        total = max(tick[1] for tick in ticks)
        first = next(tick for tick in ticks if tick[1] >= 0.30 * total)
        last = next(tick for tick in ticks if tick[1] >= 0.97 * total)
        results = [[float(word) for word in line[1:]] for line in lines if line[0] == "R"]
        return {
            "steady_messages": last[1] - first[1],
            "steady_cpu_s": (last[2] - first[2]) / os.sysconf("SC_CLK_TCK"),
            "steady_wall_s": (last[0] - first[0]) / 1000,
            "rss_max_kib": max(tick[3] for tick in ticks) // 1024,
            "result": [sum(column) for column in zip(*results)],
        }
