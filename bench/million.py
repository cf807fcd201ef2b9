#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a million conversations cost that are known and asleep: one command, one machine, one run, flushes on.

  throughput  10,000 conversations speak, of --known that the journal knows, beside a server that knows only those 10,000; the
              rounds of both alternate
  memory      resident bytes for each passivated conversation: the slope between a tenth of --known and all of them, so that
              caches and pools, which have their bounds, do not count
  restart     SIGKILL under load, then the time from the start of the process to the first answer to a message, and what that
              conversation still knew

Conversations are made through HTTP, a message each, by wrk. `--json` prints one line a row.
"""
import argparse
import http.client
import json
import os
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
CONNECTIONS = 64
CONFIG = """
conversation: {idle: 2s}
agents: {echo: {kind: echo}}
routing: {default: echo}
"""


class Server:
    def __init__(self, options, folder, name, log):
        self.data, self.config, self.log = os.path.join(folder, name), os.path.join(folder, "million.yaml"), log
        self.binary = os.path.join(options.build, "ciranda")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(CONFIG)
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.binary, "serve", "--config", self.config, "--listen", "127.0.0.1:0", "--rpc-listen", "",
                                         "--data", self.data], stdout=subprocess.PIPE, stderr=self.log)
        self.address = json.loads(self.process.stdout.readline())["http"]

    def start_wrk(self, seconds, *arguments):
        return subprocess.Popen(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--timeout", "30", "-s", os.path.join(ROOT, "bench", "million.lua"),
                                 f"http://{self.address}", "--", *map(str, arguments)], stdout=subprocess.PIPE, text=True)

    @staticmethod
    def wrk_result(wrk):
        row = json.loads(wrk.communicate()[0].strip().splitlines()[-1])
        if row["bad"]:
            raise SystemExit(f"{row['bad']} requests failed")
        return row

    def wrk(self, seconds, *arguments):
        return self.wrk_result(self.start_wrk(seconds, *arguments))

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.address}/metrics") as page:
            return float(re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)", page.read().decode(), re.M).group(1))

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return 1024 * int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def sleep_all(self, seconds_max=60):
        """Until no conversation is in memory, and a while more for what is given back lazily."""
        deadline = time.monotonic() + seconds_max
        while self.metric("ciranda_conversations_awake") > 0 and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(12)

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait(120)


def say(address, conversation, text):
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", f"/v1/conversations/{conversation}/messages", json.dumps({"text": text, "agent": "echo"}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def print_row(options, name, **values):
    print(json.dumps({"bench": name, **values, "tier": "durable"}) if options.json else f"{name}: " + ", ".join(f"{k} {v}" for k, v in values.items()), flush=True)


def create(server, first, last):
    """Returns the rate. wrk ends when it is interrupted and not before."""
    began, accepted = time.monotonic(), server.metric("ciranda_messages_accepted_total")
    wrk = server.start_wrk(3600, "create", first, last)
    while server.metric("ciranda_messages_accepted_total") - accepted < last - first + CONNECTIONS:
        time.sleep(0.1)
    seconds = time.monotonic() - began
    wrk.send_signal(signal.SIGINT)
    server.wrk_result(wrk)
    return (last - first) / seconds


def restart(options, many):
    """While 10,000 speak, so that the tail has what a crash leaves."""
    load = many.start_wrk(60, "speak", options.known, options.active)
    time.sleep(3)
    many.end(signal.SIGKILL)
    load.send_signal(signal.SIGINT)
    load.communicate()
    began = time.monotonic()
    many.start()
    ready = time.monotonic() - began
    conversation = f"c-{options.known // 2 + 1:07d}"  # one that was asleep
    status, _ = say(many.address, conversation, "are you there?")
    first = time.monotonic() - began
    with urllib.request.urlopen(f"http://{many.address}/v1/conversations/{conversation}") as page:
        messages = json.loads(page.read())["messages"]
    if status != 200:
        raise SystemExit(f"the first answer after the restart was {status}")
    if messages != 4:  # of two turns, message and reply each: the one that made it, long asleep when the kill came, and this one
        raise SystemExit(f"after the restart {conversation} knows {messages} messages, not 4")
    print_row(options, "million_restart", rate=round(first, 3), unit="s", ready_s=round(ready, 3), known=options.known, messages_known=messages)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=int, default=1000000)
    parser.add_argument("--active", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each round")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed (apt-get install wrk)")
    with tempfile.TemporaryDirectory(prefix="ciranda-million-") as folder, open(os.path.join(folder, "log"), "w+", encoding="utf-8") as log:
        few, many = Server(options, folder, "few", log), Server(options, folder, "many", log)
        try:
            create(few, 0, options.active)
            create(many, 0, options.known // 10)
            many.sleep_all()
            tenth_bytes = many.resident_bytes()
            rate = create(many, options.known // 10, options.known)
            many.sleep_all()
            all_bytes = many.resident_bytes()
            print_row(options, "million_passivated_bytes", rate=round((all_bytes - tenth_bytes) / (options.known * 0.9), 1), unit="bytes", known=options.known,
                      resident_mib_at_a_tenth=tenth_bytes >> 20, resident_mib=all_bytes >> 20, created_per_s=round(rate))
            pairs = []
            for i in range(options.rounds + 1):
                pair = [server.wrk(options.seconds, "speak", known, options.active) for server, known in ((few, options.active), (many, options.known))]
                if i > 0:  # the first wakes them
                    pairs.append([row["requests"] / row["us"] * 1e6 for row in pair])
            ratios = sorted(with_many / with_few for with_few, with_many in pairs)
            print_row(options, "million_throughput", rate=round(statistics.median(pair[1] for pair in pairs)), unit="turns/s",
                      rate_when_only_active_known=round(statistics.median(pair[0] for pair in pairs)), ratio=round(statistics.median(ratios), 3),
                      ratio_min=round(ratios[0], 3), ratio_max=round(ratios[-1], 3), known=options.known, active=options.active)
            restart(options, many)
            many.end(signal.SIGTERM)
            few.end(signal.SIGTERM)
        except BaseException:
            log.seek(0)
            print(log.read()[-2000:], file=sys.stderr)
            for server in (few, many):
                server.process.kill()
            raise


if __name__ == "__main__":
    main()
