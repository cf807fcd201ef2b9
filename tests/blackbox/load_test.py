#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The judge is judged: bench/load against a server that refuses, and one that refuses and loses what it acknowledged.

The server here is a page of Python: it answers every third message with 503, echoes the others, and shows its conversations. One
that lies leaves a single acknowledged message out of what it shows, with dense versions, so that only its number is missing."""
import http.server
import json
import subprocess
import threading
import unittest
from urllib.parse import parse_qs, urlsplit

from harness import BUILD

LOST_NUMBER = 5


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        conversation = self.path.split("/")[3]
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = int(message["message_id"].split("-")[1])
        if number % 3 == 0:
            self.answer(503, {"title": "busy"})
            return
        events = self.server.conversations.setdefault(conversation, [])
        if not (self.server.is_lying and number == LOST_NUMBER):
            events.append({"version": len(events) + 1, "event": "inbox.message.received", "idempotency_key": message["message_id"]})
            events.append({"version": len(events) + 1, "event": "agent.response.generated"})
        self.answer(200, {"conversation_id": conversation, "message_id": message["message_id"], "status": "completed", "version": 2 * number,
                          "duplicate": False, "reply": {"text": message["text"]}})

    def do_GET(self):
        url = urlsplit(self.path)
        after = int(parse_qs(url.query)["after"][0])
        events = self.server.conversations[url.path.split("/")[3]][after:]
        self.answer(200, {"events": events[:1000], "next": after + 1000 if len(events) > 1000 else None})

    def log_message(self, *_):
        pass


class LoadTest(unittest.TestCase):
    def run_load(self, is_lying):
        """Returns: exit code, result, what it says is wrong."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads, server.conversations, server.is_lying = True, {}, is_lying
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        done = subprocess.run([f"{BUILD}/bench/load", "--http", f"127.0.0.1:{server.server_address[1]}", "--connections", "2", "--seconds", "0.3",
                               "--refusals-ok", "--json"], capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, json.loads(done.stdout), done.stderr

    def test_refusals_alone_are_no_loss(self):
        code, result, complaint = self.run_load(is_lying=False)
        self.assertEqual(code, 0, complaint)
        self.assertGreater(result["refused"], 0)
        self.assertEqual((result["read_back"], result["read_back_wrong"]), (2, 0))
        self.assertLess(result["succeeded"], result["answered"])

    def test_a_loss_between_refusals_is_found(self):
        code, result, complaint = self.run_load(is_lying=True)
        self.assertEqual((code, result["read_back_wrong"]), (1, 2))
        self.assertIn("an acknowledged message is missing", complaint)


if __name__ == "__main__":
    unittest.main()
