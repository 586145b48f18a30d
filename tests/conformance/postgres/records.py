"""Compares the server's own statement log with what Weir recorded of an agent's sessions.

    records.py LOG DATABASE AGENT-ADDRESS STORE-URL TOKEN-FILE

Every statement that the server logged for the agent must be a record with the same text and parameters, as often
as it was logged; every record of a statement that ran must be in the log. The server logs a text of several
statements once and as a whole, Weir records each: texts are taken apart here.
"""

import collections
import json
import pathlib
import re
import sys
import time
import urllib.error
import urllib.request

SHIPPED_S_MAX = 60
LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ \w+ \[(\d+)\] (\S*)@(\S*) (\S*) ([A-Z]+): +(.*)")
# Weir's own questions begin so.
OWN = "/* weir */"
SHOWN_MAX = 40


def pieces(text):
    """The statements of a text, as the server's lexer would part them."""
    found, start, at, depth = [], 0, 0, 0
    atomic = re.search(r"\bbegin\s+atomic\b", text, re.I)
    while at < len(text):
        rest = text[at:]
        if rest.startswith("--"):
            at = text.find("\n", at) if "\n" in rest else len(text)
        elif rest.startswith("/*"):
            level, at = 1, at + 2
            while level and at < len(text):
                if text.startswith("/*", at):
                    level, at = level + 1, at + 2
                elif text.startswith("*/", at):
                    level, at = level - 1, at + 2
                else:
                    at += 1
        elif rest[0] in "'\"":
            escapes = rest[0] == "'" and at > 0 and text[at - 1] in "eE" and not (at > 1 and (text[at - 2].isalnum() or text[at - 2] == "_"))
            quote, at = rest[0], at + 1
            while at < len(text) and text[at] != quote:
                at += 2 if escapes and text[at] == "\\" else 1
            at += 1
        elif tag := re.match(r"\$([A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$", rest) if not (at > 0 and (text[at - 1].isalnum() or text[at - 1] == "_")) else None:
            end = text.find(tag.group(), at + len(tag.group()))
            at = len(text) if end < 0 else end + len(tag.group())
        elif rest[0] in "([":
            depth, at = depth + 1, at + 1
        elif rest[0] in ")]":
            depth, at = depth - 1, at + 1
        elif rest[0] == ";" and depth <= 0 and not atomic:
            found.append(text[start:at])
            at += 1
            start = at
        else:
            at += 1
    found.append(text[start:])
    return [piece for piece in map(plain, found) if piece]


def plain(text):
    """Without what stands around a statement: blanks, comments, semicolons."""
    before = None
    while before != text:
        before = text
        text = re.sub(r"^(\s+|;|--[^\n]*(\n|$)|/\*(?:(?!/\*|\*/).)*\*/)", "", text, flags=re.S)
        text = re.sub(r"(\s+|;)$", "", text)
    if text.startswith("/* only /* a nested */ comment */"):
        return ""
    return text


def entries(path):
    """Lines of the log with their continuations: pid, database, address, kind, text."""
    entry = None
    with open(path, errors="replace", newline="\n") as lines:
        for line in lines:
            line = line.rstrip("\n")
            found = LINE.match(line)
            if found:
                if entry:
                    yield entry
                pid, _user, database, address, kind, text = found.groups()
                entry = [pid, database, address, kind, text]
            elif entry and line.startswith("\t"):
                entry[4] += "\n" + line[1:]
    if entry:
        yield entry


def logged(path, database, address):
    sessions = collections.defaultdict(list)
    for pid, of, whence, kind, text in entries(path):
        if of == database and whence == address:
            sessions[pid].append((kind, text))
    statements = collections.Counter()
    for lines in sessions.values():
        last = None
        for kind, text in lines:
            if kind == "DETAIL" and last and text.startswith("parameters: "):
                statements[last] -= 1
                statements[(last[0], parameters(text.removeprefix("parameters: ")))] += 1
                last = None
            if kind != "LOG":
                continue
            last = None
            if text.startswith("statement: ") and not text.startswith("statement: " + OWN):
                for piece in pieces(text.removeprefix("statement: ")):
                    statements[(piece, ())] += 1
            elif text.startswith("execute ") and ": " in text:
                name, _, sql = text.partition(": ")
                if OWN in sql[:len(OWN)]:
                    continue
                for piece in pieces(sql):
                    last = (piece, ())
                    statements[last] += 1
            elif text.startswith("fastpath function call: "):
                name = re.match(r'fastpath function call: "([^"]*)"', text)
                statements[("function call " + name.group(1), ())] += 1
    return +statements


def parameters(text):
    """`$1 = 'a', $2 = NULL`"""
    found = re.findall(r"\$\d+ = (NULL|'(?:[^']|'')*')", text)
    return tuple(None if value == "NULL" else value_of(value[1:-1].replace("''", "'")) for value in found)


def value_of(text):
    """The server logs what it made of a value, the record has what was sent: truths, dates of JDBC, bytes."""
    text = {"true": "t", "false": "f"}.get(text, text)
    text = re.sub(r"^(\d{4}-\d\d-\d\d) \+00$", r"\1", text)
    text = text.removeprefix("pg_catalog.")
    return "\\x" + text[2:] if re.match(r"0x([0-9a-f]{2})*$", text) else text


def recorded(url, token, database):
    sql = f"""
    select r.statement, r.parameters, r.effects, p.status from
      (select * from weir.fact where kind = 'request' and decision in ('allow', 'approved')
         and labels['phase'] != 'prepare') r
      left join (select session_id, epoch, reply_to, any(status) as status from weir.fact where kind = 'reply'
                 group by session_id, epoch, reply_to) p
      on p.session_id = r.session_id and p.reply_to = r.seq
    where r.protocol = 'postgres' and arrayExists(o -> o like '%/{database}%' or o like '%{database}', r.objects)
"""
    return [json.loads(line) for line in ask(url, token, sql).splitlines()]


def ask(url, token, sql):
    request = urllib.request.Request(url + "/?default_format=JSONCompactEachRow", data=sql.encode(), headers={"Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code} {error.read().decode()}")


def settled(url, token, database):
    """The records once no more come."""
    until, before = time.monotonic() + SHIPPED_S_MAX, -1
    while True:
        rows = recorded(url, token, database)
        if (len(rows) == before and rows) or time.monotonic() > until:
            return rows
        before = len(rows)
        time.sleep(3)


def main():
    log, database, address, url, token = sys.argv[1:]
    expected = logged(log, database, address)
    every, ran = collections.Counter(), collections.Counter()
    for statement, values, effects, status in settled(url, pathlib.Path(token).read_text().strip(), database):
        statement = re.sub(r"^function call .*\.", "function call ", statement)
        values = json.loads(values) if values else ()
        key = (plain(statement), tuple(value if value is None else value_of(value) for value in values))
        # A text without a statement is logged by some of the server's ways of being asked only; parameters of
        # the start-up message never are.
        if effects == ["parse"] or not key[0] or statement.startswith("start-up: "):
            continue
        every[key] += 1
        # A portal that went with its transaction is not run: the server logs the error (34000) alone.
        if status not in ("not_run", "34000"):
            ran[key] += 1
    missing, extra = expected - every, ran - expected
    for what, found in (("not recorded", missing), ("not in the server's log", extra)):
        for key, count in sorted(found.items(), key=str)[:SHOWN_MAX]:
            print(f"different: {what}, {count} times: {key[0][:300]!r} {json.dumps(key[1])[:200]}")
    shown = sum(min(len(found), SHOWN_MAX) for found in (missing, extra))
    run = sum(expected.values())
    print(json.dumps({"run": run, "same": run - sum(missing.values()), "different": shown}))
    sys.exit(1 if shown else 0)


main()
