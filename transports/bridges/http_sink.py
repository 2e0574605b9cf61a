"""Posting records over HTTP: the sinks of the bridges (bridges.md A3.1, A-34)."""

from __future__ import annotations

import dataclasses
import io
import os
import ssl
from types import SimpleNamespace

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from kafka_gateway.transports.bridges.sink_address import AllowedAddresses, CheckedResolver

_ANSWER_MAX = 64 * 1024
"""Bytes of an answer that are read, so that the connection can be used again; one with more is closed."""
_TEXT_MAX = 200
_LARGE = 512 * 1024
"""Bodies from here on are handed to the socket in pieces."""
_LEFT_TO_US = frozenset({hdrs.CONTENT_TYPE, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT})
"""What aiohttp would add by itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Posted:
    """What became of one POST: ``status`` 0 without an answer, and ``text`` for people."""

    status: int
    text: str = ""
    retry_after: str = ""


class HttpSink:
    """One URL that takes records. Belongs to an event loop; connections are kept and used again.

    Args:
        timeout_s: for one attempt, from the first byte to the last of the answer.
        concurrency: connections at most.
        tls: for ``https``.
        token_file: a bearer token, read again when the file changes; it beats what a record brings.
    """

    def __init__(
        self,
        url: URL,
        allowed: AllowedAddresses,
        *,
        timeout_s: float = 10.0,
        concurrency: int = 16,
        tls: ssl.SSLContext | None = None,
        token_file: str = "",
    ) -> None:
        self._url = url
        self._allowed = allowed
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._concurrency = concurrency
        self._tls = tls
        self._token_file = token_file
        self._token: tuple[int, str] = (0, "")
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, headers: list[tuple[str, str]]) -> Posted:
        """What became of one POST; never raises, but for cancellation."""
        fields = CIMultiDict(headers)
        try:
            if self._token_file:
                fields[hdrs.AUTHORIZATION] = f"Bearer {self._read_token()}"
        except (OSError, ValueError) as error:
            return Posted(0, f"sink.token.location cannot be read: {error}")
        used_before = SimpleNamespace(yes=False)
        answer, again = await self._attempt(body, fields, used_before)
        if again and used_before.yes:
            # The sink closed a connection that had long been idle, just as we took it up again.
            answer, _ = await self._attempt(body, fields, SimpleNamespace(yes=False))
        return answer

    async def aclose(self) -> None:
        """Closes the connections; safe to call twice."""
        if self._session is not None:
            await self._session.close()

    async def _attempt(
        self, body: bytes, fields: CIMultiDict[str], used_before: SimpleNamespace
    ) -> tuple[Posted, bool]:
        """The answer, and whether the connection was closed before the sink said anything."""
        status, text, retry_after = 0, "", ""
        try:
            async with self._open_session().post(
                self._url,
                data=body if len(body) < _LARGE else io.BytesIO(body),
                headers=fields,
                allow_redirects=False,
                trace_request_ctx=used_before,
            ) as response:
                status = response.status
                retry_after = response.headers.get(hdrs.RETRY_AFTER, "")
                text = await _beginning(response)
        except TimeoutError:
            text = text or f"no answer within {self._timeout.total:g} s"
        except (aiohttp.ServerDisconnectedError, ConnectionResetError) as error:
            text = text or _one_line(error)
            return Posted(status, text, retry_after), not status
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, ValueError) as error:
            # After the status it concerns the rest of the answer, which nobody needs.
            text = text or _one_line(error)
        return Posted(status, text, retry_after), False

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_reuseconn.append(_note_reuse)
            connector = aiohttp.TCPConnector(
                limit=self._concurrency, resolver=CheckedResolver(self._allowed), ssl=self._tls or True
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_LEFT_TO_US,
                trace_configs=[trace],
            )
        return self._session

    def _read_token(self) -> str:
        changed = os.stat(self._token_file).st_mtime_ns
        if changed != self._token[0]:
            with open(self._token_file, encoding="ascii") as file:
                token = file.read().strip()
            if not token or not token.isprintable() or " " in token:
                raise ValueError("it holds no token")
            self._token = (changed, token)
        return self._token[1]


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.yes = True


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The beginning of the answer, for people. Reads until the connection can be used again, or closes it."""
    read = bytearray()
    while len(read) <= _ANSWER_MAX:
        try:
            chunk = await response.content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            response.close()
            return _shown(bytes(read)) or f"{response.reason}; {_one_line(error)}"
        if not chunk:
            return _shown(bytes(read)) or str(response.reason or "")
        read += chunk
    response.close()
    return _shown(bytes(read))


def _shown(text: bytes) -> str:
    words = " ".join(text[: _TEXT_MAX * 2].decode("utf-8", "replace").split())
    return "".join(each if each.isprintable() else "?" for each in words)[:_TEXT_MAX]


def _one_line(error: BaseException) -> str:
    return _shown(f"{type(error).__name__}: {error}".encode())


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """For sinks with a private CA, or which ask for a certificate. OSError or ssl.SSLError if a file is not usable."""
    context = ssl.create_default_context(cafile=ca or None)
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context
