"""Runs a command whose tests know one address only, 127.0.0.1:5433, and carries what they say there to the server.

    forward.py COMMAND…    the server is that of PGHOST and PGPORT; the command's are 127.0.0.1 and 5433,
                          and so DATABASE_URL says, with PGUSER and PGDATABASE
"""

import asyncio
import os
import pathlib
import sys

ADDRESS = ("127.0.0.1", 5433)


async def carry(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, RuntimeError):
        # A side that is gone is gone for the other as well.
        writer.transport.abort()


async def serve(reader, writer):
    host, port = os.environ["PGHOST"], os.environ["PGPORT"]
    if host.startswith("/"):
        server = await asyncio.open_unix_connection(pathlib.Path(host) / f".s.PGSQL.{port}")
    else:
        server = await asyncio.open_connection(host, int(port))
    await asyncio.gather(carry(reader, server[1]), carry(server[0], writer))
    for end in (writer, server[1]):
        end.close()


async def main():
    listener = await asyncio.start_server(serve, *ADDRESS)
    host, port = ADDRESS
    url = f"postgres://{os.environ['PGUSER']}@{host}:{port}/{os.environ['PGDATABASE']}"
    told = dict(os.environ, PGHOST=host, PGPORT=str(port), DATABASE_URL=url)
    command = await asyncio.create_subprocess_exec(*sys.argv[1:], env=told)
    code = await command.wait()
    listener.close()
    # Connections that nobody closed end with this process.
    sys.stderr.flush()
    os._exit(code)


asyncio.run(main())
