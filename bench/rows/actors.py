# SPDX-License-Identifier: Apache-2.0
"""T0, in memory: actors that send messages, beside the same work in Erlang/OTP and CAF. Rounds take turns."""
import os
import shutil

from .process import BENCH
from .row import Row

PEERS = {"erlang": ("erl", "erlang-base is not installed"), "caf": ("g++", "no C++ compiler")}


def run(bench):
    rows, skipped = {}, {}
    for i in range(bench.options.rounds + 1):
        bench.say(f"actors: round {i} of {bench.options.rounds}" + (" (warms up)" if i == 0 else ""))
        ours = bench.json_lines([bench.binary("bench/actors"), "--json", "--rounds", "1", *chosen(bench)])
        peers = {}
        for peer, (tool, missing) in PEERS.items():
            if peer in skipped:
                continue
            if not shutil.which(tool):
                skipped[peer] = missing
                continue
            try:
                peers[peer] = bench.json_lines([os.path.join(BENCH, "peers", peer, "run.sh"), *ours])
            except (RuntimeError, OSError) as error:
                skipped[peer] = str(error)
        if i > 0:
            collect(rows, ours, peers)
    for row in rows.values():
        row.skipped = skipped
        bench.done(row)


def chosen(bench):
    return ["--only", bench.options.rows] if bench.options.rows else []


def collect(rows, ours, peers):
    for name, line in ours.items():
        row = rows.setdefault(name, Row(name, "T0", line["unit"]))
        row.add(line["rate"], **{peer: lines[name]["rate"] for peer, lines in peers.items() if name in lines})
