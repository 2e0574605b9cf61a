"""The audit log: one JSON line for each decision about a principal (security.md §7).

Lines are made on the event loop and written by a thread, in bundles. The queue between them is bounded: what finds no
room is counted, and the log says how many lines are missing. Ordinary reads and writes get one line for a session and
a resource, and are then counted for a minute. So are clients without any proof, by address, and requests above a quota,
by principal: nothing else bounds their number.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from kafka_gateway import jsonio
from kafka_gateway.door.guesses import network_of
from kafka_gateway.line_file import LineFile
from kafka_gateway.rights import Need
from kafka_gateway.session import Session

log = logging.getLogger("gateway.auth")

_ORDINARY: Final = frozenset({"read", "write", "describe", "describe-configs"})
"""Operations that are counted; those on the gateway itself are not ordinary, but for looking at it."""
_WAITING_MAX: Final = 10_000
_COUNTED_MAX: Final = 50_000
"""Sessions and resources that are counted at the same time."""
_STRANGERS_MAX: Final = 1000
"""Addresses without a proof, and quotas of principals, that are told apart within a minute; the others are counted
together."""
_COUNT_S: Final = 60
_SHOWN_MAX: Final = 500


class AuditLine(jsonio.Struct, omit_defaults=True):
    """One line of the log."""

    at: str
    principal: str
    peer: str
    transport: str
    operation: str
    resource: str
    allowed: bool
    rule: str
    """The line that decided; empty if none did, which is told, too."""
    request: str = ""
    count: int = 0
    """Further decisions like it since the line before; such lines come once a minute."""


class _Dropped(jsonio.Struct):
    at: str
    dropped: int
    """Lines that found no room, or could not be written, since the last one of these."""


class Audit:
    """The log of one gateway. ``path`` is a file's, ``stderr``, or "" for none. Belongs to the event loop."""

    def __init__(self, path: str) -> None:
        self.enabled = bool(path)
        self.dropped = 0
        """Lines that were lost: since the start, not only since it was said."""
        self._writer = _Writer(path) if path else None
        self._counts: dict[tuple[Session, Need], tuple[AuditLine, int]] = {}
        self._repeated: dict[tuple[str, ...], tuple[AuditLine, int]] = {}
        """Refusals of which a client can have as many as it likes, since a minute at most: who was not let in unheard,
        by address, transport and reason; who has used up a quota, by principal and quota."""
        self._open: dict[Any, tuple[Session, str, str]] = {}
        """Streams and sockets that were told as opened, with session, what it is, and the request that opened it."""

    def decided(self, session: Session, need: Need, allowed: bool, rule: str, request: str) -> None:
        """What was decided about a request; call it only where ``enabled``."""
        operation, resource, name = need
        if allowed and operation in _ORDINARY:
            key = (session, need)
            known = self._counts.get(key)
            if known is not None:
                self._counts[key] = (known[0], known[1] + 1)
                return
            if len(self._counts) >= _COUNTED_MAX:
                self.tell_counts()
            line = _line(session, operation, _named(resource, name), allowed, rule, request)
            self._counts[key] = (line, 0)
        else:
            line = _line(session, operation, _named(resource, name), allowed, rule, request)
        self._put(line)

    def happened(self, session: Session, operation: str, resource: str, request: str = "") -> None:
        """Writes an event that does not depend on rules: an instance made, a stream closed."""
        if self.enabled:
            self._put(_line(session, operation, resource, True, "", request))

    def opened(self, session: Session, stream: Any, request: str) -> None:
        """Writes that a stream was opened; its end is written, too."""
        if self.enabled:
            self._open[stream] = (session, "stream", request)
            self.happened(session, "open", "stream", request)

    def stays(self, session: Session, request: str) -> None:
        """As ``opened``, for a socket, or for what else a session stays open for."""
        if self.enabled:
            self._open[session] = (session, "socket", request)
            self.happened(session, "open", "socket", request)

    def tell_closed(self) -> None:
        """Writes which streams and sockets have ended since it was asked last."""
        for each, (session, what, request) in list(self._open.items()):
            is_open = session.on_close is not None if each is session else each in session.streams
            if session.closed is not None or not is_open:
                del self._open[each]
                self.happened(session, "close", what, request)

    def refused_proof(self, peer: str, transport: str, reason: str, heard: bool, request: str = "") -> None:
        """Somebody came with a proof that proves nothing; or without any, or was sent away unheard: of those each
        address has one line a minute, and a count."""
        if not self.enabled:
            return
        if heard:
            self._put(_stranger(peer, transport, reason, request))
            return
        key = (network_of(peer), transport, reason)
        if self._is_one_too_many(key):
            peer, key = "-", ("-", transport, reason)
        if not self._is_again(key):
            self._first(key, _stranger(peer, transport, reason, request))

    def used_up(self, session: Session, quota: str, reason: str, request: str) -> None:
        """A principal was refused what is above its quota: one line a minute for each principal and quota, and a
        count."""
        key = (str(session.principal), "quota", quota)
        if not self._is_one_too_many(key):
            if not self._is_again(key):
                self._first(key, _line(session, "use", f"quota:{quota}", False, reason, request))
        elif not self._is_again(key := ("-", "quota", quota)):
            resource, rule = f"quota:{quota}", f"a principal has used up its quota.{quota}"
            self._first(key, AuditLine(_now(), "-", "-", session.transport, "use", resource, False, rule))

    def _is_one_too_many(self, key: tuple[str, ...]) -> bool:
        """Whether it cannot be told apart from others any more in this minute."""
        return key not in self._repeated and len(self._repeated) >= _STRANGERS_MAX

    def _is_again(self, key: tuple[str, ...]) -> bool:
        """Whether there is a line of it already, which then counts it."""
        known = self._repeated.get(key)
        if known is None:
            return False
        self._repeated[key] = (known[0], known[1] + 1)
        return True

    def _first(self, key: tuple[str, ...], line: AuditLine) -> None:
        self._repeated[key] = (line, 0)
        self._put(line)

    def tell_counts(self) -> None:
        """Writes how often each ordinary thing was done, each address was sent away, and each quota was used up, since
        it was told last."""
        repeated, self._repeated = self._repeated, {}
        for line, count in repeated.values():
            if count:
                self._put(_again(line, count))
        counts, self._counts = self._counts, {}
        for (session, need), (line, count) in counts.items():
            if count:
                self._put(_again(line, count))
            if session.closed is None:
                self._counts[session, need] = (line, 0)
        if len(self._counts) >= _COUNTED_MAX:
            self._counts.clear()

    def reopen(self) -> None:
        """Opens the file again, because it has been moved away."""
        if self._writer is not None:
            self._writer.reopen()

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Writes for as long as the context is open, and all that waits at its end. OSError: the file cannot be had."""
        if self._writer is None:
            yield
            return
        self._writer.start()
        task = asyncio.get_running_loop().create_task(self._count(), name="audit counts")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.tell_closed()
            self.tell_counts()
            await asyncio.to_thread(self._writer.stop)

    async def _count(self) -> None:
        for second in itertools.count(1):
            await asyncio.sleep(1.0)
            self.tell_closed()
            if not second % _COUNT_S:
                self.tell_counts()

    def _put(self, line: AuditLine) -> None:
        if self._writer is not None and not self._writer.put(line):
            self.dropped += 1


class _Writer:
    """The thread that writes."""

    def __init__(self, path: str) -> None:
        self._lines: deque[AuditLine] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._ending = False
        self._reopen = False
        self._file = LineFile("" if path == "stderr" else path, "audit.log", log.error, _lost_line)
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)

    def start(self) -> None:
        self._file.open()
        self._thread.start()

    def put(self, line: AuditLine) -> bool:
        """False if there is no room."""
        if len(self._lines) >= _WAITING_MAX:
            self._dropped += 1
            return False
        self._lines.append(line)
        self._wake.set()
        return True

    def reopen(self) -> None:
        self._reopen = True
        self._wake.set()

    def stop(self) -> None:
        self._ending = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _run(self) -> None:
        ending = False
        while not ending:
            self._wake.wait()
            self._wake.clear()
            ending = self._ending
            try:
                self._write()
            except Exception:  # a bug; without this thread nothing would be written any more
                log.exception("audit.log cannot be written")
        self._file.close()

    def _write(self) -> None:
        if self._reopen:
            self._reopen = False
            self._file.reopen()
        count = len(self._lines)
        data = b"".join(jsonio.one_line(jsonio.encode(self._lines.popleft())) + b"\n" for _ in range(count))
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            data += _lost_line(dropped)
        if data:
            self._file.write(data, count)


def _lost_line(lost: int, like: bytes = b"") -> bytes:
    return jsonio.encode(_Dropped(_now(), lost)) + b"\n"


def _line(session: Session, operation: str, resource: str, allowed: bool, rule: str, request: str) -> AuditLine:
    return AuditLine(
        _now(), str(session.principal), session.peer, session.transport, operation, _shown(resource), allowed,
        _shown(rule), _shown(request),
    )  # fmt: skip


def _again(line: AuditLine, count: int) -> AuditLine:
    """What the line says has happened so often since it was written."""
    return AuditLine(
        _now(), line.principal, line.peer, line.transport, line.operation, line.resource, line.allowed, line.rule,
        line.request, count,
    )  # fmt: skip


def _stranger(peer: str, transport: str, reason: str, request: str) -> AuditLine:
    return AuditLine(
        _now(), "-", peer, transport, "authenticate", "gateway", False, _shown(reason), _shown(request)
    )  # fmt: skip


def _shown(text: str) -> str:
    """The beginning; what is no Unicode text (an escaped byte in a path, say) is escaped, or no line could hold it."""
    text = text[:_SHOWN_MAX]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _named(resource: str, name: str) -> str:
    return f"{resource}:{name}" if name else resource


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
