"""Why a WebSocket ends, in the codes of RFC 6455 §7.4."""

from __future__ import annotations

from aiohttp import WSCloseCode

from kafka_gateway.errors import GONE, CloseReason, NotAuthorized, ProofEnded, ServiceError

NOT_UTF8 = CloseReason(1007, "text that is not UTF-8")
TOO_LARGE = CloseReason(1009, "message too large")
LEFT = CloseReason(1006, "the client left without a close frame")
"""It never travels."""


def answer_to(code: int, text: str = GONE.text) -> CloseReason:
    """The reason for closing after the client's close frame. It is echoed, unless it is none that may be sent.

    RFC 6455 §7.4: 1005, 1006 and 1015 never travel, 1004 has no meaning, 5000 and more are not assigned. aiohttp lets
    1006 pass (Autobahn case 7.9.5).
    """
    if code and not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return CloseReason(WSCloseCode.PROTOCOL_ERROR, "not a close code")
    return CloseReason(code, text)


def reason_bytes(text: str) -> bytes:
    """The reason as a close frame takes it: 123 bytes at most (RFC 6455 §5.5), and no half of a character."""
    return text.encode()[:123].decode(errors="ignore").encode()


def close_code(error: ServiceError | None, otherwise: int) -> int:
    """The code with which a socket closes behind what it was opened for: 1008 if its client may not have that any more
    (security.md §2, §3)."""
    return 1008 if isinstance(error, (ProofEnded, NotAuthorized)) else otherwise
