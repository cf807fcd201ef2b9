#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The numbers of the README, measured: one command, one machine, one run, flushes on.

  http       durable echo turns over HTTP, 64 connections, beside nginx that answers a constant; rounds alternate, medians
  dialogues  10,000 dialogues open at the same time over 2,000 connections, 10,000 messages a second, open loop
  model      10,000 turns in flight against bench/fake_model (1 s to the first token, 40 tokens over 4 s)
  memory     bytes of a conversation in memory, and of one that left it

wrk drives both sides of `http` with the same requests; the rest is driven by bench/load, which checks every reply. `--json` prints one line a row; `--write` puts the table into
docs/BENCHMARKS.md. Dialogues come from --dialogues FILE.jsonl.gz; without one, generated texts stand in for them.
"""
import argparse
import datetime
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))


class Process:
    def __init__(self, command, log, ready=True):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        self.ready = json.loads(self.process.stdout.readline()) if ready else None

    def memory_kib(self, field):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(rf"{field}:\s+(\d+)", file.read()).group(1))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bench:
    def __init__(self, options, folder, log):
        self.options, self.folder, self.log, self.rows, self.count = options, folder, log, [], 0
        self.build = os.path.join(ROOT, "build", "release")

    def server(self, **changes):
        self.count += 1
        with open(os.path.join(ROOT, "bench", "spine.yaml"), encoding="utf-8") as file:
            text = file.read()
        for old, new in changes.get("replace", {}).items():
            assert old in text, old
            text = text.replace(old, new)
        path = os.path.join(self.folder, f"{self.count}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return Process([os.path.join(self.build, "ciranda"), "serve", "--config", path, "--listen", "127.0.0.1:0", "--rpc-listen", "",
                        "--data", os.path.join(self.folder, f"data-{self.count}")], self.log)

    def load(self, address, *arguments):
        command = [os.path.join(self.build, "bench", "load"), "--http", address, "--json", *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not done.stdout.strip():
            raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        row = json.loads(done.stdout.strip().splitlines()[-1])
        row["exit"] = done.returncode
        if done.returncode:
            print(f"load failed ({done.returncode}): {done.stderr.strip()[-400:]}", file=sys.stderr)
        return row

    def row(self, name, **values):
        self.rows.append({"bench": name, **values})
        print(json.dumps(self.rows[-1]) if self.options.json else f"{name}: " + ", ".join(f"{k} {v}" for k, v in values.items()), flush=True)

    def wrk(self, address):
        """An independent generator, so that the comparison does not hang on ours; both sides get the same requests."""
        out = subprocess.run(["wrk", "-t1", "-c64", f"-d{self.options.seconds}", "-s", os.path.join(ROOT, "bench", "spine.lua"), f"http://{address}"],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        row = json.loads(out.strip().splitlines()[-1])
        if row["bad"]:
            raise SystemExit(f"{row['bad']} requests to {address} failed")
        return row["requests"] / (row["us"] / 1e6), row["p99_us"] / 1000

    # rows ------------------------------------------------------------------------------------------------------------------
    def http(self):
        """Durable echo against nginx's constant: rounds in turn, the ratio of each pair, the median of the ratios."""
        conf = os.path.join(self.folder, "nginx.conf")
        port = 20000 + os.getpid() % 12000  # below the ephemeral ports
        with open(conf, "w", encoding="utf-8") as file:
            file.write(f"daemon off; worker_processes 2; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.err; events {{ worker_connections 4096; }}\n"
                       f"http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p; "
                       f"fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s; "
                       f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"ok\"; }} }} }}\n")
        nginx = Process(["nginx", "-c", conf, "-p", self.folder], self.log, ready=False)
        server = self.server()
        time.sleep(0.5)
        pairs = []
        for i in range(self.options.rounds + 1):
            ours, theirs = self.wrk(server.ready["http"]), self.wrk(f"127.0.0.1:{port}")
            if i > 0:  # the first pair warms up
                pairs.append((ours, theirs))
        flushes = self.metric(server, "ciranda_journal_flushes")
        appends = self.metric(server, "ciranda_journal_appends")
        enters = self.metric(server, "ciranda_ring_enters")
        server.stop()
        nginx.stop()
        ratios = sorted(ours[0] / theirs[0] for ours, theirs in pairs)
        self.row("http_echo_durable_64", turns_per_s=round(statistics.median(ours[0] for ours, _ in pairs)),
                 nginx_per_s=round(statistics.median(theirs[0] for _, theirs in pairs)),
                 ratio=round(statistics.median(ratios), 3), ratio_min=round(ratios[0], 3), ratio_max=round(ratios[-1], 3),
                 p99_ms=round(statistics.median(ours[1] for ours, _ in pairs), 2), rounds=self.options.rounds,
                 records_a_flush=round(appends / flushes, 1), enters_a_turn=round(enters / appends, 2), flushes="on")

    def metric(self, server, name):
        with urllib.request.urlopen(f"http://{server.ready['http']}/metrics") as page:
            return float(re.search(rf"^{name} (\S+)", page.read().decode(), re.M).group(1))

    def dialogues(self):
        server = self.server()
        source = ["--dialogues", self.options.dialogues] if self.options.dialogues else []
        row = self.load(server.ready["http"], *source, "--conversations", 10000, "--connections", 2000, "--rate", 10000, "--seconds", self.options.long,
                        "--warmup", 3, "--agent", "rules", "--expect", "any", "--typing-ahead", 100)
        memory = server.memory_kib("VmHWM")
        server.stop()
        self.row("dialogues_10000_open", rate=round(row["rate"]), p50_ms=row["p50_ms"], p95_ms=row["p95_ms"], p99_ms=row["p99_ms"],
                 resident_mib=memory // 1024, checks="ok" if row["exit"] == 0 else "FAILED", real_dialogues=bool(source), flushes="on")

    def model(self):
        model = Process([os.path.join(self.build, "bench", "fake_model"), "--listen", "127.0.0.1:0", "--first-token-ms", "1000", "--tokens", "40", "--stream-ms", "4000"], self.log)
        server = self.server(replace={"127.0.0.1:9999": model.ready["http"]})
        row = self.load(server.ready["http"], "--conversations", 12000, "--connections", 5000, "--rate", 2020, "--seconds", self.options.long, "--warmup", 8,
                        "--agent", "bot", "--expect", "contains", "--drain", 60)
        memory = server.memory_kib("VmHWM")
        server.stop()
        model.stop()
        self.row("model_10000_in_flight", turns_per_s=round(row["rate"]), in_flight=round(row["rate"] * row["p50_ms"] / 1000), added_p50_ms=round(row["p50_ms"] - 5000, 1),
                 added_p95_ms=round(row["p95_ms"] - 5000, 1), added_p99_ms=round(row["p99_ms"] - 5000, 1), resident_mib=memory // 1024,
                 checks="ok" if row["exit"] == 0 else "FAILED", flushes="on")

    def memory(self):
        """The slope between two numbers of conversations, so that what the server needs for itself does not count."""
        awake = self.server()
        slept = self.server(replace={"idle: 600s": "idle: 50ms"})
        result = {}
        for name, server in (("in_memory", awake), ("passivated", slept)):
            def resident(count):
                self.load(server.ready["http"], "--connections", 256, "--conversations", count, "--rate", 8000, "--seconds", count / 8000 + 1, "--agent", "echo",
                          "--text-bytes", 64, "--read-back", 1)
                time.sleep(3)
                return server.memory_kib("VmRSS") * 1024

            few, many = resident(20000), resident(100000)
            result[name] = round((many - few) / 100000)
            server.stop()
        self.row("conversation_bytes", **result, messages_of_each=1)

    def table(self):
        lines = ["# Benchmarks", "", "Written by `bench/spine.py --write`; every number from one run on one machine, load generator included, flushes on where it says so.", "",
                 f"- date: {datetime.date.today().isoformat()}", f"- machine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split(chr(45))[0]}",
                 f"- command: `bench/spine.py --write --rounds {self.options.rounds} --seconds {self.options.seconds} --long {self.options.long}`", "", "| row | numbers |", "|---|---|"]
        for row in self.rows:
            lines.append(f"| {row['bench']} | " + ", ".join(f"{k} **{v}**" for k, v in row.items() if k != "bench") + " |")
        lines += ["", "`http_echo_durable_64` holds a durable turn (accepted, journalled, flushed, routed, answered) against nginx answering the same requests with two",
                  "constant bytes; `ratio` is the median of the ratios of neighbouring rounds. `in_flight` is rate times latency (Little). `model_10000_in_flight` subtracts the 5,000 ms that the model itself takes.", ""]
        return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="http dialogues model memory; all when none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each round of a comparison")
    parser.add_argument("--long", type=int, default=30, help="seconds of dialogues and model")
    parser.add_argument("--dialogues", help="JSON lines, gzipped: {\"turns\":[{\"from\",\"text\"}]}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="docs/BENCHMARKS.md")
    options = parser.parse_args()
    names = options.rows or ["http", "dialogues", "model", "memory"]
    for tool in ("nginx", "wrk"):
        if "http" in names and not shutil.which(tool):
            raise SystemExit(f"{tool} is not installed: `http` needs it (apt-get install nginx-light wrk)")
    with tempfile.TemporaryDirectory(prefix="ciranda-bench-") as folder, open(os.path.join(folder, "log"), "w+") as log:
        bench = Bench(options, folder, log)
        for name in names:
            getattr(bench, name)()
        if options.write:
            with open(os.path.join(ROOT, "docs", "BENCHMARKS.md"), "w", encoding="utf-8") as file:
                file.write(bench.table())


if __name__ == "__main__":
    main()
