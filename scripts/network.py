"""What clients see when the network fails. network.sh starts it, and says what it needs.

Agent, coordinator and clients are processes in network namespaces of their own, joined by a router. The clients are OpenAI's
Python package with its default settings. In each scenario every answer must be whole and exact, and the backend must have got
each request once.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback

from lab import netns, processes
from lab.netns import NotHere
from lab.processes import Failed, get, get_json, python, say, wait_until

KEY = "lab-key-0123456789"
BACKEND = 8100
BALANCER, AGENTS_PORT = 8000, 8001
FIRST_COORDINATOR = 7701
FIRST_STATUS = 9100


class Scene:
    """A network with a backend, agents and coordinators."""

    def __init__(self, network, directory, agents=1):
        self.network, self.directory = network, pathlib.Path(directory)
        self.binary = processes.binary()
        self.wire = python(
            "wire", "wire", [network.agent, "wan", network.router, "agent"], self.directory / "wire.log", stdin=subprocess.PIPE
        )
        self.wire.wait_for("ready")
        network.connect_agent()
        self.backend = python("backend", "backend", [BACKEND], self.directory / "backend.log", network.agent)
        self.backend.wait_for("listening")
        self.agents = [None] * agents
        self.coordinators = {}
        self.keys = [self.make_identity(number) for number in range(agents)]

    def order_wire(self, *commands):
        for command in commands:
            self.wire.process.stdin.write(f"{command}\n".encode())
        self.wire.process.stdin.flush()

    def identity(self, number):
        return str(self.directory / f"identity-{number}" / "key")

    def make_identity(self, number):
        """Has an agent make its key, and returns the public one."""
        self.agent_process(number, "ws://127.0.0.1:1/agent")
        path = pathlib.Path(self.identity(number))
        wait_until(path.exists, 30, "key")
        self.agents[number].stop()
        shown = subprocess.run(
            [self.binary, "identity"], env={"OUTPOST_IDENTITY_PATH": str(path)}, capture_output=True, text=True, check=True
        )
        return shown.stdout.split()[2]

    def agent_process(self, number, url):
        env = {
            "OUTPOST_COORDINATOR_URL": url,
            "OUTPOST_ALLOW_INSECURE": "true",
            "OUTPOST_IDENTITY_PATH": self.identity(number),
            "OUTPOST_BACKENDS": f"openai=http://127.0.0.1:{BACKEND}",
            "OUTPOST_MAX_CONCURRENT": "64",
            "OUTPOST_STATUS_ADDR": f"127.0.0.1:{FIRST_STATUS + number}",
        }
        log = self.directory / f"agent-{number}.log"
        self.agents[number] = processes.Process(f"agent {number}", [self.binary], log, env, self.network.agent)

    def start_coordinator(self, number=0):
        env = {
            "OUTPOST_COORDINATOR_API_KEY": KEY,
            "OUTPOST_COORDINATOR_AGENT_KEYS": ",".join(self.keys),
            "OUTPOST_COORDINATOR_LISTEN": f"0.0.0.0:{FIRST_COORDINATOR + number}",
            # Longer than any answer: what runs longer than this is cut by a stop.
            "OUTPOST_COORDINATOR_SHUTDOWN_GRACE": "30s",
        }
        log = self.directory / f"coordinator-{number}.log"
        start = log.stat().st_size if log.exists() else 0
        process = processes.Process(
            f"coordinator {number}", [self.binary, "coordinator"], log, env, self.network.coordinator
        )
        process.wait_for("listening", start=start)
        self.coordinators[number] = process

    def at_coordinator(self, path, number=0):
        address = (netns.COORDINATOR, FIRST_COORDINATOR + number)
        return netns.inside(self.network.coordinator, lambda: get(address, path, KEY))

    def offers(self, number=0):
        status, body = self.at_coordinator("/v1/models", number)
        return status == 200 and bool(json.loads(body)["data"])

    def serve(self):
        """One coordinator, and the agent at it."""
        self.start_coordinator()
        self.agent_process(0, f"ws://{netns.COORDINATOR}:{FIRST_COORDINATOR}/agent")
        wait_until(self.offers, 30, "model")

    def status(self, number=0):
        address = ("127.0.0.1", FIRST_STATUS + number)
        return netns.inside(self.network.agent, lambda: get_json(address, "/status"))

    def seen(self):
        return netns.inside(self.network.agent, lambda: get_json(("127.0.0.1", BACKEND), "/seen"))

    def load(self, url=f"http://{netns.COORDINATOR}:{FIRST_COORDINATOR}/v1", **settings):
        """Starts clients; their results come with `results`."""
        log = self.directory / f"clients-{time.monotonic_ns()}.log"
        return python("clients", "clients", [url, KEY, json.dumps(settings)], log, self.network.client)

    def is_idle(self):
        return not any(self.status(number)["in_flight"] for number in range(len(self.agents)))


class Results:
    """What clients saw, and the backend."""

    def __init__(self, scene, loads, limit):
        self.lines = []
        for load in loads:
            wait_until(lambda load=load: load.process.poll() is not None, limit, "end of the clients", every=0.2)
            texts = load.text().splitlines()
            self.lines += [json.loads(text) for text in texts if text.startswith("{")]
            if load.process.returncode:
                raise Failed(f"the clients ended with {load.process.returncode}: {texts[-5:]}")
        self.failed = [line for line in self.lines if line["error"]]
        self.tries = [line["tries"] for line in self.lines]
        wait_until(scene.is_idle, 30, "end of all jobs at the agents")
        seen = scene.seen()
        wanted = {line["id"] for line in self.lines if not line["error"]}
        counts = seen["requests"]
        self.twice = {id: count for id, count in counts.items() if count != 1}
        self.never = [id for id in wanted if id not in counts]
        self.running = seen["running"]

    def check(self, least):
        """Says what was seen, and raises where a promise was broken."""
        pauses = [max(line["first"], line["pause"]) for line in self.lines if line["kind"] != "whole"]
        again = sum(len(tries) - 1 for tries in self.tries)
        causes = collections.Counter(str(status) for tries in self.tries for status in tries[:-1])
        kinds = collections.Counter(line["kind"] for line in self.lines)
        say(f"  {len(self.lines)} requests ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}): "
            f"{len(self.failed)} failed, {len(self.twice)} not once at the backend")
        say(f"  retries of the clients: {again}{f' {dict(causes)}' if again else ''}, at most "
            f"{max(map(len, self.tries)) - 1} of one request; longest pause of a stream {max(pauses, default=0):.1f} s")
        for line in self.failed[:10]:
            say(f"  failed: {line}")
        if self.failed or self.twice or self.never or self.running or len(self.lines) < least:
            raise Failed(f"{len(self.failed)} failed, at the backend {self.twice} {self.never} {self.running}, {least} wanted")


def after(seconds, what, action):
    time.sleep(seconds)
    say(f"  {what}")
    action()


def fault(network, directory, action):
    """Eight answers of 40 s with a fault after 8 s, and then some more answers."""
    scene = Scene(network, directory)
    scene.order_wire("delay 10")
    scene.serve()
    before = scene.status()
    load = scene.load(threads=8, requests=8, events=400, gap_ms=100)
    time.sleep(8)
    if scene.status()["in_flight"] != 8:
        raise Failed("the jobs do not run")
    action(scene)
    results = [load, scene.load(threads=4, requests=8, events=20, gap_ms=50)] if scene.offers() else [load]
    wait_until(lambda: load.process.poll() is not None, 200, "end of the clients", every=0.2)
    results.append(scene.load(threads=4, requests=8, events=20, gap_ms=50))
    seen = Results(scene, results, 200)
    now = scene.status()
    say(f"  connections {now['connections'] - before['connections']}, resumptions {now['resumptions']}; jobs {now['jobs']}")
    seen.check(16)


def loss(network, directory):
    """1 % of the packets lost, and 100 ms more in each direction"""
    scene = Scene(network, directory)
    scene.order_wire("delay 100", "loss 1")
    scene.serve()
    load = scene.load(threads=12, requests=48, events=80, gap_ms=100, size=1200)
    results = Results(scene, [load], 300)
    scene.order_wire("stats")
    now = scene.status()
    time.sleep(0.5)
    say(f"  {scene.wire.text().splitlines()[-1]}; connections {now['connections']}")
    results.check(48)
    if now["connections"] != 1:
        raise Failed("the connection of the agent was lost")


def down(network, directory):
    """the agent's interface is down for 20 s, in the middle of answers"""

    def action(scene):
        network.agent_down()
        after(20, "the interface is up again", network.agent_up)

    fault(network, directory, action)


def forget(network, directory):
    """the packets of the agent's connection are dropped without a sign, those of new connections are not"""
    fault(network, directory, lambda scene: scene.order_wire("forget"))


def translation(network, directory):
    """the same by a real NAT of the kernel, whose table is emptied"""
    for tool in ("nft", "conntrack"):
        if not netns.shutil.which(tool):
            raise NotHere(f"there is no `{tool}` (on Debian and Ubuntu: apt-get install nftables conntrack)")
    network.masquerade()
    fault(network, directory, lambda scene: network.forget_translations())


def address(network, directory):
    """the agent's address changes, in the middle of answers"""
    fault(network, directory, lambda scene: network.agent_up(netns.OTHER_AGENT))


def rolling(network, directory):
    """two coordinators behind a balancer are restarted in turn, six times, under 20 clients"""
    scene = Scene(network, directory, agents=3)
    for number in (0, 1):
        scene.start_coordinator(number)
    addresses = [f"{netns.COORDINATOR}:{FIRST_COORDINATOR + number}" for number in (0, 1)]
    arguments = ["0.0.0.0", BALANCER, AGENTS_PORT, KEY, *addresses]
    balancer = python("balancer", "balancer", arguments, scene.directory / "balancer.log", network.router)
    balancer.wait_for("listening")
    host = netns.ROUTERS["coordinator"]
    wait_until(lambda: balancer.text().count("is empty") == 2, 10, "coordinators at the balancer")
    for number in range(3):
        scene.agent_process(number, f"ws://{host}:{AGENTS_PORT}/agent")
    wait_until(lambda: "is ready" in balancer.text(), 10, "agents at the balancer")
    load = scene.load(f"http://{netns.ROUTERS['client']}:{BALANCER}/v1", threads=20, seconds=75, events=80, gap_ms=50)
    begin = time.monotonic()
    for turn in range(6):
        number = turn % 2
        time.sleep(max(0, begin + 5 + turn * 11 - time.monotonic()))
        stopping = time.monotonic()
        if code := scene.coordinators[number].stop():
            raise Failed(f"a coordinator ended with {code}")
        stopped = time.monotonic() - stopping
        scene.start_coordinator(number)
        say(f"  coordinator {number} was restarted: its stop took {stopped:.1f} s")
    results = Results(scene, [load], 120)
    states = [scene.status(number) for number in range(3)]
    say(f"  handovers {[state['handovers'] for state in states]}, connections {[state['connections'] for state in states]}, "
        f"resumptions {[state['resumptions'] for state in states]}")
    say(f"  connections that the balancer had no coordinator for: {balancer.text().count('closed a connection of clients')} of "
        f"clients, {balancer.text().count('closed a connection of agents')} of agents")
    results.check(300)


SCENARIOS = {it.__name__: it for it in (loss, down, forget, translation, address, rolling)}


def run(name, keep):
    say(f"{name}: {SCENARIOS[name].__doc__}")
    directory = tempfile.mkdtemp(prefix=f"outpost-{name}-")
    begin = time.monotonic()
    try:
        with netns.Network() as network:
            try:
                SCENARIOS[name](network, directory)
            finally:
                processes.stop_all()
    except NotHere as lack:
        say(f"{name}: SKIPPED: {lack}")
        return "skipped"
    except Failed as failure:
        say(f"{name}: FAILED: {failure}; logs are in {directory}")
        return "failed"
    except Exception:
        traceback.print_exc()
        say(f"{name}: FAILED; logs are in {directory}")
        return "failed"
    say(f"{name}: held, in {time.monotonic() - begin:.0f} s")
    if keep:
        say(f"  logs are in {directory}")
    else:
        subprocess.run(["rm", "-r", directory])
    return "held"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="one of --list; default: all")
    parser.add_argument("--list", action="store_true", help="print the scenarios")
    parser.add_argument("--keep", action="store_true", help="keep the logs of those that hold, too")
    arguments = parser.parse_args()
    for name in arguments.scenarios:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario {name!r}; --list prints them")
    if arguments.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:12} {scenario.__doc__}")
        return 0
    ends = {name: run(name, arguments.keep) for name in arguments.scenarios or SCENARIOS}
    say("; ".join(f"{name} {end}" for name, end in ends.items()))
    return 1 if "failed" in ends.values() else 0


if __name__ == "__main__":
    sys.exit(main())
