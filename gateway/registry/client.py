"""Asks a schema registry over HTTP: Confluent's API, as Confluent, Apicurio and Karapace answer it.

Only addresses from the configuration are asked, redirects are not followed, and what comes back is bounded and read as
JSON or not at all: no client can have the gateway fetch anything else.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from kafka_gateway import jsonio
from kafka_gateway.metrics.numbers import Histogram
from kafka_gateway.registry.settings import RegistrySettings

log = logging.getLogger("gateway.registry")

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_ANSWER_MAX = 32 * 1024 * 1024
_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\.\.?(?:$|[/\\])")
_ROUNDS = 3
"""How often all addresses are tried."""
_PAUSE_S = 0.1
"""Before the second round; twice as long before the third."""
AGAIN = frozenset({429, 500, 502, 503, 504})
"""Statuses that may be another on the next attempt. Registering twice is harmless: it gives the same id, and a registry
may answer 500 to what it has stored."""


class RegistryRefusal(Exception):
    """The registry answered with an error. ``error_code`` is 0 if the answer has none."""

    def __init__(self, status: int, error_code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message


class RegistryAway(Exception):
    """No address answers, or none with anything that could be a registry's.

    ``silent``: no answer came at all, so the reason is the registry and not the question.
    """

    def __init__(self, reason: str, silent: bool = False) -> None:
        super().__init__(reason)
        self.silent = silent


class RegistryClient:
    """Belongs to one event loop. Several questions may be on their way."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._first = 0
        """Which address is asked first: the one that answered last."""
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self.answered_at = 0.0
        """When the last answer or refusal came (`time.monotonic`)."""
        self.answers: Counter[str] = Counter()
        """By status; ``none`` where no answer came."""
        self.seconds = Histogram()

    async def ask(self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Any:
        """The answer's JSON. ``path`` is below the base URL, its parts quoted with ``part``.

        Raises RegistryRefusal for an answer that is an error: at once if another attempt would not change it, else
        after the last attempt. Raises RegistryAway if no answer comes, after schema.registry.request.timeout.ms at the
        latest.
        """
        data = None if body is None else jsonio.encode(body)
        reason: Exception | None = None
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.total_timeout_s):
                for round_ in range(_ROUNDS):
                    if round_:
                        await asyncio.sleep(_PAUSE_S * round_)
                    for _ in self._settings.urls:
                        try:
                            return await self._counted(method, path, data, query)
                        except RegistryRefusal as refusal:
                            if refusal.status not in AGAIN:
                                raise
                            reason = refusal
                        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
                            reason = error
                        self._first = (self._first + 1) % len(self._settings.urls)
        except TimeoutError:
            reason = reason or TimeoutError(f"no answer within {self._settings.total_timeout_s:g} s")
        if isinstance(reason, RegistryRefusal):
            raise reason
        log.warning(
            "the schema registry does not answer (%s %s, %.1f s): %s",
            method,
            path.partition("?")[0],
            time.monotonic() - began,
            _told(reason),
        )
        silent = isinstance(reason, (aiohttp.ClientConnectionError, TimeoutError, OSError))
        raise RegistryAway(_told(reason), silent) from reason

    async def aclose(self) -> None:
        """What is asked now, and later, ends with RegistryAway."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _counted(self, method: str, path: str, data: bytes | None, query: Mapping[str, str] | None) -> Any:
        began, code = time.monotonic(), "none"
        try:
            answer = await self._once(method, path, data, query)
            code, self.answered_at = "200", time.monotonic()
            return answer
        except RegistryRefusal as refusal:
            code = str(refusal.status)
            if refusal.status not in AGAIN:
                self.answered_at = time.monotonic()
            raise
        finally:
            self.answers[code] += 1
            self.seconds.add(time.monotonic() - began)

    async def _once(self, method: str, path: str, data: bytes | None, query: Mapping[str, str] | None) -> Any:
        settings = self._settings
        url = URL(settings.urls[self._first] + path, encoded=True).with_query(query or {})
        headers = {"Accept": f"{MEDIA_TYPE}, application/json"}
        if data is not None:
            headers["Content-Type"] = MEDIA_TYPE
        if authorization := settings.authorization[self._first]:
            headers["Authorization"] = authorization
        async with self._connection().request(
            method, url, data=_content_of(data), headers=headers, allow_redirects=False
        ) as response:
            content = await response.content.read(_ANSWER_MAX + 1)
            while not response.content.at_eof() and len(content) <= _ANSWER_MAX:
                content += await response.content.read(_ANSWER_MAX + 1 - len(content))
            if len(content) > _ANSWER_MAX:
                raise ValueError(f"the answer is longer than {_ANSWER_MAX} bytes")
            if 300 <= response.status < 400:
                raise ValueError(f"the answer is a redirect ({response.status}), which is not followed")
            if response.status >= 400:
                raise _refusal(response.status, content)
        return jsonio.decode_value(content) if content else None

    def _connection(self) -> aiohttp.ClientSession:
        if self._closed:  # else the next attempt would open a session that nobody closes
            raise RegistryAway("the gateway is stopping")
        if self._session is None:
            settings = self._settings
            connector = aiohttp.TCPConnector(limit=16, ssl=settings.tls or True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(
                    total=settings.connect_timeout_s + settings.read_timeout_s,
                    sock_connect=settings.connect_timeout_s,
                    sock_read=settings.read_timeout_s,
                ),
                # No cookies, no netrc, no proxy from the environment.
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


def _content_of(data: bytes | None) -> io.BytesIO | None:
    # aiohttp warns of long bodies in one piece.
    return None if data is None else io.BytesIO(data)


def part(name: object) -> str:
    """One part of a path: subjects may hold any character. RegistryRefusal for what no path can have in a part."""
    text = str(name)
    if not is_a_part(text):
        raise RegistryRefusal(422, 0, f"{text!r} cannot be the name of a subject")
    return quote(text, safe="")


def is_a_part(name: str) -> bool:
    """Whether a path can have the name in one part.

    Servers, and proxies in front of them, remove dot segments (RFC 3986 §5.2.4), many of them after they have undone
    escapes: another question would be asked.
    """
    return bool(name) and _DOT_SEGMENT.search(name) is None


def _refusal(status: int, content: bytes) -> RegistryRefusal:
    try:
        answer = jsonio.decode_value(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return RegistryRefusal(status, 0, f"the schema registry answers HTTP {status}")
    code, message = answer.get("error_code"), answer.get("message")
    return RegistryRefusal(
        status,
        code if isinstance(code, int) else 0,
        str(message)[:1000] if message else f"the schema registry answers HTTP {status}",
    )


def _told(reason: Exception | None) -> str:
    return str(reason) or type(reason).__name__
