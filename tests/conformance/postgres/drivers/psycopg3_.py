import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from scenario import ERRORS, QUERIES, said

with psycopg.connect("") as connection:
    said("server", connection.info.server_version)
    for name, text in QUERIES:
        said(name, connection.execute(text).fetchall())
    for name, text in QUERIES:
        said(name + " binary", connection.cursor(binary=True).execute(text).fetchall())
    connection.commit()
    for name, text in ERRORS:
        try:
            connection.execute(text)
        except psycopg.Error as error:
            diag = error.diag
            said(name, [type(error).__name__, error.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint, diag.statement_position, diag.constraint_name])
        said(name + " status", connection.info.transaction_status)
        connection.rollback()
    said("parameters", connection.execute("select %s::int + 1, %s::text, %s", (41, "x", None)).fetchone())
    for n in range(8):
        said("prepared", connection.execute("select name from person where id = %s", (n,), prepare=True).fetchall())
    cursor = connection.cursor(row_factory=dict_row)
    said("dict", cursor.execute("select id, name from person order by id").fetchall())
    said("description", [(d.name, d.type_code, d.display_size) for d in cursor.description])
    cursor.executemany("insert into audit values (%s) returning what", [("a",), ("b",), ("c",)], returning=True)
    said("executemany", cursor.fetchall())
    with connection.cursor(name="server side") as cursor:
        cursor.itersize = 7
        cursor.execute("select n from generate_series(1, 30) n")
        said("server cursor", [row for row in cursor])
    with connection.cursor() as cursor, cursor.copy("copy person (id, name) to stdout") as copy:
        said("copy out", b"".join(map(bytes, copy)))
    with connection.cursor() as cursor, cursor.copy("copy audit from stdin") as copy:
        for n in range(100):
            copy.write_row((f"row {n}",))
    said("copy in", connection.execute("select count(*) from audit").fetchone())
    with connection.cursor() as cursor, cursor.copy("copy audit from stdin (format binary)") as copy:
        copy.set_types(["text"])
        copy.write_row(("binary",))
    said("copy binary", connection.execute("select count(*) from audit").fetchone())
    connection.rollback()
    with connection.pipeline():
        one = connection.execute("select 1")
        two = connection.execute("insert into audit values ('piped') returning what")
        three = connection.execute("select count(*) from audit where what = 'piped'")
        said("pipeline", [one.fetchone(), two.fetchone(), three.fetchone()])
    try:
        with connection.pipeline():
            connection.execute("select 1")
            connection.execute("select 1/0")
            connection.execute("select 2")
    except psycopg.Error as error:
        said("pipeline error", [type(error).__name__, error.sqlstate])
    connection.rollback()
    try:
        with connection.transaction():
            connection.execute("insert into audit values ('outer')")
            try:
                with connection.transaction():
                    connection.execute("insert into audit values ('inner')")
                    raise ValueError
            except ValueError:
                pass
            said("nested", connection.execute("select what from audit order by 1").fetchall())
            raise psycopg.Rollback
    except psycopg.Error as error:
        said("nested error", str(error))
    connection.execute("create temp table mine (a int, b text)")
    connection.execute("insert into mine values (1, 'x')")
    said("temp", connection.execute("select * from mine").fetchall())
    said("identifier", connection.execute(sql.SQL("select * from {}").format(sql.Identifier("Odd Name"))).fetchall())
    notices = []
    connection.add_notice_handler(lambda diag: notices.append((diag.severity, diag.message_primary)))
    connection.execute("select shout('loud')")
    connection.execute("do $$ begin raise warning 'careful'; end $$")
    said("notices", notices)
    connection.commit()

with psycopg.connect("", autocommit=True) as connection:
    connection.execute("listen news")
    connection.execute("notify news, 'fresh'")
    said("notification", [(note.channel, note.payload) for note in connection.notifies(timeout=2, stop_after=1)])
    said("multi", [connection.execute("select 1; select 2; select 3").nextset()])
    try:
        connection.cancel_safe(timeout=5)
        said("cancel idle", connection.execute("select 'still here'").fetchone())
    except psycopg.Error as error:
        said("cancel idle", str(error))
with psycopg.connect("", options="-c statement_timeout=50 -c work_mem=3MB", application_name="options") as connection:
    said("options", connection.execute("select current_setting('work_mem'), current_setting('application_name')").fetchone())
    try:
        connection.execute("select pg_sleep(5)")
    except psycopg.Error as error:
        said("timeout", [error.sqlstate, str(error)])
