import asyncio

import asyncpg

from scenario import ERRORS, QUERIES, said


async def main():
    connection = await asyncpg.connect(ssl="prefer")
    said("version", connection.get_server_version()[:2])
    for name, text in QUERIES:
        said(name, [tuple(row) for row in await connection.fetch(text)])
    for name, text in ERRORS:
        try:
            await connection.fetch(text)
        except asyncpg.PostgresError as error:
            said(name, [type(error).__name__, error.sqlstate, error.message, error.detail, error.hint, error.position])
    said("parameters", tuple(await connection.fetchrow("select $1::int + 1, $2::text, $3::int[]", 41, "x", [1, None])))
    statement = await connection.prepare("select name from person where id = $1")
    said("parameters of", [t.name for t in statement.get_parameters()] + [a.name for a in statement.get_attributes()])
    for n in range(4):
        said("prepared", await statement.fetchval(n))
    await connection.executemany("insert into audit values ($1)", [("a",), ("b",), ("c",)])
    said("executemany", await connection.fetchval("select count(*) from audit"))
    async with connection.transaction():
        cursor = await connection.cursor("select n from generate_series(1, 20) n")
        said("cursor", [tuple(row) for row in await cursor.fetch(5)])
        await cursor.forward(5)
        said("cursor", tuple(await cursor.fetchrow()))
    try:
        async with connection.transaction(isolation="serializable"):
            await connection.execute("insert into audit values ('gone')")
            async with connection.transaction():
                await connection.execute("select 1/0")
    except asyncpg.DivisionByZeroError as error:
        said("nested", error.sqlstate)
    import io
    out = io.BytesIO()
    await connection.copy_from_query("select id, name from person order by id", output=out, format="csv")
    said("copy out", out.getvalue())
    said("copy in", await connection.copy_records_to_table("audit", records=[("r1",), ("r2",)]))
    said("mood", await connection.fetchval("select 'ok'::mood"))
    said("composite", tuple(await connection.fetchval("select (1, 2, 3)::point3")))
    said("script", await connection.execute("create temp table t (a int); insert into t values (1), (2); select 1"))
    said("temp", [tuple(row) for row in await connection.fetch("select * from t order by a")])
    notes = asyncio.Queue()
    await connection.add_listener("news", lambda c, pid, channel, payload: notes.put_nowait((channel, payload)))
    await connection.execute("notify news, 'fresh'")
    said("notification", await asyncio.wait_for(notes.get(), 5))
    try:
        await connection.fetch("select pg_sleep(10)", timeout=0.3)
    except asyncio.TimeoutError:
        said("timeout", await connection.fetchval("select 'alive'"))
    await connection.reset()
    await connection.close()
    pool = await asyncpg.create_pool(min_size=2, max_size=2, ssl="prefer")
    said("pool", sorted(await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(6)))))
    await pool.close()


asyncio.run(main())
