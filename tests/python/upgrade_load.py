"""PostgreSQL sessions in every state, kept there while the node is replaced.

    upgrade_load.py SESSIONS ROUNDS WORKERS SSLMODE

Says `AT n` when all sessions stand in the middle of something for the n-th time, and goes on at
each line of standard input. Meanwhile WORKERS threads connect, ask and leave without a pause. The
last line is a JSON object: by kind of session the number that ended as they should, and every
error.
"""

import collections
import json
import os
import socket
import sys
import threading

import psycopg

ROWS = 12000
BODY = "x" * 1000
TO = f"sslmode={sys.argv[4]}"
LOCK = threading.Lock()
ERRORS = []
GOOD = collections.Counter()


def failed(kind, what):
    with LOCK:
        ERRORS.append(f"{kind}: {what}")


def expect(kind, have, want):
    if have != want:
        raise AssertionError(f"{have!r:.200} instead of {want!r:.200}")


def connect(**more):
    connection = psycopg.connect(TO, autocommit=True, **more)
    # A small window: what is under way stays under way.
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262144)
    return connection


def part(rows, round, rounds):
    """How many of the rows are taken before the node is replaced that often."""
    return rows * (round + 1) // (rounds + 2)


def idle(number, rounds):
    with connect() as connection:
        for round in range(rounds):
            row = connection.execute("select %s::int + 1", (round,)).fetchone()
            expect("idle", row, (round + 1,))
            yield


def prepared(number, rounds):
    with connect(prepare_threshold=0) as connection:
        sql = "select id, secret from upgraded where id = %s"
        for round in range(rounds):
            expect("prepared", connection.execute(sql, (round,)).fetchall(), [(round, MASKED)])
            yield
        expect("prepared", connection.execute(sql, (rounds,)).fetchall(), [(rounds, MASKED)])


def transaction(number, rounds):
    who = 1_000_000 + number
    with connect() as connection:
        connection.execute("begin")
        for round in range(rounds):
            connection.execute(
                "insert into upgraded_in (id, who, body) values (%s, %s, 'in a transaction')",
                (round, who),
            )
            yield
        count = connection.execute("select count(*) from upgraded_in where who = %s", (who,))
        expect("transaction", count.fetchone(), (rounds,))
        connection.execute("rollback")
        count = connection.execute("select count(*) from upgraded_in where who = %s", (who,))
        expect("transaction", count.fetchone(), (0,))


def failed_transaction(number, rounds):
    with connect() as connection:
        connection.execute("begin")
        try:
            connection.execute("select 1 / 0")
        except psycopg.errors.DivisionByZero:
            pass
        yield
        for _ in range(rounds - 1):
            try:
                connection.execute("select 1")
                raise AssertionError("a failed transaction goes on")
            except psycopg.errors.InFailedSqlTransaction:
                pass
            yield
        connection.execute("rollback")
        expect("failed", connection.execute("select 1").fetchone(), (1,))


def copy_out(number, rounds):
    with connect() as connection, connection.cursor() as cursor:
        sql = "copy (select id, body from upgraded order by id) to stdout"
        with cursor.copy(sql) as copy:
            taken = 0
            for round in range(rounds):
                while taken < part(ROWS, round, rounds):
                    expect("copy_out", copy.read_row(), (str(taken), BODY))
                    taken += 1
                yield
            while row := copy.read_row():
                expect("copy_out", row, (str(taken), BODY))
                taken += 1
        expect("copy_out", taken, ROWS)


def copy_in(number, rounds):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("begin")
        with cursor.copy("copy upgraded_in (id, who, body) from stdin") as copy:
            for round in range(rounds):
                for row in range(200):
                    copy.write_row((round * 200 + row, number, BODY))
                yield
        sql = "select count(*), sum(id), sum(length(body)) from upgraded_in where who = %s"
        rows = rounds * 200
        want = (rows, rows * (rows - 1) // 2, rows * len(BODY))
        expect("copy_in", cursor.execute(sql, (number,)).fetchone(), want)
        cursor.execute("rollback")


def mid_result(number, rounds):
    with connect() as connection, connection.cursor() as cursor:
        sql = "select id, secret, body from upgraded order by id"
        rows = cursor.stream(sql)
        taken = 0
        for round in range(rounds):
            while taken < part(ROWS, round, rounds):
                expect("mid_result", next(rows), (taken, MASKED, BODY))
                taken += 1
            yield
        for row in rows:
            expect("mid_result", row, (taken, MASKED, BODY))
            taken += 1
        expect("mid_result", taken, ROWS)


def cursor(number, rounds):
    with connect() as connection:
        connection.execute("begin")
        connection.execute("declare c cursor for select id, secret from upgraded order by id")
        for round in range(rounds):
            want = [(round * 10 + row, MASKED) for row in range(10)]
            expect("cursor", connection.execute("fetch 10 from c").fetchall(), want)
            yield
        connection.execute("commit")


def held(number, rounds):
    done = []

    def wait():
        try:
            with connect() as connection:
                # No row has it: what is deleted does not matter here.
                connection.execute(f"delete from upgraded_in where who = {-1 - number}")
                expect("held", connection.execute("select 2").fetchone(), (2,))
            done.append(True)
        except Exception as error:
            failed("held", error)

    thread = threading.Thread(target=wait)
    thread.start()
    for _ in range(rounds):
        yield
    thread.join(120)
    expect("held", done, [True])


def work(stop):
    while not stop.is_set():
        try:
            with psycopg.connect(TO, autocommit=True) as connection:
                for number in range(20):
                    row = connection.execute("select %s::int", (number,)).fetchone()
                    expect("worker", row, (number,))
            with LOCK:
                GOOD["worker"] += 1
        except Exception as error:
            failed("worker", error)


MASKED = "[redacted]"
KINDS = [idle, prepared, transaction, failed_transaction, copy_out, copy_in, mid_result, cursor, held]


def step(kind, session):
    try:
        next(session)
        return True
    except StopIteration:
        with LOCK:
            GOOD[kind] += 1
    except Exception as error:
        failed(kind, f"{type(error).__name__}: {error}")
    return False


def main():
    sessions, rounds, workers = (int(argument) for argument in sys.argv[1:4])
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(stop,)) for _ in range(workers)]
    live = []
    for number in range(sessions):
        make = KINDS[number % len(KINDS)]
        live.append((make.__name__, make(number, rounds)))
    for thread in threads:
        thread.start()
    for round in range(rounds):
        live = [one for one in live if step(*one)]
        print(f"AT {round}", flush=True)
        sys.stdin.readline()
    stop.set()
    for kind, session in live:
        while step(kind, session):
            pass
    for thread in threads:
        thread.join()
    print(json.dumps({"good": GOOD, "errors": ERRORS[:50], "failed": len(ERRORS)}), flush=True)


main()
