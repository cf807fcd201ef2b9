# SPDX-License-Identifier: Apache-2.0
"""HTTP framing and resources from raw sockets: rows A1-A16, B1-B8, C1, C2 of the fault catalogue, against the real binary.

"400c" is status 400, Connection: close, and nothing after the offending byte is interpreted: each case carries a second,
valid request behind the first, which must not be answered when the first is refused so.
"""
import os
import re
import resource
import socket
import time
import unittest

from harness import IS_SANITIZED, Client, ServerCase, raw_exchange, wait_until

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

REFUSED = {
    "A1 length and encoding": [(post(b"Transfer-Encoding: chunked", body=C + b"\r\n"), 400)],
    "A2 two lengths": [(post(b"Content-Length: 12"), 400), (post(b"Content-Length: 13"), 400), (post(b"Content-Length: 12, 12", length=False), 400)],
    "A3 lengths": [(post(b"Content-Length:" + value, length=False), 400) for value in
                   (b"", b" +12", b" -48", b" 0xc", b" 1_2", b" 1 2", b" 12Z", b" 010", b" 99999999999999999999")] +
                  [(post(b"Content-Length: 999999999", length=False, body=b""), 413)],
    "A4 encodings": [(post(b"Transfer-Encoding:" + value, body=C + b"\r\n", length=False), 400) for value in
                     (b" ,chunked", b" chunked,", b" chunked, chunked", b" xchunked", b" identity", b" \x0bchunked", b" chunked\x0c", b" \x85chunked", b" \xa0chunked")] +
                    [(post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=C + b"\r\n", length=False), 400),
                     (post(b"Transfer-Encoding: chunked", body=C + b"\r\n", length=False, version=b"HTTP/1.0"), 400),
                     (post(b"Transfer-Encoding: gzip, chunked", body=C + b"\r\n", length=False), 501)],
    "A5 chunk sizes": [(chunked(size + b"\r\n" + B + b"\r\n0\r\n\r\n"), 400) for size in
                       (b"", b"+c", b"-c", b"0xc", b"0_c", b" c", b"c ", b"00000000c", b"\tc")],
    "A6 chunk ends": [(chunked(b"c\n" + B + b"\r\n0\r\n\r\n"), 400), (chunked(b"c\rX" + B + b"\r\n0\r\n\r\n"), 400),
                      (chunked(b"4\r\n" + B + b"\r\n0\r\n\r\n"), 400), (chunked(b"c\r\n" + B + b"0\r\n\r\n"), 400),
                      (chunked(b"c;a\x01b\r\n" + B + b"\r\n0\r\n\r\n"), 400), (chunked(b"c;" + b"a" * 300 + b"\r\n" + B + b"\r\n0\r\n\r\n"), 400)],
    "A7 trailers": [(chunked(C + name + b": x\r\n\r\n"), 400) for name in
                    (b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"Content-Type")],
    "A8 line ends": [(b"GET /livez HTTP/1.1\nHost: x\n\n", 400), (b"GET /livez HTTP/1.1\rHost: x\r\r", 400), (b"GET /livez HTTP/1.1\r\nHost: x\r\n\rX", 400),
                     (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400), (b"GET /livez HTTP/1.1\r\nHost: x\n\r\n", 400)],
    "A9 names": [(get(b"GET /livez HTTP/1.1", header), 400) for header in
                 (b"A : b", b"nocolon", b": b", b"A\x01: b", b"A(: b", b"a_b: c", b"\x80: c")] + [(b"GET /livez HTTP/1.1\r\n Host: x\r\n\r\n", 400)],
    "A10 values": [(get(b"GET /livez HTTP/1.1", header), 400) for header in (b"A: b\x00c", b"A: b\rc", b"A: b\x07c", b"X-Trace-Id: caf\xe9")],
    "A11 hosts": [(get(host=None), 400), (get(b"GET /livez HTTP/1.1", b"Host: y"), 400), (get(host=b"Host: a, b"), 400),
                  (get(b"GET http://other/livez HTTP/1.1"), 400)],
    "A12 versions": [(get(b"GET /livez HTTP/1.32"), None), (get(b"GET /livez HTTP/4294967295.255"), None), (get(b"GET /livez HTTP/2.0"), 505),
                     (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None), (b"GET /livez\r\n\r\n", 400), (get(b"GET /livez HTTX/1.1"), 400), (get(b"GET /livez HTTP/1.1 x"), 400)],
    "A13 methods": [(get(b"BREW /livez HTTP/1.1"), 501), (get(b"GE(T /livez HTTP/1.1"), 400), (get(b" GET /livez HTTP/1.1"), 400)],
    "A14 targets": [(get(b"GET " + target + b" HTTP/1.1"), 400) for target in
                    (b"/a%00b", b"/a%0d%0ab", b"/a/%c0%af", b"/a/../livez", b"/v1/conversations/a%2fb", b"/a\\b", b"/v1/conversations/a%252fb", b"/%zz", b"/%4", b"livez", b"/a\x01b")],
    "A15 bodies where none belong": [(get(b"GET /livez HTTP/1.1", b"Content-Length: 1") + b"x", 400),
                                     (get(b"DELETE /v1/conversations/x HTTP/1.1", b"Content-Length: 1") + b"x", 400),
                                     (post(b"Expect: 200-maybe"), 417)],
    "B4 sizes": [(get(b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414), (get(b"GET /livez HTTP/1.1", b"A: " + b"b" * 17000), 431),
                 (get(b"GET /livez HTTP/1.1", *[b"A%d: b" % i for i in range(101)]), 431)],
    "B8 compressed": [(post(b"Content-Encoding: gzip"), 415)],
}
ACCEPTED = {
    "plain": (post(), 200),
    "chunked": (chunked(C + b"\r\n"), 200),
    "chunked with extension and trailer": (chunked(b"c;a=b\r\n" + B + b"\r\n0\r\nX-Sum: 1\r\n\r\n"), 200),
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

    def test_refused_framing(self):
        for name, cases in REFUSED.items():
            for i, (data, status) in enumerate(cases):
                with self.subTest(row=name, case=i, data=data[:80]):
                    received, closed = raw_exchange(self.address, data + NEXT, seconds=5)
                    found = self.statuses(received)
                    self.assertEqual(len(found), 1, received[:300])
                    if status is None:
                        self.assertIn(found[0], (400, 505))
                    else:
                        self.assertEqual(found[0], status)
                    self.assertTrue(closed, "the connection must close")
                    self.assertIn(b"connection: close", received.lower())
        self.assertEqual(Client(self.address).get("/v1/conversations/raw").status, 404, "no refused request reached a conversation")

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

    def test_a15_expect_continue(self):
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=5) as sock:
            sock.sendall(post(b"Expect: 100-continue", body=B)[:-len(B)])
            self.assertTrue(sock.recv(1000).startswith(b"HTTP/1.1 100 "))
            sock.sendall(B)
            self.assertTrue(sock.recv(4000).startswith(b"HTTP/1.1 200 "))
        received, _ = raw_exchange(self.address, post(b"Expect: 100-continue", b"Content-Length: 99999999", length=False, body=b""), seconds=5)
        self.assertEqual(self.statuses(received), [413])

    def test_b1_slow_heads_are_cut_in_ten_seconds_and_others_served(self):
        self.server.stop()
        self.start(config=CONFIG + "http: {head_timeout: 1s}\n")
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
            except OSError:
                pass
            self.assertTrue(received.startswith(b"HTTP/1.1 408"), received)
            self.assertLess(time.monotonic() - began, 6)
        self.assertEqual(self.client().get("/livez").status, 200)

    def test_b6_a_flood_of_connections_leaves_the_server_answering(self):
        self.server.stop()
        self.start(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160)))
        host, port = self.address.rsplit(":", 1)
        held = []
        try:
            for _ in range(400):
                held.append(socket.create_connection((host, int(port)), timeout=5))
        except OSError:
            pass
        lines_before = len(self.server.log_text().splitlines())
        time.sleep(1)
        with open(f"/proc/{self.server.process.pid}/stat") as file:
            before = sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))
        time.sleep(1)
        with open(f"/proc/{self.server.process.pid}/stat") as file:
            after = sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))
        self.assertLess(after - before, 0.5 * os.sysconf("SC_CLK_TCK") * (4 if IS_SANITIZED else 1), "the server spins")
        self.assertLess(len(self.server.log_text().splitlines()) - lines_before, 12, "one log line a second at most")
        for sock in held:
            sock.close()
        wait_until(lambda: Client(self.address, timeout=5).get("/livez").status == 200)

    def test_b3_a_reader_that_stops_reading_is_closed(self):
        http = self.client()
        http.say("slowreader", "x")
        host, port = self.address.rsplit(":", 1)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((host, int(port)))
        sock.sendall(get(b"GET /v1/conversations/slowreader/stream?after=0 HTTP/1.1", b"Accept: text/event-stream"))
        sock.recv(100)
        for i in range(400):
            self.assertEqual(http.say("slowreader", "y" * 30000).status, 200)
        # The events were produced although nobody read; the stream must end within what buffers hold.
        sock.settimeout(20)
        total = 0
        try:
            while chunk := sock.recv(1 << 20):
                total += len(chunk)
        except ConnectionResetError:
            pass
        self.assertLess(total, 24_000_000, "the whole history was buffered")
        sock.close()

    def test_c1_injection_through_text_and_ids(self):
        http = self.client()
        text = "a\n\nevent: forged\ndata: {}\r\n\rid: 99"
        http.say("inj", text)
        received, _ = raw_exchange(self.address, get(b"GET /v1/conversations/inj/stream?after=0 HTTP/1.1"), seconds=2)
        self.assertNotIn(b"\nevent: forged", received)
        self.assertNotIn(b"\nid: 99", received)


if __name__ == "__main__":
    unittest.main()
