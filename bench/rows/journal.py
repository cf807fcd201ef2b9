# SPDX-License-Identifier: Apache-2.0
"""T1, the journal alone: durable appends of 300 bytes at several group sizes, beside a raw write-and-flush loop of the same bytes
(bench/journal does both in turn), transactions of as many rows into PostgreSQL, and as many XADDs a flush into Redis."""
import re

from .flushes import WAL_FLUSH
from .peers import Postgres, Redis
from .process import Skip, need
from .row import Row

GROUPS = [1, 8, 64, 256, 1000]


def run(bench):
    seconds, rounds = bench.options.seconds, bench.options.rounds
    bench.say("journal: ours and the raw loop")
    lines = bench.json_lines([bench.binary("bench/journal"), "--json", "--directory", bench.new_folder("journal"), "--seconds", seconds, "--rounds", rounds,
                              "--groups", ",".join(map(str, GROUPS))])
    seen = verify(bench)
    rows = {}
    for group in GROUPS:
        line = lines[f"journal_append_{group}"]
        row = rows[group] = Row(line.pop("bench"), "T1", line.pop("unit"), seen[group])
        row.add(line.pop("rate"))
        row.peers["raw_loop"] = [line.pop("raw_rate")]
        line.pop("tier", None)
        renamed = {"flushes": "our_flushes", "ratio": "raw_ratio", "ratio_min": "raw_ratio_min", "ratio_max": "raw_ratio_max"}
        row.more.update({renamed.get(key, key): value for key, value in line.items()}, rounds=rounds)
    add_peer(bench, rows, "postgresql", measure_postgres)
    add_peer(bench, rows, "redis", measure_redis)
    for row in rows.values():
        bench.done(row)


def verify(bench):
    """Ours once more, a second of each group, under strace: in each measured phase, which bench/journal marks, the flushes of the
    write-ahead log against those that it tells of. Returns: what to say of each group."""
    try:
        need("strace")
    except Skip as skip:
        return {group: f"on, not verified: {skip}" for group in GROUPS}
    path = bench.new_folder("strace") + "/calls"
    command = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,write", "-o", path, bench.binary("bench/journal"), "--json", "--marks",
               "--directory", bench.new_folder("journal"), "--keys", 16384, "--groups", ",".join(map(str, GROUPS)), "--seconds", 1, "--rounds", 1]
    try:
        lines = bench.json_lines(command)
    except RuntimeError as error:
        return {group: f"on, not verified: {error}" for group in GROUPS}
    seen, measuring = dict.fromkeys(GROUPS, 0), None
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            if marked := re.search(r'write\(2<.*"(measuring|measured) group (\d+)', line):
                measuring = int(marked.group(2)) if marked.group(1) == "measuring" else None
            elif measuring and WAL_FLUSH.search(line):
                seen[measuring] += 1
    told = {group: lines[f"journal_append_{group}"]["flushes"] for group in GROUPS}
    return {group: f"{'on, verified' if seen[group] >= told[group] > 0 else 'NOT as claimed'} ({seen[group]} flushes of the log seen, {told[group]} told)"
            for group in GROUPS}


def add_peer(bench, rows, name, measure):
    bench.say(f"journal: {name}")
    try:
        measure(bench, rows, name)
    except Skip as skip:
        for row in rows.values():
            row.skipped[name] = str(skip)


def measure_postgres(bench, rows, name):
    with Postgres(bench) as database:
        settings = f"fsync={database.ask('SHOW fsync')} synchronous_commit={database.ask('SHOW synchronous_commit')}"
        for group, row in rows.items():
            before = database.flushes()
            rates = [database.insert_rate(group, bench.options.seconds) for _ in range(bench.options.rounds)]
            row.peers[name] = rates
            row.more[f"{name}_flushes"] = f"{settings} wal_sync={database.flushes() - before}"


def measure_redis(bench, rows, name):
    with Redis(bench, "always") as redis:
        for group, row in rows.items():
            once = redis.add_rate(group, group * 20)
            count = max(group, int(once * bench.options.seconds) // group * group)
            row.peers[name] = [redis.add_rate(group, count) for _ in range(bench.options.rounds)]
            row.more[f"{name}_flushes"] = "appendfsync=always"
