"""The access log: one line a request, written in bundles so that it stays off the way of requests."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from urllib.parse import unquote_plus

from kafka_gateway.session import Session

log = logging.getLogger("gateway.access")

_BUNDLE_S = 0.1
_BUNDLE_MAX = 1000


class AccessLog:
    """Collects lines and hands them to the logger ``gateway.access`` ten times a second.

    A line: peer, principal, time, request line, status, payload bytes, milliseconds. Text that clients choose cannot
    break out of its line: control characters and quotes are escaped.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled and log.isEnabledFor(logging.INFO)
        self._lines: list[tuple[float, str, str, str, str, int, int, float]] = []
        self._flush_at: asyncio.TimerHandle | None = None

    def add(
        self, peer: str, principal: str, method: str, target: str, status: int, size_bytes: int, seconds: float
    ) -> None:
        self._lines.append((time.time(), peer, principal, method, target, status, size_bytes, seconds))
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(_BUNDLE_S, self.flush)
        elif len(self._lines) >= _BUNDLE_MAX:
            self.flush()

    def finish(self, session: Session, method: str, target: str, started: float, status: int, size: int) -> None:
        """Adds the line of a request that is over. ``started`` as time.perf_counter() has it."""
        if self.enabled:
            seconds = time.perf_counter() - started
            self.add(session.peer, session.principal.name, method, target, status, size, seconds)

    def flush(self) -> None:
        """Writes what has been collected."""
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        lines, self._lines = self._lines, []
        for at, peer, principal, method, target, status, size_bytes, seconds in lines:
            when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
            log.info(
                '%s - %s [%s] "%s %s" %d %d %.3f',
                peer or "-",
                escape(principal),
                when,
                escape(method),
                escape(without_secrets(target)),
                status,
                size_bytes,
                seconds * 1000,
            )


_SECRET = re.compile(
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
