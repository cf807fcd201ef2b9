#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cuts the story of the simulation within each of its disk I/Os, in every way: power lost with all, with a drawn part of what was
not flushed, and again while the next start recovers; process killed. Ends with `N passed, N failed`."""
import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

CHUNK = 8
WAYS = 4


def run(binary, first, count):
    done = subprocess.run([binary, "--cut", str(first), "--count", str(count)], capture_output=True, text=True, errors="replace")
    return len(re.findall(r"^cut \d+ \w+ of \d+ ok ", done.stdout, re.M)), done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    story = subprocess.run([options.binary, "--story"], capture_output=True, text=True, errors="replace")
    found = re.search(r"^cut 0 uncut of (\d+) ok ", story.stdout, re.M)
    if not found:
        print(story.stderr)
        print("0 passed, 1 failed")
        return 1
    ios, passed, errors = int(found.group(1)), 0, []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        firsts = range(1, ios + 1, CHUNK)
        for count, error in pool.map(lambda first: run(options.binary, first, min(CHUNK, ios + 1 - first)), firsts):
            passed += count
            errors.append(error)
    print("\n".join("".join(errors).splitlines()[-80:]))
    print(f"the story has {ios} I/Os, each cut in {WAYS} ways")
    failed = ios * WAYS - passed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
