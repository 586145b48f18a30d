"""Runs what pytest finds in a folder and says what came of each test: a line of JSON, [id, name, outcome, why].

    pytests.py FOLDER ONLY ARGUMENTS…    ONLY: a file of ids, one a line, or '' for all; ARGUMENTS are pytest's
"""

import json
import os
import re
import sys

import pytest

# A test that waits for ever has failed.
TEST_S_MAX = 90
# SQLAlchemy's classes are named after driver and server.
SERVER = re.compile(r"_postgresql\+\w+?_\d+_\d+(?=\W)")
# Addresses of objects, numbers of processes, of the system's objects and of ports.
NUMBER = re.compile(r"0x[0-9a-f]+|(?<![\w.])\d{4,}")
SAID = os.fdopen(os.dup(1), "w", buffering=1)


class Outcomes:
    def __init__(self, only):
        self.only = only
        self.found = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        if self.only:
            items[:] = [item for item in items if item.nodeid in self.only]

    def pytest_collectreport(self, report):
        if report.failed:
            say(report.nodeid, "error", why(report))

    def pytest_runtest_logreport(self, report):
        found = self.found.setdefault(report.nodeid, ("passed", ""))
        if report.failed and found[0] == "passed":
            self.found[report.nodeid] = ("failed" if report.when == "call" else "error", why(report))
        elif report.skipped:
            self.found[report.nodeid] = ("skipped", "")
        if report.when == "teardown":
            say(report.nodeid, *self.found.pop(report.nodeid))


def say(test, outcome, reason):
    print(json.dumps([test, SERVER.sub("", test), outcome, NUMBER.sub("N", reason)]), file=SAID)


def why(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr).strip().split("\n")[-1]
    return text.strip().split("\n")[0]


def main():
    folder, only, *arguments = sys.argv[1:]
    ids = set()
    if only:
        with open(only) as lines:
            ids = {line.rstrip("\n") for line in lines}
    os.chdir(folder)
    sys.path.insert(0, folder)
    # What tests print is not what they came to.
    os.dup2(2, 1)
    options = ["-p", "no:cacheprovider", "-q", "--tb=short", "--maxfail=1000000", "-o", f"timeout={TEST_S_MAX}"]
    pytest.main([*options, *arguments], plugins=[Outcomes(ids)])


main()
