#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs many seeds on all processors; 1 % of them twice, whose trace hashes must be equal. Counts the runs in which each rare path
of runtime/sometimes.def was met; of a thousand runs some must have met it. Ends with `N passed, N failed`."""
import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

CHUNK = 10
SEEDS_FOR_RARE_PATHS = 1000


def run(binary, start, count):
    done = subprocess.run([binary, "--from", str(start), "--count", str(count)], capture_output=True, text=True, errors="replace")
    hashes, met = {}, Counter()
    for seed, value, names in re.findall(r"^seed (\d+) ok hash=(\w+) \S+ \S+(.*)$", done.stdout, re.M):
        hashes[int(seed)] = value
        met.update(names.split())
    return hashes, met, done.stderr


def rare_paths(binary):
    listed = subprocess.run([binary, "--list-sometimes"], capture_output=True, text=True, check=True).stdout
    return listed.split()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", type=int, default=1, dest="start")
    options = parser.parse_args()
    hashes, met, errors = {}, Counter(), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(options.start, options.start + options.seeds, CHUNK)
        for found, names, error in pool.map(lambda s: run(options.binary, s, min(CHUNK, options.start + options.seeds - s)), starts):
            hashes.update(found)
            met.update(names)
            errors.append(error)
        failed = options.seeds - len(hashes)
        again = [seed for seed in hashes if seed % 100 == options.start % 100]
        for seed, (found, _, _) in zip(again, pool.map(lambda s: run(options.binary, s, 1), again)):
            if found.get(seed) != hashes[seed]:
                failed += 1
                errors.append(f"seed {seed} is not deterministic: {hashes[seed]} and {found.get(seed)}\n")
    text = "".join(errors)
    print("\n".join(text.splitlines()[-80:]))
    for name in rare_paths(options.binary):
        print(f"{met[name]:6} runs met {name}")
        if met[name] == 0 and options.seeds >= SEEDS_FOR_RARE_PATHS:
            failed += 1
            print(f"no run met {name}")
    print(f"{len(hashes)} passed, {failed} failed")
    return 1 if failed or not hashes else 0


if __name__ == "__main__":
    sys.exit(main())
