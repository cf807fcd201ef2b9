# SPDX-License-Identifier: Apache-2.0
"""The API contract as a client sees it: messages, reading, acting, refusals. Each test uses conversations of its own."""
import json
import re
import threading
import unittest

from harness import ServerCase, SseStream, in_parallel, raw_exchange, wait_until

CONFIG = """
agents:
  echo: {kind: echo}
  rude: {kind: echo, on_busy: reject}
  triage:
    kind: rules
    rules:
      - {match: [preço, preco, price], reply: "R$ 10"}
      - {match: [humano, atendente, human], handoff: "queue:atendimento"}
      - {match: [vendas, sales], handoff: "agent:echo"}
    otherwise: {agent: echo}
routing: {default: triage}
"""


class Api(ServerCase):
    config = CONFIG

    @classmethod
    def setUpClass(cls):
        cls.shared = cls("run_nothing")
        ServerCase.setUp(cls.shared)
        cls.shared.start()

    @classmethod
    def tearDownClass(cls):
        code = cls.shared.server.stop()
        text = cls.shared.server.log_text()
        cls.shared.doCleanups()
        assert code == 0, text[-4000:]

    def run_nothing(self):
        pass

    def setUp(self):
        super().setUp()
        self.address = self.shared.address
        self.http = self.client()
        self.id = re.sub(r"\W", "-", self.id_of_test())

    def id_of_test(self):
        return unittest.TestCase.id(self).split(".")[-1]

    # messages ------------------------------------------------------------------------------------------------------------
    def test_a_message_gets_a_reply_and_stays(self):
        answer = self.http.say(self.id, "Olá, mundo", message_id="m-1", agent="echo", customer_id="c-9", channel="web", metadata={"a": "b"})
        self.assertEqual(answer.status, 200, answer)
        body = answer.json
        self.assertEqual(body["conversation_id"], self.id)
        self.assertEqual(body["message_id"], "m-1")
        self.assertEqual(body["status"], "completed")
        self.assertIs(body["duplicate"], False)
        self.assertEqual(body["reply"], {"text": "Olá, mundo", "agent": "echo"})
        for field in ("turn_id", "version", "trace_id", "duration_ms"):
            self.assertIn(field, body)
        self.assertEqual(body["trace_id"], answer.headers["X-Trace-Id"])
        events = self.http.events(self.id)
        self.assert_dense(events)
        first = events[0]
        self.assertEqual(first["event"], "inbox.message.received")
        self.assertEqual(first["idempotency_key"], "m-1")
        self.assertEqual(first["conversation_id"], self.id)
        self.assertEqual(first["customer_id"], "c-9")
        self.assertEqual(first["payload"]["text"], "Olá, mundo")
        self.assertRegex(first["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertRegex(first["event_id"], r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        for field in ("trace_id", "tenant_id"):
            self.assertIn(field, first)
        self.assertEqual(events[-1]["version"], body["version"])

    def test_rules_match_without_case_and_accents(self):
        for text in ("Qual o PREÇO?", "qual o preco", "what PRICE", "preço"):
            answer = self.http.say(self.id, text)
            self.assertEqual(answer.json["reply"], {"text": "R$ 10", "agent": "triage"}, text)

    def test_a_copy_gets_the_stored_answer(self):
        first = self.http.say(self.id, "x", message_id="m").json
        again = self.http.say(self.id, "x", message_id="m")
        self.assertEqual(again.status, 200)
        self.assertIs(again.json["duplicate"], True)
        for field in ("reply", "turn_id", "version", "status"):
            self.assertEqual(again.json[field], first[field])
        self.assertEqual([e["event"] for e in self.http.events(self.id)].count("inbox.message.received"), 1)

    def test_a_copy_by_header(self):
        headers = {"Idempotency-Key": "key-1"}
        self.assertIs(self.http.say(self.id, "x", headers=headers).json["duplicate"], False)
        self.assertIs(self.http.say(self.id, "x", headers=headers).json["duplicate"], True)

    def test_the_same_id_with_another_payload_is_422(self):
        self.http.say(self.id, "x", message_id="m")
        self.assert_problem(self.http.say(self.id, "y", message_id="m"), 422)
        self.assertEqual(len([e for e in self.http.events(self.id) if e["event"] == "inbox.message.received"]), 1)

    def test_sixty_four_racing_copies_are_one_turn(self):
        answers = in_parallel(64, lambda i: self.client().say(self.id, "race", message_id="same"))
        self.assertEqual({answer.status for answer in answers}, {200})
        self.assertEqual(len({json.dumps([a.json["reply"], a.json["turn_id"], a.json["version"]]) for a in answers}), 1)
        self.assertEqual(sum(not answer.json["duplicate"] for answer in answers), 1)
        events = self.http.events(self.id)
        self.assertEqual([e["event"] for e in events].count("inbox.message.received"), 1)
        self.assertEqual([e["event"] for e in events].count("agent.response.generated"), 1)

    def test_respond_async_is_durable_and_can_be_looked_up(self):
        answer = self.http.say(self.id, "later", headers={"Prefer": "respond-async"})
        self.assertEqual(answer.status, 202, answer)
        where = answer.headers["Location"]
        self.assertEqual(where, f"/v1/conversations/{self.id}/turns/{answer.json['turn_id']}")
        turn = wait_until(lambda: (lambda a: a if a.json["status"] == "completed" else None)(self.http.get(where)))
        self.assertEqual(turn.status, 200)
        self.assertEqual(turn.json["reply"]["text"], "later")

    def test_a_turn_as_events(self):
        stream = SseStream(self.address, "POST", f"/v1/conversations/{self.id}/messages", {"text": "stream me", "agent": "echo"})
        self.assertEqual(stream.status, 200)
        events = list(stream)
        stream.close()
        self.assertEqual(events[-1][0], "turn.completed")
        self.assertIn("inbox.message.received", [kind for kind, _, _ in events])
        said = [json.loads(data) for kind, _, data in events if kind == "agent.response.generated"]
        self.assertEqual(said[0]["payload"]["text"], "stream me")

    def test_a_handoff_to_a_queue_waits_for_a_human_who_then_owns_it(self):
        answer = self.http.say(self.id, "quero um humano")
        self.assertEqual(answer.json["status"], "waiting_human", answer)
        state = self.http.get(f"/v1/conversations/{self.id}").json
        self.assertEqual(state["status"], "waiting_human")
        self.assertEqual(state["owner"], "queue:atendimento")
        epoch = state["epoch"]
        self.assertEqual(self.http.say(self.id, "alô?").json["status"], "waiting_human")
        human = self.http.post(f"/v1/conversations/{self.id}/messages", {"text": "Olá, sou a Ana", "from": "human:ana"})
        self.assertEqual(human.status, 200, human)
        state = self.http.get(f"/v1/conversations/{self.id}").json
        self.assertEqual(state["owner"], "human:ana")
        self.assertGreater(state["epoch"], epoch)
        other = self.http.post(f"/v1/conversations/{self.id}/messages", {"text": "eu também", "from": "human:bob"})
        self.assertGreaterEqual(other.status, 400)
        said = self.http.get(f"/v1/conversations/{self.id}/messages").json["messages"]
        self.assertEqual([m["from"] for m in said][-1], "human")
        self.assertEqual(said[-1]["text"], "Olá, sou a Ana")

    def test_if_match_refuses_another_version(self):
        version = self.http.say(self.id, "a", agent="echo").json["version"]
        self.assert_problem(self.http.say(self.id, "b", headers={"If-Match": str(version - 1)}), 409)
        self.assertEqual(self.http.say(self.id, "b", headers={"If-Match": str(version)}).status, 200)

    # reading -------------------------------------------------------------------------------------------------------------
    def test_pages_of_events_and_messages(self):
        for i in range(25):
            self.http.say(self.id, f"text {i}", agent="echo")
        seen, after = [], 0
        while after is not None:
            page = self.http.get(f"/v1/conversations/{self.id}/events?after={after}&limit=7").json
            self.assertLessEqual(len(page["events"]), 7)
            seen += page["events"]
            after = page["next"]
        self.assert_dense(seen)
        said, after = [], 0
        while after is not None:
            page = self.http.get(f"/v1/conversations/{self.id}/messages?after={after}&limit=9").json
            said += page["messages"]
            after = page["next"]
        self.assertEqual([m["text"] for m in said if m["from"] == "customer"], [f"text {i}" for i in range(25)])
        self.assertEqual([m["text"] for m in said if m["from"] == "agent"], [f"text {i}" for i in range(25)])

    def test_unknown_conversations_are_404(self):
        for path in ("", "/events", "/messages", "/turns/0192f7a0-0000-7000-8000-000000000000"):
            self.assert_problem(self.http.get(f"/v1/conversations/nobody-{self.id}{path}"), 404)

    def test_the_stream_resumes_after_an_id(self):
        self.http.say(self.id, "one", agent="echo")
        events = self.http.events(self.id)
        stream = SseStream(self.address, "GET", f"/v1/conversations/{self.id}/stream", headers={"Last-Event-ID": "1"})
        self.assertEqual(stream.status, 200)
        received = []
        reader = iter(stream)
        for _ in events[1:]:
            received.append(next(reader))
        self.assertEqual([int(i) for _, i, _ in received], [e["version"] for e in events[1:]])
        self.client().say(self.id, "two", agent="echo")
        live = next(reader)
        self.assertEqual(int(live[1]), len(events) + 1)
        self.assertEqual(live[0], "inbox.message.received")
        self.assertEqual(json.loads(live[2])["payload"]["text"], "two")
        stream.close()

    def assert_stream_refused(self, value, status):
        stream = SseStream(self.address, "GET", f"/v1/conversations/{self.id}/stream", headers={"Last-Event-ID": str(value)})
        self.addCleanup(stream.close)
        self.assertEqual(stream.status, status)
        self.assertEqual(json.loads(stream.response.read())["status"], status)

    def test_c2_a_stream_id_that_is_garbage_is_400(self):
        self.http.say(self.id, "one", agent="echo")
        for value in ("abc", "-1", "1.5", "0x1", "1 2", "18446744073709551616", "99999999999999999999999"):
            with self.subTest(value=value):
                self.assert_stream_refused(value, 400)

    def test_c2_a_stream_id_in_the_future_is_400(self):
        newest = self.http.say(self.id, "one", agent="echo").json["version"]
        for value in (newest + 1, 99999, 2 ** 63):
            with self.subTest(value=value):
                self.assert_stream_refused(value, 400)
        stream = SseStream(self.address, "GET", f"/v1/conversations/{self.id}/stream", headers={"Last-Event-ID": str(newest)})
        self.assertEqual(stream.status, 200, "the newest is not the future")
        stream.close()

    def test_c2_a_stream_of_a_conversation_that_is_not_there_is_404(self):
        """Never was, or was erased: its ids say nothing any more (and no id is ever expired by compaction: docs/API.md)."""
        self.assert_stream_refused(1, 404)
        self.http.say(self.id, "one", agent="echo")
        self.assertLess(self.http.call("DELETE", f"/v1/conversations/{self.id}").status, 300)
        self.assert_stream_refused(1, 404)

    def test_listing_filters_and_pages(self):
        names = [f"{self.id}-{i}" for i in range(5)]
        for name in names:
            self.http.say(name, "hi", agent="echo")
        self.http.say(names[0], "humano")
        found, cursor = [], ""
        while True:
            answer = self.http.get(f"/v1/conversations?limit=2&cursor={cursor}")
            self.assertEqual(answer.status, 200, answer)
            page = answer.json
            found += [item["id"] for item in page["conversations"]]
            cursor = page.get("next")
            if not cursor:
                break
        self.assertTrue(set(names) <= set(found))
        self.assertEqual(len(found), len(set(found)))
        waiting = self.http.get("/v1/conversations?status=waiting_human&owner=queue:atendimento&limit=1000").json["conversations"]
        self.assertIn(names[0], [item["id"] for item in waiting])
        self.assertNotIn(names[1], [item["id"] for item in waiting])
        self.assert_problem(self.http.get("/v1/conversations?cursor=forged"), 400)

    # acting --------------------------------------------------------------------------------------------------------------
    def test_close_refuses_until_reopened(self):
        self.http.say(self.id, "a")
        self.assertLess(self.http.post(f"/v1/conversations/{self.id}/close", {}).status, 300)
        self.assertEqual(self.http.get(f"/v1/conversations/{self.id}").json["status"], "closed")
        self.assert_problem(self.http.say(self.id, "b"), 409)
        self.assertLess(self.http.post(f"/v1/conversations/{self.id}/reopen", {}).status, 300)
        self.assertEqual(self.http.say(self.id, "b").status, 200)

    def test_park_and_resume(self):
        self.http.say(self.id, "a")
        self.assertLess(self.http.post(f"/v1/conversations/{self.id}/park", {}).status, 300)
        self.assertEqual(self.http.get(f"/v1/conversations/{self.id}").json["status"], "parked")
        self.assertLess(self.http.post(f"/v1/conversations/{self.id}/resume", {}).status, 300)
        self.assertEqual(self.http.say(self.id, "b").json["status"], "completed")

    def test_erasing_leaves_nothing(self):
        self.http.say(self.id, "a very personal secret 7731", agent="echo")
        self.assertLess(self.http.call("DELETE", f"/v1/conversations/{self.id}").status, 300)
        self.assert_problem(self.http.get(f"/v1/conversations/{self.id}"), 404)
        data = b""
        for name in ("journal.db", "journal.db-wal"):
            try:
                with open(self.shared.path("data", name), "rb") as file:
                    data += file.read()
            except FileNotFoundError:
                pass
        self.assertNotIn(b"a very personal secret 7731", data)
        self.assertEqual(self.http.say(self.id, "new life", agent="echo").status, 200)
        self.assertEqual(self.http.events(self.id)[0]["version"], 1)

    # refusals ------------------------------------------------------------------------------------------------------------
    def test_b7_bad_bodies_are_400_with_a_pointer(self):
        path = f"/v1/conversations/{self.id}/messages"
        for body, pointer in ((b'{"text":"a","colour":"red"}', "/colour"), (b'{"text":1}', "/text"), (b'{"text":"a","metadata":{"k":1}}', "/metadata/k"),
                              (b'{"text":"a","text":"b"}', "/text"), (b'{"text":"a","metadata":{"k":"1","\\u006b":"2"}}', "/metadata/k"), (b'[]', ""), (b'{}', "/text"),
                              (b'{"text":"a"', "/text"), (b'', ""), (b'\xef\xbb\xbf{"text":"a"}', ""), (b'{"text":"a"} x', ""), (b'{"text":"a"}\0', ""),
                              (b'{"text":"\xff"}', "/text"), (b'{"text":"\\ud800"}', "/text"), (b'{"text":"\\ud800\\u0041"}', "/text"), (b'{"text":"\\u0000"}', "/text"),
                              (b'{"text":1e999}', "/text"), (b'{"text":"a","metadata":{"k":-1e999}}', "/metadata/k"),
                              (b'{"text":"a","metadata":' + b'[' * 1000 + b']' * 1000 + b'}', "/metadata" + "/0" * 31),
                              (b'{"text":"a","metadata":' + b'{"a":' * 1000 + b'1' + b'}' * 1000 + b'}', "/metadata" + "/a" * 31)):
            with self.subTest(body=body[:60]):
                problem = self.assert_problem(self.client().call("POST", path, body, {"Content-Type": "application/json"}), 400)
                self.assertIn(pointer, [error["pointer"] for error in problem["errors"]])
        self.assert_problem(self.http.get(f"/v1/conversations/{self.id}"), 404)

    def test_b7_a_string_of_ten_megabytes_is_413_and_is_not_read(self):
        body = b'{"text":"' + b"x" * 10_000_000 + b'"}'
        head = b"POST /v1/conversations/%s/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % self.id.encode()
        for framing, data in ((b"Content-Length: %d" % len(body), body), (b"Transfer-Encoding: chunked", b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")):
            received, closed = raw_exchange(self.address, head + framing + b"\r\n\r\n" + data)
            self.assertTrue(received.startswith(b"HTTP/1.1 413 "), received[:100])
            self.assertEqual(received.count(b"HTTP/1.1 "), 1)
        self.assert_problem(self.http.get(f"/v1/conversations/{self.id}"), 404)

    def test_lengths_are_limits(self):
        self.assertEqual(self.http.say(self.id, "x" * 32768, agent="echo").status, 200)
        self.assertIn(self.client().say(self.id, "x" * 32769).status, (400, 422))
        self.assertIn(self.client().say(self.id, "").status, (400, 422))
        self.assertIn(self.client().say(self.id, "x", message_id="m" * 129).status, (400, 422))
        self.assertEqual(self.client().call("POST", f"/v1/conversations/{self.id}/messages", b"x" * 300000, {"Content-Type": "application/json"}).status, 413)
        self.assertIn(self.client().say("a" * 129, "x").status, (400, 404))
        self.assertEqual(self.client().say("ok.A_z~0:9-", "x").status, 200)
        for bad in ("a%20b", "a%2fb", "ol%C3%A1", "a@b"):
            self.assertEqual(self.client().say(bad, "x").status, 400, bad)

    def test_methods_and_routes(self):
        answer = self.http.call("PUT", f"/v1/conversations/{self.id}/messages", {"text": "x"})
        self.assert_problem(answer, 405)
        self.assertIn("POST", answer.headers["Allow"])
        self.assert_problem(self.client().get("/v1/nothing"), 404)
        self.assert_problem(self.client().call("POST", f"/v1/conversations/{self.id}/messages", b"text=x", {"Content-Type": "text/plain"}), 415)
        self.assertEqual(self.client().say(self.id, "x", agent="nobody").status, 422)

    def test_trace_ids_are_honoured(self):
        answer = self.http.get("/livez", X_Trace_Id="abc-123")
        self.assertEqual(answer.headers["X-Trace-Id"], "abc-123")
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        answer = self.http.say(self.id, "x", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        self.assertEqual(answer.headers["X-Trace-Id"], trace)
        self.assertEqual(self.http.events(self.id)[0]["trace_id"], trace)

    # service -------------------------------------------------------------------------------------------------------------
    def test_health_metrics_and_description(self):
        for path in ("/livez", "/readyz", "/startupz", "/health/live", "/health/ready", "/health/startup"):
            answer = self.http.get(path)
            self.assertEqual(answer.status, 200, answer)
            self.assertIn("checks", answer.json)
        text = self.http.get("/metrics")
        self.assertEqual(text.status, 200)
        self.assertTrue(text.headers["Content-Type"].startswith("text/plain"))
        names = set(re.findall(r"^(\w+)[{ ]", text.body.decode(), re.M))
        self.assertTrue(names and all(name.startswith("ciranda_") for name in names), names)
        document = self.http.get("/openapi.json").json
        self.assertTrue(document["openapi"].startswith("3.1"))
        agents = self.http.get("/v1/agents").json
        self.assertIn("echo", json.dumps(agents))
        self.assertEqual(self.http.get("/v1/agents/echo").status, 200)
        self.assert_problem(self.http.get("/v1/agents/nobody"), 404)
        self.assertEqual(self.http.get("/v1/breakers").status, 200)
        self.assertEqual(self.http.get("/v1/dead-letters").status, 200)

    def test_j4_user_text_cannot_break_a_log_line_or_an_event(self):
        nasty = "a\r\nb\x1b[31m\u2028c\x07 %s%n </script> data: x\n\nevent: y"
        self.http.say(self.id, nasty, agent="echo")
        self.assertEqual(self.http.events(self.id)[0]["payload"]["text"], nasty)
        stream = SseStream(self.address, "GET", f"/v1/conversations/{self.id}/stream?after=0")
        kind, identity, data = next(iter(stream))
        self.assertEqual((kind, identity), ("inbox.message.received", "1"))
        self.assertEqual(json.loads(data)["payload"]["text"], nasty)
        stream.close()
        for line in self.shared.server.log_text().splitlines():
            json.loads(line)

    def test_many_pipelined_requests_are_answered_in_order(self):
        count = 1000
        request = b"".join(b"GET /v1/conversations/no-%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(count - 1))
        request += b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        received, closed = raw_exchange(self.address, request, seconds=30)
        self.assertTrue(closed)
        self.assertEqual(received.count(b"HTTP/1.1 404"), count - 1)
        self.assertEqual(received.count(b"HTTP/1.1 200"), 1)

    def test_one_hundred_writers_to_one_conversation_leave_dense_versions(self):
        def write(i):
            client = self.client()
            for j in range(5):
                self.assertEqual(client.say(self.id, f"{i}-{j}", agent="echo").status, 200)

        in_parallel(20, write)
        events = self.http.events(self.id)
        self.assert_dense(events)
        said = [e["payload"]["text"] for e in events if e["event"] == "inbox.message.received"]
        self.assertEqual(len(said), 100)
        for i in range(20):
            mine = [text for text in said if text.startswith(f"{i}-")]
            self.assertEqual(mine, [f"{i}-{j}" for j in range(5)])


class Limits(ServerCase):
    def test_a_customer_over_its_limit_gets_429_and_others_do_not(self):
        self.start(config=CONFIG + "limits: {customer: {messages: 3, per: 60s}}\n")
        http = self.client()
        for i in range(3):
            self.assertEqual(http.say(f"l{i}", "hi", customer_id="c-1").status, 200)
        answer = http.say("l3", "hi", customer_id="c-1")
        self.assert_problem(answer, 429)
        self.assertTrue(1 <= int(answer.headers["Retry-After"]) <= 21, answer.headers["Retry-After"])
        self.assertEqual(http.get("/v1/conversations/l3").status, 404, "nothing was recorded")
        self.assertEqual(http.say("l3", "hi", customer_id="c-2").status, 200)

    def test_a_tenant_over_its_limit_gets_429(self):
        self.start(config=CONFIG + "limits: {tenant: {messages: 2, per: 60s}}\n")
        http = self.client()
        self.assertEqual([http.say(f"t{i}", "hi").status for i in range(3)], [200, 200, 429])


if __name__ == "__main__":
    threading.stack_size(512 * 1024)
    unittest.main()
