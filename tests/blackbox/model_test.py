# SPDX-License-Identifier: Apache-2.0
"""Agents that ask a model: an independent fake provider (aimock, from npm) for its manners and misbehaviour, bench/fake_model
for slow streams, and a provider of our own for what no decent one does. Rows H1, H2, H3, H5 and H13 of the fault catalogue."""
import ctypes
import email.utils
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import zlib

from harness import FAKE_MODEL, IS_SANITIZED, ROOT, Client, Program, ServerCase, SseStream, wait_until

NODE = os.environ.get("CIRANDA_NODE", os.path.join(ROOT, "build", "node"))
AIMOCK = os.path.join(NODE, "node_modules", "@copilotkit", "aimock")
# Installed, and this machine's node can load it (Debian 12's own is too old).
HAS_AIMOCK = shutil.which("node") is not None and os.path.isdir(AIMOCK) and \
    subprocess.run(["node", "-e", "require(process.argv[1])", AIMOCK], capture_output=True).returncode == 0

CONFIG = """
agents:
  bot: {{kind: llm, provider: main, model: gpt-test, instructions: "Be kind."}}
  safe: {{kind: llm, provider: main, model: gpt-test, fallback: [{{reply: "please come back later"}}]}}
  relay: {{kind: llm, provider: gone, model: gpt-test, fallback: [{{agent: bot}}]}}
  desk: {{kind: llm, provider: main, model: gpt-test, fallback: [{{handoff: "queue:people"}}]}}
  echo: {{kind: echo}}
providers:
  main: {{type: openai, base_url: "http://{address}/v1", timeout: 20s, breaker: {{failures: 100, error_rate: 1}}, retry: {{attempts: 3, backoff: 10ms..40ms}}}}
  gone: {{type: openai, base_url: "http://127.0.0.1:1/v1", timeout: 5s, breaker: {{failures: 3, open_for: 1s, successes: 1}}, retry: {{attempts: 1, backoff: 10ms..20ms}}}}
routing: {{default: bot}}
"""


@unittest.skipUnless(HAS_AIMOCK, "npm package @copilotkit/aimock is not installed, or node is too old for it")
class Manners(ServerCase):
    def setUp(self):
        super().setUp()
        self.mock = Program(["node", os.path.join(ROOT, "tests", "blackbox", "aimock_server.mjs")], self.path("mock.log"), {"CIRANDA_NODE": NODE})
        self.servers.append(self.mock)
        # Proxies of the environment must not be used: this one would refuse everything.
        self.start(config=CONFIG.format(address=self.mock.ready["http"]), env={"http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"})
        self.http = self.client()

    def kinds(self, conversation):
        return [event["event"] for event in self.http.events(conversation)]

    def test_a_reply_with_usage_and_finish_reason(self):
        body = self.http.say("a", "hi").json
        self.assertEqual(body["status"], "completed", body)
        self.assertEqual(body["reply"], {"text": "Hello from the mock, olá!", "agent": "bot"})
        self.assertEqual(body["finish_reason"], "stop")
        self.assertGreater(body["usage"]["input_tokens"], 0)
        self.assertGreater(body["usage"]["output_tokens"], 0)
        self.assertEqual(self.kinds("a"), ["inbox.message.received", "agent.ai.request.started", "agent.ai.response.generated", "turn.completed"])

    def test_deltas_are_streamed_and_join_to_the_reply(self):
        stream = SseStream(self.address, "POST", "/v1/conversations/s/messages", {"text": "hi"})
        events = list(stream)
        stream.close()
        text = "".join(json.loads(data)["text"] for kind, _, data in events if kind == "turn.delta")
        self.assertEqual(text, "Hello from the mock, olá!")
        self.assertTrue(all(identity is None for kind, identity, _ in events if kind == "turn.delta"))
        self.assertEqual(events[-1][0], "turn.completed")

    def test_history_goes_to_the_model_oldest_first(self):
        self.http.say("h", "first words")
        text = self.http.say("h", "remember").json["reply"]["text"]
        self.assertEqual(text, "system:Be kind.|user:first words|assistant:Hello from the mock, olá!|user:remember")

    def test_a_failing_provider_is_tried_again_and_each_attempt_is_in_the_journal(self):
        body = self.http.say("t", "twice please").json
        self.assertEqual(body["reply"]["text"], "third time lucky")
        self.assertEqual(self.kinds("t").count("agent.ai.request.started"), 3)
        self.assertEqual(self.kinds("t").count("agent.ai.request.failed"), 2)

    def test_failure_for_good_is_a_failed_turn_and_a_dead_letter(self):
        for word in ("cut", "malformed", "drop", "limited", "forbidden"):
            with self.subTest(word=word):
                body = self.http.say(f"f-{word}", word).json
                self.assertEqual(body["status"], "failed", body)
                kinds = self.kinds(f"f-{word}")
                self.assertEqual(kinds.count("agent.ai.request.started"), 1 if word == "forbidden" else 3, kinds)
                self.assertIn("turn.failed", kinds)
                self.assertEqual(self.http.say(f"f-{word}", "hi again").json["status"], "completed", "the conversation goes on")
        letters = self.http.get("/v1/dead-letters").json
        self.assertIn("f-cut", json.dumps(letters))

    def test_fallbacks_text_agent_and_queue(self):
        self.assertEqual(self.http.say("fb", "limited", agent="safe").json["reply"]["text"], "please come back later")
        self.assertEqual(self.http.say("fb2", "hi", agent="relay").json["reply"]["text"], "Hello from the mock, olá!")
        self.assertEqual(self.http.say("fb3", "limited", agent="desk").json["status"], "waiting_human")

    def test_the_breaker_opens_is_shown_and_closes_again(self):
        config = CONFIG.format(address=self.mock.ready["http"]) + "  \n"
        config = config.replace("relay: {kind: llm, provider: gone, model: gpt-test, fallback: [{agent: bot}]}", "relay: {kind: llm, provider: gone, model: gpt-test}")
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        port = listener.getsockname()[1]
        config = config.replace("127.0.0.1:1/v1", f"127.0.0.1:{port}/v1")
        self.server.stop()
        self.start(config=config)
        self.http = self.client()
        for i in range(3):
            self.assertEqual(self.http.say(f"b{i}", "hi", agent="relay").json["status"], "failed")
        answer = self.http.say("b9", "hi", agent="relay")
        self.assert_problem(answer, 503)
        self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        self.assertEqual(self.http.get("/v1/conversations/b9").status, 404, "nothing was accepted")
        self.assertIn("open", json.dumps(self.http.get("/v1/breakers").json))
        listener.close()
        mock = Program([FAKE_MODEL, "--listen", f"127.0.0.1:{port}", "--first-token-ms", "1", "--tokens", "2", "--stream-ms", "2"], self.path("late.log"))
        self.servers.append(mock)
        wait_until(lambda: self.http.say("b9", "hi", agent="relay").status == 200, what="the probe after open_for")
        wait_until(lambda: '"closed"' in json.dumps(self.http.get("/v1/breakers").json))


class Slow(ServerCase):
    def start_with(self, *model, conversation=""):
        self.model = self.start_model(*model)
        self.start(config=f"""
agents:
  bot: {{kind: llm, provider: main, model: m}}
  busy: {{kind: llm, provider: main, model: m, on_busy: reject}}
  echo: {{kind: echo}}
providers:
  main: {{type: openai, base_url: "http://{self.model.ready['http']}/v1", timeout: 60s, retry: {{attempts: 1, backoff: 10ms..20ms}}}}
conversation: {{{conversation}}}
routing: {{default: bot}}
""")
        self.http = self.client()

    def test_a_long_turn_holds_its_conversation_and_no_other(self):
        self.start_with("--first-token-ms", 9500, "--tokens", 4, "--stream-ms", 500)
        results = {}
        threads = [threading.Thread(target=lambda: results.update(first=self.client().say("long", "first", message_id="1")))]
        threads[0].start()
        wait_until(lambda: self.http.get("/v1/conversations/long").status == 200)
        queued = self.http.say("long", "second", message_id="2", headers={"Prefer": "respond-async"})
        self.assertEqual((queued.status, queued.json["status"]), (202, "queued"))
        threads.append(threading.Thread(target=lambda: results.update(third=self.client().say("long", "third", message_id="3", agent="echo"))))
        threads[1].start()
        began = time.monotonic()
        for i in range(100):
            self.assertEqual(self.http.say(f"other-{i % 10}", "quick", agent="echo").status, 200)
        self.assertLess(time.monotonic() - began, 8, "others wait for the long turn")
        started = [e for e in self.http.events("long") if e["event"] == "agent.ai.request.started"]
        self.assertEqual(len(started), 1, "only one turn runs")
        for thread in threads:
            thread.join()
        self.assertIn("first", results["first"].json["reply"]["text"])
        self.assertEqual(results["third"].json["reply"]["text"], "third")
        events = self.http.events("long")
        self.assert_dense(events)
        done = [e["payload"]["turn_id"] for e in events if e["event"] == "turn.completed"]
        asked = [e["payload"]["turn_id"] for e in events if e["event"] == "inbox.message.received"]
        self.assertEqual(done, asked, "turns end in the order of their messages")

    def test_reject_when_busy_is_409(self):
        self.start_with("--first-token-ms", 2000, "--tokens", 2, "--stream-ms", 10)
        self.http.say("r", "first", agent="busy", headers={"Prefer": "respond-async"})
        self.assert_problem(self.http.say("r", "second", agent="busy"), 409)
        self.assert_problem(self.http.say("r", "second", on_busy="reject"), 409)

    def test_r6_a_full_queue_is_429_and_holds_up_nobody_else(self):
        self.start_with("--first-token-ms", 3000, "--tokens", 2, "--stream-ms", 10, conversation="queued_turns: 2")
        answers = [self.http.say("q", f"m{i}", message_id=f"m{i}", headers={"Prefer": "respond-async"}) for i in range(5)]
        self.assertEqual([a.status for a in answers], [202, 202, 202, 429, 429])
        for answer in answers[3:]:
            self.assert_problem(answer, 429)
            self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        self.assertEqual(self.http.say("another", "quick", agent="echo").status, 200)
        said = [e["payload"]["message_id"] for e in self.http.events("q") if e["event"] == "inbox.message.received"]
        self.assertEqual(said, ["m0", "m1", "m2"], "what was refused is not there")

    def test_a_wait_that_runs_out_is_202_and_the_turn_goes_on(self):
        self.start_with("--first-token-ms", 1500, "--tokens", 2, "--stream-ms", 10)
        answer = self.http.say("w", "hi", headers={"Prefer": "wait=1"})
        self.assertEqual(answer.status, 202, answer)
        self.assertEqual(answer.json["status"], "running")
        where = answer.headers["Location"]
        wait_until(lambda: self.http.get(where).json["status"] == "completed")

    def test_a_client_that_leaves_does_not_cancel(self):
        self.start_with("--first-token-ms", 500, "--tokens", 3, "--stream-ms", 100)
        leaver = Client(self.address)
        body = json.dumps({"text": "I leave", "message_id": "m"}).encode()
        leaver.connection.request("POST", "/v1/conversations/l/messages", body, {"Content-Type": "application/json"})
        wait_until(lambda: self.http.get("/v1/conversations/l").status == 200)
        leaver.close()
        wait_until(lambda: "turn.completed" in [e["event"] for e in self.http.events("l")])


class Provider:
    """A provider of the test's own: each request is read whole, kept, and answered by script(connection, number), which may
    write whatever bytes it likes; then the connection is closed. With an SSL context, over TLS."""

    def __init__(self, test, script, context=None):
        self.script, self.context = script, context
        self.requests = []  # (when, head, body), one an attempt
        self.ends = []  # when each of them was over, for whatever reason
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()
        test.addCleanup(self.listener.close)

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                if self.context:
                    connection = self.context.wrap_socket(connection, server_side=True)
                with connection:
                    self.answer(connection)
            except OSError:  # TLS refused, or the client closed in the middle
                pass

    def answer(self, connection):
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                return
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        size = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
        while len(body) < size:
            body += connection.recv(65536)
        with self.lock:
            self.requests.append((time.monotonic(), head, body))
            number = len(self.requests)
        try:
            self.script(connection, number)
        finally:
            self.ends.append(time.monotonic())


def answer(status, body=b"", *headers, kind=b"application/json"):
    lines = [b"HTTP/1.1 %d Whatever" % status, b"Content-Type: " + kind, b"Content-Length: %d" % len(body), b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def delta(text):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class Scripted(ServerCase):
    """What a provider may do wrong, byte by byte: rows H1, H2, H3 and J4. After each fault the conversation goes on."""

    def start_with(self, script, provider=", timeout: 20s"):
        """A provider of that script and a server of its own, in place of those before."""
        if self.servers:
            self.server.stop()
        self.provider = Provider(self, script)
        self.start(data=f"data-{len(self.servers)}", config=f"""
agents: {{bot: {{kind: llm, provider: main, model: m}}, echo: {{kind: echo}}}}
providers:
  main: {{type: openai, base_url: "http://127.0.0.1:{self.provider.port}/v1", breaker: {{failures: 1000, error_rate: 1}},
         retry: {{attempts: 3, backoff: 1ms..2ms}}{provider}}}
routing: {{default: bot}}
""")
        self.http = self.client()

    def always(self, data):
        return lambda connection, number: connection.sendall(data)

    def failed(self, attempts, error, partial=None):
        """Says something, which fails. Returns: the events of the attempts that failed."""
        body = self.http.say("c", "hi", message_id="m").json
        self.assertEqual(body["status"], "failed", body)
        events = self.http.events("c")
        self.assert_dense(events)
        failures = [e["payload"] for e in events if e["event"] == "agent.ai.request.failed"]
        self.assertEqual([f["error"] for f in failures], [error] * attempts, failures)
        self.assertEqual([e["event"] for e in events].count("agent.ai.request.started"), attempts)
        self.assertEqual(len(self.provider.requests), attempts, "attempts seen by the provider = attempts journaled")
        self.assertEqual([f.get("text") for f in failures], [partial] * attempts)
        self.assertEqual([e["event"] for e in events][-1], "turn.failed")
        self.assertIs(self.http.say("c", "hi", message_id="m").json["duplicate"], True)
        self.assertEqual(self.http.say("c", "still there?", agent="echo").json["reply"]["text"], "still there?")
        return failures

    # H1 ------------------------------------------------------------------------------------------------------------------
    def test_h1_busy_answers_are_tried_again_within_their_budget(self):
        for status in (429, 503, 529):
            with self.subTest(status=status):
                self.start_with(self.always(answer(status, b'{"error":{"message":"slow down"}}')))
                failures = self.failed(3, "ERR_BUSY")
                self.assertEqual({f["http_status"] for f in failures}, {status})
                breaker = self.http.get("/v1/breakers").json["breakers"][0]
                self.assertEqual((breaker["failures_in_row"], breaker["window_failures"]), (3, 3), breaker)

    def retried_after(self, header):
        """How long the second attempt waited when the first was answered 429 with `header`; it succeeds."""
        self.start_with(lambda connection, number: connection.sendall(
            answer(429, b"{}", b"Retry-After: " + header) if number == 1 else STREAM_HEAD + delta("well") + FINISH))
        self.assertEqual(self.http.say("c", "hi").json["reply"]["text"], "well")
        (first, _, _), (second, _, _) = self.provider.requests
        return second - first

    def test_h1_retry_after_in_seconds_is_waited_for(self):
        self.assertTrue(1 <= self.retried_after(b"1") < 5)

    def test_h1_retry_after_as_a_date_is_waited_for(self):
        when = email.utils.formatdate(time.time() + 3, usegmt=True).encode()
        self.assertTrue(1.5 <= self.retried_after(when) < 7)

    def test_h1_retry_after_without_meaning_is_not_waited_for(self):
        for header in (b"-5", b"soon", b"1.5", b"", b"Sun, 06 Nov 1994 08:49:37 GMT"):
            with self.subTest(header=header):
                self.assertLess(self.retried_after(header), 1.4)

    def test_h1_a_huge_retry_after_parks_nobody(self):
        """It is capped at an hour, which no turn lives: the turn fails at once and says when to come back."""
        self.start_with(self.always(answer(503, b"{}", b"Retry-After: 99999999999999999999")))
        began = time.monotonic()
        failures = self.failed(1, "ERR_BUSY")
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(failures[0]["retry_after_ms"], 3600000)

    # H2 ------------------------------------------------------------------------------------------------------------------
    def test_h2_a_stream_cut_in_the_middle_of_an_event_keeps_its_text_and_is_tried_again(self):
        self.start_with(self.always(STREAM_HEAD + delta("half a ") + delta("word") + b'data: {"choices":[{"index":0,"del'))
        self.failed(3, "ERR_PEER_CLOSED", "half a word")

    def test_h2_a_stalled_stream_ends_at_the_idle_deadline(self):
        def stall(connection, number):
            connection.sendall(STREAM_HEAD + delta("and then"))
            connection.recv(1)  # until we close

        self.start_with(stall, provider=", idle_timeout: 500ms")
        began = time.monotonic()
        self.failed(3, "ERR_TIMEOUT", "and then")
        self.assertTrue(1.5 <= time.monotonic() - began < 10)

    def drip(self, data):
        def script(connection, number):
            connection.sendall(STREAM_HEAD)
            while True:
                for byte in data:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.05)

        return script

    def test_h2_a_byte_at_a_time_ends_at_the_total_deadline(self):
        self.start_with(self.drip(b"data: " + b"x" * 1000), provider=", timeout: 1s, idle_timeout: 500ms")
        began = time.monotonic()
        self.failed(3, "ERR_TIMEOUT")
        self.assertTrue(3 <= time.monotonic() - began < 15)

    def test_h2_an_endless_stream_ends_at_the_total_deadline(self):
        def endless(connection, number):
            connection.sendall(STREAM_HEAD)
            while True:
                connection.sendall(delta("."))
                time.sleep(0.02)

        self.start_with(endless, provider=", timeout: 1s")
        body = self.http.say("c", "hi").json
        self.assertEqual(body["status"], "failed", body)
        failures = [e["payload"] for e in self.http.events("c") if e["event"] == "agent.ai.request.failed"]
        self.assertEqual([f["error"] for f in failures], ["ERR_TIMEOUT"] * 3)
        for failure in failures:
            self.assertRegex(failure["text"], r"^\.+$")

    # H3 ------------------------------------------------------------------------------------------------------------------
    def test_h3_malformed_events_are_a_broken_protocol(self):
        for data in (b"data: not json\n\n", b'data: {"choices":[{"delta":{"content":17}}]}\n\n', b'data: {"choices":[{"delta":{"content":"\\ud800"}}]}\n\n',
                     b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n', b"data: " + b"[" * 1000 + b"]" * 1000 + b"\n\n", b'data: {"a":1,"a":2}\n\n'):
            with self.subTest(data=data[:60]):
                self.start_with(self.always(STREAM_HEAD + data))
                self.failed(3, "ERR_PROTOCOL")

    def test_h3_malformed_documents_are_a_broken_protocol(self):
        for data in (b"{", b'{"choices":[]}', b'{"choices":[{"message":{"content":17},"finish_reason":"stop"}]}'):
            with self.subTest(data=data[:60]):
                self.start_with(self.always(answer(200, data)))
                self.failed(3, "ERR_PROTOCOL")

    def test_h3_what_is_neither_events_nor_a_document_is_a_cut_answer(self):
        for data in (b"", b"[]", b"null", b"<html>hello</html>"):
            with self.subTest(data=data):
                self.start_with(self.always(answer(200, data)))
                self.failed(3, "ERR_PEER_CLOSED")

    def test_h3_answers_that_are_no_http_are_an_error_of_their_own(self):
        self.start_with(self.always(b"\x16\x03\x01 what?\r\n\r\n"))
        self.failed(3, "ERR_PROTOCOL")

    def test_h3_unknown_events_are_passed_over(self):
        self.start_with(self.always(STREAM_HEAD + b": hello\nretry: 5\nevent: surprise\ndata: {\"new\":[1,2]}\n\nwhat: ever\n" + delta("well") +
                                    b'data: {"choices":[],"object":"chat.completion.chunk.v9"}\n\n' + FINISH))
        self.assertEqual(self.http.say("c", "hi").json["reply"]["text"], "well")

    def peak_memory(self):
        with open(f"/proc/{self.server.process.pid}/status") as file:
            return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1)) << 10

    def stays_small(self, data, count, error, head=STREAM_HEAD):
        """The provider would send `data` `count` times: given up long before, in little memory."""
        sent = []

        def flood(connection, number):
            sent.append(0)
            connection.sendall(head)
            for _ in range(count):
                connection.sendall(data)
                sent[-1] += len(data)

        self.start_with(flood)
        before = self.peak_memory()
        failures = [e["error"] for e in self.attempts()]
        self.assertEqual(set(failures), {error})
        self.assertEqual(len(failures), len(sent))
        self.assertLess(max(sent), count * len(data), "all of it was read")
        if not IS_SANITIZED:
            self.assertLess(self.peak_memory() - before, 48 << 20)

    def attempts(self):
        self.assertEqual(self.http.say("c", "hi").json["status"], "failed")
        self.assertEqual(self.http.say("c", "still there?", agent="echo").json["reply"]["text"], "still there?")
        return [e["payload"] for e in self.http.events("c") if e["event"] == "agent.ai.request.failed"]

    def test_h3_an_event_of_a_hundred_megabytes_is_given_up(self):
        self.stays_small(b"x" * (1 << 20), 100, "ERR_LIMIT", STREAM_HEAD + b"data: ")

    def test_h3_a_text_of_a_hundred_megabytes_is_given_up(self):
        self.stays_small(delta("x" * 60000), 1700, "ERR_LIMIT")

    def test_h3_a_document_of_a_hundred_megabytes_is_given_up(self):
        self.stays_small(b" " * (1 << 20), 100, "ERR_LIMIT", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{")

    def bomb(self, wbits):
        """1 GiB of an event that does not end, in about 1 MiB."""
        packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
        packed = packer.compress(b"data: ")
        for _ in range(1024):
            packed += packer.compress(b"x" * (1 << 20))
        return packed + packer.flush()

    def test_h3_no_compression_is_asked_for_and_a_bomb_does_not_go_off(self):
        for coding, wbits in ((b"gzip", 31), (b"deflate", 15)):
            data = self.bomb(wbits)
            for header in (b"Content-Encoding: " + coding, b"Transfer-Encoding: " + coding + b", chunked"):
                with self.subTest(header=header):
                    body = b"%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n" if b"chunked" in header else data
                    self.start_with(self.always(STREAM_HEAD.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n") + body))
                    before, began = self.peak_memory(), time.monotonic()
                    failures = self.attempts()
                    self.assertTrue({f["error"] for f in failures} <= {"ERR_LIMIT", "ERR_PROTOCOL", "ERR_PEER_CLOSED"}, failures)
                    self.assertLess(time.monotonic() - began, 15)
                    if not IS_SANITIZED:
                        self.assertLess(self.peak_memory() - before, 48 << 20)
                    for _, head, _ in self.provider.requests:
                        self.assertNotRegex(head, rb"(?i)\r\n(accept-encoding|te):")

    # H13 -----------------------------------------------------------------------------------------------------------------
    def speak_until_closed(self, connection, number):
        connection.sendall(STREAM_HEAD + delta("as I was"))
        connection.recv(1)

    def test_h13_a_cancel_aborts_the_call_within_a_second_and_says_so(self):
        self.start_with(self.speak_until_closed)
        where = self.http.say("c", "talk", message_id="m", headers={"Prefer": "respond-async"}).headers["Location"]
        wait_until(lambda: self.provider.requests)
        time.sleep(0.2)  # the delta is on its way
        began = time.monotonic()
        self.assertLess(self.http.post("/v1/conversations/c/cancel", {}).status, 300)
        wait_until(lambda: self.provider.ends, what="the end of the provider's connection")
        self.assertLess(self.provider.ends[0] - began, 1)
        turn = wait_until(lambda: (lambda t: t if t["status"] == "cancelled" else None)(self.http.get(where).json), what="the cancelled turn")
        self.assertEqual(turn["reply"]["text"], "as I was")
        last = self.http.events("c")[-1]
        self.assertEqual((last["event"], last["payload"]["text"]), ("turn.cancelled", "as I was"))
        self.assertEqual(len(self.provider.requests), 1)

    def test_h13_a_reader_that_leaves_cancels_nothing_and_the_state_says_so(self):
        def slowly(connection, number):
            connection.sendall(STREAM_HEAD + delta("to be "))
            time.sleep(1)
            connection.sendall(delta("continued") + FINISH)

        self.start_with(slowly)
        stream = SseStream(self.address, "POST", "/v1/conversations/c/messages", {"text": "talk", "message_id": "m"})
        while next(iter(stream))[0] != "turn.delta":
            pass
        stream.close()
        body = self.http.say("c", "talk", message_id="m").json
        self.assertEqual((body["status"], body["reply"]["text"], body["duplicate"]), ("completed", "to be continued", True))
        self.assertEqual(len(self.provider.requests), 1)

    # J4 ------------------------------------------------------------------------------------------------------------------
    def test_j4_what_a_provider_says_cannot_break_a_log_line_an_event_or_a_header(self):
        nasty = "a\r\nb\x1b[31m\u2028 %s%n%999999d {\"event\":\"forged\"} " + "z" * 1_000_000
        self.start_with(self.always(answer(400, json.dumps({"error": {"message": nasty}}, ensure_ascii=False).encode())))
        failure = self.failed(1, "ERR_INVALID")[0]
        self.assertLess(len(failure["reason"]), 2000)
        self.server.stop()
        for line in self.server.log_text().splitlines():
            self.assertNotEqual(json.loads(line)["event"], "forged")
            self.assertNotRegex(line, "[\x00-\x1f\x7f\u2028]")
            self.assertLess(len(line), 10000)


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificates")
class Tls(ServerCase):
    """H5. One authority and several certificates. A server that shall trust it sees it in place of the system's authorities, in a
    mount namespace of its own."""

    @classmethod
    def setUpClass(cls):
        cls.folder_of_keys = tempfile.TemporaryDirectory(prefix="ciranda-tls-")
        cls.addClassCleanup(cls.folder_of_keys.cleanup)
        cls.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test authority")
        cls.sign("good", "DNS:localhost", days=2)
        cls.sign("other", "DNS:elsewhere.example", days=2)
        cls.sign("expired", "DNS:localhost", days=-1)
        cls.sign("wildcard", "DNS:*", days=2)
        cls.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "self.key", "-out", "self.pem", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")

    @classmethod
    def file(cls, name):
        return os.path.join(cls.folder_of_keys.name, name)

    @classmethod
    def openssl(cls, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=cls.folder_of_keys.name)

    @classmethod
    def sign(cls, name, names, days):
        with open(cls.file(name + ".ext"), "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={names}\n")
        cls.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name)
        cls.openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", name + ".pem",
                    "-days", str(days), "-extfile", name + ".ext")

    def trust_the_authority(self):
        libc = ctypes.CDLL(None, use_errno=True)
        new_namespace, bind, private = 0x20000, 0x1000, 0x4000 | 0x40000
        system = b"/etc/ssl/certs/ca-certificates.crt"
        if libc.unshare(new_namespace) or libc.mount(b"none", b"/", None, private, None) or \
                libc.mount(self.file("ca.pem").encode(), system, None, bind, None):
            os._exit(77)

    def ask(self, identity, is_trusted=True, host="localhost", env=None):
        """One message to a provider with that certificate. Returns: the answer."""
        if is_trusted and os.geteuid() != 0:
            self.skipTest("a mount namespace needs root")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file(identity + ".pem"), self.file(identity + ".key"))
        self.provider = Provider(self, lambda connection, number: connection.sendall(STREAM_HEAD + delta("trusted") + FINISH), context)
        self.start(env=env, preexec=self.trust_the_authority if is_trusted else None, config=f"""
agents: {{bot: {{kind: llm, provider: main, model: m}}}}
providers: {{main: {{type: openai, base_url: "https://{host}:{self.provider.port}/v1", timeout: 10s, retry: {{attempts: 2, backoff: 1ms..2ms}}}}}}
routing: {{default: bot}}
""")
        self.http = self.client()
        return self.http.say("c", "secret words").json

    def refused(self, *arguments, **options):
        body = self.ask(*arguments, **options)
        self.assertEqual(body["status"], "failed", body)
        failures = [e["payload"] for e in self.http.events("c") if e["event"] == "agent.ai.request.failed"]
        self.assertEqual([f["error"] for f in failures], ["ERR_TLS"], "and no second attempt: it will not heal by itself")
        self.assertEqual(self.provider.requests, [], "nothing may be said over a connection that is not trusted")

    def test_h5_a_trusted_certificate_of_that_host_is_taken(self):
        self.assertEqual(self.ask("good")["reply"]["text"], "trusted")
        self.assertIn(b"secret words", self.provider.requests[0][2])

    def test_h5_a_certificate_of_another_host_is_refused(self):
        self.refused("other")

    def test_h5_a_certificate_of_a_name_is_refused_for_an_address(self):
        self.refused("good", host="127.0.0.1")

    def test_h5_a_certificate_of_everybody_is_refused(self):
        self.refused("wildcard")

    def test_h5_an_expired_certificate_is_refused(self):
        self.refused("expired")

    def test_h5_a_self_signed_certificate_is_refused(self):
        self.refused("self")

    def test_h5_a_certificate_of_an_unknown_authority_is_refused(self):
        self.refused("good", is_trusted=False)

    def test_h5_proxies_of_the_environment_are_ignored(self):
        proxy = Provider(self, lambda connection, number: None)
        where = f"http://127.0.0.1:{proxy.port}"
        names = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
        self.assertEqual(self.ask("good", env={name: where for name in names})["reply"]["text"], "trusted")
        self.assertEqual(proxy.requests, [])


if __name__ == "__main__":
    unittest.main()
