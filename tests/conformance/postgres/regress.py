"""The server's own regression SQL, a psql for each file, as `pg_regress` would.

    regress.py run SQL-FOLDER [FILE…]    connects by PGHOST, PGPORT, PGUSER, PGDATABASE; prints for each file a line of
                                         JSON, [file, output]
    regress.py compare DIRECT WEIR       prints each file that differs; exit code 1 when one is not meant

What is compared is all that psql prints, its echo of the statements included. Files that are meant to differ stand
in differences.txt (`regress FILE: why`): what is not understood is refused, and then misses in what follows it.
"""

import difflib
import json
import os
import pathlib
import re
import subprocess
import sys

FIRST = ["test_setup"]
# Their output is another one each time, or they need what only pg_regress makes.
# `opr_sanity` and `type_sanity` show what other files left, in the order of numbers that are given anew.
LEFT_OUT = {"tablespace", "stats", "infinite_recurse", "prepared_xacts", "psql_crosstab", "largeobject", "opr_sanity", "type_sanity"}
FILE_S_MAX = 240
SHOWN_MAX = 3


def run(sql, files):
    files = files or sorted(path.stem for path in sql.glob("*.sql"))
    for name in FIRST + [name for name in files if name not in FIRST]:
        if name in LEFT_OUT:
            continue
        environment = dict(os.environ, PGTZ="PST8PDT", PGDATESTYLE="Postgres, MDY", PGAPPNAME=f"pg_regress/{name}",
                           PG_LIBDIR="/nonexistent", PG_DLSUFFIX=".so", PG_ABS_SRCDIR=os.environ["REGRESS_DATA"], PG_ABS_BUILDDIR="/nonexistent")
        command = ["psql", "-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on", "-f", str(sql / f"{name}.sql")]
        try:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=FILE_S_MAX)
            output = done.stdout
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"") + b"\n-- cut off: it took too long\n"
        print(json.dumps([name, output.decode(errors="replace")]), flush=True)


# Numbers of new objects and processes, and what names them.
NUMBER = re.compile(r"(?<![\w.])\d{5,}(?![\w.])")
PLACE = re.compile(r"^(psql:)?\S*\.sql:\d+: ")


def outputs(path):
    with open(path) as lines:
        return {name: plain(output) for name, output in map(json.loads, lines)}


def plain(output):
    return [NUMBER.sub("N", PLACE.sub("", line)) for line in output.split("\n")]


def statements(lines):
    return sum(1 for line in lines if line.rstrip().endswith(";"))


def hunks(direct, weir):
    matcher = difflib.SequenceMatcher(None, direct, weir, autojunk=False)
    return [(direct[a:b], weir[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]


def meant_of():
    lines = (pathlib.Path(__file__).resolve().parent / "differences.txt").read_text().splitlines()
    return {line.split(": ")[0].removeprefix("regress ") for line in lines if line.startswith("regress ")}


def compare(direct, weir):
    meant, seen, bad, count, same = meant_of(), set(), 0, 0, 0
    through = outputs(weir)
    for name, expected in sorted(outputs(direct).items()):
        found = through.get(name, [])
        of_file = statements(expected)
        count += of_file
        if expected == found:
            same += of_file
            continue
        different = hunks(expected, found)
        changed = sum(max(1, statements(a)) for a, _ in different)
        same += max(0, of_file - changed)
        if name in meant:
            seen.add(name)
            continue
        bad += 1
        print(f"different: {name}: {len(different)} places")
        for one, other in different[:SHOWN_MAX]:
            print(f"   direct {json.dumps(one[:4])[:400]}\n   weir   {json.dumps(other[:4])[:400]}")
    print(json.dumps({"run": count, "same": same, "meant": sorted(seen), "different": bad}))
    return 1 if bad else 0


def main():
    verb, one, *others = sys.argv[1:]
    if verb == "run":
        run(pathlib.Path(one), others)
    else:
        sys.exit(compare(one, others[0]))


main()
