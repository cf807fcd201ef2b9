# SPDX-License-Identifier: Apache-2.0
"""The commands a person types: chat and events against a running server."""
import subprocess
import unittest

from harness import BINARY, ServerCase

CONFIG = "agents: {echo: {kind: echo}}\nrouting: {default: echo}\n"


class Binary(unittest.TestCase):
    def test_it_is_linked_with_its_allocator(self):
        """A linker that optimises across files dropped jemalloc: it had not seen that anybody calls malloc."""
        with open(BINARY, "rb") as file:
            content = file.read()
        if b"__asan_init" in content or b"__tsan_init" in content:
            self.skipTest("sanitizers bring their own allocator")
        self.assertIn(b"libjemalloc.so", content)


class Chat(ServerCase):
    config = CONFIG

    def chat(self, *arguments, said=""):
        return subprocess.run([BINARY, "chat", *arguments], input=said, capture_output=True, text=True, timeout=60)

    def test_each_line_is_answered_and_the_events_show_it(self):
        self.start()
        result = self.chat("talk", "--server", self.address, said="hello\n\nolá\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, "[conversation talk]\nhello\nolá\n")
        events = subprocess.run([BINARY, "events", "talk", "--server", self.address], capture_output=True, text=True, timeout=60)
        self.assertEqual(events.returncode, 0, events.stderr)
        self.assertEqual(events.stdout.count('"inbox.message.received"'), 2)

    def test_a_refused_line_is_told_once_and_the_chat_goes_on(self):
        self.start()
        result = self.chat("talk", "--server", self.address, said="x" * 40000 + "\nagain\n")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stderr.count("ciranda chat:"), 1, result.stderr)
        self.assertTrue(result.stdout.endswith("again\n"), result.stdout)

    def test_a_refused_last_line_is_told_once_and_is_the_exit_code(self):
        self.start()
        result = self.chat("talk", "--server", self.address, said="hello\n" + "x" * 40000 + "\n")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count("ciranda chat:"), 1, result.stderr)

    def test_a_server_that_is_not_there_ends_the_chat_with_a_hint(self):
        result = self.chat("talk", "--server", "127.0.0.1:1", said="hello\nagain\n")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count("ciranda chat:"), 1, result.stderr)
        self.assertIn("is the server running", result.stderr)


if __name__ == "__main__":
    unittest.main()
