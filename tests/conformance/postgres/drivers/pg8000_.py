import os

import pg8000.native

from scenario import ERRORS, QUERIES, said


def connect():
    host = os.environ["PGHOST"]
    place = {"unix_sock": f"{host}/.s.PGSQL.{os.environ['PGPORT']}"} if host.startswith("/") else {"host": host, "port": int(os.environ["PGPORT"])}
    return pg8000.native.Connection(os.environ["PGUSER"], database=os.environ["PGDATABASE"], password="x", **place)


def failing(name, connection, text, **values):
    try:
        connection.run(text, **values)
    except pg8000.native.DatabaseError as error:
        fields = error.args[0]
        said(name, {key: fields[key] for key in sorted(fields) if key in "SVCMDHPnts"} if isinstance(fields, dict) else str(fields))


def main():
    connection = connect()
    for name, text in QUERIES:
        said(name, connection.run(text))
        said("columns", [(column["name"], column["type_oid"] < 16384 and column["type_oid"], column["format"]) for column in connection.columns or []])
    for name, text in ERRORS:
        failing(name, connection, text)
    said("parameters", connection.run("select cast(:a as int) + 1, cast(:b as text), cast(:c as int[]), cast(:d as bytea)", a=41, b=None, c=[1, 2], d=b"\0\xff"))
    statement = connection.prepare("select name from person where id = :id")
    for n in range(4):
        said("prepared", statement.run(id=n))
    statement.close()
    failing("wrong type", connection, "select name from person where id = :id", id="x")
    connection.run("start transaction")
    connection.run("insert into audit values (:what)", what="pg8000")
    said("count", (connection.run("update audit set what = 'x'"), connection.row_count))
    failing("in transaction", connection, "select 1/0")
    failing("failed transaction", connection, "select 1")
    connection.run("rollback")
    said("script", connection.run("create temp table mine (a int); insert into mine values (1), (2); select a from mine order by a"))
    import io
    out = io.BytesIO()
    connection.run("copy (select id, name from person order by id) to stdout with (format csv)", stream=out)
    said("copy out", out.getvalue())
    connection.run("copy audit from stdin", stream=io.BytesIO(b"one\ntwo\n"))
    said("copy in", connection.run("select what from audit order by what"))
    connection.run("listen news")
    connection.run("notify news, 'fresh'")
    said("notification", [(channel, payload) for _, channel, payload in connection.notifications])
    connection.run("select shout('loud')")
    said("notices", [notice[b"M"] for notice in connection.notices])
    said("parameter statuses", sorted(str(key) for key in connection.parameter_statuses))
    connection.close()


main()
