"""All members of groups in one process, polled in turn by the event loop, and the fetchers that they share."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.consuming.client import Build
from kafka_gateway.kafka.consuming.member import KafkaMember
from kafka_gateway.kafka.consuming.shared_fetcher import SharedFetcher
from kafka_gateway.kafka.consuming.shared_reader import FetcherKey

_log = logging.getLogger("gateway.kafka.consumer")

FETCHER_FROM = 3
"""A topic with as many members gets a fetcher."""
_QUICK_S = 0.001
_IDLE_S = 0.01
_PER_MEMBER_S = 0.00005
"""Polling may take a few hundredths of the loop's time: with 100 members each is asked every 5 ms."""
_PER_IDLE_S = 0.0001
"""The same while no record has come for a second."""
_FETCHER_AGAIN_S = 10.0
_LOOK_S = 0.02
"""How often it is looked who is due, as long as everybody has said when, and nobody has something new."""
_SWEEP_S = 0.01
"""A round of polls lets others have the loop after this time."""


class _Leaver(Protocol):
    def leave(self) -> None: ...


class LoopPolledMembers:
    """All members of a process, polled in turn. Belongs to the event loop."""

    def __init__(self, build_fetcher: Callable[[str], Build]) -> None:
        """``build_fetcher`` gives what builds a fetcher's client for an isolation level."""
        self._loop = asyncio.get_running_loop()
        self._members: list[KafkaMember] = []
        self._build_fetcher = build_fetcher
        self._keys: Counter[FetcherKey] = Counter()
        self._fetchers: dict[FetcherKey, SharedFetcher] = {}
        self._fetchers_building: dict[FetcherKey, asyncio.Task[None]] = {}
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._look_at = 0.0
        """When it is looked again which members are due."""
        self._first: list[KafkaMember] = []
        """Those with which the next round begins: there was no time for them in the last one."""
        self._leaving: set[threading.Thread] = set()

    def __len__(self) -> int:
        return len(self._members)

    async def open(self, member: KafkaMember, build: Build) -> KafkaMember:
        """Builds its client and takes it into the round. Raises what ``build`` raises."""
        building = asyncio.ensure_future(asyncio.to_thread(member.build, build))
        try:
            await asyncio.shield(building)
        except asyncio.CancelledError:
            building.add_done_callback(lambda _: self._leave(member))
            raise
        self._members.append(member)
        self._keys[member.fetcher_key] += 1
        self.wake()
        return member

    def remove(self, member: KafkaMember) -> None:
        """Ends a member's polls; a thread lets it leave its group."""
        if member in self._members:
            self._members.remove(member)
            self._keys[member.fetcher_key] -= 1
        self._leave(member)

    # --- topics that change -------------------------------------------------------------------------------------------

    def topics(self) -> set[str]:
        """Topics that are read."""
        return {member.topic for member in self._members} | {topic for topic, _ in self._fetchers}

    async def topic_changed(self, topic: str, anew: bool) -> None:
        """See `gateway.kafka.consuming.topic_watch`."""
        members = [member for member in self._members if member.topic == topic]
        await asyncio.gather(*(asyncio.to_thread(member.learn) for member in members), return_exceptions=True)
        if anew:
            for fetcher in self._fetchers.values():
                if fetcher.topic == topic:
                    fetcher.fail()
            for member in members:
                member.begin_again()

    async def topic_gone(self, topic: str) -> None:
        """Does nothing: what was sent is counted by offsets, and begins again when the topic is made again."""

    # --- fetchers -----------------------------------------------------------------------------------------------------

    def want_fetcher(self, key: FetcherKey, by: int = 1) -> None:
        """Somebody who is no member wants the records of a topic, too, or (``by`` -1) does no longer."""
        self._keys[key] += by

    def fetcher_for(self, key: FetcherKey) -> SharedFetcher | None:
        """The fetcher of the topic if there is one. Where it is worth it, one is made ready."""
        fetcher = self._fetchers.get(key)
        if fetcher is None and self._keys[key] >= FETCHER_FROM and key not in self._fetchers_building:
            self._fetchers_building[key] = self._loop.create_task(self._make_fetcher(key))
        return fetcher

    async def _make_fetcher(self, key: FetcherKey) -> None:
        fetcher = SharedFetcher(key[0])
        try:
            await asyncio.to_thread(fetcher.build, self._build_fetcher(key[1]))
        except ServiceError as error:
            _log.warning("The topic %s is not read once for all: %s", key[0], error.message)
            await asyncio.sleep(_FETCHER_AGAIN_S)
        else:
            self._fetchers[key] = fetcher
            self.wake()
        finally:
            del self._fetchers_building[key]

    def _poll_fetchers(self, now: float) -> bool:
        more = False
        for key, fetcher in list(self._fetchers.items()):
            try:
                more = fetcher.poll(now) or more
            except Exception:
                _log.exception("A poll of a fetcher failed")
                fetcher.fail()
            if fetcher.over(now):
                del self._fetchers[key]
                self._leave(fetcher)
        return more

    def _leave(self, member: _Leaver) -> None:
        # Daemon: a thread that hangs in close() on a frozen broker must not keep the process (reliability.md F4).
        thread = threading.Thread(target=self._left, args=(member,), name="kafka-member-leaves", daemon=True)
        self._leaving.add(thread)
        thread.start()

    def _left(self, member: _Leaver) -> None:
        try:
            member.leave()
        finally:
            self._leaving.discard(threading.current_thread())

    def wake(self) -> None:
        """Has the next round begin soon, whatever was planned."""
        self._look_at = 0.0
        due = self._loop.time() + _QUICK_S
        if self._timer is None or self._due > due:
            self._plan(_QUICK_S)

    def due(self, at: float) -> None:
        """A member is due then, sooner than it was."""
        if at < self._look_at:
            self._look_at = at

    def _plan(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = self._loop.time() + delay_s
        self._timer = self._loop.call_later(delay_s, self._round) if delay_s else self._loop.call_soon(self._round)

    def _round(self) -> None:
        self._timer = None
        members = self._members
        if not members and not self._fetchers:
            return
        now = time.monotonic()
        end = now + _SWEEP_S
        more = self._poll_fetchers(now)
        active = any(fetcher.active_until > now for fetcher in self._fetchers.values())
        due: list[KafkaMember] = []
        if now >= self._look_at:
            due = self._due_members(now)
            self._look_at = now + _LOOK_S
        for polled, member in enumerate(due, 1):
            try:
                more = member.poll(now) or more
            except Exception:
                _log.exception("A poll of a group's member failed")
            active = active or member.active_until > now
            if member.due_at <= now:
                self._look_at = 0.0
            if time.monotonic() > end:
                self._first, more, self._look_at = due[polled:], True, 0.0
                break
        if more:
            self._plan(0)
        else:
            count = len(members)
            self._plan(max(_QUICK_S, count * _PER_MEMBER_S) if active else max(_IDLE_S, count * _PER_IDLE_S))

    def _due_members(self, now: float) -> list[KafkaMember]:
        """Those of whom a poll would do something, in the order in which it is their turn."""
        due = [member for member in self._members if member.due_at <= now]
        if self._first:
            first, self._first = dict.fromkeys(self._first), []
            due = [*(member for member in first if member.due_at <= now), *(each for each in due if each not in first)]
        return due

    async def aclose(self, within_s: float) -> None:
        """Closes all members, and waits that long for them to leave their groups."""
        for member in list(self._members):
            member.close()
        for task in self._fetchers_building.values():
            task.cancel()
        fetchers, self._fetchers = self._fetchers, {}
        for fetcher in fetchers.values():
            self._leave(fetcher)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.to_thread(_join, list(self._leaving), time.monotonic() + within_s)


def _join(threads: Sequence[threading.Thread], until: float) -> None:
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
