# SPDX-License-Identifier: Apache-2.0
"""Programs under measurement: started on free ports in temporary folders, watched, and stopped by their own process id."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BENCH = os.path.join(ROOT, "bench")
PATIENCE_S = 60


class Skip(Exception):
    """A row or a peer that cannot run here, and why."""


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            raise Skip(f"{tool} is not installed")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, process):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Skip(f"{process.args[0]} ended with {process.returncode} instead of listening")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise Skip(f"{process.args[0]} does not listen")


class Program:
    """A child process; `ready` is the JSON line that it prints when it listens, if it prints one."""

    def __init__(self, command, log, has_ready_line=True, port=None, **options):
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if has_ready_line else log,
                                        stderr=log, **options)
        self.pid, self.ready = self.process.pid, None
        if has_ready_line:
            line = self.process.stdout.readline()
            if not line:
                raise Skip(f"{command[0]} did not start: exit {self.process.wait()}")
            self.ready = json.loads(line)
        elif port:
            wait_for_port(port, self.process)

    def memory_bytes(self, field="VmRSS"):
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            return int(re.search(rf"{field}:\s+(\d+)", file.read()).group(1)) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
            return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    def stop(self, with_signal=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Server(Program):
    """Our server, with bench/bench.yaml and the replacements asked for."""

    def __init__(self, bench, replace=None):
        with open(os.path.join(BENCH, "bench.yaml"), encoding="utf-8") as file:
            text = file.read()
        for old, new in (replace or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        folder = bench.new_folder("server")
        path = os.path.join(folder, "config.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        super().__init__([bench.binary("ciranda"), "serve", "--config", path, "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0",
                          "--data", os.path.join(folder, "data")], bench.log)
        self.http, self.rpc = self.ready["http"], self.ready["rpc"]

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.http}{path}") as page:
            return json.load(page)

    def metrics(self):
        """Of a server that rests: workers publish their counts now and then, so they are read until they stay."""
        last = None
        for _ in range(50):
            with urllib.request.urlopen(f"http://{self.http}/metrics") as page:
                text = page.read().decode()
            now = {name: float(value) for name, value in re.findall(r"^ciranda_(\w+) (\S+)$", text, re.M)}
            settled = {name: value for name, value in now.items() if name.startswith(("journal_", "messages_"))}
            if settled == last:
                return now
            last = settled
            time.sleep(0.4)
        return now
