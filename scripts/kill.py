#!/usr/bin/env python3
"""Kills processes with SIGKILL at random moments, and looks at what is left of them.

    scripts/kill.py                          both parts, about 6 minutes
    scripts/kill.py agent --seed 7           1,000 kills of agents: while they make their identity, while they store a changed
                                             provider id, and while they resume jobs
    scripts/kill.py agent -n 100             so many
    scripts/kill.py coordinator -n 3         kills of a coordinator with three agents under load; default: 20

After each kill of an agent it is started again: it must have the same key, and no half-written file. After each kill of a
coordinator its agents must come back, its clients must have seen clean errors, and no job may be left anywhere.

Needs Linux and Python 3.10 or later. It takes the newest build of the binary, or $OUTPOST_BINARY.

Exit codes: 0 what is promised has held, 1 something has not, 2 the command line is wrong.
"""

import argparse
import asyncio
import collections
import itertools
import random
import re
import shutil
import statistics
import sys
import time

from lab import processes
from lab.answers import Order
from lab.asking import ask
from lab.coordinator import Coordinator
from lab.parts import run
from lab.processes import Failed, Process, free_port, get, get_json, python, say, until

# Agents that are killed side by side. Most of their time they wait.
WORKERS = 4
# Shares of the kills of agents, in percent.
CREATION, CHANGE = 50, 30
# Times that the coordinator is away, in seconds, in turn.
AWAY = [0.1, 0.3, 0.5, 0.1, 0.3, 3, 0.1, 0.3, 0.5, 10]


class Home:
    """The files of an agent."""

    def __init__(self, directory):
        self.directory = directory
        self.key = directory / "key"

    def names(self):
        return sorted(path.name for path in self.directory.iterdir()) if self.directory.exists() else []

    def has_draft(self):
        return any(name.endswith(".tmp") for name in self.names())

    def text(self, name):
        path = self.directory / name
        return path.read_text() if path.exists() else None

    def check(self, given):
        """What must hold whenever an agent has started. `given`: the provider ids that it may have."""
        if unknown := {name for name in self.names() if not name.startswith(("key.ledger", "key.token"))} - {"key", "key.lock", "key.provider"}:
            raise Failed(f"left behind: {unknown}")
        for name in ("key", "key.provider"):
            path = self.directory / name
            if path.exists() and path.stat().st_mode & 0o777 != 0o600:
                raise Failed(f"{path} has mode {path.stat().st_mode:o}")
        if not re.fullmatch(r"-----BEGIN PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END PRIVATE KEY-----\n", self.text("key") or ""):
            raise Failed(f"{self.key} is not a key")
        provider = self.text("key.provider")
        if provider is not None and provider.removesuffix("\n") not in given:
            raise Failed(f"the provider id is {provider!r}")


class Victim:
    """An agent that is killed and started again, and the coordinator that it connects to."""

    def __init__(self, number, directory, rng, backend):
        self.number, self.directory, self.rng, self.backend = number, directory, rng, backend
        self.coordinator = Coordinator()
        self.given = set()
        self.numbers = itertools.count()
        self.coordinator.provider_ids = iter(self.next_id, None)
        self.steps = asyncio.Queue()
        self.coordinator.on_step = self.on_step
        self.status = free_port()
        self.moments = collections.Counter()
        self.homes = self.earlier = 0
        self.agent = None

    def on_step(self, number, step):
        # What a killed agent had sent may be read after its successor was started.
        if number > self.earlier:
            self.steps.put_nowait((step, time.monotonic()))

    def key(self):
        """The public key that the agent has shown since its start."""
        keys = [key for number, key in self.coordinator.keys.items() if number > self.earlier]
        return keys[-1] if keys else None

    def next_id(self):
        # Of different lengths, so that a mixture of two would be seen.
        number = next(self.numbers)
        id = f"id-{self.number}-{number}-" + "x" * self.rng.randrange(60)
        self.given.add(id)
        return id

    def new_home(self):
        self.homes += 1
        self.home = Home(self.directory / f"home-{self.number}-{self.homes}")

    def start(self):
        env = {
            "OUTPOST_COORDINATOR_URL": self.coordinator.url,
            "OUTPOST_IDENTITY_PATH": str(self.home.key),
            "OUTPOST_BACKENDS": f"openai=http://127.0.0.1:{self.backend}",
            "OUTPOST_STATUS_ADDR": "off",
        }
        while not self.steps.empty():
            self.steps.get_nowait()
        self.earlier = self.coordinator.connections
        self.coordinator.keys.clear()
        self.began = time.monotonic()
        self.agent = Process("agent", [processes.binary()], self.directory / f"agent-{self.number}.log", env)

    async def step(self, wanted):
        """Waits for a step of the handshake, and returns when it was."""

        async def until():
            while True:
                step, when = await self.steps.get()
                if step == wanted:
                    return when

        try:
            return await asyncio.wait_for(until(), 20)
        except asyncio.TimeoutError:
            log = self.agent.text()[-1500:]
            raise Failed(f"an agent was not {wanted} after a kill: {self.home.names()}: {log}") from None

    def kill(self):
        """Kills it, and notes what it had done."""
        self.agent.kill()
        if self.home.has_draft():
            self.moments["a file was being written"] += 1
        return self.key()

    async def comes_back(self, key):
        """Starts it again: it has the same key, if there was one."""
        content = self.home.text("key")
        self.start()
        await self.step("offered")
        if key not in (None, self.key()) or content not in (None, self.home.text("key")):
            raise Failed("the key is another one")
        self.home.check(self.given)

    async def creation(self, span):
        """A kill between the start and the first offer of a new agent."""
        self.new_home()
        self.start()
        await asyncio.sleep(self.rng.uniform(0, span))
        key = self.kill()
        before = "nothing" if not self.home.names() else "no key" if not self.home.key.exists() else "a key"
        self.moments["a provider id" if self.home.text("key.provider") else before] += 1
        await self.comes_back(key)
        self.agent.kill()
        shutil.rmtree(self.home.directory)

    async def change(self, span):
        """A kill while the agent stores another provider id."""
        before = self.home.text("key.provider")
        self.start()
        await self.step("accepted")
        await asyncio.sleep(self.rng.uniform(0, span))
        key = self.kill()
        self.moments["the old id" if self.home.text("key.provider") == before else "the new id"] += 1
        await self.comes_back(key)
        self.agent.kill()

    async def resumption(self, span):
        """A kill while the agent goes on with its jobs on another connection."""
        self.coordinator.jobs.clear()
        self.start()
        await self.step("offered")
        jobs = [self.coordinator.run(Order(f"{self.number}-{next(self.numbers)}", 400, 10, 400)) for _ in range(4)]
        await asyncio.sleep(0.1)
        resumptions = self.coordinator.resumptions
        self.coordinator.link.reset()
        await self.step("challenged")
        # The first milliseconds more often than the others.
        await asyncio.sleep(span * self.rng.random() ** 3)
        received = sum(job.received for job in jobs)
        key = self.kill()
        resumed = self.coordinator.resumptions > resumptions
        self.moments["resumed" if resumed else "not resumed"] += 1
        if not received:
            raise Failed("no job ran before the kill")
        self.coordinator.jobs.clear()
        await self.comes_back(key)
        self.agent.kill()

    async def measure(self):
        """Seconds from the start, and from the verdict, to the offer of a new agent."""
        self.new_home()
        self.start()
        accepted = await self.step("accepted")
        offered = await self.step("offered")
        self.agent.kill()
        return offered - self.began, offered - accepted


async def kill_agents(directory, count, seed):
    backend_port = free_port()
    python("backend", "backend", [backend_port], directory / "backend.log").wait_for("listening")
    victims = [Victim(number, directory, random.Random(f"{seed}/{number}"), backend_port) for number in range(WORKERS)]
    for victim in victims:
        await victim.coordinator.listen()
    measured = [await victims[0].measure() for _ in range(5)]
    whole, store = (max(column) * 1.3 for column in zip(*measured))
    say(f"  a new agent makes its first offer after {statistics.median(it[0] for it in measured) * 1000:.0f} ms; the provider id "
        f"is stored in at most {statistics.median(it[1] for it in measured) * 1000:.1f} ms of them")
    creation, change = count * CREATION // 100, count * CHANGE // 100
    parts = [
        ("identity creation", "creation", creation, whole),
        ("provider id change", "change", change, store),
        ("resumption", "resumption", count - creation - change, max(0.02, 2 * store)),
    ]
    for name, method, kills, span in parts:
        begin = time.monotonic()
        todo = itertools.count()

        async def worker(victim):
            victim.moments.clear()
            victim.new_home()
            while next(todo) < kills:
                await getattr(victim, method)(span)

        await asyncio.gather(*map(worker, victims))
        moments = sum((victim.moments for victim in victims), collections.Counter())
        say(f"  {name}: {kills} kills, 0 unusable identities, in {time.monotonic() - begin:.0f} s; what was there: {dict(moments)}")
    processes.stop_all()


class Load:
    """Clients that ask all the time, except while they are paused."""

    def __init__(self, address, clients):
        self.address, self.clients = address, clients
        self.go = asyncio.Event()
        self.ends = []
        self.asking = {}
        self.number = itertools.count()

    async def client(self, number):
        stream = number % 3 != 0
        while True:
            await self.go.wait()
            order = Order(f"load-{next(self.number)}", 20, 50, 300)
            self.asking[order.id] = time.monotonic()
            answer = await ask(self.address, order, stream)
            del self.asking[order.id]
            self.ends.append((time.monotonic(), stream, answer))
            if answer.end != "whole" or answer.status != 200:
                await asyncio.sleep(0.05)

    def begin(self):
        self.go.set()
        self.tasks = [asyncio.create_task(self.client(number)) for number in range(self.clients)]


async def kill_coordinators(directory, count, seed):
    rng = random.Random(seed)
    address = ("127.0.0.1", free_port())
    backend = free_port()
    python("backend", "backend", [backend], directory / "backend.log").wait_for("listening")

    def start_coordinator():
        command = [processes.binary(), "coordinator", "--listen", f"127.0.0.1:{address[1]}"]
        return Process("coordinator", command, directory / "coordinator.log")

    coordinator = start_coordinator()
    statuses = [("127.0.0.1", free_port()) for _ in range(3)]
    for number, status in enumerate(statuses):
        env = {
            "OUTPOST_COORDINATOR_URL": f"ws://127.0.0.1:{address[1]}/agent",
            "OUTPOST_IDENTITY_PATH": str(directory / f"agent-{number}" / "key"),
            "OUTPOST_BACKENDS": f"openai=http://127.0.0.1:{backend}",
            "OUTPOST_STATUS_ADDR": f"127.0.0.1:{status[1]}",
        }
        Process(f"agent {number}", [processes.binary()], directory / f"agent-{number}.log", env)

    async def agents():
        code, body = await asyncio.to_thread(get, address, "/v1/models")
        if code != 200 or b'"scripted"' not in body:
            return 0
        return len(await asyncio.to_thread(get_json, address, "/api/agents"))

    async def all_there():
        return await agents() == 3

    async def nothing_runs():
        states = [await asyncio.to_thread(get_json, status, "/status") for status in statuses]
        seen = await asyncio.to_thread(get_json, ("127.0.0.1", backend), "/seen")
        health = await asyncio.to_thread(get_json, address, "/healthz")
        return not any([*(state["in_flight"] for state in states), seen["running"], health["in_flight"]])

    await until(all_there, 30, "agent")
    load = Load(address, 12)
    load.begin()
    first, last, hangs, ends = collections.defaultdict(list), collections.defaultdict(list), [], collections.Counter()
    idle = []
    for kill in range(count):
        away = AWAY[kill % len(AWAY)]
        await asyncio.sleep(rng.uniform(1, 2))
        asked = list(load.asking)
        before = len(load.ends)
        coordinator.kill()
        killed = time.monotonic()
        load.go.clear()
        await asyncio.sleep(away)
        coordinator = start_coordinator()
        # Clients that were answered at the kill have seen its end.
        while still := [id for id in asked if id in load.asking]:
            if time.monotonic() - killed > 5:
                raise Failed(f"clients hang after kill {kill + 1}: {still}")
            await asyncio.sleep(0.01)
        lost = [(when, stream, answer) for when, stream, answer in load.ends[before:] if answer.end != "refused"]
        hangs.append(max((when - killed for when, _, _ in lost), default=0))
        for _, stream, answer in lost:
            if answer.end == "whole" and not answer.is_exact:
                raise Failed(f"an answer that ended well is not exact: {answer.status} {answer.body[:200]}")
            ends[f"{'stream' if stream else 'body'} {answer.end}"] += 1
        await until(lambda: is_up(address), 10, "coordinator")
        returned = time.monotonic()
        await until(agents, 90, "agent")
        first[away].append(time.monotonic() - returned)
        await until(all_there, 90, "agent")
        last[away].append(time.monotonic() - returned)
        idle.append(await until(nothing_runs, 10, "end of the lost jobs"))
        order = Order(f"after-{kill}", 3, 10)
        if not (answer := await ask(address, order)).is_exact:
            raise Failed(f"the next request after kill {kill + 1}: {answer}")
        load.go.set()
    await asyncio.sleep(2)
    load.go.clear()
    await until(nothing_runs, 10, "end of all jobs")
    whole = sum(answer.end == "whole" and answer.is_exact for _, _, answer in load.ends)
    say(f"  {count} kills, {len(load.ends)} requests, {whole} of them whole and exact; those that a kill ended: {dict(ends)}")
    say(f"  the last client saw the end {max(hangs):.2f} s after the kill; lost jobs were gone {max(idle):.2f} s after the agents "
        f"were back; the next request always worked")
    for away in sorted(last):
        say(f"  away {away:4} s, {len(last[away])} times: the first agent is back after {statistics.median(first[away]):.2f} s (at most "
            f"{max(first[away]):.2f}), all three after {statistics.median(last[away]):.2f} s (at most {max(last[away]):.2f})")
    late = [after for away, afters in last.items() if away < 1 for after in afters if after > 2]
    processes.stop_all()
    if late:
        raise Failed(f"agents were back late after a short outage: {late}")


async def is_up(address):
    return (await asyncio.to_thread(get, address, "/healthz"))[0] == 200


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("agent", "coordinator"), help="default: both")
    parser.add_argument("-n", type=int, metavar="N", help="kills; default: 1000 of agents, 20 of the coordinator")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the random moments")
    arguments = parser.parse_args()
    say(f"binary: {processes.binary()}; seed: {arguments.seed}")
    parts = []
    if arguments.part != "coordinator":
        parts.append(("agents: kills at random moments", lambda directory: kill_agents(directory, arguments.n or 1000, arguments.seed)))
    if arguments.part != "agent":
        parts.append(("coordinator: kills under load", lambda directory: kill_coordinators(directory, arguments.n or 20, arguments.seed)))
    return await run("kill", parts)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
