# SPDX-License-Identifier: Apache-2.0
"""What the rows have to show: each bar, what was measured, and whether it holds."""

# row, what is held against the bar (a member, a member of a member, or a peer's), at least / at most, the bar
BARS = [
    ("ping_pong", "erlang.ratio", "at least", 10), ("thread_ring", "erlang.ratio", "at least", 10), ("spawn", "erlang.ratio", "at least", 10),
    ("fan_in_2", "erlang.ratio", "at least", 5), ("fan_in_100", "erlang.ratio", "at least", 5), ("idle_actor_bytes", "rate", "at most", 192),
    ("journal_append_1", "raw_ratio", "at least", 0.5),
    ("http_echo_64", "nginx_constant.ratio", "at least", 0.5), ("http_echo_64", "seeds_stack.ratio", "at least", 10),
    ("http_echo_64", "enters_per_turn", "at most", 0.2), ("rpc_pipelined", "rate", "at least", 200000), ("hot_conversation_http", "rate", "at least", 50000),
    ("hot_conversation_rpc", "rate", "at least", 50000), ("dialogues_10000_open", "p95_ms", "at most", 20), ("model_10000_in_flight", "added_p95_ms", "at most", 100),
    ("model_10000_in_flight", "resident_mib", "at most", 1024), ("million_throughput", "ratio", "at least", 0.8), ("million_passivated_bytes", "rate", "at most", 64),
    ("million_restart", "rate", "at most", 5),
    ("overload_http_tenfold", "goodput_share", "at least", 0.8), ("overload_rpc_tenfold", "goodput_share", "at least", 0.8),
    *((f"overload_{phase}", f"{what}.p99_ms", "at most", ms) for phase in ("http_tenfold", "rpc_tenfold", "http_hang")
      for what, ms in (("message_refused", 50), ("livez_answered", 250), ("cancel_answered", 1000))),
    ("overload_http_tenfold", "resident_mib", "at most", 1024), ("overload_rpc_tenfold", "resident_mib", "at most", 1024),
    ("overload_http_hang", "resident_mib", "at most", 1024), ("overload_http_hang", "open_again_s", "at most", 10),
]
JOURNAL_RATE = 200000  # records a second at the sizes of groups that load produces
SAVINA = ("ping_pong", "counting", "fork_join_throughput", "fork_join_create", "thread_ring", "big", "chameneos")
SAVINA_PEERS = ("erlang", "caf")


def find(row, path):
    *outer, member = path.split(".")
    values = row
    for name in outer:
        values = row.get("peers", {}).get(name) or row.get(name, {})
    return values.get(member)


def groups_of_load(by_name):
    """Returns: [(group size at which the journal was measured, why that one)]: the nearest below the groups that turns of the same run
    made; without such rows, 256 and 1,000."""
    measured = sorted(int(name.removeprefix("journal_append_")) for name in by_name if name.startswith("journal_append_"))
    chosen = {}
    for name in ("rpc_pipelined", "http_echo_64"):
        records = by_name.get(name, {}).get("records_per_flush")
        if records and measured:
            group = max((group for group in measured if group <= records), default=measured[0])
            chosen[group] = f"{name} has {records:g} records a flush"
    return list(chosen.items()) or [(group, "no turns measured in this run") for group in (256, 1000) if group in measured]


def judge_savina(row):
    """Both peers, or it has not been shown."""
    names = [peer for peer in SAVINA_PEERS if peer in row["peers"]]
    least = min(row["peers"][peer]["ratio"] for peer in names)
    return row["bench"], f"least ratio to {' and '.join(names)}", f"more than 1 to {' and '.join(SAVINA_PEERS)}", least, least > 1 and len(names) == 2


def judge(rows):
    """Returns: [(row, path, bar as text, measured, whether it holds)] for the rows that were measured."""
    by_name = {row["bench"]: row for row in rows}
    judged = []
    for name, path, side, bar in BARS:
        value = find(by_name[name], path) if name in by_name else None
        if value is not None:
            judged.append((name, path, f"{side} {bar:,}", value, value >= bar if side == "at least" else value <= bar))
    for group, why in groups_of_load(by_name):
        rate = by_name[f"journal_append_{group}"].get("rate", 0)
        judged.append((f"journal_append_{group}", f"rate ({why})", f"at least {JOURNAL_RATE:,}", rate, rate >= JOURNAL_RATE))
    judged += [judge_savina(by_name[name]) for name in SAVINA if by_name.get(name, {}).get("peers")]
    row = by_name.get("http_echo_64", {})
    if "seeds_stack_p99_ms" in row:
        judged.append(("http_echo_64", "ours_p99_ms", f"below seeds_stack's {row['seeds_stack_p99_ms']:g}", row["ours_p99_ms"],
                       row["ours_p99_ms"] < row["seeds_stack_p99_ms"]))
    return judged
