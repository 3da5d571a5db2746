"""A scripted inference server in OpenAI's format: its answers are those of answers.py, and it counts every request.

    python -m lab.backend PORT

GET /seen is a JSON object: for each id how often its request came, was answered to the end, and was dropped by its client;
and how many run now. It prints "listening" when it does.
"""

import asyncio
import collections
import json
import sys

from lab.answers import MODEL, Order

MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "lab"}]}).encode()


class Backend:
    def __init__(self):
        self.requests = collections.Counter()
        self.finished = collections.Counter()
        self.dropped = collections.Counter()
        self.running = 0

    async def serve(self, port):
        server = await asyncio.start_server(self.connection, "127.0.0.1", port, backlog=1024)
        return server.sockets[0].getsockname()[1]

    def seen(self):
        return {
            "requests": self.requests,
            "finished": self.finished,
            "dropped": self.dropped,
            "running": self.running,
        }

    async def connection(self, reader, writer):
        try:
            while (request := await read_request(reader)) is not None:
                await self.answer(*request, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, method, path, body, reader, writer):
        if (method, path) == ("GET", "/v1/models"):
            return await respond(writer, 200, MODELS)
        if (method, path) == ("GET", "/seen"):
            return await respond(writer, 200, json.dumps(self.seen()).encode())
        if (method, path) != ("POST", "/v1/chat/completions"):
            return await respond(writer, 404, b'{"error":{"message":"no such path"}}')
        try:
            request = json.loads(body)
            order = Order.of(request)
        except ValueError:
            return await respond(writer, 400, b'{"error":{"message":"no order"}}')
        self.requests[order.id] += 1
        self.running += 1
        work = asyncio.ensure_future(self.work(order, request, writer))
        # A client that goes away ends the work at once.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ConnectionError
            work.result()
            self.finished[order.id] += 1
        except ConnectionError:
            self.dropped[order.id] += 1
            raise
        finally:
            self.running -= 1
            work.cancel()
            gone.cancel()
        # Bytes may have been lost to the read above, so the connection is not used again.
        raise ConnectionError

    async def work(self, order, request, writer):
        if not request.get("stream"):
            await asyncio.sleep(order.events * order.gap_ms / 1000)
            return await respond(writer, 200, order.whole(), keep=False)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        usage = bool((request.get("stream_options") or {}).get("include_usage"))
        clock = asyncio.get_running_loop()
        begin = clock.time()
        for number, event in enumerate(order.stream(usage)):
            if order.gap_ms:
                await asyncio.sleep(max(0, begin + (number + 1) * order.gap_ms / 1000 - clock.time()))
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def read_request(reader):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return method, path, body


async def respond(writer, status, body, keep=True):
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + (b"" if keep else b"connection: close\r\n") + b"\r\n" + body)
    await writer.drain()


async def main():
    await Backend().serve(int(sys.argv[1]))
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
