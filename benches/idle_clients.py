"""Clients that log in without a password, run one query each and then wait."""

import socket
import struct

from stand import DATABASE, USER, BenchError


def read_until_ready(sock, buffer):
    """Reads messages up to and with ReadyForQuery (manual, "Message Formats")."""
    while True:
        while len(buffer) >= 5:
            end = 1 + struct.unpack_from("!I", buffer, 1)[0]
            if len(buffer) < end:
                break
            kind = buffer[:1]
            if kind == b"E":
                raise BenchError(f"error to an idle client: {bytes(buffer[5:end])!r}")
            del buffer[:end]
            if kind == b"Z":
                return
        data = sock.recv(65536)
        if not data:
            raise BenchError("an idle client was disconnected")
        buffer += data


def open_client(port):
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    parameters = b"".join(s.encode() + b"\0" for s in ("user", USER, "database", DATABASE)) + b"\0"
    sock.sendall(struct.pack("!II", 8 + len(parameters), 196608) + parameters)
    buffer = bytearray()
    read_until_ready(sock, buffer)
    query = b"SELECT 1\0"
    sock.sendall(b"Q" + struct.pack("!I", 4 + len(query)) + query)
    read_until_ready(sock, buffer)
    return sock


class Opened:
    """`count` such clients, for the length of a with block."""

    def __init__(self, port, count):
        self.port, self.count, self.sockets = port, count, []

    def __enter__(self):
        try:
            for _ in range(self.count):
                self.sockets.append(open_client(self.port))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for sock in self.sockets:
            sock.close()
