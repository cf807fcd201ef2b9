#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of the tree and ends with the line `N passed, N failed`.

Steps, in order (choose some with --only NAME,NAME):
  tidy      format, include edges, headers alone, banned calls, links
  release   gcc release build, unit and fuzz-corpus tests, the schedule explorer, then the black-box scripts against the real binary
  clang     the same sources by clang: builds without a warning, unit tests
  asan      AddressSanitizer and UndefinedBehaviorSanitizer: all unit tests and the black-box scripts
  tsan      ThreadSanitizer: the unit tests that start threads
  sim       1,000 seeds of the simulation, 1 % of them twice with equal trace hashes; its story with every disk I/O cut; the planted bugs

Longer runs, never part of a plain ./check:
  --sim-seeds N      that many seeds                          --fuzz SECONDS   each libFuzzer target that long
  --kills N          SIGKILL rounds under load (default 6)    --full           seeds 20000, fuzz 60, kills 50
"""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
os.chdir(ROOT)


class Tally:
    def __init__(self):
        self.passed, self.failed, self.skipped, self.failures = 0, 0, 0, []

    def add(self, name, ok, detail=""):
        if ok:
            self.passed += 1
            return
        self.failed += 1
        self.failures.append(name)
        print(f"FAILED {name}\n{detail}", flush=True)


TALLY = Tally()


def run(command, env=None, timeout=1500):
    try:
        done = subprocess.run(command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=timeout)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        return 124, (late.stdout or b"").decode(errors="replace") + f"\ntimed out after {timeout} s"


def tail(text, lines=60):
    return "\n".join(text.splitlines()[-lines:])


def build(preset, *targets):
    if not os.path.exists(f"build/{preset}/build.ninja"):
        code, out = run(["cmake", "--preset", preset])
        if code:
            TALLY.add(f"{preset}: configure", False, tail(out))
            return False
    code, out = run(["cmake", "--build", "--preset", preset] + (["--target", *targets] if targets else []))
    TALLY.add(f"{preset}: build without a warning", code == 0, tail(out))
    return code == 0


def ctest(preset, *arguments, env=None):
    report = os.path.abspath(f"build/{preset}/junit.xml")
    if os.path.exists(report):
        os.remove(report)
    code, out = run(["ctest", "--test-dir", f"build/{preset}", "-j", str(os.cpu_count()), "--output-on-failure",
                     "--output-junit", report, *arguments], env=env)
    if not os.path.exists(report):
        TALLY.add(f"{preset}: ctest", False, tail(out))
        return
    cases = list(ET.parse(report).getroot().iter("testcase"))
    if not cases:
        TALLY.add(f"{preset}: ctest ran no test", False, tail(out))
    for case in cases:
        failure = case.find("failure")
        output = case.findtext("system-out") or ""
        # A cmocka program reports each of its tests; they count one by one.
        inner = re.findall(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] (\w+)$", output, re.M)
        ok_inner = sum(1 for verdict, _ in inner if verdict == "OK")
        TALLY.passed += max(ok_inner - 1, 0)
        TALLY.skipped += sum(1 for verdict, _ in inner if verdict == "SKIPPED")
        TALLY.add(f"{preset}: {case.get('name')}", case.get("status") == "run" and failure is None, tail(output))


def run_script(path, env):
    """Thread: any. Returns: exit code, output, seconds."""
    started = time.monotonic()
    return *run([sys.executable, path, "-v"], env=env, timeout=900), time.monotonic() - started


def count_script(path, code, out):
    verdicts = re.findall(r"\.\.\. (ok|FAIL|ERROR|skipped)", out)
    TALLY.passed += verdicts.count("ok")
    TALLY.skipped += verdicts.count("skipped")
    if code:
        bad = max(1, verdicts.count("FAIL") + verdicts.count("ERROR"))
        TALLY.failed += bad
        TALLY.failures.append(path)
        print(f"FAILED {path}\n{tail(out, 120)}", flush=True)


# Two of these run at a time: each starts servers of its own on free ports, and none holds anything against the clock more closely
# than in seconds. The others want the machine: ten thousand connections, kills under load, deadlines of a second.
PAIRED_SCRIPTS = {"api_test.py", "cli_test.py", "load_test.py", "rpc_test.py"}
ASAN_SCRIPTS = {"api_test.py", "cli_test.py", "http_test.py", "faults_test.py", "model_test.py", "rpc_test.py"}


def blackbox(preset, options, only=None):
    env = {"CIRANDA_BUILD": os.path.abspath(f"build/{preset}"), "CIRANDA_KILLS": str(options.kills)}
    scripts = [path for path in sorted(glob.glob("tests/blackbox/*_test.py")) if only is None or os.path.basename(path) in only]
    paired = [path for path in scripts if os.path.basename(path) in PAIRED_SCRIPTS]
    for at_a_time, paths in ((2, paired), (1, [path for path in scripts if path not in paired])):
        with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
            for path, (code, out, seconds) in zip(paths, pool.map(lambda path: run_script(path, env), paths)):
                count_script(path, code, out)
                print(f"  {preset} {os.path.basename(path)} {seconds:.0f} s", flush=True)


def step_tidy(options):
    path = "tests/tidy/tidy_test.py"
    count_script(path, *run([sys.executable, path, "-v"]))


def step_release(options):
    if build("release"):
        ctest("release")
        blackbox("release", options)


def step_clang(options):
    if build("clang"):
        ctest("clang", "-L", "unit")


def step_asan(options):
    env = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
    os.environ.update(env)
    if build("asan"):
        ctest("asan")
        blackbox("asan", options, only=ASAN_SCRIPTS)


def step_tsan(options):
    if build("tsan", "tests_with_threads"):
        ctest("tsan", "-L", "threads", env={"TSAN_OPTIONS": "halt_on_error=1 second_deadlock_stack=1"})


def step_sim(options):
    if not build("sim", "sim"):
        return
    binary = ["--binary", "build/sim/tests/sim/sim"]
    for name, script in (("seeds", ["run_seeds.py", *binary, "--seeds", str(options.sim_seeds)]),
                         ("cuts", ["run_cuts.py", *binary]), ("planted bugs", ["run_planted.py", *binary])):
        code, out = run([sys.executable, f"tests/sim/{script[0]}", *script[1:]])
        print(tail(out, 6), flush=True)
        match = re.search(r"(\d+) passed, (\d+) failed", out)
        if match:
            TALLY.passed += int(match.group(1))
        TALLY.add(f"sim: {name}", code == 0, tail(out))


def step_fuzz(options):
    if not build("fuzz"):
        return
    for binary in sorted(glob.glob("build/fuzz/tests/fuzz/*_fuzz")):
        name = os.path.basename(binary)
        folder = f"build/fuzz/corpus/{name}"
        os.makedirs(folder, exist_ok=True)
        code, out = run([binary, f"-max_total_time={options.fuzz}", "-timeout=10", "-rss_limit_mb=2048", folder, f"tests/fuzz/corpus/{name}"])
        TALLY.add(f"fuzz: {name}", code == 0, tail(out))


STEPS = {"tidy": step_tidy, "release": step_release, "clang": step_clang, "asan": step_asan, "tsan": step_tsan, "sim": step_sim,
         "fuzz": step_fuzz}


def main():
    parser = argparse.ArgumentParser(prog="./check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="comma-separated steps")
    parser.add_argument("--sim-seeds", type=int, default=1000)
    parser.add_argument("--fuzz", type=int, default=0, metavar="SECONDS")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    if options.full:
        options.sim_seeds, options.fuzz, options.kills = 20000, 60, 50
    names = options.only.split(",") if options.only else [name for name in STEPS if name != "fuzz" or options.fuzz]
    seconds = {}
    for name in names:
        started = time.monotonic()
        before = (TALLY.passed, TALLY.failed)
        STEPS[name](options)
        seconds[name] = time.monotonic() - started
        print(f"{name}: {TALLY.passed - before[0]} passed, {TALLY.failed - before[1]} failed, {seconds[name]:.0f} s", flush=True)
    print("time:", ", ".join(f"{name} {taken:.0f} s" for name, taken in seconds.items()) + f"; in all {sum(seconds.values()):.0f} s")
    for failure in TALLY.failures:
        print("failed:", failure)
    print(f"{TALLY.passed} passed, {TALLY.failed} failed" + (f", {TALLY.skipped} skipped" if TALLY.skipped else ""))
    return 1 if TALLY.failed or not TALLY.passed else 0


if __name__ == "__main__":
    sys.exit(main())
