# SPDX-License-Identifier: Apache-2.0
"""What the rows have to show: each bar, what was measured, and whether it holds."""

# row, what is held against the bar (a member, or a peer's member), at least / at most, the bar
BARS = [
    ("ping_pong", "erlang.ratio", "at least", 10), ("thread_ring", "erlang.ratio", "at least", 10), ("spawn", "erlang.ratio", "at least", 10),
    ("fan_in_2", "erlang.ratio", "at least", 5), ("fan_in_100", "erlang.ratio", "at least", 5), ("idle_actor_bytes", "rate", "at most", 192),
    ("journal_append_1", "raw_ratio", "at least", 0.5), ("journal_append_1000", "rate", "at least", 200000),
    ("http_echo_64", "nginx_constant.ratio", "at least", 0.5), ("http_echo_64", "seeds_stack.ratio", "at least", 10),
    ("http_echo_64", "enters_per_turn", "at most", 0.2), ("rpc_pipelined", "rate", "at least", 200000), ("hot_conversation_http", "rate", "at least", 50000),
    ("hot_conversation_rpc", "rate", "at least", 50000), ("dialogues_10000_open", "p95_ms", "at most", 20), ("model_10000_in_flight", "added_p95_ms", "at most", 100),
    ("model_10000_in_flight", "resident_mib", "at most", 1024), ("million_throughput", "ratio", "at least", 0.8), ("million_passivated_bytes", "rate", "at most", 64),
    ("million_restart", "rate", "at most", 5),
]
SAVINA = ("ping_pong", "counting", "fork_join_throughput", "fork_join_create", "thread_ring", "big", "chameneos")


def find(row, path):
    values = row
    *peer, member = path.split(".")
    for name in peer:
        values = row.get("peers", {}).get(name, {})
    return values.get(member)


def judge(rows):
    """Returns: [(row, path, bar as text, measured, whether it holds)] for the rows that were measured."""
    by_name = {row["bench"]: row for row in rows}
    judged = []
    for name, path, side, bar in BARS:
        value = find(by_name[name], path) if name in by_name else None
        if value is not None:
            judged.append((name, path, f"{side} {bar:,}", value, value >= bar if side == "at least" else value <= bar))
    for row in (by_name[name] for name in SAVINA if by_name.get(name, {}).get("peers")):
        least = min(values["ratio"] for values in row["peers"].values())
        judged.append((row["bench"], "least ratio to a peer", "more than 1", least, least > 1))
    row = by_name.get("http_echo_64", {})
    if "seeds_stack_p99_ms" in row:
        judged.append(("http_echo_64", "ours_p99_ms", f"below seeds_stack's {row['seeds_stack_p99_ms']:g}", row["ours_p99_ms"],
                       row["ours_p99_ms"] < row["seeds_stack_p99_ms"]))
    return judged
