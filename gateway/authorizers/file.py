"""``authorization.file``: the rules of a file, read again when it changes (security.md §3)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from kafka_gateway.authorizers.policy import Policy
from kafka_gateway.authorizers.rules_file import PrincipalPattern, RulesFile, read_principal, read_rules
from kafka_gateway.config import Config, Fault
from kafka_gateway.counted import counted
from kafka_gateway.emptied import Emptied
from kafka_gateway.rights import Authorizer, Judge
from kafka_gateway.session import Principal

log = logging.getLogger("gateway.auth")

FILE: Final = "authorization.file"
SUPER_USERS: Final = "authorization.super.users"

_LOOK_EVERY_S: Final = 1.0
_SIZE_MAX: Final = 16 * 1024 * 1024
_TOLD_MAX: Final = 20


class FileAuthorizer(Authorizer):
    """Belongs to one event loop.

    A file that changes and is faulty, or gone, changes nothing: it is told as an error, once, and ``stale`` says so
    until it can be read again.
    """

    def __init__(self, config: Config) -> None:
        self._path = config.text(FILE)
        self._place = config.place(FILE)
        self._users_place = config.place(SUPER_USERS)
        self._users = config.items(SUPER_USERS)
        self._version: object = None
        self._emptied = Emptied(FILE, log)
        self._asked = asyncio.Event()
        self.stale = False
        self.policy = Policy(RulesFile((), ()), self._super_users([]))
        """Without a file that was read well, nobody may anything."""

    def _super_users(self, faults: list[Fault]) -> list[PrincipalPattern]:
        found = []
        for text in self._users:
            try:
                pattern = read_principal(text)
                if not pattern.kind or (pattern.is_prefix and not pattern.name):
                    raise ValueError(f"{text!r} would be everybody; without {FILE} everybody may do everything")
                found.append(pattern)
            except ValueError as error:
                faults.append(Fault(self._users_place, SUPER_USERS, str(error)))
        return found

    def faults(self) -> Sequence[Fault]:
        found: list[Fault] = []
        self._super_users(found)
        version, policy, faulty = self._read()
        if policy is not None:
            self._version, self.policy = version, policy
        return found + faulty

    def told(self) -> str:
        file = self.policy.file
        principals = {each.principal for each in file.rules}
        told = f"{FILE} has {counted(len(file.rules), 'rule')} for {counted(len(principals), 'principal')}"
        return f"{told} and {counted(len(file.quotas), 'quota')}" if file.quotas else told

    def judge(self, principal: Principal) -> Judge:
        return self.policy.rules_of(principal).decide

    def quotas(self, principal: Principal) -> Mapping[str, int]:
        return self.policy.quotas_of(principal)

    def reload(self) -> None:
        self._version = None
        self._asked.set()

    @contextlib.asynccontextmanager
    async def watch(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self._follow(changed), name=f"follow {FILE}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, changed: Callable[[], None]) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._asked.wait()
            self._asked.clear()
            try:
                if _version_of(self._path) != self._version:
                    await self._take(changed)
            except Exception:  # a bug; without this task changes would silently not be seen
                log.exception("%s cannot be followed", FILE)

    async def _take(self, changed: Callable[[], None]) -> None:
        version, policy, faults = await asyncio.to_thread(self._read)
        if policy is not None and self._emptied.doubts(policy.file.rules, self.policy.file.rules):
            return
        self._version = version
        self.stale = policy is None
        if policy is None:
            for fault in faults[:_TOLD_MAX]:
                log.error("%s", fault)
            log.error("%s: the changed file has %s; what it said before stays", FILE, counted(len(faults), "fault"))
            return
        self.policy = policy
        log.info("%s: read again from %s", FILE, self._path)
        if not policy.file.rules:
            log.warning("%s: %s has no rule, so nobody may do anything", FILE, self._path)
        changed()

    def _read(self) -> tuple[object, Policy | None, list[Fault]]:
        """The version of the file, and what it says, or all that is wrong with it."""
        version = _version_of(self._path)
        try:
            with open(self._path, "rb") as file:
                content = file.read(_SIZE_MAX + 1)
        except OSError as error:
            return version, None, [self._fault(f"{self._path} cannot be read: {error.strerror}")]
        if len(content) > _SIZE_MAX:
            return version, None, [self._fault(f"{self._path} has more than {_SIZE_MAX} bytes")]
        rules, faults = read_rules(content.decode(errors="surrogateescape"))
        if faults:
            return version, None, [self._fault(f"{self._path}, {fault}") for fault in faults]
        return version, Policy(rules, self._super_users([])), []

    def _fault(self, message: str) -> Fault:
        return Fault(self._place, FILE, message)


def _version_of(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return (found.st_mtime_ns, found.st_size, found.st_ino)
