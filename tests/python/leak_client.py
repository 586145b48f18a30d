"""Runs statements over the raw protocol and prints every byte that came back, as JSON lines.

Standard input: {"cases": [{"name": ..., "statements": [...]}, ...]}. Where to: PGHOST (a folder is a
unix socket), PGPORT, PGUSER, PGDATABASE. For each case and mode one line {"case", "mode", "hex"}; the
modes are the simple protocol, a binary cursor in it, and the extended protocol in text and in binary.
Each case runs in a transaction of its own, which is rolled back. An answer of more than BYTES_MAX is not
read to its end: {"case", "mode", "large"}. Only the standard library is used.
"""

import json
import os
import socket
import struct
import sys

BYTES_MAX = 16 << 20


class TooLarge(Exception):
    pass


class Session:
    def __init__(self):
        host, port = os.environ["PGHOST"], int(os.environ.get("PGPORT", "5432"))
        if host.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.socket = socket.create_connection((host, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(60)
        self.buffer, self.at = bytearray(), 0
        body = struct.pack(">I", 3 << 16)
        for name in ("user", "database"):
            body += name.encode() + b"\0" + os.environ["PG" + name.upper()].encode() + b"\0"
        body += b"\0"
        self.socket.sendall(struct.pack(">I", len(body) + 4) + body)
        self.until_ready()

    def read(self, count):
        while len(self.buffer) - self.at < count:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError
            del self.buffer[: self.at]
            self.at = 0
            self.buffer += piece
        self.at += count
        return bytes(self.buffer[self.at - count : self.at])

    def until_ready(self):
        """Every byte up to ReadyForQuery."""
        seen = bytearray()
        while True:
            if len(seen) > BYTES_MAX:
                raise TooLarge
            head = self.read(5)
            body = self.read(struct.unpack(">I", head[1:])[0] - 4)
            seen += head + body
            if head[:1] == b"Z":
                return seen
            if head[:1] == b"G":
                # Nobody copies in here.
                self.send(b"f", b"no\0")

    def send(self, *messages):
        """Tags and bodies, in one piece: none of them waits for an acknowledgement of the one before."""
        pairs = zip(messages[::2], messages[1::2])
        self.socket.sendall(b"".join(tag + struct.pack(">I", len(body) + 4) + body for tag, body in pairs))

    def query(self, text):
        self.send(b"Q", text.encode() + b"\0")
        return self.until_ready()

    def extended(self, text, binary):
        parse = b"P", b"\0" + text.encode() + b"\0\0\0"
        bind = b"B", b"\0\0\0\0\0\0" + struct.pack(">HH", 1, int(binary))
        self.send(*parse, *bind, b"D", b"P\0", b"E", b"\0\0\0\0\0", b"S", b"")
        return self.until_ready()

    def run(self, mode, statement):
        if mode == "simple":
            return self.query(statement)
        return self.extended(statement, mode == "extended-binary")


def through_cursor(statements):
    """A single query by way of a binary cursor, or None."""
    if len(statements) > 1 or statements[0].split()[0] not in ("select", "with", "table", "values"):
        return None
    # What changes rows cannot be a cursor, nor can what locks them be one that scrolls.
    words = statements[0].split()
    if any(word in words for word in ("(update", "(delete", "(insert", "into")):
        return None
    return [f"declare leak_cursor binary cursor for {statements[0]}", "fetch all from leak_cursor"]


def main():
    cases = json.load(sys.stdin)["cases"]
    session = Session()
    session.query("listen leak")
    for case in cases:
        plans = [(mode, case["statements"]) for mode in ("simple", "extended-text", "extended-binary")]
        cursor = through_cursor(case["statements"])
        if cursor:
            plans.append(("simple-binary", cursor))
        for mode, statements in plans:
            try:
                session.query("begin")
                seen = b""
                for statement in statements:
                    seen += session.run("simple" if mode == "simple-binary" else mode, statement)
                seen += session.query("rollback")
            except (EOFError, OSError, TooLarge) as error:
                what = "large" if isinstance(error, TooLarge) else "lost"
                print(json.dumps({"case": case["name"], "mode": mode, what: str(error)}), flush=True)
                session.socket.close()
                session = Session()
                session.query("listen leak")
                continue
            print(json.dumps({"case": case["name"], "mode": mode, "hex": seen.hex()}))


main()
