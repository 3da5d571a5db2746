"""The server's side of WebSocket (RFC 6455), as far as an agent needs it: one text or binary message at a time."""

import asyncio
import base64
import hashlib
import json
import socket
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Closed(Exception):
    """The connection has ended."""


class WebSocket:
    """A connection of an agent."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def accept(cls, reader, writer):
        """Answers the upgrade."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as end:
            raise Closed from end
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"]
        proof = base64.b64encode(hashlib.sha1(key + GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\n\r\n" % proof
        )
        return cls(reader, writer)

    async def receive(self):
        """The next message: an object for text, bytes for binary. Pings are answered. `Closed` at the end."""
        whole, kind = b"", None
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                length = second & 127
                if length == 126:
                    (length,) = struct.unpack(">H", await self.reader.readexactly(2))
                elif length == 127:
                    (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
                mask = await self.reader.readexactly(4)
                payload = unmask(await self.reader.readexactly(length), mask)
            except (asyncio.IncompleteReadError, ConnectionError) as end:
                raise Closed from end
            opcode = first & 15
            if opcode == CLOSE:
                raise Closed
            if opcode == PING:
                self.frame(PONG, payload)
            if opcode in (PING, PONG):
                continue
            whole, kind = whole + payload, kind or opcode
            if first & 128:
                return json.loads(whole) if kind == TEXT else whole

    def send(self, message):
        """Sends an object as text. A connection that has ended takes nothing."""
        self.frame(TEXT, json.dumps(message).encode())

    def frame(self, opcode, payload):
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 128 | opcode, size)
        elif size < 65536:
            head = struct.pack(">BBH", 128 | opcode, 126, size)
        else:
            head = struct.pack(">BBQ", 128 | opcode, 127, size)
        self.writer.write(head + payload)

    def reset(self):
        """Ends the connection with RST, as a failing host does."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def unmask(payload, mask):
    """As one number: a loop over the bytes would be much slower."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
