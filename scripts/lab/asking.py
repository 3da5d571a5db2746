"""A client that sees every byte: asks over a connection of its own, and says how the answer ended."""

import asyncio
import dataclasses
import json

from lab.answers import without_comments


@dataclasses.dataclass
class Answer:
    """`end`: `whole`, `cut` (the body is incomplete), `refused` (no connection), `nothing` (closed without an answer)."""

    end: str
    status: int = 0
    body: bytes = b""
    is_exact: bool = False


async def ask(address, order, stream=True):
    """The answer to an order."""
    try:
        reader, writer = await asyncio.open_connection(*address)
    except OSError:
        return Answer("refused")
    try:
        body = json.dumps(order.body(stream)).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return await read_answer(reader, order, stream)
    except OSError:
        return Answer("nothing")
    finally:
        writer.close()


async def read_answer(reader, order, stream):
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer("nothing")
    answer = Answer("cut", int(head.split()[1]))
    try:
        if "transfer-encoding: chunked" in head:
            while size := int(await reader.readline() or b"x", 16):
                answer.body += (await reader.readexactly(size + 2))[:-2]
        else:
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            answer.body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return answer
    answer.end = "whole"
    answer.is_exact = answer.status == 200 and is_exact(answer.body, order, stream)
    return answer


def is_exact(body, order, stream):
    if stream:
        return without_comments(body) == order.bytes()
    got = json.loads(body)
    same = got["choices"][0]["message"]["content"] == order.text()
    return same and {name: got["usage"][name] for name in order.usage()} == order.usage()
