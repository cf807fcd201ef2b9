#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does the net catch fish? Each planted bug (runtime/planted.def) must make some seed fail within the budget. Needs a binary
built with CIRANDA_PLANTED_BUGS. Ends with `N passed, N failed`."""
import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def hunt(binary, name, seeds):
    done = subprocess.run([binary, "--from", "1", "--count", str(seeds), "--planted", name, "--stop", "--timeout", "20"],
                          capture_output=True, text=True, errors="replace")
    first = next((line for line in done.stderr.splitlines() if "FAILED" in line or "failed" in line), "")
    return done.returncode == 1, first


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    # The rarest shows in one seed of about 70.
    parser.add_argument("--seeds", type=int, default=1000, help="budget of each bug")
    options = parser.parse_args()
    listed = subprocess.run([options.binary, "--list-planted"], capture_output=True, text=True, check=True).stdout
    names = [line.split("\t")[0] for line in listed.splitlines()]
    missed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, (found, first) in zip(names, pool.map(lambda n: hunt(options.binary, n, options.seeds), names)):
            print(f"{'found ' if found else 'MISSED'} {name}: {first[:160]}")
            missed += not found
    print(f"{len(names) - missed} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
