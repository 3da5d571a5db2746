"""A wire between two namespaces: reads IP packets from a TUN device in each, and loses, delays or forgets some of them.

    python -m lab.wire NAMESPACE DEVICE NAMESPACE DEVICE

It prints "ready". Commands are lines on standard input, each answered with a line:

    delay MS     each packet takes so long, in each direction
    loss PERCENT so many packets are lost, in each direction, at random
    forget       like a NAT that lost its table: no packet of a flow that was seen until now passes any more
    stats        packets so far: passed, lost, and those of forgotten flows
"""

import fcntl
import heapq
import os
import random
import selectors
import struct
import sys
import time

from lab.netns import inside

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def device(name):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def flow(packet):
    """Both ends of a TCP connection, in either direction the same; None for anything else."""
    if packet[0] >> 4 != 4 or packet[9] != 6:
        return None
    begin = (packet[0] & 15) * 4
    ends = [(packet[12:16], packet[begin : begin + 2]), (packet[16:20], packet[begin + 2 : begin + 4])]
    return tuple(sorted(ends))


class Wire:
    def __init__(self, ends):
        self.other = {ends[0]: ends[1], ends[1]: ends[0]}
        self.delay = self.loss = 0
        self.queue, self.number = [], 0
        self.known, self.forgotten = set(), set()
        self.counts = {"passed": 0, "lost": 0, "forgotten": 0}

    def take(self, end):
        # A device that is down refuses packets, and has none.
        for _ in range(64):
            try:
                packet = os.read(end, 65536)
            except OSError:
                return
            connection = flow(packet)
            self.known.add(connection)
            if connection and connection in self.forgotten:
                self.counts["forgotten"] += 1
            elif random.random() < self.loss:
                self.counts["lost"] += 1
            else:
                self.number += 1
                heapq.heappush(self.queue, (time.monotonic() + self.delay, self.number, self.other[end], packet))

    def deliver(self):
        """Writes what is due, and returns the seconds until more is."""
        while self.queue and (wait := self.queue[0][0] - time.monotonic()) <= 0:
            _, _, end, packet = heapq.heappop(self.queue)
            try:
                os.write(end, packet)
                self.counts["passed"] += 1
            except OSError:
                self.counts["lost"] += 1
        return wait if self.queue else None

    def command(self, name, *values):
        if name == "delay":
            self.delay = float(values[0]) / 1000
        elif name == "loss":
            self.loss = float(values[0]) / 100
        elif name == "forget":
            self.forgotten |= self.known - {None}
        elif name != "stats":
            return "no such command"
        return " ".join(f"{key}={value}" for key, value in self.counts.items())


def main():
    ends = [inside(namespace, lambda name=name: device(name)) for namespace, name in zip(sys.argv[1::2], sys.argv[2::2])]
    wire, selector = Wire(ends), selectors.DefaultSelector()
    for source in [*ends, sys.stdin]:
        selector.register(source, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select(wire.deliver()):
            if key.fileobj is not sys.stdin:
                wire.take(key.fileobj)
            elif lines := os.read(sys.stdin.fileno(), 4096):
                for line in lines.decode().splitlines():
                    print(wire.command(*line.split()), flush=True)
            else:
                return


if __name__ == "__main__":
    main()
