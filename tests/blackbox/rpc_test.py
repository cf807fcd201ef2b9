# SPDX-License-Identifier: Apache-2.0
"""MessagePack-RPC from raw sockets: rows D1-D7 of the fault catalogue, each method, copies across HTTP and RPC, streams, slow
readers, drain; three clients that are not the server's: Debian's python3-msgpack, npm's @msgpack/msgpack, and the C example.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

from harness import BUILD, IS_SANITIZED, PATIENCE, ROOT, ServerCase, in_parallel, wait_until

try:
    import msgpack
except ImportError:  # another python than Debian's, beside Debian's package
    sys.path.append("/usr/lib/python3/dist-packages")
    try:
        import msgpack
    except ImportError:
        msgpack = None

NODE = os.path.join(ROOT, "build", "node")
HAS_NODE = os.path.isdir(os.path.join(NODE, "node_modules", "@msgpack", "msgpack"))
EXAMPLE = os.path.join(BUILD, "net", "client", "rpc_example")
CONFIG = "agents: {echo: {kind: echo}}\nrouting: {default: echo}\n"
HASTY = CONFIG + "rpc: {frame_timeout: 300ms, idle_timeout: 700ms}\n"


class Rpc:
    """A connection: frames out as they are given, frames in as msgpack reads them."""

    def __init__(self, address, timeout=PATIENCE):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        self.next_id = 0

    def send_bytes(self, data):
        self.socket.sendall(data)

    def start(self, method, **params):
        self.next_id += 1
        self.send_bytes(msgpack.packb([0, self.next_id, method, [params]]))
        return self.next_id

    def notify(self, method, **params):
        self.send_bytes(msgpack.packb([2, method, [params]]))

    def receive(self):
        """The next frame; None once the server has closed."""
        while True:
            for frame in self.unpacker:
                return frame
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.unpacker.feed(data)

    def call(self, method, **params):
        """(error, result)"""
        call = self.start(method, **params)
        frame = self.receive()
        assert frame[:2] == [1, call], frame
        return frame[2], frame[3]

    def say(self, conversation, text, **fields):
        error, result = self.call("message.send", conversation_id=conversation, text=text, **fields)
        assert error is None, error
        return result

    def close(self):
        self.socket.close()


def request(params, msgid=b"\x07", method=b"\xacmessage.send"):
    """[0, 7, "message.send", [params]], params being bytes."""
    return b"\x94\x00" + msgid + method + b"\x91" + params


def pair(key, value):
    return bytes([0xA0 | len(key)]) + key + value


SAID = pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\xa1x")


@unittest.skipUnless(msgpack, "python3-msgpack is not installed")
class RpcCase(ServerCase):
    config = CONFIG

    def connect(self):
        rpc = Rpc(self.server.ready["rpc"])
        self.addCleanup(rpc.close)
        return rpc

    def metric(self, pattern):
        return sum(float(value) for value in re.findall(rf"^ciranda_{pattern} (\S+)$", self.client().get("/metrics").body.decode(), re.M))

    def assert_untouched(self, conversation="d"):
        self.assertEqual(self.client().get(f"/v1/conversations/{conversation}").status, 404)


class Frames(RpcCase):
    """D1-D3, D6: what can never be a frame is answered with an error of msgid nil and ends the connection."""

    CLOSED = {
        "d1 array32": (b"\xdd\xff\x00\x00\x00", "frame_unknown"),
        "d1 array32 within": (request(b"\x81" + pair(b"text", b"\xdd\xff\x00\x00\x00")), "frame_too_large"),
        "d1 map32": (request(b"\xdf\xff\xff\xff\xff"), "frame_too_large"),
        "d1 str32": (request(b"\x81" + pair(b"text", b"\xdb\xff\xff\xff\xff")), "frame_too_large"),
        "d1 bin32": (request(b"\x81" + pair(b"text", b"\xc6\xff\xff\xff\xff")), "frame_too_large"),
        "d1 ext32": (request(b"\x81" + pair(b"text", b"\xc9\xff\xff\xff\xff\x01")), "frame_too_large"),
        "d2 deep": (request(b"\x91" * 31), "frame_too_deep"),
        "d2 10,000 deep": (request(b"\x91" * 10000), "frame_too_deep"),
        "d2 deep maps": (request(b"\x81\x01" * 31), "frame_too_deep"),
        "d3 nothing in it": (b"\x90", "frame_unknown"),
        "d3 over 1 MiB": (request(b"\x81" + pair(b"text", b"\xdb\x00\x10\x00\x00")), "frame_too_large"),
        "no frame": (b"GET / HTTP/1.1\r\n\r\n", "frame_unknown"),
        "never used byte": (request(b"\x81" + pair(b"text", b"\xc1")), "frame_invalid"),
        "an answer": (b"\x94\x01\x01\xc0\xc0", "frame_unknown"),
        "an unknown type": (b"\x94\x03\x01\xa1x\x90", "frame_unknown"),
        "a request of three": (b"\x93\x00\x01\xa1x", "frame_unknown"),
        "msgid no number": (request(b"\x80", msgid=b"\xa1x"), "frame_unknown"),
        "msgid over 32 bits": (request(b"\x80", msgid=b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), "frame_unknown"),
        "msgid below zero": (request(b"\x80", msgid=b"\xff"), "frame_unknown"),
    }

    def test_d1_d2_d3_what_is_no_frame_ends_the_connection(self):
        self.start()
        for name, (data, code) in self.CLOSED.items():
            for size in (len(data), 1):
                with self.subTest(name=name, pieces_of=size):
                    rpc = self.connect()
                    rpc.send_bytes(msgpack.packb([0, 1, "ping", [{}]]))
                    self.assertEqual(rpc.receive()[:3], [1, 1, None])
                    try:
                        for at in range(0, len(data), size):
                            rpc.send_bytes(data[at:at + size])
                        rpc.send_bytes(msgpack.packb([0, 2, "ping", [{}]]))  # behind it: not read any more
                    except (BrokenPipeError, ConnectionResetError):
                        pass
                    kind, msgid, error, result = rpc.receive()
                    self.assertEqual((kind, msgid, result), (1, None, None))
                    self.assertEqual(error["code"], code)
                    self.assertIsNone(rpc.receive())
        self.assert_untouched()
        self.assertEqual(self.metric(r'rpc_refusals_total\{reason="frame_too_deep"\}'), 6)

    def test_d1_lying_lengths_cost_no_memory(self):
        self.start()

        def resident():
            with open(f"/proc/{self.server.process.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

        rpc = self.connect()
        self.assertIsNone(rpc.call("ping")[0])
        before = resident()
        for _ in range(200):
            lying = self.connect()
            lying.send_bytes(request(b"\x81" + pair(b"text", b"\xdb\x00\x0f\xff\x00")))  # 1 MiB less 256 bytes, which never come
        self.assertIsNone(rpc.call("ping")[0])
        self.assertLess(resident() - before, 200 * (64 << 10))

    def test_a_frame_at_the_limits_is_taken(self):
        self.start()
        rpc = self.connect()
        rpc.send_bytes(request(b"\x91" * 29 + b"\x90"))  # 32 deep
        self.assertEqual(rpc.receive()[2]["code"], "bad_request")
        size = (1 << 20) - len(request(b"\x81" + pair(b"text", b"\xdb....")))
        rpc.send_bytes(request(b"\x81" + pair(b"text", b"\xdb" + struct.pack(">I", size)) + b"x" * size))
        self.assertEqual(rpc.receive()[2]["code"], "invalid")  # a frame of 1 MiB, a text too long

    def test_d3_a_frame_that_is_never_completed_times_out(self):
        self.start(config=HASTY)
        rpc = self.connect()
        self.assertIsNone(rpc.call("ping")[0])
        started = time.monotonic()
        rpc.send_bytes(request(b"\x82" + SAID)[:-1])
        self.assertEqual(rpc.receive()[2]["code"], "frame_timeout")
        self.assertGreater(time.monotonic() - started, 0.25)
        self.assertIsNone(rpc.receive())
        self.assert_untouched()

    def test_d6_a_connection_without_a_first_frame_is_closed(self):
        self.start(config=HASTY)
        self.assertEqual(self.connect().receive()[2]["code"], "frame_timeout")
        self.assertIsNone(self.connect_and_ping().receive())  # idle after it: closed without a word

    def connect_and_ping(self):
        rpc = self.connect()
        self.assertIsNone(rpc.call("ping")[0])
        return rpc


class Params(RpcCase):
    """D4, D5: bad_request, and the connection goes on."""

    KEPT = {
        "d4 duplicate key": b"\x83" + SAID + pair(b"text", b"\xa1y"),
        "d4 key no text": b"\x83" + SAID + b"\x01\x01",
        "d4 key nil": b"\x83" + SAID + b"\xc0\xc0",
        "d4 unknown field": b"\x83" + SAID + pair(b"texts", b"\xa1y"),
        "d4 wrong type": b"\x82" + pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\x05"),
        "d4 bin for text": b"\x82" + pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\xc4\x01x"),
        "d4 text for number": b"\x83" + SAID + pair(b"wait_ms", b"\xa11"),
        "d4 no map": b"\x01",
        "d4 text missing": b"\x81" + pair(b"conversation_id", b"\xa1d"),
        "d4 conversation missing": b"\x81" + pair(b"text", b"\xa1d"),
        "d4 conversation no id": b"\x82" + pair(b"conversation_id", b"\xa3d d") + pair(b"text", b"\xa1x"),
        "d4 text no utf-8": b"\x82" + pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\xa2\xc0\xaf"),
        "d4 text with nul": b"\x82" + pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\xa1\x00"),
        "d4 long text with nul": b"\x82" + pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\xb8" + b"x" * 18 + b"\x00" + b"x" * 5),
        "d4 long text no utf-8": b"\x82" + pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\xb8" + b"x" * 18 + b"\xff" + b"x" * 5),
        "d4 metadata of numbers": b"\x83" + SAID + pair(b"metadata", b"\x81\xa1a\x01"),
        "d4 metadata twice": b"\x83" + SAID + pair(b"metadata", b"\x82\xa1a\xa11\xa1a\xa12"),
        "d4 metadata no map": b"\x83" + SAID + pair(b"metadata", b"\x90"),
        "d5 ext": b"\x82" + pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\xd4\x05x"),
        "d5 ext as key": b"\x83" + SAID + b"\xd4\x05x\xa1x",
        "d5 timestamp": b"\x83" + SAID + pair(b"wait_ms", b"\xd6\xff\x00\x00\x00\x00"),
        "d5 timestamp of too many ns": b"\x83" + SAID + pair(b"wait_ms", b"\xd7\xff" + struct.pack(">Q", 1_000_000_000 << 34)),
        "d5 timestamp 96": b"\x83" + SAID + pair(b"wait_ms", b"\xc7\x0c\xff" + struct.pack(">Iq", 4_000_000_000, -1)),
        "d5 nan": b"\x83" + SAID + pair(b"wait_ms", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        "d5 float": b"\x83" + SAID + pair(b"wait_ms", b"\xca\x3f\x80\x00\x00"),
        "d5 uint64 above int64": b"\x83" + SAID + pair(b"wait_ms", b"\xcf\x80\x00\x00\x00\x00\x00\x00\x00"),
        "d5 negative": b"\x83" + SAID + pair(b"if_match", b"\xff"),
    }
    INVALID = {
        "text empty": b"\x82" + pair(b"conversation_id", b"\xa1d") + pair(b"text", b"\xa0"),
        "wait too long": b"\x83" + SAID + pair(b"wait_ms", b"\xce\x00\x04\x93\xe1"),
        "on_busy unknown": b"\x83" + SAID + pair(b"on_busy", b"\xa3now"),
        "control in a name": b"\x83" + SAID + pair(b"channel", b"\xa1\x07"),
        "from nobody": b"\x83" + SAID + pair(b"from", b"\xa6human:"),
    }

    def test_d4_d5_bad_params_are_refused_and_the_connection_kept(self):
        self.start()
        rpc = self.connect()
        for code, cases in (("bad_request", self.KEPT), ("invalid", self.INVALID)):
            for name, params in cases.items():
                with self.subTest(name=name):
                    rpc.send_bytes(request(params))
                    kind, msgid, error, result = rpc.receive()
                    self.assertEqual((kind, msgid, result), (1, 7, None))
                    self.assertEqual(error["code"], code, error)
                    self.assertTrue(error["message"])
        for name, data in {"params no array": b"\x94\x00\x07\xa4ping\x80", "two params": b"\x94\x00\x07\xa4ping\x92\x80\x80",
                           "method no text": b"\x94\x00\x07\x05\x91\x80"}.items():
            with self.subTest(name=name):
                rpc.send_bytes(data)
                self.assertEqual(rpc.receive()[2]["code"], "bad_request")
        self.assert_untouched()
        self.assertIsNone(rpc.call("ping")[0])
        mixed = "sixteen plain ones, \x01é\x7f€ und dann 𝄞 and more plain ones"
        self.assertEqual(rpc.say("mixed", mixed)["reply"]["text"], mixed)

    def test_several_mistakes_are_told_at_once(self):
        self.start()
        error, _ = self.connect().call("message.send", conversation_id="d", texts="x", agent=5)
        self.assertIn("/texts unknown field", error["message"])
        self.assertIn("/agent must be a string", error["message"])

    def test_unknown_method_and_fields_of_other_methods(self):
        self.start()
        rpc = self.connect()
        self.assertEqual(rpc.call("message.sent")[0]["code"], "unknown_method")
        self.assertEqual(rpc.call("ping", text="x")[0]["code"], "bad_request")
        self.assertEqual(rpc.call("conversation.get", conversation_id="none")[0]["code"], "not_found")
        self.assertEqual(rpc.call("events.read", conversation_id="none", limit=1001)[0]["code"], "invalid")
        self.assertEqual(self.metric(r'rpc_errors_total\{code="unknown_method"\}'), 1)


class Methods(RpcCase):
    def test_a_message_is_answered_with_the_fields_of_http(self):
        self.start()
        rpc = self.connect()
        over_rpc = rpc.say("m", "olá", message_id="m-1", trace_id="trace-1")
        over_http = self.client().say("m", "olá", message_id="m-1").json
        self.assertEqual(over_rpc["reply"], {"text": "olá", "agent": "echo"})
        self.assertEqual(over_rpc["trace_id"], "trace-1")
        self.assertEqual(set(over_rpc), set(over_http))
        same = [key for key in over_rpc if key not in ("trace_id", "duplicate", "duration_ms")]
        self.assertEqual({key: over_rpc[key] for key in same}, {key: over_http[key] for key in same})

    def test_copies_are_found_across_http_and_rpc(self):
        self.start()
        rpc, http = self.connect(), self.client()
        fields = {"message_id": "m-1", "customer_id": "ana", "channel": "web", "metadata": {"a": "1", "b": "é\""}}
        self.assertFalse(http.say("x", "same", **fields).json["duplicate"])
        self.assertTrue(rpc.say("x", "same", **fields)["duplicate"])
        self.assertFalse(rpc.say("x", "same", **{**fields, "message_id": "m-2"})["duplicate"])
        self.assertTrue(http.say("x", "same", **{**fields, "message_id": "m-2"}).json["duplicate"])
        error, _ = rpc.call("message.send", conversation_id="x", text="other", **fields)
        self.assertEqual(error["code"], "conflict")
        self.assertEqual(http.say("x", "other", **{**fields, "message_id": "m-2"}).status, 422)
        self.assert_dense(http.events("x"))

    def test_wait_0_answers_when_durable(self):
        model = self.start_model("--first-token-ms", "1500")
        self.start(config="providers:\n  p: {type: openai, base_url: 'http://%s/v1'}\nagents: {a: {kind: llm, provider: p, model: m}}\n"
                          "routing: {default: a}\n" % model.ready["http"])
        rpc = self.connect()
        self.assertIn(rpc.say("w", "x", wait_ms=0)["status"], ("running", "queued"))
        self.assertIn(rpc.say("v", "x", wait_ms=100)["status"], ("running", "queued"))
        self.assertEqual(rpc.say("u", "x")["status"], "completed")

    def test_if_match_busy_and_limits(self):
        self.start(config=CONFIG + "limits: {customer: {messages: 3, per: 1h}}\n")
        rpc = self.connect()
        version = rpc.say("i", "one", customer_id="k")["version"]
        error, _ = rpc.call("message.send", conversation_id="i", text="x", customer_id="k", if_match=version + 5)
        self.assertEqual(error["code"], "stale")
        rpc.say("i", "two", customer_id="k", if_match=version)
        error, _ = rpc.call("message.send", conversation_id="i", text="x", customer_id="k")
        self.assertEqual(error["code"], "limited")
        self.assertGreater(error["retry_after_ms"], 0)
        self.assertEqual(self.client().say("i", "x", customer_id="k").status, 429)

    def test_reading_is_what_http_reads(self):
        self.start()
        rpc, http = self.connect(), self.client()
        rpc.say("r", "one", metadata={"n": "1"})
        rpc.say("r", "two")
        self.assertEqual(rpc.call("conversation.get", conversation_id="r")[1], http.get("/v1/conversations/r").json)
        for after, limit in ((0, 1000), (2, 2), (6, 10)):
            error, page = rpc.call("events.read", conversation_id="r", after=after, limit=limit)
            self.assertIsNone(error)
            self.assertEqual(page, http.get(f"/v1/conversations/r/events?after={after}&limit={limit}").json)

    def test_a_notification_is_said_and_not_answered(self):
        self.start()
        rpc = self.connect()
        rpc.notify("message.send", conversation_id="n", text="fire and forget", message_id="n-1")
        rpc.notify("ping")
        rpc.notify("nonsense", x=1)
        rpc.notify("message.send", conversation_id="n", texts="refused in silence")
        self.assertIsNone(rpc.call("ping")[0])  # nothing came before this answer
        wait_until(lambda: self.client().get("/v1/conversations/n").status == 200, what="the message's turn")
        self.assertTrue(rpc.say("n", "fire and forget", message_id="n-1")["duplicate"])
        self.assertEqual(self.metric("rpc_ignored_notifications_total"), 2)
        self.assertEqual(self.metric(r"rpc_calls"), 0)


class Streams(RpcCase):
    def events(self, rpc, subscription, count):
        events = []
        while len(events) < count:
            kind, method, (params,) = rpc.receive()
            self.assertEqual((kind, method, params["subscription"]), (2, "event", subscription))
            events.append(params["event"])
        return events

    def test_history_then_what_happens_and_resume(self):
        self.start()
        rpc, other = self.connect(), self.connect()
        for i in range(30):  # 90 events: more than a page
            other.say("s", f"before {i}")
        call = rpc.start("events.subscribe", conversation_id="s")
        self.assertEqual(rpc.receive(), [1, call, None, {"subscription": call, "conversation_id": "s", "after": 0, "version": 90}])
        events = self.events(rpc, call, 90)
        other.say("s", "after")
        events += self.events(rpc, call, 3)
        self.assertEqual(events, self.client().events("s"))
        resumed = self.connect()
        call = resumed.start("events.subscribe", conversation_id="s", after=91)
        self.assertIsNone(resumed.receive()[2])
        self.assertEqual([event["version"] for event in self.events(resumed, call, 2)], [92, 93])

    def test_unsubscribe_says_where_to_go_on(self):
        self.start()
        rpc, other = self.connect(), self.connect()
        other.say("s", "one")
        call = rpc.start("events.subscribe", conversation_id="s", after=3)
        self.assertIsNone(rpc.receive()[2])
        self.assertEqual(rpc.call("events.unsubscribe", subscription=call), (None, {"subscription": call, "after": 3}))
        other.say("s", "two")
        self.assertIsNone(rpc.call("ping")[0])  # and no event before it
        self.assertEqual(rpc.call("events.unsubscribe", subscription=call)[0]["code"], "not_found")

    def test_what_cannot_be_subscribed_to(self):
        self.start()
        rpc = self.connect()
        self.assertEqual(rpc.call("events.subscribe", conversation_id="none")[0]["code"], "not_found")
        rpc.say("s", "one")
        self.assertEqual(rpc.call("events.subscribe", conversation_id="s", after=4)[0]["code"], "bad_request")

    def subscribe_without_reading(self):
        """(the connection, its subscription, messages said by the time that the stream waited)"""
        slow, http = self.connect(), self.client()
        http.say("s", "one")
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        call = slow.start("events.subscribe", conversation_id="s")
        self.assertIsNone(slow.receive()[2])
        said = 1
        while self.metric("rpc_slow_readers_total") == 0:
            for _ in range(20):
                http.say("s", "x" * 30000)
            said += 20
            self.assertLess(said, 2000, "a slow reader's stream must wait")
        return slow, call, said

    def test_a_slow_reader_misses_nothing(self):
        self.start(config=CONFIG + "rpc: {send_bytes: 64KiB}\n")
        slow, call, said = self.subscribe_without_reading()
        versions = [event["version"] for event in self.events(slow, call, said * 3)]
        self.assertEqual(versions, list(range(1, said * 3 + 1)))
        self.client().say("s", "and lives on")
        self.assertEqual(len(self.events(slow, call, 3)), 3)

    def test_a_reader_that_does_not_read_is_cut_off_and_resumes(self):
        self.start(config=CONFIG + "rpc: {send_bytes: 64KiB, idle_timeout: 700ms}\n")
        slow, _, said = self.subscribe_without_reading()
        wait_until(lambda: self.metric("rpc_connections") == 0, what="the end of who reads nothing")
        last = 0
        while True:
            frame = slow.receive()
            if frame is None:
                break
            last = frame[2][0]["event"]["version"]
        again = self.connect()
        call = again.start("events.subscribe", conversation_id="s", after=last)
        self.assertIsNone(again.receive()[2])
        versions = [event["version"] for event in self.events(again, call, said * 3 - last)]
        self.assertEqual(versions, list(range(last + 1, said * 3 + 1)))

    def test_erasing_a_conversation_ends_its_streams(self):
        self.start()
        rpc, other = self.connect(), self.connect()
        other.say("s", "one")
        call = rpc.start("events.subscribe", conversation_id="s", after=3)
        self.assertIsNone(rpc.receive()[2])
        self.client().call("DELETE", "/v1/conversations/s")
        while True:
            frame = rpc.receive()
            if frame[1] == "end":
                break
        self.assertEqual(frame[2][0]["subscription"], call)
        self.assertIn(frame[2][0]["code"], ("ended", "not_found"))  # not_found: it was still reading the history
        self.assertIsNone(rpc.call("ping")[0])


class Flow(RpcCase):
    def test_a_thousand_pipelined_are_answered_once_each(self):
        self.start()
        rpc = self.connect()
        frames = [msgpack.packb([0, i, "message.send", [{"conversation_id": f"p-{i % 13}", "message_id": f"m-{i}", "text": str(i)}]])
                  for i in range(1000)]
        rpc.send_bytes(b"".join(frames))
        answers = [rpc.receive() for _ in range(1000)]
        self.assertEqual(sorted(answer[1] for answer in answers), list(range(1000)))
        self.assertTrue(all(answer[2] is None and answer[3]["reply"]["text"] == str(answer[1]) for answer in answers))
        http = self.client()
        for conversation in range(13):
            events = http.events(f"p-{conversation}")
            self.assert_dense(events)
            said = [event["idempotency_key"] for event in events if event["event"] == "inbox.message.received"]
            self.assertEqual(said, [f"m-{i}" for i in range(conversation, 1000, 13)])

    def test_d7_reading_stops_for_a_client_that_never_reads(self):
        self.start(config=CONFIG + "rpc: {pipeline: 32, send_bytes: 64KiB}\n")
        rpc, other = self.connect(), self.connect()
        rpc.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        rpc.socket.settimeout(2)
        frame = msgpack.packb([0, 1, "message.send", [{"conversation_id": "flood", "text": "x" * 1000}]])
        sent = 0
        try:
            while sent < 1_000_000 * len(frame):
                sent += rpc.socket.send(frame * 64)
        except socket.timeout:
            pass
        self.assertLess(sent, 64 << 20, "reading must stop")
        self.assertLess(self.metric("rpc_requests_total"), sent / len(frame))
        self.assertIsNone(other.call("ping")[0])
        rpc.socket.settimeout(PATIENCE)
        rpc.socket.shutdown(socket.SHUT_WR)
        answers = 0
        while rpc.receive():
            answers += 1
        self.assertGreater(answers, 100)  # and all that was taken is answered, once it reads

    def test_pages_that_nobody_reads_yet_wait_and_are_all_answered(self):
        self.start()
        rpc, http = self.connect(), self.client()
        for _ in range(130):
            http.say("pages", "x" * 30000)
        pages = [rpc.start("events.read", conversation_id="pages", limit=1000) for _ in range(20)]  # 20 x 4 MiB
        wait_until(lambda: self.metric("rpc_requests_total") >= 8 and self.metric("rpc_calls") == 0, what="answers that wait unread")
        answers = [rpc.receive() for _ in pages]
        self.assertEqual([answer[1:3] for answer in answers], [[page, None] for page in pages])
        self.assertTrue(all(answer[3] == answers[0][3] for answer in answers))

    def test_half_close_still_gets_its_answers(self):
        self.start()
        rpc = self.connect()
        for i in range(50):
            rpc.start("message.send", conversation_id=f"h-{i}", text="x")
        rpc.socket.shutdown(socket.SHUT_WR)
        answers = [rpc.receive() for _ in range(50)]
        self.assertTrue(all(answer[2] is None for answer in answers))
        self.assertIsNone(rpc.receive())

    def test_drain_answers_what_is_open_and_ends_streams(self):
        model = self.start_model("--first-token-ms", "700")
        self.start(config="providers:\n  p: {type: openai, base_url: 'http://%s/v1'}\nagents: {a: {kind: llm, provider: p, model: m}}\n"
                          "routing: {default: a}\n" % model.ready["http"])
        rpc, stream, idle = self.connect(), self.connect(), self.connect()
        self.assertIsNone(idle.call("ping")[0])
        rpc.start("message.send", conversation_id="drain", text="x")
        wait_until(lambda: self.client().get("/v1/conversations/drain").status == 200, what="the message")
        call = stream.start("events.subscribe", conversation_id="drain")
        self.assertIsNone(stream.receive()[2])
        self.assertEqual(stream.receive()[1], "event")
        self.server.process.send_signal(signal.SIGTERM)
        self.assertIsNone(idle.receive())
        answer = rpc.receive()
        self.assertIsNone(answer[2])
        self.assertEqual(answer[3]["status"], "completed")
        self.assertIsNone(rpc.receive())
        frames = list(iter(stream.receive, None))
        code = frames[-1][2][0].get("code")
        self.assertEqual(frames[-1], [2, "end", [{"subscription": call, "code": code}]])
        self.assertIn(code, ("ended", "draining"))  # draining: it was still reading the history
        self.assertTrue(all(frame[1] == "event" for frame in frames[:-1]))
        self.server.process.wait(PATIENCE)
        self.assertEqual(self.server.process.returncode, 0)

    def test_clients_that_vanish_leave_nothing_behind(self):
        self.start()
        self.connect().say("v", "one")

        def vanish(i):
            rpc = Rpc(self.server.ready["rpc"])
            for _ in range(20):
                rpc.start("message.send", conversation_id=f"v-{i}", text="x")
            rpc.start("events.subscribe", conversation_id="v")
            rpc.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rpc.close()

        in_parallel(16, vanish)
        wait_until(lambda: self.metric("rpc_connections") <= 1 and self.metric("rpc_calls") == 0 and self.metric("rpc_streams") == 0,
                   what="an end of what the vanished clients had open")


class Clients(RpcCase):
    @unittest.skipUnless(HAS_NODE, "npm package @msgpack/msgpack is not installed")
    def test_the_npm_library_talks_to_it(self):
        self.start()
        host, port = self.server.ready["rpc"].rsplit(":", 1)
        done = subprocess.run(["node", os.path.join(ROOT, "tests", "blackbox", "msgpack_client.mjs"), host, port, "500"],
                              env={**os.environ, "CIRANDA_NODE": NODE}, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), {"answered": 500, "ids": 500, "wrong": 0, "refusal": "bad_request"})

    def test_the_c_example_runs_twice(self):
        self.start()
        host, port = self.server.ready["rpc"].rsplit(":", 1)
        for _ in range(2):
            done = subprocess.run([EXAMPLE, host, port], capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout, "100 messages answered\nreply: and you?\nevent 33: turn.completed\n")

    def test_the_c_example_in_the_docs_is_the_one_that_runs(self):
        with open(os.path.join(ROOT, "docs", "RPC.md"), encoding="utf-8") as file:
            quoted = re.findall(r"```c\n(.*?)```", file.read(), re.S)
        with open(os.path.join(ROOT, "net", "client", "example.c"), encoding="utf-8") as file:
            source = file.read()
        self.assertTrue(quoted)
        for block in quoted:
            self.assertIn(block, source)

    def test_no_listener_when_switched_off(self):
        self.start("--rpc-listen", "")
        self.assertEqual(self.server.ready["rpc"], "")


if __name__ == "__main__":
    unittest.main()
