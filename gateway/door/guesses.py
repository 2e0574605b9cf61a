"""Addresses that guess: one with too many wrong proofs is refused for a while (security.md §2).

A proof that is being judged takes one of the attempts of its address; a right one gives it back. The proofs of one
address that are judged at the same time are bounded; the others wait, behind those of the same address only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from kafka_gateway.errors import NotJudged, TooManyRequests, Unauthorized

_WINDOW_S: Final = 60.0
_ADDRESSES_MAX: Final = 10_000
_AT_ONCE: Final = 4
"""Proofs of one address that are judged at the same time."""
_WAITING_MAX: Final = 256
"""Proofs of one address that wait for their turn."""

Result = TypeVar("Result")


class Guesses:
    """Counts wrong proofs by address.

    Args:
        most: wrong proofs of an address in a minute; 0: no limit.
        clock: seconds; replaceable for tests.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._addresses: dict[str, _Address] = {}

    async def judge(self, peer: str, judging: Coroutine[Any, Any, Result]) -> Result:
        """Awaits the judgement of a proof that this address shows.

        Raises TooManyRequests, without awaiting it, for an address that has been wrong too often.
        """
        if not self._most:
            return await judging
        address = self._of(peer)
        try:
            await self._enter(address)
        except BaseException:
            judging.close()
            raise
        try:
            return await judging
        except (Unauthorized, NotJudged):  # who makes an authenticator fail is no better than who guesses
            address.wrong.append(self._clock())
            raise
        finally:
            address.leave()

    async def _enter(self, address: _Address) -> None:
        self._check(address)
        if address.waiting_count >= _WAITING_MAX:
            raise TooManyRequests("Too many proofs of this address wait to be judged; send the request again later.")
        await address.turn()
        try:
            self._check(address)  # the others of the address may have been wrong meanwhile
        except TooManyRequests:
            address.leave()
            raise

    def _check(self, address: _Address) -> None:
        now = self._clock()
        wrong = address.wrong
        while wrong and wrong[0] <= now - _WINDOW_S:
            wrong.popleft()
        if len(wrong) >= self._most:
            wait_s = max(1, math.ceil(wrong[len(wrong) - self._most] + _WINDOW_S - now))
            raise TooManyRequests(
                "Too many wrong proofs of identity from this address (authentication.failures.max).", wait_s
            )

    def _of(self, peer: str) -> _Address:
        name = network_of(peer)
        address = self._addresses.get(name)
        if address is None:
            if len(self._addresses) >= _ADDRESSES_MAX:
                self._forget()
            address = self._addresses[name] = _Address(self._most)
        return address

    def _forget(self) -> None:
        """Makes room: the addresses that have done nothing for a minute go, or else the one that came first."""
        now = self._clock()
        for name, address in list(self._addresses.items()):
            if not address.busy and (not address.wrong or address.wrong[-1] <= now - _WINDOW_S):
                del self._addresses[name]
        if len(self._addresses) >= _ADDRESSES_MAX:
            for name, address in self._addresses.items():
                if not address.busy:
                    del self._addresses[name]
                    return


class _Address:
    __slots__ = ("_most", "_running", "_waiting", "wrong")

    def __init__(self, most: int) -> None:
        self._most = most
        self.wrong: deque[float] = deque()
        """When it was wrong, within the last minute."""
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    async def turn(self) -> None:
        """Returns when the next proof of the address may be judged. ``leave`` ends the turn."""
        if not self._waiting and self._has_room:
            self._running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    @property
    def _has_room(self) -> bool:
        """Whether another proof may be judged: those at work may all be wrong, and count as chances that are taken. Of
        an address without any left all may come, to be sent away."""
        chances = self._most - len(self.wrong)
        return chances <= 0 or self._running < min(_AT_ONCE, chances)

    def leave(self) -> None:
        self._running -= 1
        while self._waiting and self._has_room:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._running += 1


def network_of(peer: str) -> str:
    """The address by which guesses are counted: of IPv6 the network of a customer, /64 (RFC 6177)."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if (mapped := address.ipv4_mapped) is not None:
            return str(mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
