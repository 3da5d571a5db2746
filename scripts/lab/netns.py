"""Network namespaces of Linux: one each for agents, coordinators and clients, joined by one for the router.

    agents --- wire --- router === coordinators (veth)
                              === clients      (veth)

The wire is wire.py: it carries the agents' packets through this program, so that it can lose and delay them.
"""

import ctypes
import os
import pathlib
import shutil
import subprocess
import threading

AGENT, COORDINATOR, CLIENT = "10.77.1.2", "10.77.2.2", "10.77.3.2"
ROUTERS = {"agent": "10.77.1.1", "coordinator": "10.77.2.1", "client": "10.77.3.1"}
OTHER_AGENT = "10.77.1.3"
CLONE_NEWNET = 0x40000000


class NotHere(Exception):
    """This machine lacks something that a scenario needs."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def ip(*arguments):
    return run("ip", *arguments)


def inside(namespace, function):
    """Runs a function in a namespace: a thread of its own enters it, and sockets stay where they were made."""
    result = []

    def body():
        try:
            enter(namespace)
            result.append(function())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def enter(namespace):
    """Moves the calling thread into a namespace."""
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Network:
    """The namespaces, from the beginning of a `with` block to its end."""

    def __init__(self):
        prefix = f"outpost-{os.getpid()}"
        self.agent, self.router, self.coordinator, self.client = (
            f"{prefix}-{name}" for name in ("agent", "router", "coordinator", "client")
        )
        self.made = []

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in reversed(self.made):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        self.made.clear()

    def build(self):
        if os.geteuid():
            raise NotHere("network namespaces need root")
        if not shutil.which("ip"):
            raise NotHere("there is no `ip` (on Debian and Ubuntu: apt-get install iproute2)")
        if not pathlib.Path("/dev/net/tun").exists():
            raise NotHere("there is no /dev/net/tun, which carries the packets of the agents")
        for name in (self.agent, self.router, self.coordinator, self.client):
            ip("netns", "add", name)
            self.made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        run("ip", "netns", "exec", self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for name, address in ((self.coordinator, COORDINATOR), (self.client, CLIENT)):
            role = name.rsplit("-", 1)[1]
            ip("-n", self.router, "link", "add", role, "type", "veth", "peer", "name", "wan", "netns", name)
            ip("-n", self.router, "addr", "add", f"{ROUTERS[role]}/24", "dev", role)
            ip("-n", self.router, "link", "set", role, "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "wan")
            ip("-n", name, "link", "set", "wan", "up")
            ip("-n", name, "route", "add", "default", "via", ROUTERS[role])

    def connect_agent(self):
        """After the wire has made its devices."""
        ip("-n", self.router, "addr", "add", f"{ROUTERS['agent']}/24", "dev", "agent")
        ip("-n", self.router, "link", "set", "agent", "up")
        self.agent_up(AGENT)

    def agent_down(self):
        ip("-n", self.agent, "link", "set", "wan", "down")

    def agent_up(self, address=None):
        """Brings the agents' interface up, with the route that goes away with it."""
        if address:
            ip("-n", self.agent, "addr", "flush", "dev", "wan")
            ip("-n", self.agent, "addr", "add", f"{address}/24", "dev", "wan")
        ip("-n", self.agent, "link", "set", "wan", "up")
        ip("-n", self.agent, "route", "replace", "default", "dev", "wan")

    def masquerade(self):
        """Makes the router translate the agents' addresses, and drop what it knows no translation for."""
        agents = f"ip saddr {ROUTERS['agent']}/24"
        rules = f"""
            table ip lab {{
              chain out {{ type nat hook postrouting priority 100; {agents} masquerade; }}
              chain pass {{ type filter hook forward priority 0; {agents} ct state invalid drop; }}
              chain in {{ type filter hook input priority 0; ip protocol tcp drop; }}
            }}"""
        run("ip", "netns", "exec", self.router, "nft", rules)
        # Without this, the middle of a connection would make a new translation.
        run("ip", "netns", "exec", self.router, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")

    def forget_translations(self):
        run("ip", "netns", "exec", self.router, "conntrack", "-D", "--orig-src", AGENT)
