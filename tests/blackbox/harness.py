# SPDX-License-Identifier: Apache-2.0
"""What the black-box scripts share: a real server process in a temporary folder, HTTP calls, raw sockets, a kill loop.

The build under test is $CIRANDA_BUILD (default build/release). Nothing here knows the server's inside.
"""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("CIRANDA_BUILD", os.path.join(ROOT, "build", "release"))
BINARY = os.path.join(BUILD, "ciranda")
FAKE_MODEL = os.path.join(BUILD, "bench", "fake_model")
IS_SANITIZED = os.path.basename(BUILD) in ("asan", "tsan")
PATIENCE = 90 if IS_SANITIZED else 30


def wait_until(condition, seconds=PATIENCE, what="condition"):
    """Polls until condition() is true; its last value is returned. Fails loudly after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {seconds} s waiting for {what}")
        time.sleep(0.01)


class Program:
    """A program that prints one JSON line on stdout when it listens."""

    def __init__(self, command, log_path, env=None, preexec=None):
        self.command, self.log_path = command, log_path
        self.log = open(log_path, "ab")
        environment = {**os.environ, **(env or {})}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL,
                                        env=environment, preexec_fn=preexec)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.close()
            raise RuntimeError(f"{command[0]} did not start: exit {self.process.returncode}\n{self.log_text()}")
        self.ready = json.loads(line)

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def close(self):
        self.log.close()
        self.process.stdout.close()

    def stop(self, sig=signal.SIGTERM, seconds=PATIENCE):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.close()
                raise AssertionError(f"{self.command[0]} did not stop on signal {sig} within {seconds} s\n{self.log_text()[-4000:]}")
        self.close()
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.close()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"HTTP {self.status} {self.body[:400]!r}"


class Client:
    """Plain HTTP over one keep-alive connection of the standard library's client, which is not ours."""

    def __init__(self, address, timeout=PATIENCE):
        host, port = address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=timeout)

    def call(self, method, path, body=None, headers=None):
        data = None
        headers = dict(headers or {})
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
            headers.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, data, headers)
        response = self.connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        return answer

    def get(self, path, **headers):
        return self.call("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path, body, **headers):
        return self.call("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})

    def say(self, conversation, text, **fields):
        headers = fields.pop("headers", {})
        return self.call("POST", f"/v1/conversations/{conversation}/messages", {"text": text, **fields}, headers)

    def events(self, conversation):
        events, after = [], 0
        while after is not None:
            answer = self.get(f"/v1/conversations/{conversation}/events?after={after}&limit=1000")
            assert answer.status == 200, answer
            events += answer.json["events"]
            after = answer.json["next"]
        return events

    def metric(self, name):
        """The value of a metric without labels. Gauges are a quarter of a second old."""
        return float(re.search(rf"(?m)^ciranda_{name} (\S+)$", self.get("/metrics").body.decode()).group(1))

    def close(self):
        self.connection.close()


def raw_exchange(address, data, seconds=10, pieces=None):
    """Sends bytes on a new socket (in `pieces`, if given) and returns all that comes back until the peer closes or is quiet."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=seconds) as sock:
        sock.settimeout(seconds)
        try:
            for piece in pieces or [data]:
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received, closed = b"", False
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                chunk = sock.recv(65536)
            except (socket.timeout, ConnectionResetError):
                break
            if not chunk:
                closed = True
                break
            received += chunk
    return received, closed


class SseStream:
    """A minimal reader of text/event-stream on a socket of its own; events are (type, id, data) tuples."""

    def __init__(self, address, method, path, body=None, headers=None, timeout=PATIENCE):
        host, port = address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        data = None if body is None else json.dumps(body).encode()
        fields = {"Accept": "text/event-stream", **(headers or {})}
        if data is not None:
            fields["Content-Type"] = "application/json"
        self.connection.request(method, path, data, fields)
        self.response = self.connection.getresponse()
        self.status = self.response.status

    def __iter__(self):
        kind, identity, data = "message", None, []
        for raw in self.response:
            line = raw.decode().rstrip("\r\n")
            if not line:
                if data:
                    yield kind, identity, "\n".join(data)
                kind, identity, data = "message", None, []
            elif line.startswith(":"):
                continue
            else:
                name, _, value = line.partition(":")
                value = value[1:] if value.startswith(" ") else value
                if name == "event":
                    kind = value
                elif name == "id":
                    identity = value
                elif name == "data":
                    data.append(value)

    def close(self):
        self.connection.close()


class ServerCase(unittest.TestCase):
    """A test with a folder of its own and, on demand, a server in it."""
    maxDiff = None
    config = None  # YAML text

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="ciranda-test-")
        self.addCleanup(self.folder.cleanup)
        self.servers = []
        self.addCleanup(self._stop_all)

    def _stop_all(self):
        for program in self.servers:
            if program.process.poll() is None:
                program.kill()
            program.close()

    def path(self, *names):
        return os.path.join(self.folder.name, *names)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def start(self, *arguments, config=None, data="data", env=None, preexec=None, binary=BINARY):
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--data", self.path(data)]
        text = config if config is not None else self.config
        if text is not None:
            command += ["--config", self.write("ciranda.yaml", text)]
        program = Program(command + list(arguments), self.path("server.log"), env, preexec)
        self.servers.append(program)
        self.server = program
        self.address = program.ready["http"]
        return program

    def start_model(self, *arguments):
        program = Program([FAKE_MODEL, "--listen", "127.0.0.1:0", *map(str, arguments)], self.path("model.log"))
        self.servers.append(program)
        return program

    def client(self):
        client = Client(self.address)
        self.addCleanup(client.close)
        return client

    def assert_problem(self, answer, status):
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer.headers.get("Content-Type"), "application/problem+json", answer)
        problem = answer.json
        for field in ("type", "title", "status", "detail", "trace_id"):
            self.assertIn(field, problem)
        self.assertEqual(problem["status"], status)
        self.assertEqual(problem["trace_id"], answer.headers.get("X-Trace-Id"))
        return problem

    def assert_dense(self, events):
        self.assertEqual([event["version"] for event in events], list(range(1, len(events) + 1)))


def in_parallel(count, function):
    """Runs function(i) in `count` threads that start together; returns the results in order, raises the first failure."""
    results, errors, gate = [None] * count, [], threading.Barrier(count)

    def one(i):
        try:
            gate.wait()
            results[i] = function(i)
        except BaseException as error:  # noqa: BLE001, re-raised below
            errors.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
