"""What is wrong with the head of a request that cannot be read: aiohttp's errors, as ours."""

from __future__ import annotations

from typing import Any, Final

from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from kafka_gateway.errors import BadRequest, HeadTooLarge, HttpVersionNotSupported, MethodNotAllowed, ServiceError

_METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_OF_OTHER_VERSIONS: Final = ("Invalid HTTP version", "Expected HTTP/2 Connection Preface", "Pause on PRI/Upgrade")
"""What the parser says of a request line with a version that it does not know (RFC 9110 §15.6.6)."""


class HeadTooLong(HttpProcessingError):
    """All of the head, or of the fields behind the last chunk of a body, has more bytes than it may have."""

    def __init__(self) -> None:
        super().__init__(
            code=431,
            message="The head of the request, or what follows its body, is longer than request.head.max.bytes.",
        )


def unreadable(error: HttpProcessingError) -> tuple[_ErrInfo, Any]:
    """The message that aiohttp queues for a request that it cannot read."""
    return _ErrInfo(status=400, exc=error, message=error.message), EMPTY_PAYLOAD


def head_error(exc: BaseException | None, message: str | None) -> ServiceError:
    """What aiohttp's parser, or ours, finds wrong with the head of a request."""
    text = (message or "").strip().split("\n", 1)[0].rstrip(":")
    if isinstance(exc, BadHttpMethod):  # an unknown method (kafka-rest-http.md §3.1)
        return MethodNotAllowed(allow=_METHODS)
    if isinstance(exc, HeadTooLong):
        return HeadTooLarge(exc.message)
    if any(reason in (message or "") for reason in _OF_OTHER_VERSIONS):
        return HttpVersionNotSupported("The gateway speaks HTTP/1.1 and HTTP/1.0.")
    if isinstance(exc, LineTooLong) or text == "Too many headers received":
        return HeadTooLarge(
            "The request line or a header field is longer than max.request.header.size, or there are "
            "more than 128 fields."
        )
    return BadRequest(f"HTTP 400: the request is not valid HTTP/1.1: {text}")
