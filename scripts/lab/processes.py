"""Processes of the binary and of these scripts: started with only the environment that is given, killed at the end."""

import asyncio
import atexit
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent
ROOT = SCRIPTS.parent
_running = []


class Failed(Exception):
    """What was promised did not hold, or a process did not do what the script needs."""


def binary():
    """The program under test: $OUTPOST_BINARY, or else the newest of the release and the debug build."""
    if named := os.environ.get("OUTPOST_BINARY"):
        return str(pathlib.Path(named).resolve())
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for profile in ("release", "debug") if (path := target / profile / "outpost").exists()]
    if not built:
        raise SystemExit("no outpost binary: run cargo build --release, or name one in OUTPOST_BINARY")
    return str(max(built, key=lambda path: path.stat().st_mtime))


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def free_port():
    """A port that is free now. Nothing keeps it free."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Process:
    """A process whose output goes to a file."""

    def __init__(self, name, arguments, log, env=(), netns=None, stdin=None):
        self.name, self.log = name, pathlib.Path(log)
        prefix = ["ip", "netns", "exec", netns] if netns else []
        base = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(SCRIPTS)}
        self.log_file = self.log.open("ab")
        self.process = subprocess.Popen(
            prefix + list(arguments),
            env=base | dict(env),
            stdin=stdin or subprocess.DEVNULL,
            stdout=self.log_file,
            stderr=subprocess.STDOUT,
        )
        self.pid = self.process.pid
        _running.append(self)

    def text(self, start=0):
        with self.log.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")

    def size(self):
        return self.log.stat().st_size

    def wait_for(self, words, limit=30, start=0):
        def found():
            if words in self.text(start):
                return True
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode} before {words!r}: {self.text(start)[-2000:]}")
            return False

        wait_until(found, limit, f"{words!r} in the log of {self.name}")

    def send(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM, limit=60):
        """Ends it, and returns its exit code."""
        self.send(number)
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed(f"{self.name} did not end in {limit} s after signal {number}") from None
        self.log_file.close()
        if self in _running:
            _running.remove(self)
        return code

    def kill(self):
        return self.stop(signal.SIGKILL)

    def memory(self, line="VmRSS"):
        """A line of /proc/PID/status, in bytes."""
        for text in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if text.startswith(line + ":"):
                return int(text.split()[1]) * 1024
        raise Failed(f"{self.name} has no {line}")


# By default it would end the script without its `atexit`.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@atexit.register
def stop_all():
    for process in list(_running):
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()
        _running.remove(process)


def python(name, module, arguments, log, netns=None, executable=sys.executable, stdin=None):
    command = [executable, "-u", "-m", f"lab.{module}", *map(str, arguments)]
    return Process(name, command, log, netns=netns, stdin=stdin)


def wait_until(condition, limit, what, every=0.02):
    """Waits, and returns the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > limit:
            raise Failed(f"in {limit} s there was no {what}")
        time.sleep(every)
    return time.monotonic() - begin


async def until(condition, limit, what, every=0.02):
    """The same for a condition that is a coroutine function."""
    begin = time.monotonic()
    while not await condition():
        if time.monotonic() - begin > limit:
            raise Failed(f"in {limit} s there was no {what}")
        await asyncio.sleep(every)
    return time.monotonic() - begin


def get(address, path, key=None, limit=5):
    """The status and the body of an answer; status 0 if there is none."""
    host, port = address
    connection = http.client.HTTPConnection(host, port, timeout=limit)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def get_json(address, path, key=None):
    status, body = get(address, path, key)
    if status != 200:
        raise Failed(f"{path} of {address} answered {status}")
    return json.loads(body)
