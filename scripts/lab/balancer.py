"""A small TCP balancer: two ports in front of the same coordinators, one for clients and one for agents.

    python -m lab.balancer HOST CLIENTS_PORT AGENTS_PORT KEY COORDINATOR...   where a coordinator is HOST:PORT

It checks each coordinator four times a second, on a connection of its own. Agents go where /healthz answers 200, clients where in
addition /v1/models lists a model. Of several, the one with the fewest connections is taken. Where there is none, the
connection is closed. It prints each change, and the connections that it closed.
"""

import asyncio
import json
import sys
import time

from lab.tcp import copy

EVERY = 0.25


class Coordinator:
    def __init__(self, address, key):
        self.host, port = address.rsplit(":", 1)
        self.port, self.key = int(port), key
        self.state, self.open = "down", {"clients": 0, "agents": 0}

    async def get(self, path):
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            head = f"GET {path} HTTP/1.1\r\nhost: {self.host}\r\nauthorization: Bearer {self.key}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return int(head.split()[1]), body
        finally:
            writer.close()

    async def check(self):
        if (await self.get("/healthz"))[0] != 200:
            return "stopping"
        status, models = await self.get("/v1/models")
        return "ready" if status == 200 and json.loads(models)["data"] else "empty"

    async def watch(self):
        while True:
            try:
                state = await asyncio.wait_for(self.check(), 2)
            except (OSError, ValueError, IndexError, asyncio.TimeoutError):
                state = "down"
            if state != self.state:
                say(f"{self.port} is {state}")
                self.state = state
            await asyncio.sleep(EVERY)


def say(text):
    print(f"{time.time():.2f} {text}", flush=True)


class Frontend:
    def __init__(self, coordinators, kind, states):
        self.coordinators, self.kind, self.states = coordinators, kind, states

    async def accept(self, reader, writer):
        usable = [it for it in self.coordinators if it.state in self.states]
        for coordinator in sorted(usable, key=lambda it: it.open[self.kind]):
            try:
                far = await asyncio.open_connection(coordinator.host, coordinator.port)
            except OSError:
                continue
            coordinator.open[self.kind] += 1
            try:
                await asyncio.gather(copy(reader, far[1]), copy(far[0], writer))
            finally:
                coordinator.open[self.kind] -= 1
                far[1].close()
                writer.close()
            return
        say(f"closed a connection of {self.kind}")
        writer.close()


async def main():
    host, clients, agents, key, *addresses = sys.argv[1:]
    coordinators = [Coordinator(address, key) for address in addresses]
    for port, kind, states in ((clients, "clients", ["ready"]), (agents, "agents", ["ready", "empty"])):
        await asyncio.start_server(Frontend(coordinators, kind, states).accept, host, int(port), backlog=1024)
    say("listening")
    await asyncio.gather(*(it.watch() for it in coordinators))


if __name__ == "__main__":
    asyncio.run(main())
