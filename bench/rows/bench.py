# SPDX-License-Identifier: Apache-2.0
"""What all rows share: the build under measurement, temporary folders, programs that print JSON lines, and the results."""
import json
import os
import subprocess
import sys
import tempfile

from .process import BENCH, ROOT


class Bench:
    def __init__(self, options, folder, log):
        self.options, self.folder, self.log, self.rows = options, folder, log, []
        self.build = os.path.abspath(options.build)

    def binary(self, name):
        return os.path.join(self.build, name)

    def new_folder(self, name):
        return tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)

    def peers_folder(self, name):
        folder = os.path.join(ROOT, "build", "peers", name)
        os.makedirs(folder, exist_ok=True)
        return folder

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def done(self, row):
        record = row.record()
        self.rows.append(record)
        if self.options.json:
            print(json.dumps(record), flush=True)
        else:
            self.say(f"  {record['bench']}: {record.get('rate', '-')} {record['unit']}"
                     + "".join(f", {peer} {values['rate']}" for peer, values in record.get("peers", {}).items()))

    def json_lines(self, command, **options):
        """The JSON lines that a program prints, by the name of their row."""
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=self.log, text=True, **options)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}")
        return {line["bench"]: line for line in lines}

    def load(self, *arguments):
        """One run of the load generator, whose checks decide over the row: exit 1 is a wrong, lost or doubled reply."""
        command = [self.binary("bench/load"), "--json", *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not done.stdout.strip():
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        result = json.loads(done.stdout.strip().splitlines()[-1])
        if done.returncode:
            self.say(f"  checks failed: {' '.join(command)}: {done.stderr.strip()[-400:]}")
        return result

    def wrk(self, address, connections=64):
        """An independent generator, so that a comparison does not hang on ours; every side gets the same requests. It has one thread:
        `cores` near 1 says that it could not say more, and the rate is the generator's."""
        command = ["wrk", "-t1", f"-c{connections}", f"-d{self.options.seconds}", "-s", os.path.join(BENCH, "turns.lua"), f"http://{address}"]
        wrk = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with wrk.stdout:
            out = wrk.stdout.read()
        _, status, used = os.wait4(wrk.pid, 0)
        wrk.returncode = os.waitstatus_to_exitcode(status)
        if wrk.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {wrk.returncode}")
        result = json.loads(out.strip().splitlines()[-1])
        if result["bad"]:
            raise RuntimeError(f"{result['bad']} requests to {address} failed")
        return {"rate": result["requests"] / (result["us"] / 1e6), "p99_ms": result["p99_us"] / 1000, "cores": (used.ru_utime + used.ru_stime) / (result["us"] / 1e6)}
