#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What we want true of the tree, as tests: format, include edges, headers alone, banned calls, links in the docs, a test for
each row of the fault catalogue.

The checks read the files git knows; each also proves on a planted line that it can fail.
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
PRODUCT = ("runtime", "net", "storage", "actors", "cli")


def tracked(*suffixes):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(path for path in out.splitlines() if path.endswith(suffixes) and os.path.exists(os.path.join(ROOT, path)))


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def table(name):
    for line in text_of(f"tests/tidy/{name}").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def without_comments(source):
    """Blanks comments and string literals, keeping line numbers."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, source, flags=re.S)


def include_errors(path, source, allowed):
    errors = []
    folder = path.split("/")[0]
    for number, line in enumerate(source.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        if "/" not in target:
            if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), target)):
                errors.append(f'{path}:{number}: write includes from the root: "{target}"')
            continue
        other = target.split("/")[0]
        if other in allowed and other != folder and other not in allowed[folder]:
            errors.append(f"{path}:{number}: {folder} may not include {other} ({target})")
    return errors


def banned_errors(path, source, rules):
    errors = []
    for number, line in enumerate(without_comments(source).splitlines(), 1):
        for pattern, places, instead in rules:
            if any(path == place or path.startswith(place + "/") for place in places):
                continue
            match = re.search(rf"(?<![\w.>])({pattern})\s*\(", line)
            # A declaration or a struct member call (x->read(...)) is not the libc function.
            if match:
                errors.append(f"{path}:{number}: {match.group(1)}() is banned here: {instead}")
    return errors


# The rows of the fault catalogue that have to be held by a test.
ROWS = [f"{group}{number}" for group, numbers in (
    ("A", range(1, 17)), ("B", range(1, 9)), ("C", (1, 2)), ("D", range(1, 8)), ("F", (1, 2, 3, 4, 5, 6, 7, 9, 10, 11)), ("R", range(1, 10)),
    ("H", (1, 2, 3, 5, 13)), ("J", (1, 2, 4, 7))) for number in numbers]


def tests_that_run(path, source):
    """Names of the tests of a file: Python methods, or C functions that are defined and put into a list of tests."""
    if path.endswith(".py"):
        return set(re.findall(r"^    def (test_\w+)\(self\)", source, re.M))
    defined = re.findall(r"^static void (\w+)\(void \*\*\w+\)$", source, re.M)
    return {name for name in defined if re.search(rf"\b[A-Za-z_]*(?i:test)\w*\({name}[,)]", source)}


def catalogue_errors(document, files):
    """`files`: the sources of the tests by path."""
    errors, rows = [], {}
    tests = {f"{os.path.splitext(os.path.basename(path))[0]}.{name}" for path, source in files.items()
             for name in tests_that_run(path, source)}
    for line in document.splitlines():
        match = re.match(r"\| ([A-Z]\d+) \| [^|]+ \| ([^|]*) \|$", line)
        if match:
            rows[match.group(1)] = re.findall(r"`([^`]+)`", match.group(2))
    for row in ROWS:
        if not rows.get(row):
            errors.append(f"row {row} is held by no test")
    for row, names in rows.items():
        errors += [f"row {row}: there is no test {name}" for name in names if name not in tests]
    for name in sorted(tests):
        named_for = re.match(r"\w+\.(?:test_((?:[a-z]\d+_)*))?", name)  # test_d1_d2_x
        for row in (named_for.group(1) or "").upper().split("_")[:-1]:
            if name not in rows.get(row, []):
                errors.append(f"{name} is missing in row {row}")
    return errors


class Tidy(unittest.TestCase):
    maxDiff = None

    def test_formatting(self):
        files = [path for path in tracked(".c", ".h")]
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, "run clang-format -i on:\n" + "\n".join(sorted(set(re.findall(r"^(\S+?):\d+", run.stderr, re.M)))))

    def test_include_edges_match_the_table(self):
        allowed = {}
        for line in table("includes.table"):
            folder, others = line.split(":")
            allowed[folder] = others.split()
        errors = []
        for path in tracked(".c", ".h"):
            if path.split("/")[0] in allowed:
                errors += include_errors(path, text_of(path), allowed)
        self.assertEqual(errors, [])
        self.assertTrue(include_errors("runtime/x.c", '#include "net/json.h"', allowed), "the check must be able to fail")
        self.assertTrue(include_errors("net/x.c", '#include "storage/journal.h"', allowed), "the check must be able to fail")

    def test_headers_compile_alone(self):
        headers = [path for path in tracked(".h") if path.split("/")[0] in PRODUCT + ("bench",)]
        flags = ["-std=gnu11", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused", f"-I{ROOT}"]

        def compile_alone(path):
            with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
                file.write(f'#include "{path}"\n')
                file.flush()
                run = subprocess.run(["gcc", *flags, file.name], capture_output=True, text=True)
            return "" if run.returncode == 0 else f"{path}: {run.stderr.strip().splitlines()[0]}"

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            errors = [error for error in pool.map(compile_alone, headers) if error]
        self.assertEqual(errors, [])

    def test_banned_calls(self):
        rules = []
        for line in table("banned.table"):
            cells = [cell.strip() for cell in re.split(r"\s+\|\s+", line)]
            rules.append((cells[0], cells[1].split(), cells[2]))
        errors = []
        for path in tracked(".c", ".h"):
            if path.split("/")[0] in PRODUCT:
                errors += banned_errors(path, text_of(path), rules)
        self.assertEqual(errors, [])
        self.assertTrue(banned_errors("actors/x.c", "x = time(NULL);", rules), "the check must be able to fail")
        self.assertFalse(banned_errors("actors/x.c", "/* time(NULL) */", rules))

    def test_guards_follow_the_path(self):
        errors = []
        for path in tracked(".h"):
            if path.split("/")[0] in PRODUCT:
                guard = "CIRANDA_" + re.sub(r"[/.]", "_", path).upper()
                if f"#ifndef {guard}\n#define {guard}\n" not in text_of(path):
                    errors.append(f"{path}: include guard is not {guard}")
        self.assertEqual(errors, [])

    def test_sources_carry_the_licence(self):
        errors = [path for path in tracked(".c", ".h", ".py") if "SPDX-License-Identifier: Apache-2.0" not in text_of(path)[:200]]
        self.assertEqual(errors, [])

    def test_sources_are_listed_by_name(self):
        errors = []
        for path in tracked("CMakeLists.txt"):
            if re.search(r"file\s*\(\s*GLOB", text_of(path)):
                errors.append(f"{path}: file(GLOB)")
        self.assertEqual(errors, [])

    def test_links_in_the_docs_lead_somewhere(self):
        errors = []
        for path in tracked(".md"):
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(path)):
                if re.match(r"[a-z]+:", target):
                    continue
                if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), target)):
                    errors.append(f"{path}: {target}")
        self.assertEqual(errors, [])

    def test_each_row_of_the_fault_catalogue_is_held(self):
        document = text_of("docs/TESTING.md")
        files = {path: text_of(path) for path in tracked(".c", ".py") if path.startswith(("tests/unit/", "tests/blackbox/"))}
        self.assertEqual(catalogue_errors(document, files), [])
        self.assertEqual(catalogue_errors(document.replace("| A1 |", "| A99 |"), files), ["row A1 is held by no test"])
        self.assertTrue(catalogue_errors(document.replace("http1_test.a_head_is_bounded", "http1_test.a_head_is_endless"), files))
        unlisted = {**files, "tests/blackbox/x_test.py": "    def test_a1_anything(self):\n"}
        self.assertEqual(catalogue_errors(document, unlisted), ["x_test.test_a1_anything is missing in row A1"])
        unregistered = {"tests/unit/x_test.c": "static void lonely(void **state)\n{\n}\nTEST(other)\n"}
        self.assertEqual(tests_that_run(*list(unregistered.items())[0]), set())

    def test_nothing_unfinished_is_marked(self):
        errors = []
        for path in tracked(".c", ".h"):
            for number, line in enumerate(text_of(path).splitlines(), 1):
                if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
                    errors.append(f"{path}:{number}: {line.strip()}")
        self.assertEqual(errors, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
