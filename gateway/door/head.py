"""The head of a request: what aiohttp's parser accepts, and a proxy in front may read in another way."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web

from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import BadRequest, HttpVersionNotSupported, NotSupported, ServiceError

_LABEL = r"[A-Za-z0-9_~-]+"
_HOST = re.compile(
    rf"(\[[0-9A-Fa-f:.]{{2,45}}(%25[A-Za-z0-9._~-]+)?\]|({_LABEL}(\.{_LABEL})*\.?)?)(:(?P<port>[0-9]{{0,5}}))?"
)
"""RFC 9110 §7.2 as far as names go that DNS and hosts files can have (RFC 3986 §3.2.2 allows more)."""
_PORT_MAX: Final = 65535
_HOSTS_MAX: Final = 1000
_known_hosts: set[str] = set()
"""Host fields that were found right; checking one again would cost more than all the rest."""


class _Disputable(BadRequest):
    """A proxy in front may see the end of this request in another place than we do."""

    help = "Send a head that can be read in one way only: the message names the field."


class _UnknownCoding(NotSupported):
    """RFC 9112 §6.1: a transfer coding that the server does not understand."""

    help = "Send Transfer-Encoding: chunked, or Content-Length."


def check_head(request: web.BaseRequest, proofs: Iterable[str] = ()) -> None:
    """Refuses a head that is disputable (reliability.md §2.3; RFC 9112 §3.2, §6.1). Raises a ServiceError.

    ``proofs`` are the fields that prove who asks. None of them is a list (RFC 9110 §5.3, §11.6.2): of two, a proxy in
    front may have judged the other one.
    """
    headers, version = request.headers, request.version
    if version != HttpVersion11 and version != HttpVersion10:
        request._cache["version"] = HttpVersion11  # that of the reply
        raise HttpVersionNotSupported(f"The gateway speaks HTTP/1.1, not HTTP/{version.major}.{version.minor}.")
    if request.method == "CONNECT":  # what follows would be a tunnel's, if anybody granted it
        raise _Disputable("The gateway is no proxy.")
    hosts = headers.getall("Host", ())
    if len(hosts) == 1:
        if hosts[0] not in _known_hosts:
            _check_host(hosts[0])
    elif hosts or version == HttpVersion11:
        raise _Disputable("A request has one Host field.")
    for name in proofs:
        if len(headers.getall(name, ())) > 1:
            raise BadRequest(f"A request has one {name.title()} field, and one token in its query.")
    if "Transfer-Encoding" in headers:
        if version < HttpVersion11:
            raise _Disputable("Transfer-Encoding is not part of HTTP/1.0.")
        coding = ",".join(headers.getall("Transfer-Encoding"))
        if coding.strip().lower() != "chunked":
            raise _UnknownCoding(f"The gateway can undo chunked, and no other transfer coding; not {coding[:100]!r}.")
    # The upgrades that aiohttp knows. Java's HttpClient offers h2c with its first request, which may have a body; its
    # WebSocket says Content-Length: 0, which is no body.
    if (
        "Upgrade" in headers
        and headers["Upgrade"].strip().lower() in ("websocket", "tcp")
        and ("Transfer-Encoding" in headers or any(each.strip("0 \t") for each in headers.getall("Content-Length", ())))
    ):
        raise _Disputable(
            "A request to upgrade must not have a body: neither a Transfer-Encoding, even of no chunks, nor a "
            "Content-Length but 0."
        )


def _check_host(host: str) -> None:
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > _PORT_MAX:
        raise _Disputable("The Host field is not a host name and a port.")
    if len(host) <= 255:
        if len(_known_hosts) >= _HOSTS_MAX:
            _known_hosts.clear()
        _known_hosts.add(host)


def must_close(request: HttpRequest, error: ServiceError) -> bool:
    """Whether the connection has to close behind the refusal of this request; its body is not read any more."""
    # What is left of a refused body would be read as the next request's head.
    if not request.arriving.is_eof():
        return True
    return isinstance(error, (_Disputable, _UnknownCoding, HttpVersionNotSupported))
