"""A PostgreSQL client that hides nothing: frontend messages in, backend messages out, as bytes.

Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol". Standard library only, so that it
runs wherever an agent runs.
"""

import os
import re
import select
import socket
import struct
import time

REPLY_S_MAX = 60


def message(tag, body=b""):
    return tag + struct.pack("!i", len(body) + 4) + body


def text(value):
    return value.encode() + b"\0"


def query(sql):
    return message(b"Q", text(sql))


def parse(name, sql, types=()):
    return message(b"P", text(name) + text(sql) + struct.pack("!H", len(types)) + b"".join(struct.pack("!I", oid) for oid in types))


def bind(portal, statement, values=(), binary=False):
    body = text(portal) + text(statement) + struct.pack("!HH", 0, len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value.encode())) + value.encode()
    return message(b"B", body + struct.pack("!HH", 1, int(binary)))


def describe(kind, name):
    return message(b"D", kind + text(name))


def execute(portal, rows_max=0):
    return message(b"E", text(portal) + struct.pack("!i", rows_max))


def close(kind, name):
    return message(b"C", kind + text(name))


FLUSH = message(b"H")
SYNC = message(b"S")
TERMINATE = message(b"X")


def startup(parameters, version=3 << 16):
    body = struct.pack("!I", version) + b"".join(text(part) for pair in parameters for part in pair) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


class Ended(Exception):
    """The server closed the connection, or said nothing for too long; the text says which."""


class Session:
    """One connection, logged in without a password."""

    def __init__(self, host, port, user, database, parameters=()):
        if host.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.socket = socket.create_connection((host, int(port)), timeout=REPLY_S_MAX)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(REPLY_S_MAX)
        self.buffer = b""
        self.send(startup([("user", user), ("database", database), *parameters]))
        self.greeting = self.until_ready()

    def send(self, data):
        """Sends all of it, taking in what comes meanwhile: neither side may wait for the other."""
        view, until = memoryview(data), time.monotonic() + REPLY_S_MAX
        self.socket.setblocking(False)
        try:
            while view:
                readable, writable, _ = select.select([self.socket], [self.socket], [], REPLY_S_MAX)
                if time.monotonic() > until:
                    raise Ended("what was sent is not read")
                if readable:
                    self.take()
                if writable:
                    view = view[self.socket.send(view):]
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Ended("closed while sending") from error
        finally:
            self.socket.settimeout(REPLY_S_MAX)

    def take(self):
        try:
            data = self.socket.recv(1 << 16)
        except socket.timeout as error:
            raise Ended(f"nothing within {REPLY_S_MAX} s") from error
        except ConnectionResetError as error:
            raise Ended("reset") from error
        if not data:
            raise Ended("closed")
        self.buffer += data

    def next(self):
        """The next message: its tag and its body."""
        while len(self.buffer) < 5 or len(self.buffer) < 1 + struct.unpack("!i", self.buffer[1:5])[0]:
            self.take()
        length = 1 + struct.unpack("!i", self.buffer[1:5])[0]
        found, self.buffer = self.buffer[:length], self.buffer[length:]
        return found[:1], found[5:]

    def until_ready(self, times=1, copy=b""):
        """Messages up to the given number of ReadyForQuery; the data of a COPY is given when it is asked for."""
        found = []
        while times:
            try:
                tag, body = self.next()
            except Ended as error:
                found.append(("ENDED", str(error).encode()))
                return found
            found.append((tag.decode("latin1"), body))
            if tag == b"G" and copy is not None:
                rows = b"".join(message(b"d", part) for part in copy.splitlines(keepends=True)) if copy else b""
                self.send(rows + message(b"c"))
            if tag == b"Z":
                times -= 1
        return found

    def end(self):
        try:
            self.socket.sendall(TERMINATE)
        except OSError:
            pass
        self.socket.close()


class Normal:
    """Makes messages of two runs comparable: numbers that the server gives to new objects become the order in
    which they were first seen; process ids and the time that work took go."""

    FIRST_OWN_OID = 16384

    def __init__(self):
        self.oids = {}

    def oid(self, number):
        if number < self.FIRST_OWN_OID:
            return number
        return "new%d" % self.oids.setdefault(number, len(self.oids))

    def message(self, tag, body):
        if tag == "T":
            return tag, self.columns(body)
        if tag == "t":
            count = struct.unpack("!H", body[:2])[0]
            return tag, [self.oid(number) for number in struct.unpack(f"!{count}I", body[2:])]
        if tag in "EN" and tag:
            parts = {part[:1].decode(): part[1:].decode("utf8", "replace") for part in body.split(b"\0") if part}
            # How long the server's work took, as VERBOSE says it.
            return tag, {field: re.sub(r"\b\d+\.\d+ s\b", "n s", text) for field, text in parts.items()}
        if tag == "A":
            return tag, body[4:].decode("utf8", "replace")
        if tag == "K":
            return tag, len(body)
        if tag == "D":
            return tag, cells(body)
        return tag, body.decode("utf8", "backslashreplace")

    def columns(self, body):
        columns, at = [], 2
        for _ in range(struct.unpack("!H", body[:2])[0]):
            end = body.index(b"\0", at)
            table, number, kind, size, modifier, form = struct.unpack("!IhIhih", body[end + 1:end + 19])
            columns.append([body[at:end].decode("utf8", "replace"), self.oid(table), number, self.oid(kind), size, modifier, form])
            at = end + 19
        return columns


def cells(body):
    row, at = [], 2
    for _ in range(struct.unpack("!H", body[:2])[0]):
        length = struct.unpack("!i", body[at:at + 4])[0]
        at += 4
        if length < 0:
            row.append(None)
            continue
        row.append(body[at:at + length].decode("utf8", "backslashreplace"))
        at += length
    return row


def place():
    """Where and as whom an ordinary client of this machine would connect."""
    return os.environ["PGHOST"], os.environ["PGPORT"], os.environ["PGUSER"], os.environ["PGDATABASE"]
