"""A scripted coordinator: the handshake with the extensions `binary`, `endpoints` and `resume`, and jobs. It checks no signature."""

import asyncio
import base64
import hashlib
import os
import uuid

from lab.answers import MODEL
from lab.websocket import Closed, WebSocket

EXTENSIONS = ["binary", "endpoints", "resume"]
ACK_BYTES = 16 << 10


class Job:
    """A job, and what has arrived of its response."""

    def __init__(self, order):
        self.id, self.order = str(uuid.uuid4()), order
        self.received = 0
        self.hash = hashlib.sha256()
        self.acknowledged = 0
        self.ended = None

    def frame(self):
        request = self.order.body(stream=True)
        return {
            "type": "job",
            "job_id": self.id,
            "model_id": MODEL,
            "request": request,
            "deadline_ms": 600_000,
            "endpoint": "/v1/chat/completions",
            "stream": True,
        }

    def take(self, offset, data):
        """Bytes that came before are skipped. `ValueError` where some are missing."""
        if offset > self.received:
            raise ValueError(f"bytes {self.received} to {offset} are missing")
        new = data[self.received - offset :]
        self.hash.update(new)
        self.received += len(new)

    def is_exact(self):
        return self.hash.digest() == hashlib.sha256(self.order.bytes()).digest()


class Coordinator:
    """Takes agents one after the other. `acknowledges` decides whether it takes over what it receives."""

    def __init__(self, acknowledges=True):
        self.acknowledges = acknowledges
        self.jobs = {}
        self.session = None
        self.link = None
        self.provider_ids = iter(lambda: None, 0)
        self.connections = self.resumptions = 0
        # By the number of the connection.
        self.keys = {}
        self.serving = asyncio.Event()
        self.ended = asyncio.Event()
        self.on_step = lambda number, step: None

    async def listen(self):
        self.server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/agent"

    async def connection(self, reader, writer):
        try:
            link = await WebSocket.accept(reader, writer)
            self.connections += 1
            number = self.connections
            await self.handshake(link, number)
            while True:
                self.message(link, number, await link.receive())
        except (Closed, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            if self.link and self.link.writer is writer:
                self.link = None
                self.serving.clear()

    async def handshake(self, link, number):
        nonce = base64.b64encode(os.urandom(32)).decode()
        link.send({"type": "auth_challenge", "nonce": nonce, "extensions": EXTENSIONS})
        self.on_step(number, "challenged")
        response = await link.receive()
        self.keys[number] = response["pubkey"]
        asked = response.get("resume")
        verdict = {"type": "auth_ok", "resume_window_ms": 60_000}
        if (provider := next(self.provider_ids)) is not None:
            verdict["provider_id"] = provider
        if asked and asked["session"] == self.session:
            self.resumptions += 1
            listed = {job["job_id"] for job in asked["jobs"]}
            wanted = [job for job in self.jobs.values() if not job.ended and job.id in listed]
            verdict |= {"resumed": True, "jobs": [{"job_id": job.id, "offset": job.received} for job in wanted]}
        else:
            self.session = uuid.uuid4().hex
        link.send(verdict | {"session": self.session})
        self.on_step(number, "accepted")
        self.link = link

    def message(self, link, number, message):
        if isinstance(message, bytes):
            job, offset = self.jobs.get(str(uuid.UUID(bytes=message[1:17]))), int.from_bytes(message[17:25], "big")
            if job:
                job.take(offset, message[25:])
                self.acknowledge(link, job)
            return
        job = self.jobs.get(message.get("job_id"))
        if message["type"] == "capabilities" and message["models"]:
            self.serving.set()
            self.on_step(number, "offered")
        elif message["type"] == "job_chunk" and job:
            job.take(message.get("offset", 0), base64.b64decode(message["data"]))
            self.acknowledge(link, job)
        elif message["type"] in ("job_done", "job_error") and job:
            job.ended = message
            self.acknowledge(link, job)
            self.ended.set()

    def acknowledge(self, link, job):
        if not self.acknowledges:
            return
        if job.ended:
            link.send({"type": "ack", "job_id": job.id, "final": True})
        elif job.received - job.acknowledged >= ACK_BYTES:
            job.acknowledged = job.received
            link.send({"type": "ack", "job_id": job.id, "offset": job.received})

    def acknowledge_all(self):
        """From now on, and all that came until now."""
        self.acknowledges = True
        for job in self.jobs.values():
            job.acknowledged = -ACK_BYTES
            self.acknowledge(self.link, job)

    def run(self, order):
        job = Job(order)
        self.jobs[job.id] = job
        self.link.send(job.frame())
        return job

    async def until_all_end(self, limit):
        """Waits until all jobs have ended; TimeoutError if that takes longer."""

        async def all_ended():
            while not all(job.ended for job in self.jobs.values()):
                self.ended.clear()
                await self.ended.wait()

        await asyncio.wait_for(all_ended(), limit)
