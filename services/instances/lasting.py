"""Instances without a home: what of them outlives a process, where several nodes serve as one (cluster.md §6).

The definition of an instance is written whenever its client changes what it reads or from where; an instance is live
where its slot is served and somebody has asked for it. Reads and commits write nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.definitions import (
    Anchor,
    Definition,
    Definitions,
    SlotKey,
    Subscribed,
    anchors_of,
    goes_on,
)
from kafka_gateway.errors import (
    InstanceNotFound,
    InstanceOnNoNode,
    InstanceUnavailable,
    ServiceError,
    TooManyRequests,
)
from kafka_gateway.homes import Elsewhere
from kafka_gateway.kafka.ports.topics import Positions, TopicPartition
from kafka_gateway.metrics.families import counter, gauge
from kafka_gateway.metrics.registry import Families
from kafka_gateway.rights import EVERYTHING
from kafka_gateway.services.instances.instance import ConsumerInstance, InstanceKey
from kafka_gateway.services.instances.registry import InstanceRegistry, hiding
from kafka_gateway.session import Owner, Session

log = logging.getLogger("gateway.cluster")

_REJOIN_S = 5.0
"""How long the first request after a move may wait for the group: 60 ms, as a rule, for a member that takes its place
again; three seconds if that is gone, and the group empty."""
_LEAVING_AT_ONCE = 16

Revive = Callable[[Definition, Session], Awaitable[ConsumerInstance]]
"""Makes the instance that the definition describes, in the name of the session's client."""


def subscribed(instance: ConsumerInstance) -> Subscribed | None:
    """What the instance reads, as its client asked for it."""
    if instance.reads_from == "pattern" and instance.pattern is not None:
        return Subscribed(pattern=instance.pattern.text)
    if instance.reads_from == "topics":
        return Subscribed(topics=(*instance.topics, *instance.illegal))
    if instance.reads_from == "partitions":
        return Subscribed(partitions=tuple((each.topic, each.partition) for each in instance.partitions))
    return None


def anchors_in(definition: Definition) -> dict[TopicPartition, Anchor]:
    """By partition."""
    return {
        TopicPartition(topic, int(number)): anchor
        for topic, numbers in definition.anchors.items()
        for number, anchor in numbers.items()
        if number.isdecimal()
    }


class LastingInstances:
    """`Lasting` and `Holder`. Belongs to the event loop."""

    def __init__(self, registry: InstanceRegistry, definitions: Definitions, revive: Revive, handover_s: float) -> None:
        """``handover_s``: how long operations on instances may take to end when these are handed over."""
        self.definitions = definitions
        self._registry = registry
        self._revive = revive
        self._handover_s = handover_s
        self._reviving: dict[InstanceKey, asyncio.Task[ConsumerInstance]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Semaphore(_LEAVING_AT_ONCE)
        self._last_live: dict[str, float] = {}
        """When those that are live no more were so last, by ``uid``, time.monotonic(): the newest at the end."""
        self.revived = 0
        self.resumed = 0
        registry.lasting = self

    def families(self) -> Families:
        """How many are live and dormant, as a source of the gateway's metrics."""
        live = len(self._registry)
        known = sum(1 for _ in self.definitions.idle(0))
        rows = [(("live",), float(live)), (("dormant",), float(max(0, known - live)))]
        yield gauge("cluster_instances", "Consumer instances whose slots are here", ("state",), rows)
        yield counter(
            "cluster_revived", "Instances that were opened again from their definition", (), [((), self.revived)]
        )
        yield counter(
            "cluster_resumed", "Instances that went on after their slot was lost for a while", (), [((), self.resumed)]
        )

    # --- Lasting ------------------------------------------------------------------------------------------------------

    def generation_of(self, group: str, name: str) -> str | None:
        found = self.definitions.find(SlotKey(group, name))
        return None if found is None else f"v{found.api}"

    def check_here(self, key: InstanceKey) -> None:
        self.definitions.check_here(_slot_key(key))

    def _dormant(self, key: InstanceKey, session: Session) -> Definition | None:
        """The definition, if there is one of an instance that is not live; see `Lasting.awake`."""
        self.check_here(key)
        if self._registry.get(key) is not None:
            return None
        definition = self.definitions.find(_slot_key(key))
        if definition is None or f"v{definition.api}" != key.generation:
            return None
        if not _may_use(definition, session):
            raise hiding(InstanceOnNoNode(), key)
        return definition

    async def awake(self, key: InstanceKey, session: Session) -> None:
        definition = self._dormant(key, session)
        if definition is None:
            return
        reviving = self._reviving.get(key)
        if reviving is None:
            reviving = asyncio.get_running_loop().create_task(self._open(key, definition, session))
            self._reviving[key] = reviving
            reviving.add_done_callback(lambda done: self._opened(key, done))
        await asyncio.shield(reviving)

    async def _open(self, key: InstanceKey, definition: Definition, session: Session) -> ConsumerInstance:
        async def make(_: InstanceKey) -> ConsumerInstance:
            made = await self._revive(definition, session)
            try:
                await self._take_over(key, definition, made)
            except BaseException:
                await made.consumer.close(leave=False)
                raise
            return made

        owner = Owner(definition.principal, definition.kafka)
        try:
            instance = await self._registry.create(key, make, owner)
        except TooManyRequests as error:  # its client has not asked for a new one
            raise InstanceUnavailable(f"{InstanceUnavailable.text} {error.message}") from error
        try:
            self._check_still(key, instance.definition)
        except (Elsewhere, InstanceUnavailable):  # it has moved meanwhile, or has been changed
            self._registry.let_go(instance)
            raise
        self.revived += 1
        return instance

    async def _take_over(self, key: InstanceKey, definition: Definition, made: ConsumerInstance) -> None:
        """Returns when it may be used here. InstanceUnavailable, Elsewhere: it may not."""
        self._check_still(key, definition)
        # That is known before its client gets anything: else, were this process killed, the next one would believe a
        # hand-over of before, and take a commit without a body for one of all that the client has got.
        # And it was a member of its group: who asks first is not to find one that has nothing, and may not commit.
        made.definition, joined = await asyncio.gather(
            self.definitions.open(definition), made.consumer.joined(_REJOIN_S)
        )
        if not joined:
            log.warning("the group %r has not answered for %g s", definition.group, _REJOIN_S)
        self.began(made)  # its group may have given it partitions meanwhile

    def _check_still(self, key: InstanceKey, definition: Definition | None) -> None:
        """Elsewhere, or InstanceUnavailable if its definition is another one by now."""
        self.check_here(key)
        if self.definitions.find(_slot_key(key)) != definition:
            raise InstanceUnavailable()

    def _opened(self, key: InstanceKey, done: asyncio.Task[ConsumerInstance]) -> None:
        self._reviving.pop(key, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            log.info("instance %r of group %r could not be opened again: %s", key.name, key.group, error)
            if (definition := self.definitions.find(_slot_key(key))) is not None:
                self._note(definition.uid)  # somebody wanted to use it

    async def forget(self, instance: ConsumerInstance) -> None:
        if instance.definition is not None:
            await self.definitions.delete(instance.definition)

    async def forget_dormant(self, key: InstanceKey, session: Session) -> bool:
        if key in self._reviving:
            await self.awake(key, session)
        definition = self._dormant(key, session)
        if definition is None:
            return False
        await self.definitions.delete(definition)
        if definition.subscription is not None and not definition.subscription.partitions:
            self._registry.behind(self._give_place_up(definition, session))
        return True

    async def _give_place_up(self, definition: Definition, session: Session) -> None:
        """Has the member leave that its group keeps a place for: only one with its name can, when it has joined."""
        async with self._leaving:
            try:
                made = await self._revive(definition, session)
            except ServiceError as error:
                log.warning("group %r may keep the place of a deleted instance: %s", definition.group, error.message)
            else:
                await self._registry.end(made)

    def expired(self, instance: ConsumerInstance) -> None:
        self._spawn(self.forget(instance))

    def left(self, instance: ConsumerInstance) -> None:
        if instance.definition is not None and self.definitions.find(_slot_key(instance.key)) is not None:
            self._note(instance.definition.uid)

    def _note(self, uid: str) -> None:
        self._last_live.pop(uid, None)
        self._last_live[uid] = time.monotonic()

    async def expire(self, timeout_s: float) -> None:
        oldest = time.monotonic() - timeout_s
        for uid, last in list(self._last_live.items()):
            if last >= oldest:
                break
            del self._last_live[uid]
        for definition in list(self.definitions.idle(timeout_s)):
            # Deletions take their time, so each one is judged in its turn.
            key = _key(definition)
            if self._is_in_use(key, definition) or self.definitions.find(_slot_key(key)) is not definition:
                continue
            log.info("consumer instance %r of group %r expired, and was not live", key.name, key.group)
            await _quietly(self.definitions.delete(definition))

    def _is_in_use(self, key: InstanceKey, definition: Definition) -> bool:
        """Whether it is live, is being made or opened, or was live a short time ago."""
        return self._registry.holds(key) or key in self._reviving or definition.uid in self._last_live

    # --- writing ------------------------------------------------------------------------------------------------------

    async def save(self, instance: ConsumerInstance, *, moved: bool = False) -> None:
        """What the instance reads is another one now, or its positions (``moved``): they survive from here on.

        InstanceUnavailable, or what Kafka refuses.
        """
        if moved:
            anchors = anchors_of(*await instance.consumer.standing())
        else:
            starts = await instance.consumer.unstored_starts() if instance.reads_from == "partitions" else {}
            anchors = _first(starts)
            for place, anchor in instance.consumer.unused_anchors.items():
                anchors.setdefault(place.topic, {})[str(place.partition)] = anchor
        await self._write(instance, anchors)

    def began(self, instance: ConsumerInstance) -> None:
        """Its group has given it partitions: where reading begins without a committed offset is kept."""
        if not instance.consumer.auto_commits:  # else that is committed at once
            self._spawn(self._keep_starts(instance))

    async def _keep_starts(self, instance: ConsumerInstance) -> None:
        definition = instance.definition
        starts = _first(await instance.consumer.unstored_starts())
        if not starts or definition is None or instance.closed or instance.is_suspended:
            return
        anchors = {topic: {**starts.get(topic, {}), **definition.anchors.get(topic, {})} for topic in starts}
        anchors = {**definition.anchors, **anchors}
        if anchors != definition.anchors:
            await self._write(instance, anchors)

    async def _write(
        self, instance: ConsumerInstance, anchors: dict[str, dict[str, Anchor]], handed: bool = False
    ) -> None:
        before = instance.definition
        if before is None:
            return
        # Nothing awaits before it is on its way, so definitions are stored in the order in which instances changed.
        instance.definition = definition = jsonio.replace(
            before, by=self.definitions.writer, subscription=subscribed(instance), anchors=anchors, handed=handed
        )
        await self.definitions.change(definition)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- Holder -------------------------------------------------------------------------------------------------------

    async def hand_over(self, keys: Collection[SlotKey]) -> None:
        live = self._live(keys)
        if live:
            results = await asyncio.gather(*(self._hand_over(each) for each in live), return_exceptions=True)
            for instance, result in zip(live, results, strict=True):
                if isinstance(result, BaseException):
                    why = str(result) or type(result).__name__
                    log.warning("instance %r was not handed over in order: %s", instance.key.name, why)

    async def _hand_over(self, instance: ConsumerInstance) -> None:
        consumer, known = instance.consumer, False
        if instance.push is not None:
            # Its client may be that of another node, and the word of what that has got on its way.
            instance.push.fail(InstanceUnavailable(), self._handover_s / 2)
        instance.interrupt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._handover_s / 2):
                await instance.quiet()
                await consumer.settled()
                known = not consumer.in_doubt and instance.knows_what_was_returned
        anchors = anchors_of(*await consumer.hand_over()) if instance.reads_from != "nothing" else {}
        await self._write(instance, anchors, handed=known)

    def drop(self, keys: Collection[SlotKey]) -> None:
        for instance in self._live(keys):
            self._registry.let_go(instance)
        for key in _keys(keys):
            self._registry.drop(key)

    def suspend(self, keys: Collection[SlotKey]) -> None:
        for instance in self._live(keys):
            self._registry.suspend(instance)

    def resume(self, keys: Collection[SlotKey]) -> None:
        registry = self._registry
        for key in _keys(keys):
            kept = registry.kept(key)
            if kept is None:
                continue
            if not goes_on(kept.definition, self.definitions.find(_slot_key(key))):
                log.info("instance %r of group %r was another node's meanwhile", key.name, key.group)
                registry.drop(key)
            elif (instance := registry.resume(key)) is not None:
                self.resumed += 1
                if not instance.consumer.auto_commits:  # its group may have given it partitions meanwhile
                    self._spawn(self._keep_starts(instance))

    def _live(self, keys: Collection[SlotKey]) -> list[ConsumerInstance]:
        return [instance for key in _keys(keys) if (instance := self._registry.get(key)) is not None]


def _keys(keys: Collection[SlotKey]) -> list[InstanceKey]:
    return [InstanceKey(generation, *key) for key in keys for generation in ("v1", "v2")]


def _first(starts: Positions) -> dict[str, dict[str, Anchor]]:
    return anchors_of(starts, {})


def _slot_key(key: InstanceKey) -> SlotKey:
    return SlotKey(key.group, key.name)


def _key(definition: Definition) -> InstanceKey:
    return InstanceKey(f"v{definition.api}", definition.group, definition.name)


def _may_use(definition: Definition, session: Session) -> bool:
    """Whether it is to be opened for this session: its owner's, or that of one who may alter the group, unless it has a
    pattern, which gets the topics that its own principal may read."""
    owner = Owner(definition.principal, definition.kafka)
    if session.owner == owner:
        return True
    rights, pattern = session.rights, definition.subscription is not None and definition.subscription.pattern
    return (
        owner.kafka == session.owner.kafka
        and rights is not EVERYTHING
        and not pattern
        and rights.allows("alter", "group", definition.group)
    )


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (InstanceNotFound, Elsewhere):
        pass  # it has ended meanwhile, or moved
    except ServiceError as error:
        log.warning("a definition could not be written: %s", error.message)
