#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs many seeds on all processors; 1 % of them twice, whose trace hashes must be equal. Ends with `N passed, N failed`."""
import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

CHUNK = 10


def run(binary, start, count):
    done = subprocess.run([binary, "--from", str(start), "--count", str(count)], capture_output=True, text=True, errors="replace")
    hashes = {int(seed): value for seed, value in re.findall(r"^seed (\d+) ok hash=(\w+)", done.stdout, re.M)}
    return hashes, done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", type=int, default=1, dest="start")
    options = parser.parse_args()
    hashes, errors = {}, []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(options.start, options.start + options.seeds, CHUNK)
        for found, error in pool.map(lambda s: run(options.binary, s, min(CHUNK, options.start + options.seeds - s)), starts):
            hashes.update(found)
            errors.append(error)
        failed = options.seeds - len(hashes)
        again = [seed for seed in hashes if seed % 100 == options.start % 100]
        for seed, (found, _) in zip(again, pool.map(lambda s: run(options.binary, s, 1), again)):
            if found.get(seed) != hashes[seed]:
                failed += 1
                errors.append(f"seed {seed} is not deterministic: {hashes[seed]} and {found.get(seed)}\n")
    text = "".join(errors)
    print("\n".join(text.splitlines()[-80:]))
    print(f"{len(hashes)} passed, {failed} failed")
    return 1 if failed or not hashes else 0


if __name__ == "__main__":
    sys.exit(main())
