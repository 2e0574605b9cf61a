"""Faults of a network as they are: each node in a network namespace of its own, and between them a router, in one too,
that drops packets without a word. What is sent meanwhile is sent again by TCP, less and less often; connections that
begin get no answer; what has ended at one side goes on at the other.

Kafka, the balancer and the tests stay outside, on the host, which has one address for the brokers and another for those
who ask: so nodes that do not reach Kafka can be asked how they are. Packets are dropped by rules of the router's table
(ip-rule(8)), for each direction by itself. Delay and loss would need ``tc netem``, which not every kernel has: `gates`
make them.

The names of all that is made begin with ``kg`` and the number of the process. It is gone at the end of the block; what
a test left that was killed goes when the next one begins.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tests.faults.lines import FINE, KAFKA, Way, Weather

_NAMED = Path("/run/netns")
_PREFIX = re.compile(r"kg(\d+)x\d+")
_serial = itertools.count(1)
_BLOCKS = [f"198.{second}.{third}" for second in (18, 19) for third in range(256)]
"""Networks for tests of networks (RFC 2544)."""
_PATIENCE_S = 30


class NamespacesUnavailableError(Exception):
    """This machine cannot have them, or this user may not; the text says why."""


class CommandError(Exception):
    """What the command says that has failed."""


def check() -> None:
    """Makes, uses and removes a little of what is needed. NamespacesUnavailableError."""
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            raise NamespacesUnavailableError(f"no {program} in PATH")
    if os.geteuid() != 0:
        raise NamespacesUnavailableError("only root may make network namespaces")
    name = _new_prefix()
    try:
        with _namespace(name), _pair(name, "", "host", name):
            _ip("-n", name, "rule", "add", "from", "198.18.0.1", "to", "198.18.0.2", "blackhole")
            _set(name, ("ip_forward", 1))
    except CommandError as error:
        raise NamespacesUnavailableError(f"network namespaces cannot be made: {error}") from None


class Namespaces:
    """`Lines` through a router; the block makes and removes all of it."""

    def __init__(self, nodes: int) -> None:
        self._nodes = range(nodes)
        self._prefix = _new_prefix()
        self._router = f"{self._prefix}r"
        self._cut: set[Way] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """CommandError."""
        _remove_what_the_dead_left()
        with self._stack:
            self._stack.enter_context(_namespace(self._router))
            self._stack.enter_context(_pair(self._prefix, "", "host", self._router))
            _ip("link", "set", self._prefix, "up")
            self._block = self._take_block()
            self._join(0, self._prefix, "", "host")
            _ip("address", "add", f"{self.host(KAFKA)}/32", "dev", self._prefix)
            _ip("-n", self._router, "route", "add", f"{self.host(KAFKA)}/32", "via", self._end(0))
            for node in self._nodes:
                name, port = self.name(node), f"node{node}"
                self._stack.enter_context(_namespace(name))
                self._stack.enter_context(_pair("router", name, port, self._router))
                self._join(node + 1, "router", name, port)
                _ip("-n", name, "route", "add", "default", "via", self._router_end(node + 1))
            # Whether there is a way back to who has sent a packet (rp_filter) does not matter: ways are cut one by one.
            ports = ("all", "host", *(f"node{node}" for node in self._nodes))
            _set(self._router, ("ip_forward", 1), *((f"conf/{each}/rp_filter", 0) for each in ports))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def name(self, node: int) -> str:
        """Of the namespace of that node."""
        return f"{self._prefix}n{node}"

    def host(self, place: int) -> str:
        return f"{self._block}.254" if place == KAFKA else self._end(place + 1)

    def begin(self, node: int) -> Sequence[str]:
        return _within(self.name(node))

    def to_broker(self, node: int, port: int) -> str:
        return f"{self.host(KAFKA)}:{port}"

    def to_node(self, node: int, ports: range, spares: range) -> str:
        return f"{self.host(node)}:{ports[0]}"

    def set(self, weather: Weather, way: Way) -> None:
        if weather.delay_s or weather.lost:
            raise ValueError("this router passes packets on or drops them: it makes neither delay nor loss")
        if weather.passes is (way in self._cut):
            places = ("from", self.host(way.sender), "to", self.host(way.receiver))
            _ip("-n", self._router, "rule", "delete" if weather.passes else "add", *places, "blackhole")
            self._cut ^= {way}

    def mend(self) -> None:
        for way in list(self._cut):
            self.set(FINE, way)

    def _take_block(self) -> str:
        """Addresses that this machine knows no way to, but by default; and now it does. Two tests do not get the same:
        there is one such route."""
        first = os.getpid() % len(_BLOCKS)
        for block in _BLOCKS[first:] + _BLOCKS[:first]:
            network = f"{block}.0/24"
            known = _ip("route", "show", "match", network).splitlines()
            if all(line.startswith("default") for line in known):
                try:
                    _ip("route", "add", network, "via", f"{block}.1", "dev", self._prefix, "onlink")
                    return block
                except CommandError as error:
                    if "File exists" not in str(error):
                        raise
        raise CommandError(f"this machine has a route to each of {_BLOCKS[0]}.0/24 to {_BLOCKS[-1]}.0/24")

    def _router_end(self, number: int) -> str:
        return f"{self._block}.{4 * number + 1}"

    def _end(self, number: int) -> str:
        """Of the host, 0, and of the nodes behind it."""
        return f"{self._block}.{4 * number + 2}"

    def _join(self, number: int, link: str, namespace: str, port: str) -> None:
        """Addresses for both ends of a pair."""
        for inside, device, address in (
            (namespace, link, self._end(number)),
            (self._router, port, self._router_end(number)),
        ):
            _ip(*_of(inside), "address", "add", f"{address}/30", "dev", device)
            _ip(*_of(inside), "link", "set", device, "up")


def _new_prefix() -> str:
    return f"kg{os.getpid()}x{next(_serial)}"


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[None]:
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        _ip("netns", "delete", name)


@contextlib.contextmanager
def _pair(link: str, namespace: str, far: str, far_namespace: str) -> Iterator[None]:
    """Two links that are joined. Namespace ``""``: the host's."""
    _ip(*_of(namespace), "link", "add", link, "type", "veth", "peer", "name", far, "netns", far_namespace)
    try:
        yield
    finally:
        _ip(*_of(namespace), "link", "delete", link)  # a namespace alone would take its time, and keep the routes


def _remove_what_the_dead_left() -> None:
    for name in sorted(each.name for each in _NAMED.glob("kg*")):
        found = _PREFIX.match(name)
        if found is None or Path(f"/proc/{found[1]}").exists():
            continue
        for command in (("link", "delete", found[0]), ("netns", "delete", name)):
            with contextlib.suppress(CommandError):  # it is gone: with its namespace, or another test was faster
                _ip(*command)


def _set(namespace: str, *settings: tuple[str, int]) -> None:
    """Of /proc/sys/net/ipv4."""
    script = "; ".join(f"echo {value} >/proc/sys/net/ipv4/{name}" for name, value in settings)
    _run(*_within(namespace), "sh", "-ec", script)


def _within(namespace: str) -> Sequence[str]:
    # `ip netns exec` would mount another /sys, without control groups.
    return ("nsenter", f"--net={_NAMED / namespace}", "--")


def _of(namespace: str) -> Sequence[str]:
    return ("-n", namespace) if namespace else ()


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
