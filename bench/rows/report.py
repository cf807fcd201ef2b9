# SPDX-License-Identifier: Apache-2.0
"""The results as a table for a terminal, and as docs/BENCHMARKS.md with its plots."""
import datetime
import os
import platform
import subprocess

from . import bars, plot
from .process import ROOT
from .row import TIERS

DOCS = os.path.join(ROOT, "docs")
SHOWN = ("bench", "tier", "flushes", "unit", "rate", "min", "max", "rounds", "peers", "skipped", "curve", "seeds_stack_curve", "failed")


def origin(command):
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    dirty = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "commit": (commit or "unknown") + (" and changes" if dirty else ""),
            "machine": f"{os.cpu_count()} cores, {model}, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GiB, Linux {platform.release()}",
            "load_at_start": f"{os.getloadavg()[0]:.1f}", "command": command}


def number(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def ours(row):
    if "rate" not in row:
        return "-"
    spread = f" ({number(row['min'])} to {number(row['max'])})" if row["min"] != row["max"] else ""
    return number(row["rate"]) + spread


def peer(values):
    return f"{number(values['rate'])} ({number(values['min'])} to {number(values['max'])})"


def peers(row, bold=""):
    cells = [f"{name} {peer(values)}, ratio {bold}{values['ratio']:g}{bold}" for name, values in row.get("peers", {}).items()]
    cells += [f"{name} skipped: {why}" for name, why in row.get("skipped", {}).items()]
    return "; ".join(cells)


def value_text(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {value_text(inner)}" for key, inner in value.items()) + "}"
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def more(row):
    text = ", ".join(f"{key} {value_text(value)}" for key, value in row.items() if key not in SHOWN and not key.startswith("_"))
    return ("FAILED ITS CHECKS; " if row.get("failed") else "") + text


def table(rows):
    cells = [["row", "tier", "flushes", "unit", "ours", "peers"]] + [
        [row["bench"], row["tier"], row["flushes"].split(" (")[0].split(":")[0], row["unit"], ours(row), peers(row)]
        for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)) + "  " + line[5] for line in cells]
    lines += ["", "bars:"] + [f"  {'holds ' if holds else 'MISSED'} {name} {path}: {number(value)}, {bar}" for name, path, bar, value, holds in bars.judge(rows)]
    return "\n".join(lines)


def write_plots(rows):
    """Returns: [(tier, title, file name)] of what was written."""
    written = []

    def write(tier, name, title, svg):
        with open(os.path.join(DOCS, name), "w", encoding="utf-8") as file:
            file.write(svg)
        written.append((tier, title, name))

    for tier, name, title in (("T0", "bench-actors.svg", "Actors in memory: ours and peers"), ("T1", "bench-journal.svg", "Durable appends: ours and peers"),
                              ("T2", "bench-serve.svg", "Durable turns: ours and peers")):
        groups = [(f"{row['bench']} ({row['unit']})", [("ciranda", row["rate"]), *((peer, values["rate"]) for peer, values in row["peers"].items())])
                  for row in rows if row["tier"] == tier and row.get("peers")]
        if groups:
            write(tier, name, title, plot.bars(title, groups))
    lines = [(row["bench"], row["curve"]) for row in rows if row.get("curve")]
    lines = [line for line in lines if line[0] in ("http_echo_64", "rpc_pipelined", "http_open_10000", "dialogues_10000_open")]
    lines += [("seeds_stack", row["seeds_stack_curve"]) for row in rows if row.get("seeds_stack_curve")]
    if lines:
        title = "Latency of a durable turn"
        write("T2", "bench-latency.svg", title, plot.curves(title, lines))
    return written


NOTES = """Every row says its tier (T0 in memory, T1 the journal alone, T2 the server with everything) and whether flushes were on. "on, verified":
the harness has counted the flushes of the write-ahead log from outside (strace) during a short run of the same work, and
found at least as many as the journal tells of; "on, not verified": the same server and journal, uncounted. Rates are medians of rounds that took turns with those of the peers, with the
lowest and the highest; a ratio is the median of the ratios of neighbouring rounds (where peers ran in turn), ours over theirs.
Load generators, peers and fake models share the cores with what they measure.

- `wrk_cores` is what wrk, with its one thread, took of a core; a side named in `generator_bound` could have answered more.
- nginx answers the same requests with two constant bytes: what two cores can do over HTTP when nothing is done.
- `seeds_stack` is Express, a Redis lock a conversation, Redis Streams and PostgreSQL ([bench/peers/seeds_stack](../bench/peers/seeds_stack/README.md));
  its turns are flushed by PostgreSQL, its locks and streams are as durable as `appendfsync everysec`.
- `raw_loop` writes and flushes the same bytes in groups of the same size into a file that has its size; PostgreSQL inserts as many rows a
  transaction, Redis takes as many XADDs a flush (`appendfsync always`).
- Latency of an open loop counts from the intended start of a request, of a closed one from its sending; `added_*` is without
  the 5,000 ms that the model itself takes; `in_flight` is rate times latency (Little).
- Every reply of the load generator is checked while it measures (order, loss, duplicates, text), and conversations are read back after it.
"""


def markdown(rows, source):
    lines = ["# Benchmarks", "", "Written by `bench/run --write`; nothing here is edited by hand.", "",
             *(f"- {name.replace('_', ' ')}: {value}" if name != "command" else f"- command: `{value}`" for name, value in source.items()), "", NOTES]
    plots = write_plots(rows)
    judged = bars.judge(rows)
    if judged:
        lines += ["## Bars", "", "| row | what | bar | measured | |", "|---|---|---|---|---|"]
        lines += [f"| `{name}` | {path} | {bar} | {number(value)} | {'holds' if holds else '**missed**'} |" for name, path, bar, value, holds in judged] + [""]
    for tier, title in TIERS.items():
        chosen = [row for row in rows if row["tier"] == tier]
        if not chosen:
            continue
        lines += [f"## {tier}: {title}", ""]
        lines += [f"![{title}]({name})\n" for plot_tier, title, name in plots if plot_tier == tier]
        lines += ["| row | unit | ours | peers | flushes | more |", "|---|---|---|---|---|---|"]
        lines += [f"| `{row['bench']}` | {row['unit']} | **{ours(row)}** | {peers(row, '**')} | {row['flushes']} | {more(row)} |" for row in chosen]
        lines.append("")
    return "\n".join(lines)


def write(rows, source):
    text = markdown(rows, source)
    with open(os.path.join(DOCS, "BENCHMARKS.md"), "w", encoding="utf-8") as file:
        file.write(text)
