"""A load of OpenAI's own Python package, with its default settings, so also with its two retries.

    python -m lab.clients URL KEY JSON

JSON: {"threads": N, "seconds": S or "requests": N, "events": N, "gap_ms": N, "size": N, "kinds": [...], "limit_s": S}. Each
thread asks one after the other, of these kinds in turn:

    raw     a stream, whose bytes are compared
    parsed  a stream, whose chunks are compared as the package delivers them
    whole   one JSON body

For each request it prints a line of JSON: id, kind, error (null if the answer is whole and exact), the status of each try
(null: no answer), seconds, the longest pause between two pieces, and the longest until the first one.
"""

import json
import sys
import threading
import time
import uuid

import openai

from lab.answers import MODEL, Order, without_comments

USAGE = {"include_usage": True}


class Load:
    def __init__(self, url, key, settings):
        self.settings = settings
        self.tries = {}
        self.lock = threading.Lock()
        self.left = settings.get("requests", sys.maxsize)
        self.until = time.monotonic() + settings.get("seconds", 1e9)
        hooks = {"request": [self.asked], "response": [self.answered]}
        http = openai.DefaultHttpxClient(event_hooks=hooks)
        self.client = openai.OpenAI(base_url=url, api_key=key, http_client=http, timeout=settings.get("limit_s", 180))

    def asked(self, request):
        self.tries.setdefault(request.headers["x-lab-id"], []).append(None)

    def answered(self, response):
        self.tries[response.request.headers["x-lab-id"]][-1] = response.status_code

    def next(self, number):
        with self.lock:
            if self.left <= 0 or time.monotonic() >= self.until:
                return None
            self.left -= 1
        sizes = {name: self.settings[name] for name in ("events", "gap_ms", "size") if name in self.settings}
        return Order(f"{number}-{uuid.uuid4().hex[:12]}", **sizes)

    def thread(self, number):
        kinds = self.settings.get("kinds", ["raw", "parsed", "whole"])
        turn = number
        while (order := self.next(number)) is not None:
            kind = kinds[turn % len(kinds)]
            turn += 1
            begin = time.monotonic()
            marks = [begin]
            try:
                error = getattr(self, kind)(order, marks)
            except Exception as fault:
                error = f"{type(fault).__name__}: {fault}"[:300]
            gaps = [after - before for before, after in zip(marks, marks[1:])] + [time.monotonic() - marks[-1]]
            line = {
                "id": order.id,
                "kind": kind,
                "error": error,
                "tries": self.tries.get(order.id, []),
                "seconds": round(time.monotonic() - begin, 3),
                "first": round(gaps[0], 3),
                "pause": round(max(gaps[1:], default=0), 3),
            }
            with self.lock:
                print(json.dumps(line), flush=True)

    def create(self, api, order, **more):
        headers = {"x-lab-id": order.id}
        return api.create(model=MODEL, messages=order.messages(), extra_headers=headers, **more)

    def raw(self, order, marks):
        got = b""
        api = self.client.chat.completions.with_streaming_response
        with self.create(api, order, stream=True, stream_options=USAGE) as response:
            for data in response.iter_bytes():
                # A comment of the coordinator is no piece of the answer.
                if not data.startswith(b":"):
                    marks.append(time.monotonic())
                got += data
        return None if without_comments(got) == order.bytes() else f"{len(got)} other bytes"

    def parsed(self, order, marks):
        texts, ends, usages = [], [], []
        for chunk in self.create(self.client.chat.completions, order, stream=True, stream_options=USAGE):
            marks.append(time.monotonic())
            texts += [choice.delta.content for choice in chunk.choices if choice.delta.content]
            ends += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
            usages += [chunk.usage.model_dump(exclude_none=True)] if chunk.usage else []
        wanted = [order.piece(number) for number in range(order.events)]
        same = (texts, ends, usages) == (wanted, ["stop"], [order.usage()])
        return None if same else f"{len(texts)} other pieces, {ends}, {usages}"

    def whole(self, order, marks):
        answer = self.create(self.client.chat.completions, order)
        marks.append(time.monotonic())
        choice = answer.choices[0]
        usage = answer.usage.model_dump(exclude_none=True)
        same = (choice.message.content, choice.finish_reason, usage) == (order.text(), "stop", order.usage())
        return None if same else f"another body of {len(choice.message.content or '')} characters"

    def run(self):
        threads = [threading.Thread(target=self.thread, args=(number,)) for number in range(self.settings["threads"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    Load(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])).run()
