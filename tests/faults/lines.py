"""What a deployment needs of the lines between its nodes, Kafka and those who ask, and what a fault does to them.

There are two kinds: `gates` for any machine, and `namespaces` where a test may make some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

KAFKA = -1
"""The place of all brokers; a node's place is its number. Those who ask, and the balancer, have no place: no fault is
between them and a node."""


def node_id(number: int) -> str:
    """``cluster.node.id`` of that node."""
    return f"gw-{number}"


class Weather(NamedTuple):
    """What a line is like."""

    passes: bool = True
    delay_s: float = 0.0
    lost: float = 0.0
    """The share of pieces that are lost at first."""


FINE = Weather()
CUT = Weather(passes=False)


class Way(NamedTuple):
    """One direction of a line."""

    sender: int
    receiver: int


def both(one: int, other: int) -> tuple[Way, Way]:
    """Both directions between two places."""
    return Way(one, other), Way(other, one)


class Lines(Protocol):
    """May be called from any thread, and blocks."""

    def host(self, place: int) -> str:
        """Where the programs of that place listen, and are found by those who ask."""

    def begin(self, node: int) -> Sequence[str]:
        """What the command line of a program begins with that is to run at that place."""

    def to_broker(self, node: int, port: int) -> str:
        """``HOST:PORT`` at which that node finds a broker that listens on that port of `KAFKA`'s host."""

    def to_node(self, node: int, ports: range, spares: range) -> str:
        """``HOST:PORT`` at which the other nodes find what listens on the first of these ports of that node, and on the
        next ports what listens on the next. ``spares``: as many ports that nobody else uses."""

    def set(self, weather: Weather, way: Way) -> None:
        """From now on, for what is open, too. ValueError: this kind cannot make such weather."""

    def mend(self) -> None:
        """All is `FINE` again."""
