# SPDX-License-Identifier: Apache-2.0
"""HTTP framing and resources from raw sockets: rows A1-A16, B1-B8, C1, C2 of the fault catalogue, against the real binary.

"400c" is status 400, Connection: close, and nothing after the offending byte is interpreted: each case carries a second,
valid request behind the first, which must not be answered when the first is refused so.
"""
import json
import os
import re
import resource
import select
import socket
import threading
import time
import unittest

from harness import IS_SANITIZED, Client, ServerCase, SseStream, raw_exchange, wait_until

CONFIG = "agents: {echo: {kind: echo}}\nrouting: {default: echo}\n"
TARGET = b"/v1/conversations/raw/messages"
NEXT = b"GET /livez HTTP/1.1\r\nHost: next\r\nConnection: close\r\n\r\n"


def post(*headers, body=b'{"text":"x"}', version=b"HTTP/1.1", length=True, host=True):
    lines = [b"POST " + TARGET + b" " + version]
    if host:
        lines.append(b"Host: x")
    lines.append(b"Content-Type: application/json")
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines + list(headers)) + b"\r\n\r\n" + body


def chunked(data, *headers):
    return post(b"Transfer-Encoding: chunked", *headers, body=data, length=False)


def get(line=b"GET /livez HTTP/1.1", *headers, host=b"Host: x"):
    return b"\r\n".join([line] + ([host] if host is not None else []) + list(headers)) + b"\r\n\r\n"


B = b'{"text":"x"}'
C = b"c\r\n" + B + b"\r\n0\r\n"

# Row and name -> (request, status); what is refused is refused as 400c, where no other status is told.
REFUSED = {
    "A1 length and encoding": [(post(b"Transfer-Encoding: chunked", body=C + b"\r\n"), 400),
                               (post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=C + b"\r\n", length=False), 400)],
    "A2 two lengths": [(post(b"Content-Length: 12"), 400), (post(b"Content-Length: 13"), 400), (post(b"Content-Length: 12, 12", length=False), 400)],
    "A3 lengths": [(post(b"Content-Length:" + value, length=False), 400) for value in
                   (b"", b" +12", b" -48", b" 0xc", b" 1_2", b" 1 2", b" 12Z", b" 010", b" 99999999999999999999", b" 00000000000000000012")] +
                  [(post(b"Content-Length: 999999999", length=False, body=b""), 413), (post(b"Content-Length: 9999999999999999999", length=False, body=b""), 413)],
    "A4 encodings": [(post(b"Transfer-Encoding:" + value, body=C + b"\r\n", length=False), 400) for value in
                     (b" ,chunked", b" chunked,", b" chunked, chunked", b" chunked, gzip", b"", b" xchunked", b" identity", b" \x0bchunked", b" chunked\x0c", b" \x85chunked", b" \xa0chunked")] +
                    [(post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=C + b"\r\n", length=False), 400),
                     (post(b"Transfer-Encoding: chunked", body=C + b"\r\n", length=False, version=b"HTTP/1.0"), 400),
                     (post(b"Transfer-Encoding: gzip, chunked", body=C + b"\r\n", length=False), 501),
                     (post(b"Transfer-Encoding: deflate", body=C + b"\r\n", length=False), 501)],
    "A5 chunk sizes": [(chunked(size + b"\r\n" + B + b"\r\n0\r\n\r\n"), 400) for size in
                       (b"", b"+c", b"-c", b"0xc", b"0_c", b" c", b"c ", b"c\t", b"00000000c", b"10000000c", b"\tc", b";a")],
    "A6 chunk ends": [(chunked(b"c\n" + B + b"\r\n0\r\n\r\n"), 400), (chunked(b"c\rX" + B + b"\r\n0\r\n\r\n"), 400),
                      (chunked(b"4\r\n" + B + b"\r\n0\r\n\r\n"), 400), (chunked(b"c\r\n" + B + b"0\r\n\r\n"), 400),
                      (chunked(b"c\r\n" + B + b"\n0\r\n\r\n"), 400), (chunked(b"c\r\n" + B + b"\rX0\r\n\r\n"), 400),
                      (chunked(C + b"GET /smuggled HTTP/1.1\r\n\r\n"), 400), (chunked(C + b"\n"), 400), (chunked(C + b"\rX"), 400)] +
                     [(chunked(b"c;" + extension + b"\r\n" + B + b"\r\n0\r\n\r\n"), 400) for extension in
                      (b"a\x01b", b"a\rb", b"a\nb", b"a\x00b", b"a" * 256, b"a" * 300)],
    "A7 trailers": [(chunked(C + name + b": x\r\n\r\n"), 400) for name in
                    (b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"Content-Type")] +
                   [(chunked(C + b"".join(b"A%d: x\r\n" % i for i in range(17)) + b"\r\n"), 400)],
    "A8 line ends": [(b"GET /livez HTTP/1.1\nHost: x\n\n", 400), (b"GET /livez HTTP/1.1\rHost: x\r\r", 400), (b"GET /livez HTTP/1.1\r\nHost: x\r\n\rX", 400),
                     (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400), (b"GET /livez HTTP/1.1\r\nHost: x\n\r\n", 400),
                     (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b\r\n \r\n\r\n", 400), (b"\n" + get(), 400), (b" \r\n" + get(), 400), (b"\r\n\r\n" + get(), 400)],
    "A9 names": [(get(b"GET /livez HTTP/1.1", header), 400) for header in
                 (b"A : b", b"nocolon", b": b", b"A\x01: b", b"A(: b", b"a_b: c", b"\x80: c")] + [(b"GET /livez HTTP/1.1\r\n Host: x\r\n\r\n", 400)],
    "A10 values": [(get(b"GET /livez HTTP/1.1", header), 400) for header in (b"A: b\x00c", b"A: b\rc", b"A: b\x07c", b"A: b\x7f", b"X-Trace-Id: caf\xe9")],
    "A11 hosts": [(get(host=None), 400), (get(b"GET /livez HTTP/1.1", b"Host: y"), 400), (get(host=b"Host: a, b"), 400),
                  (get(b"GET http://other/livez HTTP/1.1"), 400)],
    # A version is one digit, a point and one digit: the first two are not well formed.
    "A12 versions": [(get(b"GET /livez HTTP/1.32"), 400), (get(b"GET /livez HTTP/4294967295.255"), 400), (get(b"GET /livez HTTP/2.0"), 505),
                     (get(b"GET /livez HTTP/0.9"), 505), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505), (b"GET /livez\r\n\r\n", 400),
                     (get(b"GET /livez HTTX/1.1"), 400), (get(b"GET /livez HTTP/1.1 x"), 400), (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400)],
    "A13 methods": [(get(b"BREW /livez HTTP/1.1"), 501), (get(b"GE(T /livez HTTP/1.1"), 400), (get(b" GET /livez HTTP/1.1"), 400)],
    "A14 targets": [(get(b"GET " + target + b" HTTP/1.1"), 400) for target in
                    (b"/a\x00b", b"/a%2e%2e/../b", b"/%2e%2e/livez", b"/a%5cb", b"/%e0%80%af", b"/a%00b", b"/a%0d%0ab", b"/a/%c0%af", b"/a/../livez", b"/v1/conversations/a%2fb", b"/a\\b", b"/v1/conversations/a%252fb", b"/%zz", b"/%4", b"livez", b"/a\x01b")],
    "A15 bodies where none belong": [(get(b"GET /livez HTTP/1.1", b"Content-Length: 1") + b"x", 400),
                                     (get(b"HEAD /livez HTTP/1.1", b"Content-Length: 1") + b"x", 400),
                                     (get(b"GET /livez HTTP/1.1", b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n", 400),
                                     (get(b"DELETE /v1/conversations/x HTTP/1.1", b"Content-Length: 1") + b"x", 400),
                                     (post(b"Expect: 200-maybe"), 417)],
    "B4 sizes": [(get(b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414), (get(b"GET /livez HTTP/1.1", b"A: " + b"b" * 17000), 431),
                 (get(b"GET /livez HTTP/1.1", *[b"A%d: b" % i for i in range(101)]), 431)],
    "B8 compressed": [(post(b"Content-Encoding: " + coding), 415) for coding in (b"gzip", b"deflate", b"br", b"gzip, gzip")],
}
ACCEPTED = {
    "plain": (post(), 200),
    "chunked": (chunked(C + b"\r\n"), 200),
    "chunked with extension and trailer": (chunked(b"c;a=b\r\n" + B + b"\r\n0\r\nX-Sum: 1\r\n\r\n"), 200),
    "sixteen trailers": (chunked(C + b"".join(b"A%d: x\r\n" % i for i in range(16)) + b"\r\n"), 200),
    "absolute target": (get(b"GET http://x/livez HTTP/1.1"), 200),
    "upper and lower case": (get(b"GET /livez HTTP/1.1", b"aCCEPT: */*"), 200),
    "http/1.0": (get(b"GET /livez HTTP/1.0"), 200),
    "empty lines before": (b"\r\n" + get(), 200),
}


class Http(ServerCase):
    config = CONFIG

    def setUp(self):
        super().setUp()
        self.start()

    def statuses(self, received):
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", received)]

    def refusals_counted(self):
        return sum(map(int, re.findall(rb"^ciranda_http_refusals_total\{[^}]*\} (\d+)$", self.client().get("/metrics").body, re.M)))

    def test_refused_framing(self):
        for name, cases in REFUSED.items():
            for i, (data, status) in enumerate(cases):
                with self.subTest(row=name, case=i, data=data[:80]):
                    received, closed = raw_exchange(self.address, data + NEXT, seconds=5)
                    self.assertEqual(self.statuses(received), [status], received[:300])
                    self.assertTrue(closed, "the connection must close")
                    self.assertIn(b"connection: close", received.lower())
        for name in ("raw", "a", "ab"):
            self.assertEqual(self.client().get(f"/v1/conversations/{name}").status, 404, "no refused request reached a conversation")
        self.assertEqual(self.refusals_counted(), sum(map(len, REFUSED.values())), "each refusal is counted by its reason")

    def test_accepted_framing_also_byte_by_byte(self):
        for name, (data, status) in ACCEPTED.items():
            for pieces in (None, [bytes([b]) for b in data + NEXT]):
                with self.subTest(case=name, dribble=pieces is not None):
                    received, _ = raw_exchange(self.address, data + NEXT, seconds=5, pieces=pieces)
                    self.assertEqual(self.statuses(received)[0], status, received[:300])

    def test_a16_valid_then_invalid_answers_the_first_only(self):
        received, closed = raw_exchange(self.address, get() + b"GET / HTTP/1.1\nHost: x\n\n" + NEXT, seconds=5)
        self.assertEqual(self.statuses(received), [200, 400])
        self.assertTrue(closed)

    def test_a16_ten_thousand_pipelined_requests_are_answered_in_order(self):
        count, answers = 10000, b""
        request = b"".join(b"GET /v1/conversations/no-%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(count - 1)) + NEXT
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=60) as sock:
            sender = threading.Thread(target=sock.sendall, args=(request,))
            sender.start()
            while chunk := sock.recv(1 << 20):
                answers += chunk
            sender.join()
        self.assertEqual(self.statuses(answers), [404] * (count - 1) + [200])

    def test_a13_a_wrong_method_is_405_with_allow_and_keeps_the_connection(self):
        received, _ = raw_exchange(self.address, get(b"PUT " + TARGET + b" HTTP/1.1") + NEXT, seconds=5)
        self.assertEqual(self.statuses(received), [405, 200])
        self.assertRegex(received, rb"\r\nAllow: POST\r\n|\r\nAllow: [A-Z, ]*\bPOST\b")

    def test_a14_a_target_is_decoded_exactly_once(self):
        received, _ = raw_exchange(self.address, post().replace(b"/raw/", b"/%61%42/") + NEXT, seconds=5)
        self.assertEqual(self.statuses(received), [200, 200])
        self.assertEqual(self.client().get("/v1/conversations/aB").status, 200)
        self.assertEqual(self.client().get("/v1/conversations/%2561%2542").status, 400)

    def slow_body(self, head, pieces):
        """Sends a head, then a piece a second. Returns all that came back, whether the peer closed, and how long it took."""
        host, port = self.address.rsplit(":", 1)
        began, received = time.monotonic(), b""
        with socket.create_connection((host, int(port)), timeout=20) as sock:
            sock.sendall(head)
            while time.monotonic() < began + 20:
                readable, _, _ = select.select([sock], [], [], 1)
                if readable:
                    piece = sock.recv(65536)
                    if not piece:
                        return received, True, time.monotonic() - began
                    received += piece
                else:
                    sock.sendall(pieces)
        return received, False, time.monotonic() - began

    def test_a15_silence_after_a_continue_is_408_and_nothing_is_journaled(self):
        received, closed, seconds = self.slow_body(post(b"Expect: 100-continue")[:-len(B)], b"")
        self.assertTrue(received.startswith(b"HTTP/1.1 100 "))
        self.assertEqual(self.statuses(received), [100, 408])
        self.assertTrue(closed)
        self.assertTrue(4 < seconds < 12, seconds)
        self.assertEqual(self.client().get("/v1/conversations/raw").status, 404)

    def test_b2_a_trickled_body_is_408_and_nothing_is_journaled(self):
        received, closed, seconds = self.slow_body(post(b"Content-Length: 20000", length=False, body=b""), b" " * 100)
        self.assertEqual(self.statuses(received), [408])
        self.assertTrue(closed)
        self.assertTrue(4 < seconds < 12, seconds)
        self.assertEqual(self.client().get("/v1/conversations/raw").status, 404)

    def test_a15_expect_continue(self):
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=5) as sock:
            sock.sendall(post(b"Expect: 100-continue", body=B)[:-len(B)])
            self.assertTrue(sock.recv(1000).startswith(b"HTTP/1.1 100 "))
            sock.sendall(B)
            self.assertTrue(sock.recv(4000).startswith(b"HTTP/1.1 200 "))
        received, _ = raw_exchange(self.address, post(b"Expect: 100-continue", b"Content-Length: 99999999", length=False, body=b""), seconds=5)
        self.assertEqual(self.statuses(received), [413])

    def test_b1_slow_heads_are_cut_at_their_time_and_others_served(self):
        self.server.stop()
        self.start(config=CONFIG + "http: {head_timeout: 1s}\n")
        other = self.client()
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=20) as sock:
            began = time.monotonic()
            received = b""
            try:
                for byte in b"GET /livez HTTP/1.1\r\nHost: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx":
                    sock.sendall(bytes([byte]))
                    sock.settimeout(0.1)
                    try:
                        piece = sock.recv(1000)
                        received += piece
                        if not piece:
                            break
                    except socket.timeout:
                        pass
                    self.assertEqual(other.get("/livez").status, 200)
            except OSError:
                pass
            self.assertTrue(received.startswith(b"HTTP/1.1 408"), received)
            self.assertLess(time.monotonic() - began, 6)

    def cpu_seconds(self):
        with open(f"/proc/{self.server.process.pid}/stat") as file:
            return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        with open(f"/proc/{self.server.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def assert_memory_grew_less(self, bytes_max, before):
        if not IS_SANITIZED:  # the sanitizer keeps what is freed for a while
            self.assertLess(self.resident_bytes() - before, bytes_max, "what nobody reads gathers in memory")

    def flood(self, server_descriptors, wanted):
        """Opens connections that say nothing until the server has no descriptor left, and holds them: the server neither spins
        nor fills its log, answers who comes now, at the cost of the oldest idle one, and all is well when they have left."""
        self.server.stop()
        self.start(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (server_descriptors, server_descriptors)))
        host, port = self.address.rsplit(":", 1)
        held = []
        try:
            for _ in range(wanted):
                held.append(socket.create_connection((host, int(port)), timeout=5))
            lines_before = len(self.server.log_text().splitlines())
            cpu_before = self.cpu_seconds()
            time.sleep(2)
            self.assertLess(self.cpu_seconds() - cpu_before, 4 if IS_SANITIZED else 1, "the server spins")
            self.assertLess(len(self.server.log_text().splitlines()) - lines_before, 12, "one log line a second at most")
            self.assertLessEqual(len(os.listdir(f"/proc/{self.server.process.pid}/fd")), server_descriptors)
            wait_until(self.is_answering, what="an answer to who comes when descriptors are out")
        finally:
            for sock in held:
                sock.close()
        wait_until(lambda: all(self.is_answering() for _ in range(20)), what="answers to all when the flood is over")
        self.assertEqual(self.client().say("after", "x").status, 200)

    def is_answering(self):
        client = Client(self.address, timeout=5)
        try:
            return client.get("/livez").status == 200
        except OSError:
            return False
        finally:
            client.close()

    def test_b6_out_of_descriptors_the_server_goes_on_answering(self):
        self.flood(160, 400)

    def test_b6_ten_thousand_idle_connections_and_then_no_descriptors(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limits[1] < 11000:
            self.skipTest(f"only {limits[1]} descriptors may be open here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (11000, limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.flood(10100, 10500)

    def test_b3_a_stream_reader_that_stops_reading_is_closed_and_resumes_by_id(self):
        http = self.client()
        http.say("slowreader", "x")
        before = self.resident_bytes()
        host, port = self.address.rsplit(":", 1)
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((host, int(port)))
        sock.sendall(get(b"GET /v1/conversations/slowreader/stream?after=0 HTTP/1.1", b"Accept: text/event-stream"))
        received = sock.recv(100)
        for i in range(600):
            self.assertEqual(http.say("slowreader", "y" * 30000).status, 200)
        self.assertEqual(http.metric("http_slow_readers_total"), 1)
        sock.settimeout(20)
        try:
            while chunk := sock.recv(1 << 20):
                received += chunk
        except ConnectionResetError:
            pass
        # 36 MB of events were produced; what left the server is what the kernel's buffers and its own hold.
        self.assertLess(len(received), 12_000_000, "the stream was not ended")
        self.assert_memory_grew_less(100_000_000, before)
        last = int(re.findall(rb"\nid: (\d+)\n", b"\n" + received)[-1])
        newest = http.get("/v1/conversations/slowreader").json["version"]
        stream = SseStream(self.address, "GET", "/v1/conversations/slowreader/stream", headers={"Last-Event-ID": str(last - 1)})
        reader = iter(stream)
        self.assertEqual([int(next(reader)[1]) for _ in range(last, newest + 1)], list(range(last, newest + 1)))
        stream.close()

    def test_b3_a_client_that_never_reads_its_answers_is_held_and_then_closed(self):
        """Its answers are 300 KB each, and it asks for a thousand of them without reading one."""
        self.server.stop()
        self.start(config=CONFIG + "http: {idle_timeout: 2s}\n")
        http = self.client()
        for i in range(10):
            http.say("big", "z" * 30000)
        before = self.resident_bytes()
        request = get(b"GET /v1/conversations/big/events HTTP/1.1") * 1000
        host, port = self.address.rsplit(":", 1)
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((host, int(port)))
        sock.settimeout(0.5)
        began, is_closed = time.monotonic(), False
        while not is_closed and time.monotonic() < began + 30:
            try:
                sock.sendall(request)
            except socket.timeout:
                request = b"x"  # the rest would do: the server has stopped reading
            except (ConnectionResetError, BrokenPipeError):
                is_closed = True
            self.assertEqual(self.client().get("/livez").status, 200, "others are served")
            # 32 exchanges are in flight at most; all the answers would be 300 MB.
            self.assert_memory_grew_less(100_000_000, before)
        self.assertTrue(is_closed, "a reader stuck in an answer is closed after idle_timeout")

    def test_c1_injection_through_text_and_ids(self):
        http = self.client()
        text = "a\n\nevent: forged\ndata: {}\r\n\rid: 99"
        self.assertEqual(http.say("inj", text).status, 200)
        stream = SseStream(self.address, "GET", "/v1/conversations/inj/stream?after=0")
        kind, identity, data = next(iter(stream))
        stream.close()
        self.assertEqual((kind, identity), ("inbox.message.received", "1"))
        self.assertEqual(json.loads(data)["payload"]["text"], text)
        # Ids and names of events are the server's own; what clients name is refused before it could become one.
        for bad in ("m\r\nid: 9", "m\n", "m\0"):
            self.assertIn(self.client().say("inj", "x", message_id=bad).status, (400, 422), repr(bad))
        self.assertEqual([e["event"] for e in http.events("inj")].count("inbox.message.received"), 1)


if __name__ == "__main__":
    unittest.main()
