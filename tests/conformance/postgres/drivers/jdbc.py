"""Runs Jdbc.java. The driver knows no unix sockets, so a server that is reached by one gets a port on loopback."""

import os
import pathlib
import socket
import subprocess
import sys
import threading

JAR = "/usr/share/java/postgresql.jar"


def pump(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass
    for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        try:
            end.shutdown(how)
        except OSError:
            pass


def serve(listener, path):
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = socket.socket(socket.AF_UNIX)
        server.connect(path)
        for pair in ((client, server), (server, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def main():
    environment = dict(os.environ)
    if environment["PGHOST"].startswith("/"):
        listener = socket.create_server(("127.0.0.1", 0))
        path = f"{environment['PGHOST']}/.s.PGSQL.{environment['PGPORT']}"
        threading.Thread(target=serve, args=(listener, path), daemon=True).start()
        environment["PGHOST"], environment["PGPORT"] = "127.0.0.1", str(listener.getsockname()[1])
    source = pathlib.Path(__file__).resolve().with_name("Jdbc.java")
    sys.exit(subprocess.run(["java", "-cp", JAR, str(source)], env=environment).returncode)


main()
