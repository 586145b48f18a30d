"""Runs programs of Rust's test harness and says what came of each test: a line of JSON, [id, name, outcome, why].

    libtests.py FOLDER ONLY PROGRAM… --skip=NAME…

FOLDER is where they run, ONLY a file of ids, one a line, or '' for all. A test's name is that of its program, without
what cargo put behind it, `::` and its own; --skip leaves out all whose names begin so.
"""

import json
import pathlib
import re
import subprocess
import sys

OUTCOME = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (?:.*)\b(ok|FAILED|ignored)(?:,.*)?$")
FAILURE = re.compile(r"^---- (\S+) stdout ----$")
OUTCOMES = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}
# Addresses of objects, numbers of processes, of the system's objects and of ports.
NUMBER = re.compile(r"0x[0-9a-f]+|(?<![\w.])\d{4,}")
PROGRAM_S_MAX = 300


def said(program, arguments, folder):
    command = [program, *arguments]
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, errors="replace", timeout=PROGRAM_S_MAX).stdout


def main():
    folder, only, *arguments = sys.argv[1:]
    left_out = tuple(word.removeprefix("--skip=") for word in arguments if word.startswith("--skip="))
    ids = None
    if only:
        with open(only) as lines:
            ids = {line.rstrip("\n") for line in lines}
    for program in (word for word in arguments if not word.startswith("--skip=")):
        name = pathlib.Path(program).name.rsplit("-", 1)[0]
        known = (line.removesuffix(": test") for line in said(program, ["--list", "--format=terse"], folder).split("\n") if line.endswith(": test"))
        wanted = [test for test in known if not f"{name}::{test}".startswith(left_out) and (ids is None or f"{name}::{test}" in ids)]
        if wanted:
            run(name, said(program, ["--test-threads=1", "--exact", *wanted], folder).split("\n"))


def run(name, lines):
    reasons = dict(failures(lines))
    for line in lines:
        if found := OUTCOME.match(line):
            test, outcome = found.groups()
            print(json.dumps([f"{name}::{test}"] * 2 + [OUTCOMES[outcome], reasons.get(test, "")]), flush=True)


def failures(lines):
    """The words of each panic, which stand in the line after its place, or of the error that a test returned."""
    test = None
    for at, line in enumerate(lines):
        if found := FAILURE.match(line):
            test = found[1]
        elif test and (" panicked at " in line or line.startswith("Error: ")):
            yield test, NUMBER.sub("N", line if line.startswith("Error: ") else lines[at + 1])
            test = None


main()
