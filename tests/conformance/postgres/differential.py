"""Sends the corpus to a server and keeps everything it says; compares two such runs.

    differential.py run --mode M [--every N]       connects by PGHOST, PGPORT, PGUSER, PGDATABASE; prints lines of JSON
    differential.py compare --mode M DIRECT WEIR   prints each difference; exit code 1 when one is not meant

In every mode each file of the corpus is one session, in order.
"""

import argparse
import json
import pathlib
import sys

import corpus
import wire
from wire import SYNC, bind, close, describe, execute, parse, query

MODES = ["simple", "extended", "binary", "named", "limited", "pipelined", "batched"]
TOGETHER = 8


def extended(unit, binary=False):
    return parse("", unit.sql) + bind("", "", unit.parameters, binary) + describe(b"P", "") + execute("")


def one(session, unit, mode):
    """The replies to one unit alone."""
    try:
        return replies(session, unit, mode)
    except wire.Ended as error:
        return [("ENDED", str(error).encode())]


def replies(session, unit, mode):
    if mode == "simple":
        session.send(query(unit.sql))
    elif mode in ("extended", "binary"):
        session.send(extended(unit, mode == "binary") + SYNC)
        return with_sync(session, unit)
    elif mode == "named":
        session.send(parse("s 1", unit.sql) + describe(b"S", "s 1") + SYNC)
        found = session.until_ready(copy=None)
        for _ in range(2):
            session.send(bind("", "s 1", unit.parameters) + execute("") + SYNC)
            found += with_sync(session, unit)
        session.send(close(b"S", "s 1") + SYNC)
        return found + session.until_ready(copy=None)
    elif mode == "limited":
        session.send(parse("", unit.sql) + bind("p", "", unit.parameters) + execute("p", 2) + execute("p", 2) + execute("p") + close(b"P", "p") + SYNC)
        return with_sync(session, unit)
    return session.until_ready(copy=unit.copy or b"")


def with_sync(session, unit):
    """The server takes no notice of a Sync while it waits for data of a COPY, so there is another one behind it."""
    found = []
    while True:
        try:
            tag, body = session.next()
        except wire.Ended as error:
            return found + [("ENDED", str(error).encode())]
        found.append((tag.decode("latin1"), body))
        if tag == b"G":
            data = unit.copy or b""
            session.send((wire.message(b"d", data) if data else b"") + wire.message(b"c") + SYNC)
        if tag == b"Z":
            return found


def together(session, units, mode):
    """Several units without waiting: each with its own Sync, or one Sync for all."""
    each = SYNC if mode == "pipelined" else b""
    session.send(b"".join(extended(unit) + each for unit in units) + (b"" if each else SYNC))
    return session.until_ready(len(units) if each else 1, copy=None)


def alone(unit):
    """What may ask for data, and what is meant to differ, which would excuse its neighbours."""
    return "copy" in unit.sql.lower() or unit.name is not None or unit.alone


def ways(units, mode):
    """Groups of units that are sent together in this mode."""
    if mode == "simple":
        units = [unit for unit in units if unit.values is None]
    else:
        units = [unit for unit in units if not unit.simple and (mode != "limited" or unit.copy is None)]
    if mode not in ("pipelined", "batched"):
        return [[unit] for unit in units]
    groups, size = [], TOGETHER if mode == "pipelined" else 3
    for unit in units:
        if not groups or len(groups[-1]) == size or alone(unit) or alone(groups[-1][0]):
            groups.append([])
        groups[-1].append(unit)
    return groups


def connect(place=None):
    host, port, user, database = place or wire.place()
    return wire.Session(host, port, user, database, [("application_name", "corpus"), ("client_encoding", "UTF8")])


def run_file(units, mode, out):
    session, normal, count = connect(), wire.Normal(), 0
    keep(out, mode, ["greeting"], sorted(normal.message(*message) for message in session.greeting if message[0] in "SZ"))
    for group in ways(units, mode):
        found = one(session, group[0], mode) if len(group) == 1 and mode not in ("pipelined", "batched") else (
            one(session, group[0], "extended") if len(group) == 1 and alone(group[0]) else together(session, group, mode))
        # Numbers of new objects are told apart within a unit; over all, one difference would make many.
        normal.oids.clear()
        messages = [normal.message(*message) for message in found]
        if mode == "binary" and group[0].oids:
            messages = [(tag, [cell is not None for cell in body]) if tag == "D" else (tag, body) for tag, body in messages]
        keep(out, mode, [unit.where for unit in group], messages)
        count += len(group)
        if found and found[-1][0] == "ENDED":
            session.end()
            session = connect()
    session.end()
    return count


def keep(out, mode, where, messages):
    out.write(json.dumps([mode, where, messages]) + "\n")


def rows_of(session):
    def ask(sql):
        session.send(query(sql))
        return [wire.cells(body) for tag, body in session.until_ready() if tag == "D"]
    return ask


def all_units(ask):
    groups = [corpus.read(path) for path in corpus.files()]
    made = {}
    for unit in corpus.made(ask):
        made.setdefault(unit.where.split("/")[0], []).append(unit)
    return groups + list(made.values())


def run(arguments):
    session = connect()
    groups = all_units(rows_of(session))
    session.end()
    for group in groups:
        name = group[0].where.split("/")[0]
        if arguments.only and name not in arguments.only.split(","):
            continue
        # What stands in a file builds on what stands before it; what is made does not.
        chosen = group if name in {path.stem for path in corpus.files()} else group[::arguments.every]
        run_file(chosen, arguments.mode, sys.stdout)


def read(path):
    with open(path) as lines:
        return {(mode, ",".join(where)) if where != ["greeting"] else (mode, f"greeting {number}"): messages
                for number, (mode, where, messages) in enumerate(map(json.loads, lines))}


def differences_of():
    meant = {}
    for line in (pathlib.Path(__file__).resolve().parent / "differences.txt").read_text().splitlines():
        if line.startswith("corpus "):
            name, _, why = line.removeprefix("corpus ").partition(": ")
            meant[name] = why
    return meant


# Where in the server's source an error was raised: what Weir says itself was raised nowhere, and in a failed
# transaction the server may have been asked by another message.
PLACE = "FLR"


def same_but_place(expected, found):
    if expected == found:
        return True
    if len(expected) != len(found):
        return False
    for one, other in zip(expected, found):
        if one == other:
            continue
        if one[0] != "E" or other[0] != "E" or not (other[1].keys().isdisjoint(PLACE) or one[1].get("C") == "25P02"):
            return False
        if any(one[1].get(field) != other[1].get(field) for field in (one[1].keys() | other[1].keys()) - set(PLACE)):
            return False
    return True


def compare(arguments):
    direct, weir = read(arguments.direct), read(arguments.weir)
    known = {unit.where: unit for path in corpus.files() for unit in corpus.read(path)}
    meant, seen, bad = differences_of(), set(), 0
    if direct.keys() != weir.keys():
        bad += 1
        print("different: the two runs have not the same units")
    for key, expected in direct.items():
        found = weir.get(key)
        if found is None or same_but_place(expected, found):
            continue
        units = [known[where] for where in key[1].split(",") if where in known]
        names = {name for unit in units for name in (unit.name, unit.differs.get(key[0])) if name in meant}
        if names:
            seen |= names
            continue
        bad += 1
        at = next((n for n, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
        texts = "; ".join(known[where].sql if where in known else where for where in key[1].split(","))
        print(f"different: {key[0]} {key[1]}: {texts[:300]!r}\n   direct {json.dumps(expected[at:at + 2])[:500]}\n   weir   {json.dumps(found[at:at + 2])[:500]}")
    same = sum(1 for key in direct if key in weir and same_but_place(direct[key], weir[key]))
    print(json.dumps({"run": len(direct), "same": same, "meant": sorted(seen), "different": bad}))
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("run")
    verb.add_argument("--mode", choices=MODES, required=True)
    verb.add_argument("--every", type=int, default=1)
    verb.add_argument("--only")
    verb.set_defaults(run=run)
    verb = verbs.add_parser("compare")
    verb.add_argument("--mode", choices=MODES, required=True)
    verb.add_argument("direct")
    verb.add_argument("weir")
    verb.set_defaults(run=compare)
    arguments = parser.parse_args()
    sys.exit(arguments.run(arguments))


main()
