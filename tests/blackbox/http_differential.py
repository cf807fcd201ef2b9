#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same raw requests to our parser and to packaged servers: nginx, haproxy and h2o (the latter two in front of the nginx).

Request smuggling lives where two servers read the same bytes differently. Each case is one generated request, valid but for one
to three mutations around the framing, with a marked second request behind it. It fails when
  - we accept a request that two peers refuse, or
  - we accept it and find another sequence of requests in the bytes than all the peers that accept it.
Refusing what they accept is allowed: we are stricter on purpose.

Usage: http_differential.py PROBE_SERVER [--seed N] [--count N] [--seconds N] [--show]. Exit: 0, 1 a difference, 77 peers are
missing. A failure prints the bytes and every server's outcome; the seed and the case's number replay it.
"""
import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

SECOND = b"GET /second HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
REFUSALS = {400, 408, 411, 413, 414, 415, 417, 421, 431, 501, 505}
WAIT_SECONDS = 0.4  # no byte for so long: the server waits for more
AGAIN_SECONDS = 3.0  # a difference is asked for again with more patience: a busy machine must not look like one
CONCURRENCY = 40


# ---- cases --------------------------------------------------------------------------------------------------------------------
METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"get", b"PO ST", b"G(T", b"", b"BREW", b"POST\t"]
TARGETS = [b"/", b"/a?b=c", b"/a%20b", b"/%00", b"/%2e%2e/", b"/../x", b"/a\\b", b"http://localhost/", b"http://other/", b"*", b"a", b"/a b",
           b"/a#b", b"/\x80", b"/a\tb", b"//x", b"/%zz", b"http://localhost:80/x", b"/a\x00b"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/01.1", b"HTTP/1", b"",
            b"HTTP/1.1\t", b"HTTP/11", b"HTTP/0.9", b"HTTP /1.1"]
LINE_ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"\x0b\r\n", b"\x0c\r\n", b" \r\n", b"\t\r\n", b"\x00\r\n", b"\r\n ", b"\r\n\t", b"\x85\r\n"]
HOSTS = [b"Host: localhost", b"Host:localhost", b"Host: LOCALHOST", b"Host : localhost", b" Host: localhost", b"Host: a, b", b"Host:", b"Host: other",
         b"Host: localhost\r\nHost: localhost", b"Host: localhost\r\nHost: other", b"", b"Host\t: localhost", b"Host: a@localhost", b"Host: localhost:x",
         b"Host: localhost/", b"Host: [::1]", b"X: y\r\nHost: localhost", b"Host: local host", b"Host: localhost:80:80", b"Host: localhost\r\n X: y"]
COLONS = [b": ", b":", b":\t", b" : ", b":  ", b"\t:", b": \x0b", b":\x0c", b":\x00", b"", b": \xa0", b"::", b"=", b":\r\n "]
LENGTHS = [b"%d", b" %d", b"%d ", b"+%d", b"-%d", b"0%d", b"0x%x", b"%d, %d", b"%d,%d", b"%d %d", b"%d\t", b"%da", b"%d.0", b"", b"%d;", b"'%d'", b"\"%d\"", b"%d_0",
           b"000000000000000000000%d", b"\x0b%d", b"%d\x00", b"18446744073709551616", b"18446744073709551621", b"4294967301", b"9223372036854775808"]
CODINGS = [b"chunked", b"Chunked", b" chunked", b"chunked ", b",chunked", b"chunked,", b"chunked, chunked", b"xchunked", b"identity", b"gzip, chunked", b"chunked, gzip",
           b"\x0bchunked", b"chunked\x0c", b"\"chunked\"", b"chunked;q=1", b"", b"chun ked", b"identity, chunked", b"chunked, identity", b"chunke\xc4\x91", b"\xa0chunked",
           b"chunked\x00", b"ch\tunked", b"chunked\r\nTransfer-Encoding: identity", b"identity\r\nTransfer-Encoding: chunked", b"chunked\r\n\t"]
CODING_NAMES = [b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer_Encoding", b"Transfer-Encoding ", b" Transfer-Encoding", b"Transfer-Encoding\x00",
                b"X: y\nTransfer-Encoding", b"X: y\rTransfer-Encoding", b"Transfer-Encod\xc4\xb1ng", b"\x0bTransfer-Encoding"]
SIZES = [b"%x", b"%X", b"0%x", b"0000000%x", b"00000000000000000%x", b"0x%x", b"+%x", b"-%x", b" %x", b"%x ", b"%x\t", b"%x;", b"%x;a=b", b"%x;a=\"b\"", b"%x ;a", b"%x;\x01", b"%xg",
         b"", b"%x;a\nb", b"%x\x00", b"%x,%x", b"1%08x", b"100000000%08x", b"%x\x0b", b"0_%x", b"%x;a=\"\r\n\"", b"%x\r"]
CHUNK_ENDS = [b"\r\n", b"\n", b"\r", b"", b"\r\r\n", b"\n\n", b"X\r\n", b"\rX", b" \r\n", b"XX"]
TRAILERS = [b"", b"X-Sum: 1\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: other\r\n", b"nocolon\r\n", b" X: y\r\n", b"X : y\r\n", b"X: y\n", b": y\r\n", b"X: a\x00b\r\n",
            SMUGGLED[:-2]]
EXTRAS = [b"", b"Connection: close", b"Connection: keep-alive", b"Connection: Content-Length", b"Connection: Transfer-Encoding", b"Expect: 100-continue", b"Expect: x",
          b"Content-Encoding: gzip", b"X-Long: " + b"a" * 4000, b"X\x00Y: z", b"X: a\x01b", b"X: a\x7fb", b"X: \xff", b"X_Y: z", b"nocolon", b": empty", b"X: a\rb", b"X: a\r\n b",
          b"Content-Length: 0", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", b"Transfer-Encoding: chunked"]
BYTES = [b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x80", b"\xff", b"0", b"1", b"a", b"\"", b"\\", b"=", b"-", b"+", b"_", b"/"]


def fill(pattern, number):
    return pattern % ((number,) * pattern.count(b"%")) if b"%" in pattern else pattern


class Case:
    """A request in parts, so that a mutation replaces one part and leaves the rest valid."""

    def __init__(self, rng):
        self.rng = rng
        self.framing = rng.choice(["none", "sized", "chunked", "both"] if rng.random() < 0.1 else ["none", "sized", "sized", "chunked", "chunked"])
        self.parts = {"method": b"GET" if self.framing == "none" else b"POST", "target": b"/first", "version": b"HTTP/1.1", "host": b"Host: localhost",
                      "length": b"%d", "coding": b"chunked", "coding_name": b"Transfer-Encoding", "colon": b": ", "size": b"%x", "chunk_end": b"\r\n", "trailer": b"",
                      "extra": b"", "line_end": b"\r\n", "head_end": b"\r\n", "before": b""}
        choices = {"method": METHODS, "target": TARGETS, "version": VERSIONS, "host": HOSTS, "length": LENGTHS, "coding": CODINGS, "coding_name": CODING_NAMES, "colon": COLONS, "size": SIZES,
                   "chunk_end": CHUNK_ENDS, "trailer": TRAILERS, "extra": EXTRAS, "line_end": LINE_ENDS, "head_end": LINE_ENDS, "before": [b"\r\n", b"\n", b" ", b"\r\n\r\n", b"\r", b"\x00"]}
        useful = [name for name in choices if (name not in ("length",) or self.framing in ("sized", "both")) and
                  (name not in ("coding", "coding_name", "size", "chunk_end", "trailer") or self.framing in ("chunked", "both"))]
        for name in rng.sample(useful, rng.choice([1, 1, 1, 2, 2, 3])):
            self.parts[name] = rng.choice(choices[name])

    def bytes(self):
        parts, rng = self.parts, self.rng
        content = SMUGGLED if rng.random() < 0.3 else rng.choice([b"hello", b"x", b"0123456789abcdef"])
        body, lines = b"", [parts["method"] + b" " + parts["target"] + b" " + parts["version"], parts["host"]]
        if self.framing in ("chunked", "both"):
            lines.append(parts["coding_name"] + parts["colon"] + parts["coding"])
            body = fill(parts["size"], len(content)) + b"\r\n" + content + parts["chunk_end"] + b"0\r\n" + parts["trailer"] + b"\r\n"
        if self.framing in ("sized", "both"):
            body = body or content
            lines.insert(rng.choice([1, 2, len(lines)]), b"Content-Length" + (parts["colon"] if self.framing == "sized" else b": ") + fill(parts["length"], len(body)))
        if parts["extra"]:
            lines.insert(rng.choice([1, len(lines)]), parts["extra"])
        odd_line = rng.randrange(len(lines))
        head = b"".join(line + (parts["line_end"] if i == odd_line else b"\r\n") for i, line in enumerate(lines) if line)
        data = parts["before"] + head + parts["head_end"] + body
        if rng.random() < 0.25:
            at = rng.randrange(len(data))
            data = data[:at] + rng.choice(BYTES) + data[at + rng.choice([0, 1]):]
        return data + SECOND


# ---- outcomes -------------------------------------------------------------------------------------------------------------------
async def ask(port, data, seconds):
    """Returns the statuses and bodies of what came back, and whether the server closed or waits."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received, end = b"", "waits"
    try:
        writer.write(data)
        while True:
            chunk = await asyncio.wait_for(reader.read(65536), seconds)
            if not chunk:
                end = "closes"
                break
            received += chunk
    except asyncio.TimeoutError:
        pass
    except (ConnectionError, OSError):
        end = "closes"
    writer.transport.abort()
    return received, end


def answers(received, is_head):
    """(status, mark) of each answer; every server here answers with a Content-Length or in chunks."""
    found = []
    while received.startswith(b"HTTP/1."):
        head, blank, rest = received.partition(b"\r\n\r\n")
        if not blank:
            break
        status = int(head.split()[1])
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
        size = 0
        if b"content-length" in headers and not (is_head and not found):
            size = int(headers[b"content-length"])
        elif headers.get(b"transfer-encoding") == b"chunked":
            size = rest.find(b"0\r\n\r\n") + 5
        text, received = rest[:size], rest[size:]
        if status >= 200:
            mark = "second" if b"/second" in text else "smuggled" if b"/smuggled" in text else "first"
            found.append((status, mark))
    return found


class Outcome:
    def __init__(self, received, end, is_head):
        found = answers(received, is_head)
        self.accepted = []
        for status, mark in found:
            if status in REFUSALS:
                break
            self.accepted.append(mark)
        self.is_refused = not self.accepted and (bool(found) or end == "closes")
        self.is_ended = end == "closes" or len(self.accepted) < len(found)
        self.text = f"{[status for status, _ in found]} accepts {self.accepted} and {end}"


def judge(ours, peers):
    """Returns a sentence when we differ in a way that matters."""
    if not ours.accepted:
        return None
    refusing = [peer for peer in peers if peer.is_refused]
    if len(refusing) >= 2:
        return "we accept what two peers refuse"
    accepting = [peer for peer in peers if peer.accepted]
    sequences = {tuple(peer.accepted) for peer in accepting}
    if len(accepting) >= 2 and len(sequences) == 1:
        theirs = list(sequences.pop())
        is_prefix = ours.accepted == theirs[:len(ours.accepted)]
        if not is_prefix or (len(ours.accepted) < len(theirs) and not ours.is_ended):
            return "we find other requests in the bytes than the peers"
    return None


# ---- servers --------------------------------------------------------------------------------------------------------------------
def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Servers:
    def __init__(self, probe):
        self.folder = tempfile.mkdtemp(prefix="ciranda-differential-")
        self.processes = []
        self.ports = {}
        self.nginx()
        for name in ("haproxy", "h2o"):
            if shutil.which(name):
                getattr(self, name)()
        process = subprocess.Popen([probe, "127.0.0.1:0", "1"], stdout=subprocess.PIPE)
        self.processes.append(process)
        self.ports["ciranda"] = int(json.loads(process.stdout.readline())["http"].rsplit(":", 1)[1])
        for name, port in self.ports.items():
            self.wait(name, port)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def spawn(self, name, *command):
        self.ports[name] = self.ports.get(name) or free_port()
        log = open(os.path.join(self.folder, name + ".log"), "w")
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def nginx(self):
        self.ports["nginx"] = free_port()
        path = self.write("nginx.conf", f"""
            daemon off; master_process off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.error; worker_rlimit_nofile 4096;
            events {{ worker_connections 2048; }}
            http {{ access_log off; client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p; fastcgi_temp_path {self.folder}/f;
                uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s; lingering_close off;
                server {{ listen 127.0.0.1:{self.ports["nginx"]} backlog=1024; location / {{ return 200 "$request_uri\\n"; }} }} }}""")
        self.spawn("nginx", "nginx", "-e", f"{self.folder}/nginx.error", "-c", path)

    def haproxy(self):
        self.ports["haproxy"] = free_port()
        path = self.write("haproxy.cfg", f"""
global
    maxconn 1000
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
frontend f
    bind 127.0.0.1:{self.ports["haproxy"]}
    default_backend b
backend b
    server s 127.0.0.1:{self.ports["nginx"]}
""")
        self.spawn("haproxy", "haproxy", "-db", "-f", path)

    def h2o(self):
        self.ports["h2o"] = free_port()
        path = self.write("h2o.conf", f"""
listen: {{host: 127.0.0.1, port: {self.ports["h2o"]}}}
user: {os.environ.get("USER", "root")}
num-threads: 1
hosts: {{default: {{paths: {{"/": {{proxy.reverse.url: "http://127.0.0.1:{self.ports["nginx"]}/"}}}}}}}}
""")
        self.spawn("h2o", "h2o", "-c", path)

    def wait(self, name, port):
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        with open(os.path.join(self.folder, name + ".log")) as file:
            raise SystemExit(f"{name} does not start: {file.read()[-2000:]}")

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- run ------------------------------------------------------------------------------------------------------------------------
async def run(servers, options):
    rng = random.Random(options.seed)
    until = time.monotonic() + options.seconds
    limit = asyncio.Semaphore(CONCURRENCY)
    peers = [name for name in servers.ports if name != "ciranda"]
    tally = {"cases": 0, "accepted": 0, "differences": 0}

    async def one(number, data):
        async with limit:
            if time.monotonic() > until:
                return
            is_head = data.lstrip().startswith(b"HEAD")
            names = ["ciranda"] + peers
            for seconds in (WAIT_SECONDS, AGAIN_SECONDS):
                results = await asyncio.gather(*(ask(servers.ports[name], data, seconds) for name in names))
                outcomes = {name: Outcome(*result, is_head) for name, result in zip(names, results)}
                problem = judge(outcomes["ciranda"], [outcomes[name] for name in peers])
                if not problem:
                    break
            tally["cases"] += 1
            tally["accepted"] += bool(outcomes["ciranda"].accepted)
            tally["differences"] += bool(problem)
            if problem or options.show:
                print(f"case {number}: {problem or 'no difference'}\n  {data!r}")
                for name in names:
                    print(f"  {name:8} {outcomes[name].text}")

    for batch in range(0, options.count, 500):
        cases = [(number, Case(rng).bytes()) for number in range(batch, min(batch + 500, options.count))]
        await asyncio.gather(*(one(number, data) for number, data in cases))
        if time.monotonic() > until:
            break
    print(f"seed {options.seed}: {tally['cases']} requests against {', '.join(peers)}; we accept {tally['accepted']}; {tally['differences']} differences")
    return 1 if tally["differences"] or not tally["accepted"] else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probe")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CIRANDA_SEED", "1")))
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seconds", type=float, default=50)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/usr/local/sbin"
    if not shutil.which("nginx") or not (shutil.which("haproxy") or shutil.which("h2o")):
        print("skipped: needs nginx and one of haproxy and h2o to compare with")
        return 77
    servers = Servers(options.probe)
    try:
        return asyncio.run(run(servers, options))
    finally:
        servers.stop()


if __name__ == "__main__":
    sys.exit(main())
