"""The rights of principals: asked for once, remembered, and judged again when the rules change.

Every session of a principal shares one :class:`PrincipalRights`. A stream or socket that is open keeps a list of what
it needs; when the rules change and forbid some of it, it ends (security.md §3).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final

from kafka_gateway.errors import CloseReason, ServiceError
from kafka_gateway.rights import EVERYTHING, Authorizer, Decision, Judge, Need, Rights, not_authorized
from kafka_gateway.session import Principal, Session, Waiting
from kafka_gateway.stream import Stream

log = logging.getLogger("gateway.auth")

_REMEMBERED_MAX: Final = 1000
"""Decisions that are kept of one principal. A client that asks for made-up names drives out its own."""
_AT_ONCE: Final = 500
"""Streams that are judged again in one turn of the loop."""

Needs = Iterable[Need] | Callable[[], Iterable[Need]]
"""What an open stream needs; a function where that changes while it is open."""


class PrincipalRights(Rights):
    """Remembers what the authorizers decide about one principal."""

    __slots__ = ("__weakref__", "_authorizers", "_counts", "_judges", "generation", "passed", "principal", "remembered")

    def __init__(
        self, authorizers: Sequence[Authorizer], principal: Principal, counts: Counter[tuple[str, str]] | None = None
    ) -> None:
        """``counts`` is added to with each decision: operation, and ``true`` or ``false``."""
        self.principal = principal
        self._counts = Counter() if counts is None else counts
        self.generation = 0
        self._authorizers = authorizers
        self._judges: list[Judge] | None = None
        self.remembered: dict[Need, Decision] = {}
        self.passed: set[object] = set()

    def pass_on(self, demand: object) -> None:
        if len(self.passed) >= _REMEMBERED_MAX:
            self.passed.clear()
        self.passed.add(demand)

    def decide(self, operation: str, resource: str, name: str) -> Decision:
        need = (operation, resource, name)
        decision = self.remembered.get(need) or self._ask(need)
        self._counts[operation, "true" if decision.allowed else "false"] += 1
        return decision

    def _ask(self, need: Need) -> Decision:
        decision = self._judge(need)
        if len(self.remembered) >= _REMEMBERED_MAX:
            del self.remembered[next(iter(self.remembered))]
        self.remembered[need] = decision
        return decision

    def _judge(self, need: Need) -> Decision:
        judges = self._judges
        if judges is None:
            judges = self._judges = [each.judge(self.principal) for each in self._authorizers]
        decision = Decision(False)
        for judge in judges:
            decision = judge(*need)
            if not decision.allowed:
                break
        return decision

    def require(self, operation: str, resource: str, *names: str) -> None:
        for name in names:
            if not self.decide(operation, resource, name).allowed:
                raise not_authorized(self.principal, operation, resource, name)

    def filter(self, operation: str, resource: str, names: Iterable[str]) -> list[str]:
        # Not remembered: a cluster may have many more topics than there is room for.
        known = self.remembered
        kept = []
        for name in names:
            need = (operation, resource, name)
            if (known.get(need) or self._judge(need)).allowed:
                kept.append(name)
        return kept

    def forget(self) -> None:
        """Forgets all decisions, because the rules have changed."""
        self.generation += 1
        self._judges = None
        self.remembered.clear()
        self.passed.clear()


class Authorization:
    """What the principals of one gateway may do. Belongs to its event loop."""

    def __init__(
        self, authorizers: Sequence[Authorizer], close: Callable[[Session, CloseReason], Any] | None = None
    ) -> None:
        """``close``: a coroutine function that ends a session."""
        self._authorizers = tuple(authorizers)
        self._close = close
        self._rights: weakref.WeakValueDictionary[tuple[object, ...], PrincipalRights] = weakref.WeakValueDictionary()
        self._open: weakref.WeakKeyDictionary[Any, tuple[Session, Needs]] = weakref.WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self.decisions: Counter[tuple[str, str]] = Counter()
        """How often was asked, by operation and by ``true`` or ``false``."""
        self.changes = 0
        """How often the rules have changed."""

    @property
    def is_on(self) -> bool:
        return bool(self._authorizers)

    @property
    def is_stale(self) -> bool:
        """Whether rules count that were changed since, because what they are now is faulty."""
        return any(each.stale for each in self._authorizers)

    def rights_of(self, principal: Principal) -> Rights:
        """The rights of the principal; they follow the rules."""
        if not self._authorizers:
            return EVERYTHING
        attributes = id(principal.attributes) if principal.attributes else 0  # kept alive by the rights
        key = (principal.kind, principal.name, principal.roles, attributes)
        found = self._rights.get(key)
        if found is None:
            found = self._rights[key] = PrincipalRights(self._authorizers, principal, self.decisions)
        return found

    def hold(self, what: Stream | Waiting | Session, session: Session, needs: Needs) -> None:
        """Ends what is open, a stream, a read or a whole session, when the rules forbid something of what it needs."""
        if session.rights is not EVERYTHING:
            self._open[what] = (session, needs)

    def release(self, what: Stream | Waiting | Session) -> None:
        """Forgets what has ended."""
        self._open.pop(what, None)

    @contextlib.asynccontextmanager
    async def watching(self, then: Callable[[], None]) -> AsyncIterator[None]:
        """Follows the authorizers for as long as the context is open; ``then`` is told of every change of the rules."""

        def changed() -> None:
            self._changed()
            then()

        async with contextlib.AsyncExitStack() as stack:
            for each in self._authorizers:
                await stack.enter_async_context(each.watch(changed))
            try:
                yield
            finally:
                for task in list(self._tasks):
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def reload(self) -> None:
        """Asks the authorizers to read their rules again."""
        for each in self._authorizers:
            each.reload()

    # --- when the rules change --------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self.changes += 1
        for rights in list(self._rights.values()):
            rights.forget()
        self._judge_soon(None)

    def has_other_rights(self, session: Session) -> None:
        """Judges again what the session has open, because its principal has lost or won roles."""
        self._judge_soon(session)

    def _judge_soon(self, only: Session | None) -> None:
        task = asyncio.get_running_loop().create_task(self._judge_open(only), name="judge what is open")
        self._tasks.add(task)
        task.add_done_callback(self._judged)

    def _judged(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what is open could not be judged", exc_info=error)

    async def _judge_open(self, only: Session | None) -> None:
        for number, (what, (session, needs)) in enumerate(list(self._open.items()), 1):
            if only is not None and session is not only:
                continue
            if session.closed is None and (error := _refusal(session.rights, needs)) is not None:
                log.info("ends what %s at %s has open: %s", session.principal, session.peer, error.message)
                await self._end(what, session, error)
            if not number % _AT_ONCE:
                await asyncio.sleep(0)

    async def _end(self, what: Any, session: Session, error: ServiceError) -> None:
        self._open.pop(what, None)
        fail = getattr(what, "fail", None)
        if fail is not None:
            fail(error)
        elif self._close is not None:
            await self._close(session, CloseReason.of(error))


def _refusal(rights: Rights, needs: Needs) -> ServiceError | None:
    for operation, resource, name in needs() if callable(needs) else needs:
        try:
            rights.require(operation, resource, name)
        except ServiceError as error:
            return error
    return None
