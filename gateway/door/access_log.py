"""The access log: one line a request, written in bundles so that it stays off the way of requests.

As text a line is: peer, principal, time, request line, status, payload bytes, milliseconds. As JSON it has named
members (docs/logging.md). Text that clients choose cannot break out of its line.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import unquote_plus

from kafka_gateway import jsonio
from kafka_gateway.messages import Facts
from kafka_gateway.request_ids import new_id
from kafka_gateway.session import Session

log = logging.getLogger("gateway.access")

_BUNDLE_S = 0.1
_BUNDLE_MAX = 1000

Write = Callable[[bytes, int], None]
"""Takes whole lines, their ends included, and how many they are; returns at once."""


_all: weakref.WeakSet[AccessLog] = weakref.WeakSet()


def refresh_all() -> None:
    """The level of a logger has changed."""
    for each in _all:
        each.refresh()


_Request = tuple[float, str, str, str, str, str, int, int, float, Facts]
"""What is known of a request when it is over; a line is made of it later. When, peer, principal, transport, method,
target, status, bytes of the reply, seconds, and the rest."""


class AccessLog:
    """Collects lines and writes them ten times a second.

    They go to the logger ``gateway.access`` until ``write_to`` gives them a shorter way.
    """

    def __init__(self, enabled: bool) -> None:
        self._wanted = enabled
        self.enabled = False
        self._lines: list[_Request] = []
        self._flush_at: asyncio.TimerHandle | None = None
        self._write: Write | None = None
        self._lines_of: Callable[[Sequence[_Request]], bytes] = partial(_texts, "")
        self.refresh()
        _all.add(self)

    def refresh(self, enabled: bool | None = None) -> None:
        """Looks again whether anybody wants the lines: the logger's level, or the configuration, has changed."""
        if enabled is not None:
            self._wanted = enabled
        self.enabled = self._wanted and log.isEnabledFor(logging.INFO)

    def write_to(self, write: Write, form: str, worker: int | None = None) -> None:
        """Has the lines written by ``write``, as ``text`` or ``json``, round the logger and its handlers, with the
        number of the worker if there is one."""
        self._write = write
        if form == "json":
            self._lines_of = _JsonLines(f',"worker":{worker}' if worker is not None else "")
        else:
            self._lines_of = partial(_texts, worker_in_text(worker))

    def add(
        self,
        peer: str,
        principal: str,
        method: str,
        target: str,
        status: int,
        size_bytes: int,
        seconds: float,
        transport: str = "",
        facts: Facts | None = None,
    ) -> None:
        """Adds a line. ``facts`` None: the request reached no route."""
        if facts is None:
            facts = (new_id(), "", 0, 0)
        lines = self._lines
        lines.append((time.time(), peer, principal, transport, method, target, status, size_bytes, seconds, facts))
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(_BUNDLE_S, self.flush)
        elif len(lines) >= _BUNDLE_MAX:
            self.flush()

    def finish(
        self,
        session: Session,
        method: str,
        target: str,
        started: float,
        status: int,
        size: int,
        facts: Facts | None = None,
    ) -> None:
        """Adds the line of a request that is over. ``started`` as time.perf_counter() has it."""
        if self.enabled:
            seconds, name = time.perf_counter() - started, session.principal.name
            if facts is None or self._flush_at is None or len(self._lines) >= _BUNDLE_MAX:
                self.add(session.peer, name, method, target, status, size, seconds, session.transport, facts)
            else:
                self._lines.append(
                    (time.time(), session.peer, name, session.transport, method, target, status, size, seconds, facts)
                )

    def flush(self) -> None:
        """Writes what has been collected."""
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        if self._write is not None:
            self._write(self._lines_of(lines), len(lines))
            return
        for each in lines:
            log.info("%s", _text(each))


def _text(line: _Request) -> str:
    at, peer, principal, _, method, target, status, sent, seconds, _ = line
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
    asked = f"{escape(method)} {escape(without_secrets(target))}"
    return f'{peer or "-"} - {escape(principal)} [{when}] "{asked}" {status} {sent} {seconds * 1000:.3f}'


def worker_in_text(worker: int | None) -> str:
    """What stands behind the name of the logger in lines of text."""
    return f" worker={worker}" if worker is not None else ""


def _texts(by: str, lines: Sequence[_Request]) -> bytes:
    now = time.time()
    begin = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)) + f",{int(now % 1 * 1000):03d} INFO gateway.access{by}: "
    )
    return "".join([f"{begin}{_text(each)}\n" for each in lines]).encode("utf-8", "backslashreplace")


class _JsonLines:
    """Lines as docs/logging.md says, their members in that order, with ``by``, the worker's, behind the logger.

    Written by hand, from parts that many lines share: an encoder's microseconds for each line would be two hundredths
    of a processor at 20,000 requests/s.
    """

    def __init__(self, by: str) -> None:
        self._logger = f'Z","level":"INFO","logger":"gateway.access"{by},"request_id":"'
        self._middles: dict[_Middle, str] = {}

    def __call__(self, lines: Sequence[_Request]) -> bytes:
        flat: list[str | float] = []
        middles = self._middles
        moment = second = -1
        text = stamp = ""
        for at, peer, principal, transport, method, target, status, sent, seconds, facts in lines:
            now = int(at * 1000)
            if now != moment:
                moment = now
                if now // 1000 != second:
                    second = now // 1000
                    text = time.strftime('{"time":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second))
                stamp = f"{text}{now % 1000:03d}{self._logger}"
            id_, route, received, records = facts
            key = (peer, principal, transport, method, target, route, status, received, sent, records)
            if '"' in id_ or "\\" in id_ or not id_.isprintable():
                id_ = _quoted(id_)[1:-1]
            flat += (stamp, id_, middles.get(key) or self._middle(key), seconds * 1000)
        return ("%s%s%s%.3f}\n" * len(lines) % tuple(flat)).encode()

    def _middle(self, key: _Middle) -> str:
        """What stands between the id and the duration. Remembered for targets that clients use again."""
        peer, principal, transport, method, target, route, status, received, sent, records = key
        named = {"peer": peer, "principal": principal, "transport": transport, "method": method}
        named |= {"target": without_secrets(target), "route": route}
        middle = "".join([f',"{name}":{_quoted(value)}' for name, value in named.items()])
        middle = (
            f'"{middle},"status":{status},"bytes_in":{received},"bytes_out":{sent},"records":{records},"duration_ms":'
        )
        if len(target) <= _TARGET_MAX and "?" not in target:  # a query may hold a secret, and rarely comes again
            if len(self._middles) >= _MIDDLES_MAX:
                self._middles.clear()
            self._middles[key] = middle
        return middle


_Middle = tuple[str, str, str, str, str, str, int, int, int, int]
"""Peer, principal, transport, method, target, route, status, bytes of request and reply, records."""
_MIDDLES_MAX: Final = 4096
_TARGET_MAX: Final = 256


def _quoted(text: str) -> str:
    return jsonio.one_line(jsonio.encode(_as_text(text))).decode()


def _as_text(text: str) -> str:
    """Without what UTF-8 cannot say: surrogates stand for bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode()


_SECRET: Final = re.compile(
    r"auth|token|pass|pwd|secret|credential|bearer|signature|^sig$|api[-_.]?key|jwt|cookie|sasl|jaas|session|otp|^code$",
    re.IGNORECASE,
)
"""In the name of a query parameter whose value must not be logged: ``Authorization`` as Atmosphere clients put
headers into the query, ``access_token`` (RFC 6750 §2.3), and whatever else people send so."""
_PROOF = re.compile(r"\s*(basic|bearer|digest|negotiate)\s+\S", re.IGNORECASE)
"""A value that is a proof, whatever the parameter is called (RFC 9110 §11.4)."""
_USER = re.compile(r"(?<=//)[^/?#&;]*@")
_SEPARATOR = re.compile("([&;])")
"""Some clients write a semicolon (HTML 4.01 §B.2.2)."""


def without_secrets(target: str) -> str:
    """A request target without the values of parameters that may be secrets, and without a user's part of a URL."""
    if "@" in target:
        target = _USER.sub("[hidden]@", target)
    path, mark, query = target.partition("?")
    if not mark:
        return path
    parts = _SEPARATOR.split(query)
    hides = False
    for place, part in enumerate(parts):
        if part == "&":
            hides = False
        elif part != ";":
            name, equals, value = part.partition("=")
            if hides and not equals:
                parts[place] = ""  # the rest of a value with a semicolon in it
                continue
            hides = False
            name_text = unquote_plus(name)
            if not equals and _PROOF.match(name_text):
                parts[place] = "[hidden]"
            elif equals and (_SECRET.search(name_text) or _is_proof(value)):
                parts[place] = f"{name}=[hidden]"
                hides = True
    return f"{path}?{''.join(parts)}"


def _is_proof(value: str) -> bool:
    """Whether a parameter's value is one, encoded once or, as some clients do, twice."""
    once = unquote_plus(value)
    return bool(_PROOF.match(once) or _PROOF.match(unquote_plus(once)))


def escape(text: str) -> str:
    """The text without anything that could end its field or line, or that a terminal would obey."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode().replace('"', '\\"')
