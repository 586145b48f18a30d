import io

import psycopg2
import psycopg2.errors
import psycopg2.extras

from scenario import ERRORS, QUERIES, said

connection = psycopg2.connect("")
cursor = connection.cursor()
for name, text in QUERIES:
    cursor.execute(text)
    said(name, cursor.fetchall())
for name, text in ERRORS:
    try:
        cursor.execute(text)
    except psycopg2.Error as error:
        said(name, [type(error).__name__, error.pgcode, error.diag.message_primary, error.diag.message_detail, error.diag.message_hint, error.diag.statement_position])
    connection.rollback()
cursor.execute("select %s::int + 1, %s, %s", (41, "it's", None))
said("parameters", cursor.fetchone())
said("values", psycopg2.extras.execute_values(cursor, "insert into audit values %s returning what", [("a",), ("b",)], fetch=True))
psycopg2.extras.execute_batch(cursor, "insert into audit values (%s)", [("c",), ("d",)])
named = connection.cursor("named", scrollable=True)
named.execute("select n from generate_series(1, 20) n")
said("named", [named.fetchmany(5), named.fetchone()])
named.scroll(-3)
said("scrolled", named.fetchall())
named.close()
out = io.StringIO()
cursor.copy_expert("copy person to stdout csv header", out)
said("copy out", out.getvalue())
cursor.copy_from(io.StringIO("x\ny\n"), "audit")
cursor.execute("select count(*) from audit")
said("copy in", cursor.fetchone())
connection.rollback()
large = connection.lobject(0, "wb")
large.write(b"large object " * 1000)
oid = large.oid
large.seek(6)
large.close()
again = connection.lobject(oid, "rb")
said("large object", [len(again.read()), again.seek(0), again.read(12)])
again.close()
connection.lobject(oid).unlink()
connection.commit()
connection.set_session(isolation_level="SERIALIZABLE", readonly=True, autocommit=False)
cursor = connection.cursor()
cursor.execute("show transaction_isolation")
said("isolation", cursor.fetchone())
try:
    cursor.execute("insert into audit values ('x')")
except psycopg2.Error as error:
    said("read only", error.pgcode)
connection.rollback()
connection.set_session(readonly=False, autocommit=True)
cursor = connection.cursor()
cursor.execute("select shout('hey')")
said("notices", connection.notices)
cursor.execute("listen ch; notify ch, 'p'")
connection.poll()
said("notifies", [(note.channel, note.payload) for note in connection.notifies])
said("dict", [dict(row) for row in (lambda c: (c.execute("select id, name from person order by id"), c.fetchall())[1])(connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor))])
