# SPDX-License-Identifier: Apache-2.0
"""Faults of process, disk and surroundings: kills under load, failing and full disks, second processes, bad configurations,
signals. Rows F, R4, R9 and J of the fault catalogue (docs/TESTING.md).
"""
import ctypes
import ctypes.util
import errno
import glob
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import threading
import time
import unittest

from harness import BINARY, BUILD, IS_SANITIZED, Client, ServerCase, in_parallel, wait_until

KILLS = int(os.environ.get("CIRANDA_KILLS", "6"))
ECHO = "agents: {echo: {kind: echo}}\nrouting: {default: echo}\n"


def model_config(address, extra=""):
    return f"""
agents:
  echo: {{kind: echo}}
  slow: {{kind: llm, provider: main, model: test{extra}}}
providers:
  main: {{type: openai, base_url: "http://{address}/v1", timeout: 60s, retry: {{attempts: 3, backoff: 50ms..100ms}}}}
routing: {{default: echo}}
"""


class Kills(ServerCase):
    def test_f1_sigkill_under_load_loses_nothing_acknowledged(self):
        """Clients say numbered messages; the server is killed again and again. Whatever was answered 200 is there once, in
        order; whatever was sent with an id is there at most once; versions are dense; unfinished turns are answered."""
        model = self.start_model("--first-token-ms", 100, "--tokens", 5, "--stream-ms", 200)
        config = model_config(model.ready["http"])
        clients = 8
        acknowledged = [[] for _ in range(clients)]
        sent = [0] * clients
        stop = threading.Event()
        address_lock = threading.Lock()
        self.start(config=config)

        def customer(i):
            name, client, pending = f"kill-{i}", None, None
            agent = "slow" if i % 4 == 3 else "echo"
            while not stop.is_set() or pending:
                if pending is None:
                    sent[i] += 1
                    pending = f"{i}-{sent[i]}"
                try:
                    if client is None:
                        with address_lock:
                            client = Client(self.address, timeout=60)
                    answer = client.say(name, pending, message_id=pending, agent=agent)
                    if answer.status == 200 and answer.json["status"] == "completed":
                        acknowledged[i].append((pending, answer.json["reply"]["text"]))
                        pending = None
                    elif answer.status in (200, 202, 503):
                        time.sleep(0.02)
                    else:
                        raise AssertionError(answer)
                except (OSError, ValueError, __import__("http.client").client.HTTPException):
                    if client:
                        client.close()
                    client = None
                    time.sleep(0.02)
            if client:
                client.close()

        threads = [threading.Thread(target=customer, args=(i,)) for i in range(clients)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(KILLS):
                time.sleep(0.4)
                self.server.kill()
                with address_lock:
                    self.start(config=config)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        http = self.client()
        total = 0
        for i in range(clients):
            events = http.events(f"kill-{i}")
            self.assert_dense(events)
            received = [e["payload"]["message_id"] for e in events if e["event"] == "inbox.message.received"]
            self.assertEqual(len(received), len(set(received)), "a message was recorded twice")
            self.assertEqual(received, [f"{i}-{n}" for n in range(1, len(received) + 1)])
            self.assertEqual([text for text, _ in acknowledged[i]], received, "acknowledged and recorded differ")
            replies = [e for e in events if e["event"] in ("agent.response.generated", "agent.ai.response.generated")]
            self.assertEqual(len(replies), len(received), "each message has one reply")
            for (message, reply) in acknowledged[i]:
                self.assertIn(message, reply)
            total += len(received)
        self.assertGreater(total, clients * KILLS)
        self.assertEqual(self.server.stop(), 0)

    def test_an_unfinished_turn_is_answered_after_a_kill_without_anybody_asking(self):
        model = self.start_model("--first-token-ms", 1500, "--tokens", 3, "--stream-ms", 100)
        config = model_config(model.ready["http"])
        self.start(config=config)
        answer = self.client().say("orphan", "are you there", message_id="m", agent="slow", headers={"Prefer": "respond-async"})
        self.assertEqual(answer.status, 202)
        self.client().say("orphan", "and then", message_id="n", agent="slow", headers={"Prefer": "respond-async"})
        self.server.kill()
        self.start(config=config)
        http = self.client()
        events = wait_until(lambda: (lambda found: found if [e["event"] for e in found].count("agent.ai.response.generated") == 2 else None)(
            http.events("orphan")), what="both replies")
        self.assert_dense(events)
        copy = http.say("orphan", "are you there", message_id="m", agent="slow").json
        self.assertIs(copy["duplicate"], True)
        self.assertIn("are you there", copy["reply"]["text"])


class Disk(ServerCase):
    config = ECHO

    def test_f9_a_second_process_on_the_same_directory_leaves_at_once(self):
        self.start()
        second = subprocess.run([BINARY, "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--data", self.path("data")],
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(second.returncode, 1, second.stderr)
        self.assertIn("in use", second.stderr)
        self.assertEqual(self.client().say("a", "still here").status, 200)

    def test_f10_a_newer_format_is_refused(self):
        self.start()
        self.client().say("a", "x")
        self.server.stop()
        database = sqlite3.connect(self.path("data", "journal.db"))
        database.execute("PRAGMA user_version = 9999")
        database.commit()
        database.close()
        result = subprocess.run([BINARY, "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--data", self.path("data")],
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 1)
        self.assertIn("format", result.stderr)

    def flip_a_byte(self):
        with open(self.path("data", "journal.db"), "r+b") as file:
            data = file.read()
            at = data.index(b"needle-bad-1")
            file.seek(at)
            file.write(b"N")

    def lose_a_row(self):
        database = sqlite3.connect(self.path("data", "journal.db"))
        found = database.execute("SELECT offset FROM journal WHERE instr(records, CAST('needle-bad-1' AS BLOB))").fetchall()
        self.assertEqual(len(found), 1)
        database.execute("DELETE FROM journal WHERE offset = ?", found[0])
        database.commit()
        database.close()

    def quarantine(self, damage):
        self.start()
        http = self.client()
        for name, count in (("good", 3), ("between", 40), ("bad", 3)):  # so far apart that no row holds records of both
            for i in range(count):
                self.assertEqual(http.say(name, f"needle-{name}-{i}").status, 200)
        self.server.stop()
        damage()
        self.start()
        http = self.client()
        self.assertEqual(len([e for e in http.events("good") if e["event"] == "inbox.message.received"]), 3)
        for answer in (http.get("/v1/conversations/bad/events"), http.say("bad", "anybody there?")):
            problem = self.assert_problem(answer, 503)
            self.assertEqual(problem["type"], "urn:ciranda:problem:storage-corrupt")
        self.assertIn("corrupt", self.server.log_text())
        wait_until(lambda: http.metric("journal_corrupt") > 0, what="the alarm")
        self.assertEqual(self.client().say("good", "on").status, 200)

    def test_f3_a_flipped_bit_stops_its_conversation_only(self):
        self.quarantine(self.flip_a_byte)

    def test_f3_missing_records_stop_their_conversation_only(self):
        self.quarantine(self.lose_a_row)

    def test_f13_a_locked_file_is_503_and_heals(self):
        """Somebody's shell holds the database: a message is refused as one to be tried again, not as a conflict."""
        self.start()
        http = self.client()
        self.assertEqual(http.say("busy", "before").status, 200)
        shell = sqlite3.connect(self.path("data", "journal.db"), isolation_level=None)
        shell.execute("BEGIN IMMEDIATE")
        answer = http.say("busy", "while", message_id="w")
        self.assertEqual(self.assert_problem(answer, 503)["type"], "urn:ciranda:problem:storage-busy")
        self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        self.assertEqual(http.get("/v1/conversations/busy").status, 200, "reads go on")
        shell.execute("ROLLBACK")
        shell.close()
        self.assertEqual(http.say("busy", "while", message_id="w").status, 200)
        events = http.events("busy")
        self.assert_dense(events)
        self.assertEqual([e["event"] for e in events].count("inbox.message.received"), 2)

    @unittest.skipIf(os.geteuid() != 0, "mounting a small file system needs root")
    def test_f5_a_full_disk_refuses_writes_serves_reads_and_recovers(self):
        mount = self.path("small")
        os.mkdir(mount)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], capture_output=True).returncode:
            self.skipTest("no tmpfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", mount])
        self.start(data="small/data")
        http = self.client()
        accepted, status = 0, 200
        while status == 200 and accepted < 5000:
            answer = http.say("full", f"{accepted} " + "x" * 2000, message_id=str(accepted))
            status = answer.status
            accepted += status == 200
        self.assertIn(status, (503, 507), answer)
        self.assertEqual(http.get("/v1/conversations/full").status, 200)
        events = http.events("full")
        self.assert_dense(events)
        self.assertEqual([e["event"] for e in events].count("inbox.message.received"), accepted)
        subprocess.run(["mount", "-o", "remount,size=64m", mount], check=True)
        answer = wait_until(lambda: (lambda a: a if a.status == 200 else None)(http.say("full", f"{accepted} " + "x" * 2000, message_id=str(accepted))))
        events = http.events("full")
        self.assert_dense(events)
        self.assertEqual([e["event"] for e in events].count("inbox.message.received"), accepted + 1)
        self.assertEqual(self.server.stop(), 0)

    def with_tail(self, damage):
        """Twenty acknowledged messages, a kill, a write-ahead log that `damage` changed. Returns: how many are there then."""
        self.start()
        http = self.client()
        for i in range(20):
            self.assertEqual(http.say("torn", f"m{i}", message_id=f"m{i}").status, 200)
        self.server.kill()
        wal = self.path("data", "journal.db-wal")
        with open(wal, "r+b") as file:
            data = file.read()
            self.assertGreater(len(data), 8192, "the log was checkpointed before the kill")
            damage(file, data)
        self.start()
        http = self.client()
        events = http.events("torn")
        self.assert_dense(events)
        count = [e["event"] for e in events].count("inbox.message.received")
        for i in range(20):  # whatever was cut off is taken again, whatever was not is known
            self.assertIs(http.say("torn", f"m{i}", message_id=f"m{i}").json["duplicate"], i < count)
        return count

    def test_f2_a_zero_filled_tail_is_cut_off(self):
        self.assertEqual(self.with_tail(lambda file, data: file.write(b"\0" * 5000)), 20)

    def test_f2_a_tail_of_garbage_is_cut_off(self):
        self.assertEqual(self.with_tail(lambda file, data: file.write(os.urandom(3000))), 20)

    def test_f2_a_tail_of_older_data_is_cut_off(self):
        self.assertEqual(self.with_tail(lambda file, data: file.write(data[32:])), 20)

    def test_f2_a_torn_last_record_is_cut_off_whole(self):
        """No answer was given for a record that is only half on the disk; here the disk forgets half of one that was."""
        self.assertIn(self.with_tail(lambda file, data: file.truncate(len(data) - 100)), (19, 20))

    @unittest.skipIf(os.geteuid() != 0, "mounting a small file system needs root")
    def test_f5_no_space_for_a_new_directory_is_a_clear_refusal(self):
        for options in ("size=64k,nr_inodes=1", "size=4k"):  # not even the folder; the folder, but no file that holds anything
            with self.subTest(options=options):
                mount = self.path("tiny-" + options[:7].replace("=", ""))
                os.mkdir(mount)
                if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount], capture_output=True).returncode:
                    self.skipTest("no tmpfs can be mounted here")
                self.addCleanup(subprocess.run, ["umount", "-l", mount])
                result = subprocess.run([BINARY, "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--data", mount + "/data"],
                                        capture_output=True, text=True, timeout=30)
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn(mount, result.stderr)
                self.assertRegex(result.stderr, "(?i)no space|full")

    def test_an_unwritable_directory_is_a_clear_refusal(self):
        path = self.write("file", "not a folder")
        result = subprocess.run([BINARY, "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--data", path],
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 1)
        self.assertIn(path, result.stderr)


@unittest.skipIf(IS_SANITIZED, "a sanitizer wants to be loaded before the library that fails calls")
class FailingDisk(ServerCase):
    """One call of the store fails (tests/blackbox/disk_faults.c)."""
    config = ECHO

    def start_failing(self):
        self.order = self.path("order")
        self.start(env={"LD_PRELOAD": os.path.join(BUILD, "tests", "libdisk_faults.so"), "CIRANDA_DISK_FAULTS": self.order})
        http = self.client()
        for i in range(10):
            self.assertEqual(http.say("disk", f"m{i}", message_id=f"m{i}").status, 200)
        return http

    def fail_next(self, call, code, ending):
        with open(self.order + "-new", "w", encoding="utf-8") as file:
            file.write(f"{call} {code} {ending}\n")
        os.rename(self.order + "-new", self.order)

    def messages(self, http):
        events = http.events("disk")
        self.assert_dense(events)
        return [e["payload"]["message_id"] for e in events if e["event"] == "inbox.message.received"]

    def stops_for_good(self, call, code):
        """A failed write or flush: refused, never acknowledged later, the process leaves with 1, nothing acknowledged is lost."""
        http = self.start_failing()
        self.fail_next(call, code, "-wal")
        self.assertEqual(self.assert_problem(http.say("disk", "bad", message_id="bad"), 503)["type"], "urn:ciranda:problem:storage-failed")
        self.assertFalse(os.path.exists(self.order), "the call did not fail")
        try:
            for _ in range(20):  # the disk is well again, which proves nothing
                self.assertEqual(self.client().say("disk", "later", message_id="later").status, 503)
        except OSError:
            pass  # it has left
        self.assertEqual(self.server.process.wait(30), 1)
        text = self.server.log_text()
        self.assertEqual(text.count('"journal_failed"'), 1, "logged once, by who decided it")
        self.assertIn("remedy", text)
        self.start()
        http = self.client()
        found = self.messages(http)
        self.assertEqual([m for m in found if m != "bad"], [f"m{i}" for i in range(10)])
        self.assertEqual(http.say("disk", "bad", message_id="bad").status, 200)
        self.assertEqual(self.messages(http).count("bad"), 1)

    def test_f4_a_flush_that_fails_once_stops_the_journal(self):
        self.stops_for_good("fsync", errno.EIO)

    def test_f4_a_write_that_fails_once_stops_the_journal(self):
        self.stops_for_good("pwrite", errno.EIO)

    def test_f5_no_space_at_the_flush_stops_the_journal(self):
        self.stops_for_good("fsync", errno.ENOSPC)

    def test_f5_no_quota_at_a_write_stops_the_journal(self):
        """SQLite tells only ENOSPC apart from other failed writes; a quota that is used up is as bad as a bad disk."""
        self.stops_for_good("pwrite", errno.EDQUOT)

    def test_f5_no_space_at_a_write_is_507_and_heals(self):
        http = self.start_failing()
        self.fail_next("pwrite", errno.ENOSPC, "-wal")
        answer = http.say("disk", "full", message_id="full")
        self.assertEqual(self.assert_problem(answer, 507)["type"], "urn:ciranda:problem:storage-full")
        self.assertIn("Retry-After", answer.headers)
        self.assertEqual(len(self.messages(http)), 10, "reads go on, and it is not there")
        self.assertEqual(http.say("disk", "full", message_id="full").status, 200)
        self.assertEqual(self.messages(http).count("full"), 1)
        self.assertEqual(self.server.stop(), 0)

    def test_f5_no_space_at_a_checkpoint_harms_nobody(self):
        http = self.start_failing()
        self.fail_next("pwrite", errno.ENOSPC, "journal.db")
        for i in range(400):
            self.assertEqual(http.say("disk", "x" * 20000, message_id=f"c{i}").status, 200)
        wait_until(lambda: not os.path.exists(self.order), what="the checkpoint that fails")
        self.assertEqual(http.say("disk", "after", message_id="after").status, 200)
        self.assertEqual(self.messages(http), [f"m{i}" for i in range(10)] + [f"c{i}" for i in range(400)] + ["after"])
        self.assertEqual(self.server.stop(), 0)
        self.start()
        self.assertEqual(len(self.messages(self.client())), 411)


class Passivation(ServerCase):
    config = ECHO + "conversation: {idle: 5ms}\n"

    def test_r9_messages_during_passivation_are_answered_once_and_in_order(self):
        self.start()

        def talk(i):
            http = self.client()
            for n in range(60):
                self.assertEqual(http.say(f"nap-{i}", f"{n}", message_id=f"{n}").json["reply"]["text"], f"{n}")
                time.sleep(0.001 * (n % 13))  # some of them meet it going to sleep

        in_parallel(8, talk)
        http = self.client()
        for i in range(8):
            events = http.events(f"nap-{i}")
            self.assert_dense(events)
            self.assertEqual([e["payload"]["text"] for e in events if e["event"] == "inbox.message.received"], [str(n) for n in range(60)])
        wait_until(lambda: http.metric("conversation_passivations") > 20, what="conversations that slept")


class Surroundings(ServerCase):
    config = ECHO

    def start_refused(self, preexec=None, arguments=(), env=None, config=None):
        command = [BINARY, "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--data", self.path("data"), *arguments]
        if config is not None:
            command += ["--config", self.write("bad.yaml", config)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, preexec_fn=preexec, env={**os.environ, **(env or {})})
        return result.returncode, result.stderr

    def without_io_uring(self, code):
        def forbid():  # seccomp: io_uring_setup fails with `code`, everything else is allowed
            libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
            program = struct.pack("HBBI", 0x20, 0, 0, 0) + struct.pack("HBBI", 0x15, 0, 1, 425) + \
                struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | code) + struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
            buffer = ctypes.create_string_buffer(program)
            filter_ = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
            libc.prctl(38, 1, 0, 0, 0)
            if libc.prctl(22, 2, filter_, 0, 0):
                os._exit(77)

        left_with, text = self.start_refused(forbid)
        self.assertEqual(left_with, 1, text)
        self.assertIn("io_uring", text)
        return text

    def test_r4_a_forbidden_io_uring_is_explained(self):
        text = self.without_io_uring(errno.EPERM)  # also what kernel.io_uring_disabled=2 answers
        self.assertIn("kernel.io_uring_disabled=0", text)
        self.assertIn("seccomp", text)

    def test_r4_a_kernel_without_io_uring_is_explained(self):
        self.assertIn("Linux 6.1 or newer", self.without_io_uring(errno.ENOSYS))

    @unittest.skipIf(os.geteuid() != 0, "dropping to another user needs root")
    def test_short_memlock_is_explained(self):
        if IS_SANITIZED:
            self.skipTest("the sanitizers' run time needs more than this user may have")
        shutil.copy(BINARY, self.path("ciranda"))
        os.chmod(self.path("ciranda"), 0o755)
        os.chmod(self.folder.name, 0o777)

        def drop():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
            os.setgid(65534)
            os.setuid(65534)

        result = subprocess.run([self.path("ciranda"), "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--data", self.path("d")],
                                capture_output=True, text=True, timeout=30, preexec_fn=drop)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("memlock", result.stderr.lower())

    def test_few_descriptors_are_explained(self):
        for count, workers in ((8, 1), (40, 1), (64, 60)):  # too few for anything; for one of the workers, when others stand
            code, text = self.start_refused(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)), ["--workers", str(workers)])
            self.assertEqual(code, 1, text)
            self.assertIn("descriptor", text)
            self.assertIn("ulimit -n", text)
            self.assertNotIn("LeakSanitizer", text)

    def test_a_taken_port_is_explained(self):
        self.start()
        result = subprocess.run([BINARY, "serve", "--listen", self.address, "--rpc-listen", "127.0.0.1:0", "--data", self.path("other")],
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 1)
        self.assertIn(self.address, result.stderr)

    def test_j1_bad_configurations_name_file_and_line(self):
        for text, line, words in (
                ("agents:\n  echo: {kind: echo}\n  x: {kind: nothing}\n", 3, "kind"),
                ("agents:\n  echo: {kind: echo}\ncolour: red\n", 3, "colour"),
                ("agents:\n  echo: {kind: echo}\n  echo: {kind: echo}\n", 3, "echo"),
                ("server:\n  workers: many\n", 2, "workers"),
                ("routing:\n  default: nobody\n", 2, "nobody"),
                ("agents:\n  a: {kind: llm, provider: gone, model: m}\n", 2, "gone"),
                ("agents: [\n", 1, ""),
                ("conversation:\n  idle: 3 parsecs\n", 2, "idle")):
            with self.subTest(text=text):
                code, error = self.start_refused(config=text)
                self.assertEqual(code, 2, error)
                self.assertRegex(error, rf"bad\.yaml:{line}")
                self.assertIn(words, error)

    def test_j1_a_secret_readable_by_others_is_refused(self):
        secret = self.write("key", "sk-very-secret")
        os.chmod(secret, 0o644)
        config = f"providers:\n  main: {{type: openai, base_url: 'http://127.0.0.1:1/v1', api_key_file: '{secret}'}}\n"
        code, error = self.start_refused(config=config)
        self.assertEqual(code, 2, error)
        self.assertNotIn("sk-very-secret", error)

    def test_usage_errors_leave_with_2(self):
        for arguments in (["serve", "--nonsense"], ["frobnicate"], ["serve", "--workers", "x"]):
            self.assertEqual(subprocess.run([BINARY, *arguments], capture_output=True, timeout=30).returncode, 2, arguments)

    def test_help_and_version_everywhere(self):
        for command in ([], ["serve"], ["chat"], ["events"], ["doctor"]):
            for flag in ("--help", "--version"):
                result = subprocess.run([BINARY, *command, flag], capture_output=True, text=True, timeout=30)
                self.assertEqual(result.returncode, 0, (command, flag, result.stderr))
                self.assertTrue(result.stdout)

    def test_doctor_speaks_plainly(self):
        result = subprocess.run([BINARY, "doctor", "--data", self.path("data")], capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        for word in ("kernel", "io_uring", "descriptors", "flush"):
            self.assertIn(word, result.stdout.lower())


class Signals(ServerCase):
    config = ECHO

    def test_j2_a_reload_takes_the_new_and_a_bad_one_keeps_the_old(self):
        self.start(config="agents: {a: {kind: rules, rules: [{match: [x], reply: 'one'}], otherwise: {reply: 'old'}}}\nrouting: {default: a}\n")
        http = self.client()
        self.assertEqual(http.say("r", "x").json["reply"]["text"], "one")
        self.write("ciranda.yaml", "agents: {a: {kind: rules, rules: [{match: [x], reply: 'two'}], otherwise: {reply: 'new'}}}\nrouting: {default: a}\n")
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: http.say("r", "x").json["reply"]["text"] == "two", what="the new configuration")
        self.write("ciranda.yaml", "agents: {a: {kind: rules, nonsense: 1}}\n")
        for _ in range(20):
            self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "nonsense" in self.server.log_text(), what="the refusal in the log")
        self.assertGreater(http.metric("config_reload_errors_total"), 0)
        self.assertEqual(http.say("r", "x").json["reply"]["text"], "two")
        self.assertEqual(self.server.stop(), 0)

    def test_j7_a_storm_of_reloads_disturbs_nobody(self):
        self.start()
        stop = threading.Event()

        def storm():
            while not stop.is_set():
                self.server.process.send_signal(signal.SIGHUP)
                time.sleep(0.001)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            http = self.client()
            for i in range(300):
                self.assertEqual(http.say("storm", f"m{i}").json["reply"]["text"], f"m{i}")
        finally:
            stop.set()
            thread.join()
        self.assert_dense(http.events("storm"))
        self.assertEqual(self.server.stop(), 0)

    def test_sigterm_lets_running_turns_finish(self):
        model = self.start_model("--first-token-ms", 700, "--tokens", 3, "--stream-ms", 100)
        self.start(config=model_config(model.ready["http"]))
        result = {}
        thread = threading.Thread(target=lambda: result.update(answer=self.client().say("d", "finish me", agent="slow")))
        thread.start()
        wait_until(lambda: self.client().get("/v1/conversations/d").status == 200)
        self.server.process.send_signal(signal.SIGTERM)
        thread.join()
        self.assertEqual(result["answer"].status, 200, result)
        self.assertIn("finish me", result["answer"].json["reply"]["text"])
        self.assertEqual(self.server.process.wait(30), 0)

    def test_j7_sigterm_twice_leaves_at_once_and_loses_nothing(self):
        model = self.start_model("--first-token-ms", 60000)
        config = model_config(model.ready["http"])
        self.start(config=config)
        self.client().say("t", "before", message_id="b", agent="echo")
        self.client().say("t", "long", agent="slow", headers={"Prefer": "respond-async"})
        self.server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        began = time.monotonic()
        self.server.process.send_signal(signal.SIGTERM)
        self.server.process.wait(10)
        self.assertLess(time.monotonic() - began, 5)
        self.start(config=config)
        self.assertIs(self.client().say("t", "before", message_id="b", agent="echo").json["duplicate"], True)

    def test_j7_closed_standard_streams_and_broken_pipes_do_no_harm(self):
        def close_all():
            os.close(0)
            os.close(2)

        read_end, write_end = os.pipe()
        process = subprocess.Popen([BINARY, "serve", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0", "--data", self.path("data"),
                                    "--config", self.write("c.yaml", ECHO)], stdout=write_end, preexec_fn=close_all)
        os.close(write_end)
        with os.fdopen(read_end) as file:
            self.address = json.loads(file.readline())["http"]
        process.send_signal(signal.SIGPIPE)
        http = self.client()
        for i in range(50):
            self.assertEqual(http.say("pipe", f"m{i}").status, 200)
        self.assert_dense(http.events("pipe"))
        process.terminate()
        self.assertEqual(process.wait(30), 0)

    def test_j7_without_any_standard_stream_no_socket_or_file_takes_their_place(self):
        """Who starts with descriptors 0 to 2 free gives them to files; a line for stdout must not end in the journal."""
        def close_all():
            for fd in range(3):
                os.close(fd)

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % probe.getsockname()[1]
        process = subprocess.Popen([BINARY, "serve", "--listen", self.address, "--rpc-listen", "127.0.0.1:0", "--data", self.path("data"),
                                    "--config", self.write("c.yaml", ECHO)], preexec_fn=close_all)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def is_up():
            try:
                return self.client().get("/readyz").status == 200
            except OSError:
                return False

        wait_until(is_up)
        for fd in range(3):
            self.assertEqual(os.readlink(f"/proc/{process.pid}/fd/{fd}"), "/dev/null")
        self.assertEqual(self.client().say("quiet", "x").status, 200)
        process.terminate()
        self.assertEqual(process.wait(30), 0)

    def test_no_secret_in_any_artefact(self):
        secret = self.write("key", "sk-canary-4711\n")
        os.chmod(secret, 0o600)
        model = self.start_model()
        self.start(config=f"""
agents: {{bot: {{kind: llm, provider: main, model: m}}}}
providers: {{main: {{type: openai, base_url: "http://{model.ready['http']}/v1", api_key_file: "{secret}"}}}}
routing: {{default: bot}}
""")
        http = self.client()
        self.assertEqual(http.say("s", "hello").json["status"], "completed")
        pages = b"".join(http.get(path).body for path in ("/metrics", "/v1/agents", "/v1/agents/bot", "/v1/breakers", "/v1/conversations/s/events"))
        self.server.stop()
        artefacts = pages + self.server.log_text().encode()
        for path in glob.glob(self.path("data", "*")):
            with open(path, "rb") as file:
                artefacts += file.read()
        self.assertNotIn(b"canary-4711", artefacts)


if __name__ == "__main__":
    unittest.main()
