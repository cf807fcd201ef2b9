# SPDX-License-Identifier: Apache-2.0
"""Agents that ask a model: an independent fake provider (aimock, from npm) for its manners and misbehaviour, and
bench/fake_model for slow streams. Rows H1, H2, H3, H5 and H13 of the fault catalogue."""
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import unittest

from harness import BINARY, FAKE_MODEL, ROOT, Client, Program, ServerCase, SseStream, wait_until

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
    def start_with(self, *model, extra=""):
        self.model = self.start_model(*model)
        self.start(config=f"""
agents:
  bot: {{kind: llm, provider: main, model: m}}
  busy: {{kind: llm, provider: main, model: m, on_busy: reject}}
  echo: {{kind: echo}}
providers:
  main: {{type: openai, base_url: "http://{self.model.ready['http']}/v1", timeout: 60s{extra}, retry: {{attempts: 1, backoff: 10ms..20ms}}}}
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

    def test_a_wait_that_runs_out_is_202_and_the_turn_goes_on(self):
        self.start_with("--first-token-ms", 1500, "--tokens", 2, "--stream-ms", 10)
        answer = self.http.say("w", "hi", headers={"Prefer": "wait=1"})
        self.assertEqual(answer.status, 202, answer)
        self.assertEqual(answer.json["status"], "running")
        where = answer.headers["Location"]
        wait_until(lambda: self.http.get(where).json["status"] == "completed")

    def test_cancel_stops_the_turn_and_the_upstream_call(self):
        self.start_with("--first-token-ms", 50, "--tokens", 200, "--stream-ms", 60000)
        self.http.say("c", "talk for long", headers={"Prefer": "respond-async"})
        wait_until(lambda: "agent.ai.request.started" in [e["event"] for e in self.http.events("c")])
        answer = self.http.post("/v1/conversations/c/cancel", {})
        self.assertLess(answer.status, 300, answer)
        wait_until(lambda: "turn.cancelled" in [e["event"] for e in self.http.events("c")])

        def upstream():
            with open("/proc/net/tcp") as file:
                port = int(self.model.ready["http"].rsplit(":", 1)[1])
                return [line for line in file if line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01"]

        wait_until(lambda: not upstream(), 10, "the upstream socket to close")
        self.assertEqual(self.http.say("c", "still there?", agent="echo").json["reply"]["text"], "still there?")

    def test_a_client_that_leaves_does_not_cancel(self):
        self.start_with("--first-token-ms", 500, "--tokens", 3, "--stream-ms", 100)
        leaver = Client(self.address)
        body = json.dumps({"text": "I leave", "message_id": "m"}).encode()
        leaver.connection.request("POST", "/v1/conversations/l/messages", body, {"Content-Type": "application/json"})
        wait_until(lambda: self.http.get("/v1/conversations/l").status == 200)
        leaver.close()
        wait_until(lambda: "turn.completed" in [e["event"] for e in self.http.events("l")])

    def test_a_stalled_stream_ends_by_deadline(self):
        self.start_with("--first-token-ms", 10, "--tokens", 10, "--stream-ms", 100, "--stall", extra=", idle_timeout: 1s")
        body = self.http.say("st", "hi").json
        self.assertEqual(body["status"], "failed", body)

    @unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
    def test_a_self_signed_provider_is_refused(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.path("key"), "-out", self.path("cert"), "-days", "1",
                        "-subj", "/CN=localhost"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("cert"), self.path("key"))
        listener = socket.create_server(("127.0.0.1", 0))
        received = []

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                    with context.wrap_socket(connection, server_side=True) as tls:
                        received.append(tls.recv(4096))
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.start(config=f"""
agents: {{bot: {{kind: llm, provider: main, model: m}}}}
providers: {{main: {{type: openai, base_url: "https://localhost:{listener.getsockname()[1]}/v1", timeout: 5s, retry: {{attempts: 1, backoff: 10ms..20ms}}}}}}
routing: {{default: bot}}
""")
        body = self.client().say("x", "secret words").json
        listener.close()
        self.assertEqual(body["status"], "failed", body)
        self.assertEqual(received, [], "nothing may be said over a connection that is not trusted")


if __name__ == "__main__":
    unittest.main()
