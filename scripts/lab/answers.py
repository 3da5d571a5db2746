"""The answers of the scripted backend, to the byte, made from what a request asks for. Both ends of a test compute them."""

import dataclasses
import hashlib
import json

MODEL = "scripted"


@dataclasses.dataclass(frozen=True)
class Order:
    """What a request asks for. It travels as JSON in the content of its last message."""

    id: str
    events: int = 10
    gap_ms: int = 0
    size: int = 24

    def body(self, stream, usage=True):
        """The request of a client."""
        body = {"model": MODEL, "messages": self.messages(), "stream": stream}
        if stream and usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def messages(self):
        return [{"role": "user", "content": json.dumps(dataclasses.asdict(self))}]

    @classmethod
    def of(cls, body):
        """The order in a request; ValueError if there is none, as in a probe."""
        try:
            return cls(**json.loads(body["messages"][-1]["content"]))
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(error) from error

    def piece(self, number):
        """The text of one event, no two alike."""
        seed = hashlib.sha256(f"{self.id}/{number}".encode()).hexdigest()
        return (f"{number}:" + seed * (self.size // len(seed) + 1))[: self.size - 1] + " "

    def text(self):
        return "".join(self.piece(number) for number in range(self.events))

    def usage(self):
        return {"prompt_tokens": 7, "completion_tokens": self.events, "total_tokens": 7 + self.events}

    def _event(self, choices, **more):
        chunk = {"id": f"chatcmpl-{self.id}", "object": "chat.completion.chunk", "created": 1700000000, "model": MODEL}
        return f"data: {json.dumps(chunk | {'choices': choices} | more)}\n\n".encode()

    def stream(self, usage=True):
        """The events of the stream, one at a time: those with text first, each after its gap."""
        for number in range(self.events):
            yield self._event([{"index": 0, "delta": {"content": self.piece(number)}, "finish_reason": None}])
        last = self._event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        yield last + (self._event([], usage=self.usage()) if usage else b"") + b"data: [DONE]\n\n"

    def bytes(self, usage=True):
        return b"".join(self.stream(usage))

    def whole(self):
        """The same as one JSON body."""
        message = {"role": "assistant", "content": self.text()}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {"id": f"chatcmpl-{self.id}", "object": "chat.completion", "created": 1700000000, "model": MODEL}
        return json.dumps(head | {"choices": [choice], "usage": self.usage()}).encode()


def without_comments(stream):
    """A stream without the comments that a coordinator puts between events while an agent is away."""
    blocks = stream.split(b"\n\n")
    return b"\n\n".join(block for block in blocks if not block.startswith(b":"))
