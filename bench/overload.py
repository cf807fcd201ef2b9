#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What happens when ten times more comes than can be done, and when the disk hangs. Three phases on a server of its own:

  peak       closed loop over the same protocol: what the server can do
  tenfold    open loop at a demand of ten times the peak, over many connections with requests in flight on each
  hang       each flush takes --hang seconds (strace delays it), and the load goes on until the queues are full

The generator shares the cores with the server, so what it can say is less than what is demanded: `sent_per_s` is what was said, and
`factor` how often that is the peak. Goodput counts successes within the phase, none of the drain after it.

Meanwhile a client of another process asks for /livez, cancels, and says messages of its own: they show what the load's own numbers
hide. Expected in each phase that refuses, and both have to: refusals within 50 ms, /livez within 250 ms and a cancel within 1 s (99 of
100 each, with two cores for all of it), memory under the cap, nothing lost; goodput of at least 80 % of the peak under tenfold demand;
and admission that opens within 10 s of the disk's return by itself. Ends with `overload: ok` or what was missed."""
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
P99_MS_MAX = {"message_refused": 50, "livez_answered": 250, "cancel_answered": 1000}
OPEN_AGAIN_S_MAX = 10
DEMAND = 10
PROBE_PAUSE_S = 0.02
TALKING_PROBES = 8  # of many messages some are refused
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
        return [seconds for status, seconds in self.answers if is_wanted(status)]


def quantile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def probes_of(address, phase):
    def say(number):
        return json.dumps({"text": "probe", "message_id": f"{phase}-{number}", "agent": "echo"})
    kind = {"Content-Type": "application/json"}
    return {"livez": [Probe(address, "GET", "/livez")],
            "cancel": [Probe(address, "POST", "/v1/conversations/probe-act/cancel", lambda _: "{}", kind)],
            "message": [Probe(address, "POST", f"/v1/conversations/probe-{i}/messages", say, {**kind, "Prefer": "respond-async"})
                        for i in range(TALKING_PROBES)]}


class Watched:
    """The probes of a phase, and the largest memory seen meanwhile."""

    def __init__(self, server, phase):
        self.server, self.phase, self.probes = server, phase, probes_of(server.ready["http"], phase)

    def __enter__(self):
        for probe in self.all_probes():
            probe.start()
        return self

    def __exit__(self, *_):
        for probe in self.all_probes():
            probe.is_over = True
        for probe in self.all_probes():
            probe.join()

    def all_probes(self):
        return [probe for probes in self.probes.values() for probe in probes]

    def report(self):
        lines = {}
        for name, probes in self.probes.items():
            for kind, is_wanted in (("answered", lambda status: status < 500), ("refused", lambda status: status == 503)):
                seconds = sorted(seconds for probe in probes for seconds in probe.seconds(is_wanted))
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
    found = {name: result[name] for name in CHECKS if result.get(name)} or {"answered": result["answered"]}
    return "" if result["ok"] else f"the checks of the load failed: {found}"


def load(options, server, *arguments):
    command = [os.path.join(options.build, "bench/load"), "--http", server.ready["http"], "--json", "--agent", "echo",
               *(["--rpc", server.ready["rpc"]] if options.protocol == "rpc" else []), "--seconds", str(options.seconds), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(f"load failed: {done.stderr}")
    sys.stderr.write(done.stderr)  # what its checks found, each in a line
    return json.loads(done.stdout)


def bars_missed(phase, numbers):
    """What everybody else had to wait for, and whether anybody was refused at all."""
    missed = [] if numbers["refused"] else [f"{phase}: nothing was refused, more connections or seconds are needed"]
    for name, ms_max in P99_MS_MAX.items():
        if name not in numbers:
            missed.append(f"{phase}: no {name} to judge")
        elif numbers[name]["p99_ms"] > ms_max:
            missed.append(f"{phase}: {name} takes {numbers[name]['p99_ms']:.0f} ms, at most {ms_max} are allowed")
    if numbers["resident_mib"] > MEMORY_CAP_MIB:
        missed.append(f"{phase}: {numbers['resident_mib']} MiB resident")
    return missed


def measure_peak(options, server):
    pipeline = 64 if options.protocol == "rpc" else 16  # groups as large as under overload, or it were no peak
    peak = load(options, server, "--connections", 64, "--pipeline", pipeline, "--conversations", 64 * pipeline)
    return {"rate": round(peak["rate"])}, list(filter(None, [checks_missed(peak)]))


def many(options):
    return ["--connections", options.connections, "--conversations", CONVERSATIONS_A_CONNECTION * options.connections,
            "--pipeline", CONVERSATIONS_A_CONNECTION, "--refusals-ok"]


def measure_tenfold(options, server, peak):
    with Watched(server, "tenfold") as watched:
        result = load(options, server, "--rate", DEMAND * peak, *many(options))
    sent, goodput = result["sent"] / result["seconds"], result["succeeded"] / result["seconds"]
    numbers = {"demand_per_s": DEMAND * peak, "sent_per_s": round(sent), "factor": round(sent / peak, 2), "goodput": round(goodput),
               "goodput_share": round(goodput / peak, 3), "refused": result["refused"], "ok": result["ok"]} | watched.report()
    missed = list(filter(None, [checks_missed(result)])) + bars_missed("tenfold", numbers)
    if goodput < GOODPUT_SHARE_MIN * peak:
        missed.append(f"tenfold: goodput is {100 * goodput / peak:.0f} % of the peak, at least {100 * GOODPUT_SHARE_MIN:.0f} are due")
    return numbers, missed


def measure_hang(options, server, peak):
    with Watched(server, "hang") as watched:
        strace = subprocess.Popen(["strace", "-f", "-q", "-o", os.devnull, "-e", f"trace={FLUSHES}",
                                   "-e", f"inject={FLUSHES}:delay_enter={int(options.hang * 1e6)}", "-p", str(server.pid)])
        time.sleep(1)
        result = load(options, server, "--rate", peak, *many(options))
        strace.send_signal(signal.SIGINT)
        strace.wait()
    began = time.monotonic()
    while (status := say(server.ready["http"], "after", "open again?")) != 200 and time.monotonic() - began < OPEN_AGAIN_S_MAX:
        time.sleep(0.05)
    open_again_s = time.monotonic() - began
    numbers = {"sent_per_s": round(result["sent"] / result["seconds"]), "refused": result["refused"], "ok": result["ok"],
               "open_again_s": round(open_again_s, 2)} | watched.report()
    missed = list(filter(None, [checks_missed(result)])) + bars_missed("hang", numbers)
    if status != 200 or open_again_s > OPEN_AGAIN_S_MAX:
        missed.append(f"hang: {open_again_s:.1f} s after the disk's return a message is answered {status}")
    return numbers, missed


def run(options, folder):
    report, missed = {}, []
    with open(os.path.join(folder, "log"), "w", encoding="utf-8") as log, \
            Program([os.path.join(options.build, "ciranda"), "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0",
                     "--data", os.path.join(folder, "data")], log) as server:
        say(server.ready["http"], "probe-act", "there")
        report["peak"], missed = measure_peak(options, server)
        peak = report["peak"]["rate"]
        for phase, measure in (("tenfold", measure_tenfold), ("hang", measure_hang)):
            if phase == "tenfold" or options.hang:
                report[phase], more_missed = measure(options, server, peak)
                missed += more_missed
    for phase, numbers in report.items():
        print(json.dumps({"phase": phase, "protocol": options.protocol} | numbers))
    print("overload: ok" if not missed else "overload: " + "; ".join(missed))
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build/release"))
    parser.add_argument("--seconds", type=int, default=10, help="of each phase")
    parser.add_argument("--connections", type=int, default=1000, help="under overload")
    parser.add_argument("--protocol", choices=("http", "rpc"), default="http", help="of the load; the other client speaks HTTP")
    parser.add_argument("--hang", type=float, default=2, help="seconds of each flush in the last phase; 0: leave it out")
    options = parser.parse_args()
    if options.hang:
        need("strace")
    with tempfile.TemporaryDirectory(prefix="ciranda-overload-") as folder:
        return run(options, folder)


if __name__ == "__main__":
    sys.exit(main())
