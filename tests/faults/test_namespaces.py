"""Lines that lose packets do what the faults of the matrix stand on: without a word, one direction alone, and not after
the end."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.lines import CUT, FINE, KAFKA, Way, Weather, both
from tests.faults.namespaces import Namespaces, NamespacesUnavailableError, check

NODES = 3
CLONE_NEWNET, IP_RECVERR = 0x40000000, 11
"""As in Linux's sched.h and in.h."""
PATIENCE_S = 20


@pytest.fixture(autouse=True)
def _possible() -> None:
    try:
        check()
    except NamespacesUnavailableError as error:
        pytest.skip(str(error))  # in CI too: whether a test may do this is the machine's right


def _enter(namespace: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open() as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):  # os.setns is there from Python 3.12 on
            raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def socket_in(lines: Namespaces, place: int) -> Iterator[socket.socket]:
    """A UDP socket of that place; it stays there, whichever thread uses it."""

    def make() -> socket.socket:
        if place != KAFKA:
            _enter(lines.name(place))
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((lines.host(place), 0))
        made.settimeout(PATIENCE_S)
        made.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        return made

    with concurrent.futures.ThreadPoolExecutor(1) as own_thread, own_thread.submit(make).result() as made:
        yield made


def test_each_direction_is_cut_by_itself_and_nobody_is_told() -> None:
    with Namespaces(NODES) as lines, contextlib.ExitStack() as stack:
        sockets = {place: stack.enter_context(socket_in(lines, place)) for place in (KAFKA, *range(NODES))}

        def send(way: Way, text: str) -> None:
            # Raises, here or at the next call, when the sender is told that something did not get there (IP_RECVERR).
            sockets[way.sender].sendto(text.encode(), sockets[way.receiver].getsockname())

        def arrives(way: Way) -> None:
            send(way, str(way))
            assert sockets[way.receiver].recv(100).decode() == str(way)

        for cut in itertools.starmap(Way, itertools.permutations(sockets, 2)):
            lines.set(CUT, cut)
            send(cut, "lost")
            for way in itertools.starmap(Way, itertools.permutations(sockets, 2)):
                if way != cut:
                    arrives(way)  # and so does not "lost", which would have come before
            send(cut, "lost")
            lines.set(FINE, cut)
            arrives(cut)


def test_connections_that_begin_meet_silence() -> None:
    with Namespaces(2) as lines:
        lines.set(CUT, Way(1, 0))
        with pytest.raises(subprocess.TimeoutExpired):  # what answers is a RST: nobody listens there
            _connect(lines, 1)
        lines.mend()
        assert "ConnectionRefusedError" in _connect(lines, PATIENCE_S)


def _connect(lines: Namespaces, patience_s: float) -> str:
    """What comes of a connection from the first node to the second one."""
    program = f"import socket; socket.create_connection(({lines.host(1)!r}, 9))"
    command = [*lines.begin(0), "python3", "-Ic", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=patience_s, check=False).stderr


def test_other_weather_than_lost_packets_is_refused() -> None:
    with Namespaces(2) as lines, pytest.raises(ValueError, match="neither delay nor loss"):
        lines.set(Weather(delay_s=0.1), both(0, 1)[0])


def _left() -> list[str]:
    found = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return [line for line in (*os.listdir("/run/netns"), *found.splitlines()) if f"kg{os.getpid()}x" in line]


def test_nothing_is_left_also_after_a_failure() -> None:
    with contextlib.suppress(ZeroDivisionError), Namespaces(2) as lines:
        assert len(_left()) == 4, "a router, two nodes, and the host's link"
        lines.set(CUT, Way(0, 1))
        raise ZeroDivisionError
    assert not _left()


def test_what_a_killed_test_has_left_goes_when_the_next_one_begins() -> None:
    module = Namespaces.__module__
    program = f"import os; from {module} import Namespaces as Some; some = Some(1); some.__enter__(); os._exit(0)"
    with subprocess.Popen(["python3", "-c", program]) as killed:
        pass
    assert killed.returncode == 0
    left = [name for name in os.listdir("/run/netns") if name.startswith(f"kg{killed.pid}x")]
    assert len(left) == 2
    with Namespaces(1):
        assert not {*left} & {*os.listdir("/run/netns")}
