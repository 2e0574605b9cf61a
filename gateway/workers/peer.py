"""Another process, as this one asks it: the connection there, when that is tried, and what is known of its state.

A process that cannot be reached is tried again after a time that grows, however many requests wait for it. The time is
over at once when the process tells of itself anew, or connects to this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from kafka_gateway.cluster.ports import Process, Reach
from kafka_gateway.errors import InstanceUnavailable
from kafka_gateway.state_log import StateLog
from kafka_gateway.workers.addresses import PeerAddress, usable
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.link import Link
from kafka_gateway.workers.peer_settings import PeerSettings
from kafka_gateway.workers.terms import Terms
from kafka_gateway.workers.wire import NOBODYS, LinkLost

_AGAIN_S: Final = 0.1
_AGAIN_MOST_S: Final = 5.0
"""Below the default of ``cluster.hold.ms``: a request that waits sees an attempt."""
LOOK_S: Final = 2.0
"""How long nothing need be heard of a process before it is asked for a sign of life."""
_SIGN: Final = ""
"""A question that nobody has an answer for, which is answered all the same."""


class Ways:
    """How this process reaches others: which of their addresses it may use, and what it says there first."""

    def __init__(
        self, me: Process, settings: PeerSettings, directory: str, terms: Terms, connect_s: float, states: StateLog
    ) -> None:
        self.connect_s = connect_s
        self._me = me
        self._settings = settings
        self._directory = directory
        self._terms = terms
        self.states = states
        """Is told when a process is reached and when it is not."""

    def usable(self, told: Sequence[str]) -> Sequence[PeerAddress]:
        """Of the addresses that a process has told, the best first."""
        found = []
        for each in usable(told, self._terms.brings_proofs):
            if each.scheme == "unix":
                may = bool(self._directory) and self.path(each.name).exists()
            elif each.scheme == "tls":
                may = self._settings.tls is not None
            else:
                may = bool(self._settings.secret)  # who answers there has to prove something
            if may:
                found.append(each)
        return found

    def path(self, name: str) -> Path:
        """Of the socket of that name."""
        return Path(self._directory) / name

    async def connect(self, process: str, address: PeerAddress, gone: Callable[[Link], None]) -> Link:
        """A link on which both ends know each other. OSError, UnicodeError, LinkLost."""
        secret = b"" if address.scheme == "unix" else self._settings.secret
        greeting = Greeting(self._me, True, secret, process, self._terms.ping_s)
        link = Link(greeting, self._terms, gone, states=self.states)
        loop = asyncio.get_running_loop()
        try:
            if address.scheme == "unix":
                await loop.create_unix_connection(lambda: link, str(self.path(address.name)))
            elif address.scheme == "tcp":
                await loop.create_connection(lambda: link, address.host, address.port)
            else:
                assert self._settings.tls is not None
                # It judges the host's name by the certificate, too.
                context = self._settings.tls.of_client()
                await loop.create_connection(lambda: link, address.host, address.port, ssl=context)
            await link.ready
        except asyncio.CancelledError:
            link.close()
            raise
        return link


class Peer:
    """Belongs to the event loop."""

    def __init__(self, process: str, addresses: Sequence[str], ways: Ways, links: set[Link]) -> None:
        """``links`` has all that are open, those to processes that stop too."""
        self.addresses = addresses
        self.in_clear = False
        """Whether the connection could be read on its way."""
        self._id = process
        self._boot = ""
        self._ways = ways
        self._states = ways.states
        self.links = links
        self.link: Link | None = None
        """The connection, while there is one that may be used."""
        self._opening: asyncio.Task[Link] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._is_watched = False
        self._woken = asyncio.Event()
        self._pause_s = self._next_at = 0.0
        """Between the last attempt and the next one, and when that is due."""
        self._is_reached: bool | None = None
        self._unreached_at = 0.0
        """When the first attempt failed since it was reached."""
        self._heard_at = 0.0
        """On connections that are over."""
        self._trouble = ""
        self._refused = False

    def told(self, boot: str, addresses: Sequence[str]) -> None:
        """What it tells of itself now."""
        if (boot, addresses) != (self._boot, self.addresses):
            self._boot, self.addresses = boot, addresses
            self.wake()

    def heard(self, at: float) -> None:
        """It said something last at that time, by the clock of the loop, on a connection that is over."""
        self._heard_at = max(self._heard_at, at)

    def wake(self) -> None:
        """It gave a sign of life somewhere: if it could not be reached, that is tried at once."""
        self._pause_s = self._next_at = 0.0
        self._woken.set()
        if self._is_watched and self._is_reached is False:
            self.look()

    def close(self) -> None:
        """Ends the connection; nothing is said of the process any more."""
        for task in (self._opening, self._looking):
            if task is not None:
                task.cancel()
        self._is_watched = False
        self._states.forget(self._id)
        if self.link is not None:
            self.link.close()

    # --- the connection -----------------------------------------------------------------------------------------------

    async def reach(self) -> Link:
        """The connection, tried for as long as ``cluster.peer.connect.timeout.ms``. LinkLost: there is none, or it is
        not tried again so soon."""
        if self.link is not None:
            return self.link
        loop = asyncio.get_running_loop()
        opening = self._opening
        if opening is None:
            if self._next_at > loop.time() + self._ways.connect_s:
                raise LinkLost
            opening = self._opening = loop.create_task(self._open(), context=NOBODYS.copy())
            opening.add_done_callback(self._opened)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled():  # it was forgotten, or this process stops
                raise LinkLost from None
            raise

    def _opened(self, done: asyncio.Task[Link]) -> None:
        self._opening = None
        if not done.cancelled() and done.exception() is None and not (link := done.result()).is_lost:
            self.link = link
            self.links.add(link)

    async def _open(self) -> Link:
        """Tries its addresses in turn until one answers or the time is over. LinkLost."""
        trouble, loop, connect_s = "", asyncio.get_running_loop(), self._ways.connect_s
        refused = False
        await self._pause(self._next_at - loop.time())
        # An attempt that began later would be cut short, and the time would pass for the reason.
        latest = loop.time() + connect_s / 2
        try:
            async with asyncio.timeout(connect_s):
                while self._next_at < latest:
                    await self._pause(self._next_at - loop.time())
                    for address in self._ways.usable(self.addresses):
                        trouble = trouble or f"{address}: no answer"
                        try:
                            link = await self._ways.connect(self._id, address, self._gone)
                        except (OSError, UnicodeError) as error:  # ssl.SSLError is the one, no host name the other
                            trouble = f"{address}: {reason_of(error)}"
                        except LinkLost as lost:
                            trouble, refused = f"{address}: {lost.why or _CUT_OFF}", refused or lost.refused
                        else:
                            self._reached(address)
                            return link
                    self._put_off()
        except TimeoutError:
            self._put_off()
        self._unreached(trouble or "it has told no address that this process may use", refused)
        raise LinkLost

    async def _pause(self, seconds: float) -> None:
        self._woken.clear()
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()

    def _put_off(self) -> None:
        self._pause_s = min(max(_AGAIN_S, self._pause_s * 2), _AGAIN_MOST_S)
        self._next_at = asyncio.get_running_loop().time() + self._pause_s

    def _gone(self, link: Link) -> None:
        self.heard(link.heard_at)
        if self.link is link:
            self.link = None
            if link.is_lost and self._is_watched:
                asyncio.get_running_loop().call_soon(self.look)
        if link.is_lost:
            self.links.discard(link)

    # --- its state ----------------------------------------------------------------------------------------------------

    def _reached(self, address: PeerAddress) -> None:
        self.in_clear = address.scheme == "tcp"
        self._pause_s = self._next_at = 0.0
        self._is_reached, self._trouble, self._refused = True, "", False
        subjects = self._id, (Link, self._id)
        self._states.well(*subjects, text="process %s is reached again, at %s", values=(self._id, address))

    def _unreached(self, trouble: str, refused: bool) -> None:
        if self._is_reached is not False:
            self._unreached_at = asyncio.get_running_loop().time()
        self._is_reached, self._trouble, self._refused = False, trouble, refused
        self._states.trouble(self._id, trouble, logging.WARNING, "process %s cannot be reached: %s", self._id, trouble)

    def watch(self) -> None:
        """From now on its state is looked after: it is looked at whenever its connection is lost, too."""
        self._is_watched = True
        self.look()

    def look(self) -> None:
        """Asks it for a sign of life, unless one came a moment ago or it was asked already."""
        loop = asyncio.get_running_loop()
        if self._looking is not None or not self._is_watched:
            return
        if self.link is None or loop.time() - self.link.heard_at >= LOOK_S:
            self._looking = loop.create_task(self._look(), context=NOBODYS.copy())
            self._looking.add_done_callback(self._looked)

    async def _look(self) -> None:
        with contextlib.suppress(LinkLost, InstanceUnavailable):  # the one is told, of the other it is busy
            await (await self.reach()).question(_SIGN, {})

    def _looked(self, done: asyncio.Task[None]) -> None:
        self._looking = None
        if not done.cancelled():
            done.result()
            if self.link is None and self._is_reached:  # its connection was lost by what was asked
                self.look()

    def reach_told(self, others_heard_at: float) -> Reach:
        """What is known of it. ``others_heard_at``: when it said something last on a connection that it has opened, by
        the clock of the loop."""
        heard_at = max(others_heard_at, self._heard_at, self.link.heard_at if self.link is not None else 0.0)
        now = asyncio.get_running_loop().time()
        ago_s = now - heard_at if heard_at else None
        unreached_s = now - self._unreached_at if self._is_reached is False else None
        return Reach(self._is_reached, ago_s, self._trouble, unreached_s, self._refused)


_CUT_OFF: Final = "it cut the connection off before each knew the other; its log says why"


def reason_of(error: OSError | UnicodeError) -> str:
    """What the operator is told of it."""
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError) or not error.errno:
        return str(error) or type(error).__name__
    return os.strerror(error.errno)
