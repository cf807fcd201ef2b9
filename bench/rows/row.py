# SPDX-License-Identifier: Apache-2.0
"""One row of the results: a rate (or bytes) of ours and of peers over rounds that took turns, and what else was seen."""
import statistics

TIERS = {"T0": "in memory", "T1": "journal", "T2": "serve"}


def spread(samples):
    return {"rate": significant(statistics.median(samples)), "min": significant(min(samples)), "max": significant(max(samples))}


def significant(value):
    """Four digits: more would claim a precision that the spread denies."""
    return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")


class Row:
    def __init__(self, name, tier, unit, flushes="none"):
        self.name, self.tier, self.unit, self.flushes = name, tier, unit, flushes
        self.samples, self.peers, self.skipped, self.more, self.is_failed = [], {}, {}, {}, False

    def add(self, rate, **peers):
        self.samples.append(rate)
        for peer, peer_rate in peers.items():
            self.peers.setdefault(peer, []).append(peer_rate)

    def ratio(self, peer):
        """Of neighbouring rounds, whose median a slow minute of the machine does not move; else of the medians."""
        theirs = self.peers[peer]
        if len(theirs) == len(self.samples):
            return statistics.median(ours / other for ours, other in zip(self.samples, theirs))
        return statistics.median(self.samples) / statistics.median(theirs)

    def record(self):
        row = {"bench": self.name, "tier": self.tier, "flushes": self.flushes, "unit": self.unit}
        if self.samples:
            row.update(spread(self.samples), rounds=len(self.samples))
        if self.peers:
            row["peers"] = {peer: {**spread(rates), "ratio": significant(self.ratio(peer))} for peer, rates in self.peers.items()}
        if self.skipped:
            row["skipped"] = self.skipped
        row.update(self.more)
        if self.is_failed:
            row["failed"] = True
        return row
