# SPDX-License-Identifier: Apache-2.0
"""T2, the server: durable turns over HTTP and MessagePack-RPC, beside nginx that answers a constant and beside the stack that is
replaced; hot conversations, many conversations, idle and slow readers, overload. Every row but nginx's is checked by the load
generator while it measures: a wrong, lost or doubled reply fails the row."""
import concurrent.futures
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time

from .flushes import verify_server
from .peers import Nginx, SeedsStack
from .process import BENCH, PATIENCE_S, Program, Server, Skip, need
from .row import Row, significant

GENERATOR_BOUND_CORES = 0.95  # of wrk's one thread
LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "p999_ms")
ECHO = ("--agent", "echo")
ON = "on, not verified"  # the same server and journal as in the rows whose flushes are counted; here nobody counted


def run(bench):
    wanted = bench.options.rows.split(",") if bench.options.rows else list(ROWS)
    for name in wanted:
        if name not in ROWS:
            continue
        bench.say(f"serve: {name}")
        try:
            ROWS[name](bench)
        except Skip as skip:
            row = Row(name, "T2", "-")
            row.skipped["row"] = str(skip)
            bench.done(row)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:  # the other rows are still worth having
            row = Row(name, "T2", "-")
            row.more["error"], row.is_failed = str(error), True
            bench.done(row)


def latencies(result):
    return {name: result[name] for name in LATENCIES}


def per_turn(server, before):
    """What the mechanism cost, from the server's own counts over the measured rounds."""
    after = server.metrics()
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    turns, flushes = grown["messages_accepted_total"] or 1, grown["journal_flushes"] or 1
    figures = {"records_per_flush": grown["journal_appends"] / flushes, "enters_per_turn": grown["ring_enters"] / turns,
               "operations_per_enter": grown["ring_submitted"] / (grown["ring_enters"] or 1), "wakes_per_turn": grown["worker_wakes"] / turns,
               "allocations_per_turn": grown["pool_misses"] / turns}
    return {name: significant(value) for name, value in figures.items()}


def closed(bench, server, *arguments, protocol="http", seconds=None):
    """A closed loop over either protocol; RPC is read back over HTTP."""
    target = ["--rpc", server.rpc] if protocol == "rpc" else []
    return bench.load(*target, "--http", server.http, "--seconds", seconds or bench.options.seconds, *ECHO, *arguments)


def rounds_of(bench, row, measure):
    """The first round warms up. Returns the results of the others."""
    results = []
    for i in range(bench.options.rounds + 1):
        result = measure()
        row.is_failed |= not result["ok"]
        if i > 0:
            results.append(result)
            row.add(result["rate"])
    return results


def middle(results, name):
    return sorted(result[name] for result in results)[len(results) // 2]


def add_latencies(row, results):
    row.more.update({name: middle(results, name) for name in LATENCIES})
    row.more["curve"] = sorted(results, key=lambda result: result["p99_ms"])[len(results) // 2]["curve"]


# ---- turns -----------------------------------------------------------------------------------------------------------------

def http_echo_64(bench):
    """wrk drives all three with the same requests, in turn; then our generator drives ours and the stack, for the checks."""
    need("wrk")
    row = Row("http_echo_64", "T2", "turns/s")
    peers = {}
    with Server(bench) as server:
        for name, start in (("nginx_constant", Nginx), ("seeds_stack", SeedsStack)):
            try:
                peers[name] = start(bench)
            except Skip as skip:
                row.skipped[name] = str(skip)
        try:
            measure_side_by_side(bench, row, server, peers)
        finally:
            for peer in peers.values():
                peer.stop()
    bench.done(row)


def measure_side_by_side(bench, row, server, peers):
    p99, cores = ({name: [] for name in ("ours", *peers)} for _ in range(2))
    before = None
    for i in range(bench.options.rounds + 1):
        before = before or (server.metrics() if i == 1 else None)
        results = {"ours": bench.wrk(server.http), **{name: bench.wrk(peer.http) for name, peer in peers.items()}}
        if i == 0:
            continue
        row.add(results["ours"]["rate"], **{name: results[name]["rate"] for name in peers})
        for name, result in results.items():
            p99[name].append(result["p99_ms"])
            cores[name].append(result["cores"])
    row.more.update({f"{name}_p99_ms": significant(sorted(values)[len(values) // 2]) for name, values in p99.items()})
    used = {name: significant(sorted(values)[len(values) // 2]) for name, values in cores.items()}
    row.more["wrk_cores"] = used
    row.more["generator_bound"] = ", ".join(name for name, value in used.items() if value >= GENERATOR_BOUND_CORES) or "none"
    row.more.update(per_turn(server, before))
    checked = closed(bench, server, "--connections", 64, "--conversations", 4096)
    row.more["checked"] = latencies(checked) | {"rate": round(checked["rate"])}
    row.more["curve"] = checked["curve"]
    row.is_failed = not checked["ok"]
    if "seeds_stack" in peers:
        theirs = bench.load("--http", peers["seeds_stack"].http, "--seconds", bench.options.seconds, "--connections", 64, "--conversations", 4096,
                            "--read-back", 0, *ECHO)
        row.more["seeds_stack_checked"] = latencies(theirs) | {"rate": round(theirs["rate"]), "ok": theirs["ok"]}
        row.more["seeds_stack_curve"] = theirs["curve"]
    verified = verify_server(bench, server, lambda: closed(bench, server, "--connections", 64, "--conversations", 4096, seconds=1))
    row.flushes = verified.pop("flushes")
    row.more.update(verified)


def simple(name, protocol, *arguments):
    """A closed loop with its rounds, its latencies, its mechanism, and its flushes verified."""
    def measure(bench):
        row = Row(name, "T2", "turns/s")
        with Server(bench) as server:
            if protocol == "rpc" and not server.rpc:
                raise Skip("this server has no RPC listener")
            before = server.metrics()
            results = rounds_of(bench, row, lambda: closed(bench, server, *arguments, protocol=protocol))
            add_latencies(row, results)
            row.more.update(per_turn(server, before))
            row.more["generator_cpu_s"] = middle(results, "generator_cpu_s")
            verified = verify_server(bench, server, lambda: closed(bench, server, *arguments, protocol=protocol, seconds=1))
            row.flushes = verified.pop("flushes")
            row.more.update(verified)
        bench.done(row)
    return measure


def open_loop(bench):
    """Latency at rates below the peak, from the intended start: what a customer waits."""
    for rate in (1000, 10000, 30000):
        row = Row(f"http_open_{rate}", "T2", "turns/s", ON)
        with Server(bench) as server:
            results = rounds_of(bench, row, lambda: bench.load("--http", server.http, "--rate", rate, "--connections", 256, "--conversations", 4096, "--warmup", 1,
                                                               "--seconds", bench.options.seconds, *ECHO))
            add_latencies(row, results)
        bench.done(row)


# ---- many -----------------------------------------------------------------------------------------------------------------

def dialogues(bench):
    row = Row("dialogues_10000_open", "T2", "turns/s", ON)
    source = ["--dialogues", bench.options.dialogues] if bench.options.dialogues else []
    with Server(bench) as server:
        result = bench.load("--http", server.http, *source, "--conversations", 10000, "--connections", 2000, "--rate", 10000, "--seconds", bench.options.long,
                            "--warmup", 3, "--agent", "rules", "--expect", "any", "--typing-ahead", 100)
        row.add(result["rate"])
        row.is_failed = not result["ok"]
        row.more.update(latencies(result), curve=result["curve"], resident_mib=server.memory_bytes("VmHWM") >> 20, real_dialogues=bool(source))
    bench.done(row)


def model(bench):
    """Turns in flight with a model that takes 5 s (1 s to the first token, 40 tokens over 4 s); what the server adds to it."""
    row = Row("model_10000_in_flight", "T2", "turns/s", ON)
    with Program([bench.binary("bench/fake_model"), "--listen", "127.0.0.1:0", "--first-token-ms", 1000, "--tokens", 40, "--stream-ms", 4000],
                 bench.log) as fake, Server(bench, {"127.0.0.1:9999": fake.ready["http"]}) as server:
        result = bench.load("--http", server.http, "--conversations", 12000, "--connections", 5000, "--rate", 2020, "--seconds", bench.options.long, "--warmup", 8,
                            "--agent", "bot", "--expect", "contains", "--drain", 60)
        row.add(result["rate"])
        row.is_failed = not result["ok"]
        row.more.update({f"added_{name}": round(result[name] - 5000, 1) for name in LATENCIES}, in_flight=round(result["rate"] * result["p50_ms"] / 1000),
                        resident_mib=server.memory_bytes("VmHWM") >> 20)
    bench.done(row)


def conversation_bytes(bench):
    """The slope between two numbers of conversations, so that what the server needs for itself does not count."""
    for name, replace in (("conversation_bytes_awake", {}), ("conversation_bytes_passivated", {"idle: 600s": "idle: 50ms"})):
        row = Row(name, "T2", "bytes", ON)
        with Server(bench, replace) as server:
            def resident(count):
                bench.load("--http", server.http, "--connections", 256, "--conversations", count, "--rate", 8000, "--seconds", count / 8000 + 1, "--text-bytes", 64,
                           "--read-back", 1, *ECHO)
                time.sleep(3)
                return server.memory_bytes()

            few = resident(20000)
            row.add((resident(100000) - few) / 100000)
        bench.done(row)


# ---- readers ------------------------------------------------------------------------------------------------------------------

STREAM_OPEN = b"HTTP/1.1 200 "


class Streams:
    """Subscribers of conversations, on sockets that are read by one thread, or, once their 200 has come, never. `open` are those that
    got it."""

    def __init__(self, server, paths, is_read):
        host, port = server.http.rsplit(":", 1)
        self.sockets, self.open, self.bytes, self.is_over = [], 0, 0, False
        for path in paths:
            stream = socket.socket()
            if not is_read:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the kernel would read for them
            stream.connect((host, int(port)))
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            self.sockets.append(stream)
        for stream in self.sockets:
            stream.settimeout(PATIENCE_S)
            self.open += stream.recv(len(STREAM_OPEN), socket.MSG_WAITALL) == STREAM_OPEN
        self.reader = threading.Thread(target=self.read, daemon=True) if is_read else None
        if self.reader:
            self.reader.start()

    def read(self):
        with selectors.DefaultSelector() as selector:
            for stream in self.sockets:
                selector.register(stream, selectors.EVENT_READ)
            while not self.is_over:
                for key, _ in selector.select(0.2):
                    self.bytes += len(key.fileobj.recv(65536))

    def close(self):
        self.is_over = True
        if self.reader:
            self.reader.join()
        for stream in self.sockets:
            stream.close()


def steady(bench, server):
    return bench.load("--http", server.http, "--rate", 5000, "--connections", 64, "--conversations", 1024, "--seconds", bench.options.seconds, "--warmup", 1, *ECHO)


def say_once(bench, server, count, name):
    """`count` conversations named for the run, one message each. Returns their paths."""
    bench.load("--http", server.http, "--connections", 64, "--conversations", count, "--rate", count / 2, "--seconds", 2, "--read-back", 0, "--name", name, *ECHO)
    return [f"/v1/conversations/{name}-{i}-1" for i in range(count)]


def idle_streams(bench):
    """Clients that listen to a conversation of theirs in which nothing happens."""
    count = 1000 if bench.options.quick else 9500  # one process may open 20,000 descriptors, the server's connections and ours
    row = Row("idle_streams", "T2", "bytes/stream", ON)
    with Server(bench) as server:
        paths = say_once(bench, server, count, "idle")
        alone = steady(bench, server)
        before = server.memory_bytes()
        streams = Streams(server, [f"{path}/stream?after=3" for path in paths], is_read=True)
        time.sleep(2)
        row.add((server.memory_bytes() - before) / count)
        beside = steady(bench, server)
        open_on_server = round(server.metrics()["http_connections"])
        row.is_failed = not (alone["ok"] and beside["ok"]) or min(streams.open, open_on_server) < count
        row.more.update(streams=count, streams_opened=streams.open, p99_ms_without=alone["p99_ms"], p99_ms_with=beside["p99_ms"], p50_ms_without=alone["p50_ms"],
                        p50_ms_with=beside["p50_ms"], open_on_server=open_on_server)
        streams.close()
    bench.done(row)


def slow_readers(bench):
    """Clients that subscribe to busy conversations and never read: what they cost the others, and the server's memory beyond what
    the same talk costs without them."""
    count = 100 if bench.options.quick else 1000
    row = Row("slow_readers", "T2", "bytes/reader", ON)

    def talk(name, readers):
        """The memory that is grown meanwhile; the conversations are there after a second, and then the readers."""
        before = server.memory_bytes()
        talking = background.submit(bench.load, "--http", server.http, "--connections", 16, "--conversations", 16, "--text-bytes", 4000,
                                    "--seconds", bench.options.seconds + 1, "--name", name, "--read-back", 0, *ECHO)
        time.sleep(1)
        paths = [f"/v1/conversations/{name}-{i}-1" for i in range(16)]
        paths = [f"{path}/stream?after={server.get(path)['version']}" for path in paths]  # from now on: not the history
        streams = Streams(server, [paths[i % 16] for i in range(readers)], is_read=False)
        result = talking.result()
        row.is_failed |= not result["ok"]
        return server.memory_bytes() - before, result["rate"], streams

    with Server(bench) as server, concurrent.futures.ThreadPoolExecutor(1) as background:
        alone = steady(bench, server)
        grown_alone, rate_alone, _ = talk("alone", 0)
        grown, rate, streams = talk("busy", count)
        row.add(max(0, grown - grown_alone) / count)
        beside = steady(bench, server)
        row.is_failed |= not (alone["ok"] and beside["ok"]) or streams.open < count
        row.more.update(readers=count, readers_opened=streams.open, turns_per_s_without=round(rate_alone), turns_per_s_with=round(rate), p99_ms_without=alone["p99_ms"],
                        p99_ms_with=beside["p99_ms"], still_open=round(server.metrics()["http_connections"]))
        streams.close()
    bench.done(row)


# ---- measured by programs of their own ------------------------------------------------------------------------------------------

def run_script(bench, file, *arguments):
    """The JSON lines of a program of bench/, and whether it was content."""
    command = [sys.executable, os.path.join(BENCH, file), "--build", bench.build, "--seconds", str(bench.options.seconds), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=bench.log, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"bench/{file} ended with {done.returncode} and no row")
    if done.returncode:
        bench.say(f"  {done.stdout.splitlines()[-1]}")
    return lines, done.returncode == 0


def million(bench):
    """bench/million.py: a million conversations known, ten thousand active, a restart after SIGKILL."""
    need("wrk")
    size = ("--known", 30000, "--active", 1000) if bench.options.quick else ()
    lines, is_content = run_script(bench, "million.py", "--json", "--rounds", bench.options.rounds, *size)
    for line in lines:
        line.pop("tier", None)
        row = Row(line.pop("bench"), "T2", line.pop("unit", "turns/s"), ON)
        if "rate" in line:
            row.add(line.pop("rate"))
        row.more.update(line)
        row.is_failed = not is_content
        bench.done(row)


def overload(bench):
    """bench/overload.py: a demand of ten times the peak, over either protocol, then a disk that hangs; the goodput, and what everybody
    else notices."""
    need("strace")
    for protocol, hang in (("http", 2), ("rpc", 0)):
        lines, is_content = run_script(bench, "overload.py", "--protocol", protocol, "--hang", hang, "--seconds", 4 if bench.options.quick else 10)
        for line in lines:
            row = Row(f"overload_{line.pop('protocol')}_{line.pop('phase')}", "T2", "turns/s", ON)
            for member in ("rate", "goodput"):
                if member in line:
                    row.add(line.pop(member))
            row.more.update(line)
            row.is_failed = not is_content
            bench.done(row)


ROWS = {
    "http_echo_64": http_echo_64,
    "rpc_pipelined": simple("rpc_pipelined", "rpc", "--connections", 4, "--pipeline", 256, "--conversations", 4096),
    "hot_conversation_http": simple("hot_conversation_http", "http", "--conversations", 1, "--speakers", 64, "--connections", 64),
    "hot_conversation_rpc": simple("hot_conversation_rpc", "rpc", "--conversations", 1, "--speakers", 512, "--connections", 4, "--pipeline", 128),
    "http_events_64": simple("http_events_64", "http", "--sse", "--connections", 64, "--conversations", 4096),
    "open_loop": open_loop,
    "dialogues": dialogues,
    "model": model,
    "conversation_bytes": conversation_bytes,
    "idle_streams": idle_streams,
    "slow_readers": slow_readers,
    "million": million,
    "overload": overload,
}
