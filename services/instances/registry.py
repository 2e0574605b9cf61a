"""The one registry that makes, finds, expires and closes consumer instances (kafka-rest-http.md §5.5, §6.9).

An instance is known under (generation, group, name) and belongs to the principal that made it: to anybody else it does
not exist (reliability.md S6). Its name is taken from the moment its creation begins, so that of two clients that want
the same name one gets a conflict, and nobody finds an instance that is not finished.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from kafka_gateway.config import Config
from kafka_gateway.errors import (
    InstanceExists,
    InstanceNotFound,
    InstanceOnNoNode,
    InstanceUnavailable,
    QuotaUsedUp,
    ServiceError,
    ShuttingDown,
    TooManyRequests,
)
from kafka_gateway.homes import Elsewhere
from kafka_gateway.metrics.families import counter, gauge
from kafka_gateway.metrics.registry import Families
from kafka_gateway.rights import EVERYTHING
from kafka_gateway.services.instances.instance import ConsumerInstance, InstanceKey
from kafka_gateway.session import ANYBODY, Owner, Session

log = logging.getLogger("gateway.consumers")

_SWEEP_S = 1.0

Make = Callable[[InstanceKey], Awaitable[ConsumerInstance]]


@dataclasses.dataclass(slots=True, eq=False)
class _Making:
    """An instance that is being made."""

    uid: str
    owner: Owner
    task: asyncio.Future[ConsumerInstance]
    waiting: int = 0
    """Requests that wait for it."""


class Lasting(Protocol):
    """What outlives the process, where several nodes serve as one (`services.instances.lasting`)."""

    def generation_of(self, group: str, name: str) -> str | None:
        """Of the definition of that name, whether its instance is live or not."""

    def check_here(self, key: InstanceKey) -> None:
        """Elsewhere if another process has it now."""

    async def awake(self, key: InstanceKey, session: Session) -> None:
        """Revives the instance if there is a definition of it that the session's principal may use; Elsewhere."""

    async def save(self, instance: ConsumerInstance, *, moved: bool = False) -> None:
        """See `InstanceRegistry.save`. InstanceUnavailable."""

    async def forget(self, instance: ConsumerInstance) -> None:
        """Ends its definition. InstanceUnavailable."""

    async def forget_dormant(self, key: InstanceKey, session: Session) -> bool:
        """As ``forget``, of an instance that is not live; whether there was one that the session's principal may use.
        Its group hears of that behind the answer. Elsewhere."""

    def expired(self, instance: ConsumerInstance) -> None:
        """As ``forget``, in the background."""

    def left(self, instance: ConsumerInstance) -> None:
        """It is live here no more. Its definition may last."""

    async def expire(self, timeout_s: float) -> None:
        """Ends the definitions of instances that are not live and that nobody has used for so long: since their slots
        came here, or since they were live here last."""


class Use:
    """Around the use of an instance. InstanceNotFound; Elsewhere if it has moved, at the end too."""

    __slots__ = ("_instance", "_key", "_registry", "_session")

    def __init__(self, registry: InstanceRegistry, key: InstanceKey, session: Session) -> None:
        self._registry, self._key, self._session = registry, key, session

    async def __aenter__(self) -> ConsumerInstance:
        try:
            instance = self._registry.find(self._key, self._session)
        except InstanceNotFound as missing:
            instance = await self._opened(missing)
        self._instance = instance
        instance.running += 1
        return instance

    async def _opened(self, missing: InstanceNotFound) -> ConsumerInstance:
        """What is not live, but lasts; else ``missing``, with which it was not found."""
        registry = self._registry
        if registry.lasting is None or registry.get(self._key) is not None:
            raise missing
        await registry.lasting.awake(self._key, self._session)
        try:
            return registry.find(self._key, self._session)
        except InstanceNotFound:
            if registry.get(self._key) is not None:
                raise
        await registry.lasting.awake(self._key, self._session)  # its consumer had ended, and it has not
        return registry.find(self._key, self._session)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        instance = self._instance
        instance.release()
        if isinstance(error, InstanceNotFound) and (lasting := self._registry.lasting) is not None:
            lasting.check_here(self._key)


def hiding(error: InstanceNotFound, key: InstanceKey) -> InstanceNotFound:
    """The error, for a client that may not know of the instance: the audit log knows which right it would need."""
    error.need = ("alter", "group", key.group)
    return error


class InstanceRegistry:
    """All instances of this gateway process."""

    def __init__(self, config: Config) -> None:
        self._timeout_s = config.seconds("consumer.instance.timeout.ms")
        self._max = config.integer("consumer.instances.max")
        self._instances: dict[InstanceKey, ConsumerInstance | None] = {}
        """None: its name is taken, it is being made."""
        self._making: dict[InstanceKey, _Making] = {}
        self._kept: dict[InstanceKey, ConsumerInstance] = {}
        """Those that are suspended."""
        self._ending: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._expired = 0
        self.lasting: Lasting | None = None
        """Where several nodes serve as one: what outlives this process."""

    def families(self) -> Families:
        """What is counted of them, as a source of the gateway's metrics."""
        counts = Counter(key.generation for key in self._instances)
        rows = [((generation,), counts[generation]) for generation in ("v1", "v2")]
        yield gauge("consumer_instances", "Consumer instances", ("generation",), rows)
        yield counter(
            "consumer_instances_expired", "Instances that nobody used for too long", (), [((), self._expired)]
        )

    def __len__(self) -> int:
        """How many instances there are, those being made included."""
        return len(self._instances)

    async def create(
        self, key: InstanceKey, make: Make, owner: Owner = ANYBODY, owned_max: int = 0, uid: str = ""
    ) -> ConsumerInstance:
        """The instance that ``make`` returns, known under the key from now on.

        A creation with the ``uid`` and the owner of one that is under way is the same one, sent again.

        Raises:
            InstanceExists: the name is taken, whoever took it.
            TooManyRequests: there are consumer.instances.max instances, or ``owned_max`` of this owner (0: no limit).
            ServiceError: whatever ``make`` raises; the name is free again then.
        """
        if self._closing.is_set():
            raise ShuttingDown()
        making = self._making.get(key)
        if making is None or not uid or (making.uid, making.owner) != (uid, owner):
            making = self._begin(key, make, owner, owned_max, uid)
        making.waiting += 1
        try:
            instance = await asyncio.shield(making.task)
        except asyncio.CancelledError:
            # The client left while Kafka's consumer is being made, which cannot be called off: the name stays taken
            # until that is over, and the consumer nobody knows is closed.
            making.waiting -= 1
            if not making.waiting:
                making.task.add_done_callback(functools.partial(self._abandon, key, making))
            raise
        if self._closing.is_set():
            raise ShuttingDown()
        return instance

    def _begin(self, key: InstanceKey, make: Make, owner: Owner, owned_max: int, uid: str) -> _Making:
        """See `create`."""
        self._forget_dead(key)
        if key in self._instances:
            raise InstanceExists()
        if len(self._instances) >= self._max:
            raise TooManyRequests(
                f"There are {len(self._instances)} consumer instances, as many as consumer.instances.max allows. "
                "Delete one that is no longer needed, or try again later."
            )
        if owned_max and self._owned(owner) >= owned_max:
            message = f"{owner.principal} has {owned_max} consumer instances, as many as its quota allows."
            raise QuotaUsedUp(message, "consumer.instances")
        self._instances[key] = None
        making = self._making[key] = _Making(uid, owner, asyncio.ensure_future(make(key)))
        making.task.add_done_callback(functools.partial(self._made, key, making))
        return making

    def _made(self, key: InstanceKey, making: _Making, done: asyncio.Future[ConsumerInstance]) -> None:
        """It is found from now on, if it could be made: before whoever waits for it goes on."""
        del self._making[key]
        self._instances.pop(key, None)
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            if not making.waiting:
                log.info("a consumer instance nobody waits for could not be made: %s", error)
        elif self._closing.is_set():
            self._undo(done.result(), making)
        else:
            self._instances[key] = done.result()

    def _abandon(self, key: InstanceKey, making: _Making, done: asyncio.Future[ConsumerInstance]) -> None:
        """Ends what was made, unless its creation was sent again meanwhile."""
        if making.waiting or done.cancelled() or done.exception() is not None:
            return
        if self._instances.get(key) is done.result():
            del self._instances[key]
            self._undo(done.result(), making)

    def _undo(self, instance: ConsumerInstance, making: _Making) -> None:
        """Its client has not heard of it: its name is free again, on all nodes."""
        self._end(instance, leave=bool(making.uid) or self.lasting is None)
        if making.uid and self.lasting is not None:
            self.lasting.expired(instance)

    def find(self, key: InstanceKey, session: Session) -> ConsumerInstance:
        """The instance of that name that the session's principal made; InstanceNotFound if there is none.

        Where rights are judged, somebody who may ``alter`` the group has everybody's (security.md §3).

        Every lookup comes through here: gateways that know of each other would answer "elsewhere" in this place.
        """
        self._forget_dead(key)
        instance = self._instances.get(key)
        if instance is None:
            raise self._not_found()
        if instance.owner != session.owner:
            rights = session.rights
            # What is read with one client's Kafka credentials is for nobody else.
            reads_alike = instance.owner.kafka == session.owner.kafka
            if not reads_alike or rights is EVERYTHING or not rights.allows("alter", "group", key.group):
                raise hiding(self._not_found(), key)
        return instance

    def _not_found(self) -> InstanceNotFound:
        return InstanceNotFound() if self.lasting is None else InstanceOnNoNode()

    def use(self, key: InstanceKey, session: Session) -> Use:
        """The instance, which does not expire inside; its clock starts again at the end, however that is reached."""
        return Use(self, key, session)

    def get(self, key: InstanceKey) -> ConsumerInstance | None:
        """The instance, whoever has made it; None if it is not there, or not ready yet."""
        return self._instances.get(key)

    def holds(self, key: InstanceKey) -> bool:
        """Whether there is an instance of that name, or one is being made."""
        return key in self._instances

    async def save(self, instance: ConsumerInstance, *, moved: bool = False) -> None:
        """What it reads has changed, or its positions (``moved``): where several nodes serve as one, that survives."""
        if self.lasting is not None:
            await self.lasting.save(instance, moved=moved)

    def let_go(self, instance: ConsumerInstance) -> None:
        """Another process has it from now on. It keeps its place in its group."""
        if self._instances.get(instance.key) is instance:
            del self._instances[instance.key]
            if instance.push is not None:
                instance.push.fail(InstanceUnavailable())
            self._end(instance, leave=False)

    def suspend(self, instance: ConsumerInstance) -> None:
        """Another process may have it: it is not found any more, and what waits on it ends, but it keeps its consumer
        until ``resume`` or ``drop``."""
        if self._instances.get(instance.key) is instance:
            del self._instances[instance.key]
            self._kept[instance.key] = instance
            instance.is_suspended = True
            if instance.push is not None:
                instance.push.fail(InstanceUnavailable())
            instance.interrupt()

    def kept(self, key: InstanceKey) -> ConsumerInstance | None:
        """The suspended one of that name."""
        return self._kept.get(key)

    def resume(self, key: InstanceKey) -> ConsumerInstance | None:
        """No other process had the suspended one: it is found again. None: it has ended meanwhile."""
        instance = self._kept.pop(key, None)
        if instance is None:
            return None
        if instance.consumer.closed or key in self._instances or self._closing.is_set():
            self._end(instance, leave=False)
            return None
        instance.go_on()
        self._instances[key] = instance
        return instance

    def drop(self, key: InstanceKey) -> None:
        """Another process has the suspended one by now, or may have it for too long. It keeps its place in its
        group."""
        if (instance := self._kept.pop(key, None)) is not None:
            self._end(instance, leave=False)

    def _owned(self, owner: Owner) -> int:
        made = sum(each is not None and each.owner == owner for each in self._instances.values())
        return made + sum(each.owner == owner for each in self._making.values())

    def generation_of(self, group: str, name: str) -> str | None:
        """The one generation in which an instance of that name exists; None if there is none, or one in each (§3.1)."""
        found = [each for each in ("v2", "v1") if InstanceKey(each, group, name) in self._instances]
        if not found and self.lasting is not None:
            return self.lasting.generation_of(group, name)
        return found[0] if len(found) == 1 else None

    async def remove(self, key: InstanceKey, session: Session) -> None:
        """Closes the instance. Others do not find it any more at once. InstanceNotFound.

        It is carried out to its end, whether its client waits for that or not. Nobody waits for a static member (where
        instances last) that has to join its group to leave it: it has nothing to commit.
        """
        if self.lasting is None:
            self.find(key, session)
            await self._remove(key)
            return
        if await asyncio.shield(asyncio.ensure_future(self.lasting.forget_dormant(key, session))):
            return
        await asyncio.shield(asyncio.ensure_future(self._forget(key, self.find(key, session), self.lasting)))

    async def _forget(self, key: InstanceKey, instance: ConsumerInstance, lasting: Lasting) -> None:
        await lasting.forget(instance)
        if self._instances.get(key) is not instance:  # another request was quicker
            raise self._not_found()
        await self._remove(key)

    async def _remove(self, key: InstanceKey) -> None:
        instance = self._instances.pop(key)
        assert instance is not None
        is_v1 = key.generation == "v1"
        ending = self._end(instance, interrupt=not is_v1)  # v1's reads in flight are waited for (§5.8)
        if self.lasting is None or not instance.consumer.is_joining or (is_v1 and instance.running):
            await asyncio.shield(ending)

    def _forget_dead(self, key: InstanceKey) -> None:
        """Lets go of an instance whose consumer has ended without it: its client makes another one."""
        instance = self._instances.get(key)
        if instance is not None and instance.consumer.closed:
            log.info("consumer instance %r of group %r has ended with its Kafka client", key.name, key.group)
            del self._instances[key]
            self._end(instance)

    def expire(self) -> None:
        """Closes, in the background, the instances that were not used for ``consumer.instance.timeout.ms``."""
        oldest = time.monotonic() - self._timeout_s
        for key, instance in list(self._instances.items()):
            self._forget_dead(key)
            if (
                key in self._instances
                and instance is not None
                and not instance.running
                and instance.used_at < oldest
                and self._is_here(key)
            ):
                log.info("consumer instance %r of group %r expired", key.name, key.group)
                del self._instances[key]
                self._expired += 1
                self._end(instance)
                if self.lasting is not None:
                    self.lasting.expired(instance)

    def _is_here(self, key: InstanceKey) -> bool:
        if self.lasting is not None:
            try:
                self.lasting.check_here(key)
            except Elsewhere:  # this process stood still, and another one may have it in use
                return False
        return True

    async def sweep(self) -> None:
        """Expires instances once a second, until it is cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                self.expire()
                if self.lasting is not None:
                    await self.lasting.expire(self._timeout_s)
            except Exception:  # a bug; without this task instances would pile up unnoticed
                log.exception("idle consumer instances could not be looked for")

    def interrupt(self) -> None:
        """Makes the reads that wait answer at once, for a gateway that is about to stop."""
        for instance in self._instances.values():
            if instance is not None:
                instance.interrupt()

    async def close_all(self) -> None:
        """Closes every instance, all at the same time, and makes no more."""
        self._closing.set()
        instances, self._instances = self._instances, {key: None for key, each in self._instances.items() if not each}
        for instance in instances.values():
            if instance is not None:
                self._end(instance, leave=self.lasting is None)
        for key in list(self._kept):
            self.drop(key)
        while self._ending:
            await asyncio.wait(self._ending)

    def end(self, instance: ConsumerInstance) -> asyncio.Task[None]:
        """Closes one that is not known here."""
        return self._end(instance)

    def _end(self, instance: ConsumerInstance, interrupt: bool = True, leave: bool = True) -> asyncio.Task[None]:
        instance.closed = True
        if self.lasting is not None:
            self.lasting.left(instance)
        if instance.push is not None:
            instance.push.end()
        return self.behind(_close(instance, interrupt, leave))

    def behind(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Carries it out, and does not end before."""
        ending = asyncio.get_running_loop().create_task(work)
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending


async def _close(instance: ConsumerInstance, interrupt: bool, leave: bool) -> None:
    if interrupt:
        instance.interrupt()
    await instance.reads_done()
    if instance.push is not None:
        await instance.push.settled()  # what its client has by now is part of the last commit
    try:
        await instance.consumer.close(leave)
    except ServiceError as error:
        # The instance is gone for its client either way; Kafka finds out when the session of the member runs out.
        log.warning("consumer of group %r did not close cleanly: %s", instance.key.group, error.message)
