#!/usr/bin/env python3
"""How much memory the agent needs when its coordinator acknowledges nothing, and whether it grows over many resumptions.

    scripts/memory.py                both parts, about 5 minutes
    scripts/memory.py kept           answers of 300 MB that are not acknowledged, twice: 300 jobs, and 10 jobs
    scripts/memory.py cycles -n 20   20 cycles of a cut and a resumption with a real coordinator; default: 100

Needs Linux and Python 3.10 or later. It takes the newest build of the binary, or $OUTPOST_BINARY.

Exit codes: 0 what is promised has held, 1 something has not, 2 the command line is wrong.
"""

import argparse
import asyncio
import sys
import time

from lab import processes
from lab.answers import Order
from lab.asking import ask
from lab.coordinator import Coordinator
from lab.parts import run
from lab.processes import Failed, Process, free_port, get_json, python, say, until
from lab.tcp import copy

MB = 1_000_000
MOST = 150 * MB


def start_backend(directory):
    port = free_port()
    backend = python("backend", "backend", [port], directory / "backend.log")
    backend.wait_for("listening")
    return port


def start_agent(directory, url, backend, name="agent", **env):
    status = free_port()
    env = {
        "OUTPOST_COORDINATOR_URL": url,
        "OUTPOST_IDENTITY_PATH": str(directory / name / "key"),
        "OUTPOST_BACKENDS": f"openai=http://127.0.0.1:{backend}",
        "OUTPOST_STATUS_ADDR": f"127.0.0.1:{status}",
    } | env
    return Process(name, [processes.binary()], directory / f"{name}.log", env), ("127.0.0.1", status)


async def status_of(address):
    return await asyncio.to_thread(get_json, address, "/status")


async def kept(directory, jobs, megabytes):
    """Answers that a coordinator never acknowledges, and then does."""
    name = f"{jobs} jobs of {megabytes} MB"
    coordinator = Coordinator(acknowledges=False)
    await coordinator.listen()
    backend = start_backend(directory)
    agent, status = start_agent(
        directory, coordinator.url, backend, f"agent-{jobs}", OUTPOST_MAX_CONCURRENT=str(jobs)
    )
    await asyncio.wait_for(coordinator.serving.wait(), 30)
    idle = agent.memory()
    events = megabytes * MB // 16000
    running = [coordinator.run(Order(f"{jobs}-{number}", events, 0, 16000)) for number in range(jobs)]
    total = sum(len(job.order.bytes()) for job in running[:1]) * jobs
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 3:
        await asyncio.sleep(0.2)
        received = sum(job.received for job in running)
        if received != last:
            last, since = received, time.monotonic()
    state = await status_of(status)
    held = agent.memory("VmHWM")
    say(f"  {name}, {total / MB:.0f} MB in all: it stands still when {last / MB:.0f} MB were sent and none acknowledged")
    say(f"  memory: {idle / MB:.0f} MB idle, {agent.memory() / MB:.0f} MB now, {held / MB:.0f} MB at most; "
        f"in flight {state['in_flight']}")
    begin = time.monotonic()
    coordinator.acknowledge_all()
    await coordinator.until_all_end(240)
    say(f"  acknowledged: {sum(job.received for job in running) / MB:.0f} MB arrived in {time.monotonic() - begin:.1f} s; "
        f"{agent.memory('VmHWM') / MB:.0f} MB at most")
    wrong = [job.ended for job in running if job.ended["type"] != "job_done" or not job.is_exact()]
    await until(lambda: is_idle(status), 10, "end of all jobs")
    await asyncio.sleep(1)
    say(f"  {len(running) - len(wrong)} of {jobs} answers are whole and exact; memory afterwards {agent.memory() / MB:.0f} MB")
    if wrong or coordinator.connections != 1 or agent.memory("VmHWM") > MOST:
        raise Failed(f"{name}: {len(wrong)} wrong, {coordinator.connections} connections, at most {agent.memory('VmHWM')} bytes")
    processes.stop_all()


async def is_idle(status):
    return (await status_of(status))["in_flight"] == 0


class CuttingRelay:
    """Between the agent and its coordinator: copies bytes, until it cuts all connections with RST."""

    def __init__(self, to):
        self.to, self.open = to, set()

    async def listen(self):
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def accept(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(*self.to)
        pair = (writer, far_writer)
        self.open.add(pair)
        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        except asyncio.CancelledError:
            # The script ends.
            pass
        self.open.discard(pair)

    def cut(self):
        for pair in self.open:
            for writer in pair:
                writer.transport.abort()


async def cycles(directory, count):
    """Cuts and resumptions, while six jobs run all the time and two short ones in each cycle."""
    address = ("127.0.0.1", free_port())
    coordinator = Process(
        "coordinator",
        [processes.binary(), "coordinator", "--listen", f"{address[0]}:{address[1]}"],
        directory / "coordinator.log",
    )
    coordinator.wait_for("listening")
    relay = CuttingRelay(address)
    backend = start_backend(directory)
    agent, status = start_agent(directory, f"ws://127.0.0.1:{await relay.listen()}/agent", backend)
    await until(lambda: is_served(address), 30, "model at the coordinator")
    gap = 40
    long_ones = [Order(f"long-{number}", count * 2000 // gap, gap) for number in range(6)]
    tasks = [asyncio.create_task(ask(address, order)) for order in long_ones]
    begin, marks, wrong = time.monotonic(), {}, 0
    for cycle in range(1, count + 1):
        orders = [Order(f"short-{cycle}-{number}", 5, 20) for number in range(2)]
        # One of them is cut, and one has ended before.
        first = await ask(address, orders[0], stream=False)
        await until(lambda: has_in_flight(status, address, 6), 10, f"end of a short job in cycle {cycle}: not 6 in flight")
        second = asyncio.create_task(ask(address, orders[1]))
        await asyncio.sleep(0.05)
        relay.cut()
        await until(lambda: has_resumed(status, cycle), 10, f"resumption {cycle}")
        wrong += [first.is_exact, (await second).is_exact].count(False)
        lines = [process.text().count("\n") for process in (agent, coordinator)]
        marks[cycle] = (agent.memory(), coordinator.memory(), *lines)
        if cycle in (1, 10, count // 2, count):
            say(f"  cycle {cycle}: agent {marks[cycle][0] / MB:.1f} MB, coordinator {marks[cycle][1] / MB:.1f} MB, log lines "
                f"{marks[cycle][2]} and {marks[cycle][3]}")
    took = time.monotonic() - begin
    await until(lambda: has_in_flight(status, address, 6), 10, "six jobs in flight at the end")
    say(f"  {took / count:.2f} s a cycle; six jobs in flight at the end, waiting for the end of their answers")
    answers = await asyncio.gather(*tasks)
    wrong += [answer.is_exact for answer in answers].count(False)
    await until(lambda: has_in_flight(status, address, 0), 10, "end of all jobs")
    seen = await asyncio.to_thread(get_json, ("127.0.0.1", backend), "/seen")
    twice = [id for id, number in seen["requests"].items() if number != 1]
    early = min(10, count)
    agent_growth, coordinator_growth = (marks[count][side] - marks[early][side] for side in (0, 1))
    of_cycle = [(marks[count][side] - marks[1][side]) / max(1, count - 1) for side in (2, 3)]
    say(f"  {2 * count + 6 - wrong} of {2 * count + 6} answers exact, {len(twice)} not once at the backend; none in flight")
    say(f"  growth from cycle {early} on: agent {agent_growth / 1000:.0f} kB, coordinator {coordinator_growth / 1000:.0f} kB; "
        f"log lines a cycle: agent {of_cycle[0]:.1f}, coordinator {of_cycle[1]:.1f}")
    processes.stop_all()
    if wrong or twice or agent_growth > 4 * MB or coordinator_growth > 4 * MB:
        raise Failed(f"{wrong} wrong, {twice} not once, growth {agent_growth} and {coordinator_growth} bytes")


async def is_served(address):
    return bool((await asyncio.to_thread(get_json, address, "/v1/models"))["data"])


async def has_in_flight(status, address, number):
    at_agent = (await status_of(status))["in_flight"]
    at_coordinator = (await asyncio.to_thread(get_json, address, "/healthz"))["in_flight"]
    return at_agent == at_coordinator == number


async def has_resumed(status, number):
    state = await status_of(status)
    return state["resumptions"] == number and state["phase"] == "connected"


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("kept", "cycles"), help="default: both")
    parser.add_argument("-n", type=int, default=100, metavar="N", help="cycles")
    arguments = parser.parse_args()
    say(f"binary: {processes.binary()}")
    parts = []
    if arguments.part != "cycles":
        title = "kept: a coordinator that acknowledges nothing"
        parts += [(title, lambda directory: kept(directory, 300, 1)), (title, lambda directory: kept(directory, 10, 30))]
    if arguments.part != "kept":
        title = f"cycles: {arguments.n} cuts and resumptions"
        parts.append((title, lambda directory: cycles(directory, arguments.n)))
    return await run("memory", parts)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
