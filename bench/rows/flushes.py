# SPDX-License-Identifier: Apache-2.0
"""Whether a server flushes what it says: counted from outside, by the system calls that it makes."""
import os
import re
import signal
import subprocess
import time

from .process import Skip, need


# A line of strace -y: the flush of a write-ahead log, which is what makes a group durable. Those of checkpoints, folders and other
# files are not what the journal tells of.
WAL_FLUSH = re.compile(r"f(?:data)?sync\(\d+<[^>]*-wal>")


class FlushCount:
    """Counts the flushes of write-ahead logs by a process and its threads, between enter and exit. Slows it down: not for what is
    measured, but for a short run of the same work beside it."""

    def __init__(self, bench, pid):
        need("strace")
        self.path, self.pid = os.path.join(bench.new_folder("strace"), "calls"), pid

    def __enter__(self):
        self.tracer = subprocess.Popen(["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-p", str(self.pid), "-o", self.path],
                                       stderr=subprocess.PIPE, text=True)
        line = self.tracer.stderr.readline()  # "Process N attached", or why not
        if "attached" not in line:
            self.tracer.wait()
            raise Skip(f"strace cannot attach: {line.strip()}")
        return self

    def __exit__(self, *_):
        self.tracer.send_signal(signal.SIGINT)
        self.tracer.stderr.read()
        self.tracer.wait()

    def flushes(self):
        with open(self.path, encoding="ascii", errors="replace") as file:
            return sum(WAL_FLUSH.search(line) is not None for line in file)


def verify_server(bench, server, work):
    """Runs `work` under strace and holds the system calls against the server's own count of flushes. Returns members for the row."""
    try:
        counter = FlushCount(bench, server.pid)
        before = server.metrics()
        with counter:
            work()
            after = server.metrics()
            time.sleep(0.1)
    except Skip as skip:
        return {"flushes": f"on, not verified: {skip}"}
    claimed = round(after["journal_flushes"] - before["journal_flushes"])
    seen, records = counter.flushes(), round(after["journal_appends"] - before["journal_appends"])
    is_true = seen >= claimed > 0
    return {"flushes": "on, verified" if is_true else "NOT as claimed", "wal_flushes_seen": seen, "flushes_claimed": claimed, "records_while_seen": records}
