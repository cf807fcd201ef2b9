#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What happens when ten times more comes than can be done, and when the disk hangs. Three phases on a server of its own:

  peak       closed loop, 64 connections: what the server can do
  overload   open loop at ten times the peak, over many connections with requests in flight on each
  hang       each flush takes --hang seconds (strace delays it), and the load goes on until the queues are full

Meanwhile a client of another process asks for /livez, cancels, and says messages of its own: they show what the load's own numbers
hide. Expected: goodput of at least 80 % of the peak, refusals within 50 ms, service routes and acts that are answered, memory under
the cap, nothing lost, and admission that opens by itself. Ends with `overload: ok` or what was missed."""
import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from rows.process import Program, ROOT, need

MEMORY_CAP_MIB = 1024
GOODPUT_SHARE_MIN = 0.8
REFUSAL_S_MAX = 0.05
PROBE_PAUSE_S = 0.02
CONVERSATIONS_A_CONNECTION = 32  # each waits for its reply: so many requests are in flight at once
FLUSHES = "fdatasync,fsync"


class Probe(threading.Thread):
    """Asks one thing again and again on a connection of its own; keeps (status, seconds) of each answer."""

    def __init__(self, address, method, path, body=lambda number: None, headers=None):
        super().__init__(daemon=True)
        self.address, self.method, self.path, self.body, self.headers = address, method, path, body, headers or {}
        self.answers, self.is_over = [], False

    def run(self):
        connection, number = http.client.HTTPConnection(self.address, timeout=60), 0
        while not self.is_over:
            began = time.perf_counter()
            try:
                connection.request(self.method, self.path, self.body(number), self.headers)
                answer = connection.getresponse()
                answer.read()
                self.answers.append((answer.status, time.perf_counter() - began))
            except OSError:
                connection.close()
            number += 1
            time.sleep(PROBE_PAUSE_S)
        connection.close()

    def seconds(self, is_wanted):
        return sorted(seconds for status, seconds in self.answers if is_wanted(status))


def quantile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def probes_of(address, phase):
    def say(number):
        return json.dumps({"text": "probe", "message_id": f"{phase}-{number}", "agent": "echo"})
    kind = {"Content-Type": "application/json"}
    return {"livez": Probe(address, "GET", "/livez"),
            "cancel": Probe(address, "POST", "/v1/conversations/probe-act/cancel", lambda _: "{}", kind),
            "message": Probe(address, "POST", "/v1/conversations/probe/messages", say, {**kind, "Prefer": "respond-async"})}


class Watched:
    """The probes of a phase, and the largest memory seen meanwhile."""

    def __init__(self, server, phase):
        self.server, self.phase, self.probes = server, phase, probes_of(server.ready["http"], phase)

    def __enter__(self):
        for probe in self.probes.values():
            probe.start()
        return self

    def __exit__(self, *_):
        for probe in self.probes.values():
            probe.is_over = True
        for probe in self.probes.values():
            probe.join()

    def report(self):
        lines = {}
        for name, probe in self.probes.items():
            for kind, is_wanted in (("answered", lambda status: status < 500), ("refused", lambda status: status == 503)):
                seconds = probe.seconds(is_wanted)
                if seconds:
                    lines[f"{name}_{kind}"] = {"count": len(seconds), "p50_ms": round(1000 * quantile(seconds, 0.5), 1),
                                               "p99_ms": round(1000 * quantile(seconds, 0.99), 1)}
        return lines | {"resident_mib": self.server.memory_bytes("VmHWM") >> 20}


def say(address, conversation, text):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("POST", f"/v1/conversations/{conversation}/messages", json.dumps({"text": text, "agent": "echo"}),
                       {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


CHECKS = ("wrong", "lost", "duplicates", "unanswered", "broken_connections", "read_back_wrong")


def checks_missed(result):
    """What the generator's own checks found; empty when all is well."""
    found = {name: result[name] for name in CHECKS if result.get(name)}
    return "" if result["ok"] else f"the checks of the load failed: {found}"


def load(options, server, *arguments):
    command = [os.path.join(options.build, "bench/load"), "--http", server.ready["http"], "--json", "--agent", "echo",
               "--seconds", str(options.seconds), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(f"load failed: {done.stderr}")
    sys.stderr.write(done.stderr)  # what its checks found, each in a line
    return json.loads(done.stdout)


def run(options, folder):
    missed, report = [], {}
    with open(os.path.join(folder, "log"), "w", encoding="utf-8") as log, \
            Program([os.path.join(options.build, "ciranda"), "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0",
                     "--data", os.path.join(folder, "data")], log) as server:
        address = server.ready["http"]
        say(address, "probe-act", "there")
        peak = load(options, server, "--connections", 64)
        report["peak"] = {"rate": peak["rate"]}

        many = ["--connections", options.connections, "--conversations", CONVERSATIONS_A_CONNECTION * options.connections, "--pipeline", 32, "--refusals-ok"]
        with Watched(server, "overload") as watched:
            overload = load(options, server, "--rate", int(10 * peak["rate"]), *many)
        goodput = overload["answered"] - overload["refused"]
        report["overload"] = {"offered": int(10 * peak["rate"]), "goodput": round(goodput / overload["seconds"]),
                              "refused": overload["refused"], "ok": overload["ok"]} | watched.report()
        if goodput / overload["seconds"] < GOODPUT_SHARE_MIN * peak["rate"]:
            missed.append("goodput under overload is below 80 % of the peak")
        missed += filter(None, [checks_missed(overload)])

        if options.hang:
            with Watched(server, "hang") as watched:
                strace = subprocess.Popen(["strace", "-f", "-q", "-o", os.devnull, "-e", f"trace={FLUSHES}",
                                           "-e", f"inject={FLUSHES}:delay_enter={int(options.hang * 1e6)}", "-p", str(server.pid)])
                time.sleep(1)
                hang = load(options, server, "--rate", int(peak["rate"]), *many)
                strace.send_signal(signal.SIGINT)
                strace.wait()
            began = time.monotonic()
            while say(address, "after", "open again?") != 200 and time.monotonic() - began < 60:
                time.sleep(0.05)
            report["hang"] = {"refused": hang["refused"], "ok": hang["ok"],
                              "open_again_s": round(time.monotonic() - began, 2)} | watched.report()
            if not hang["refused"]:
                missed.append("the hanging disk filled no queue: more connections or seconds are needed")
            missed += filter(None, [checks_missed(hang)])
            refused = watched.probes["message"].seconds(lambda status: status == 503)
            if refused and quantile(refused, 0.99) > REFUSAL_S_MAX:
                missed.append(f"refusals take {1000 * quantile(refused, 0.99):.0f} ms")
        for phase in report.values():
            if phase.get("resident_mib", 0) > MEMORY_CAP_MIB:
                missed.append(f"{phase['resident_mib']} MiB resident")
    for phase, numbers in report.items():
        print(json.dumps({"phase": phase} | numbers))
    print("overload: ok" if not missed else "overload: " + "; ".join(missed))
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build/release"))
    parser.add_argument("--seconds", type=int, default=10, help="of each phase")
    parser.add_argument("--connections", type=int, default=1000, help="under overload")
    parser.add_argument("--hang", type=float, default=2, help="seconds of each flush in the last phase; 0: leave it out")
    options = parser.parse_args()
    if options.hang:
        need("strace")
    with tempfile.TemporaryDirectory(prefix="ciranda-overload-") as folder:
        return run(options, folder)


if __name__ == "__main__":
    sys.exit(main())
