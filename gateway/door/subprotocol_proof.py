"""The proof of a browser's WebSocket, which takes no header fields of its page but a list of subprotocols.

A page that has to show who asks offers two: the one that the gateway speaks, and one that carries the field
``Authorization`` (RFC 6455 §1.9 and §11.3.4):

    new WebSocket(url, ["kafka-gateway", "authorization." + base64url("Basic YWxpY2U6c2VjcmV0")])

The gateway answers with the first, never with the second. Elsewhere such proofs are put in the query, where they would
end up in logs.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

PROTOCOL = "kafka-gateway"
"""What a client that offers subprotocols has to offer, too: browsers take a socket with one of theirs only."""

FIELD = "Sec-WebSocket-Protocol"
_PREFIX = "authorization."


def move_proof(message: Any) -> Any:
    """aiohttp's message with the proof that a subprotocol carries in the header, and out of the subprotocols.

    Nobody behind this knows how it came. An Authorization that is in the header already is the one that counts.
    """
    offered = [each.strip() for value in message.headers.getall(FIELD) for each in value.split(",")]
    found = next((each for each in offered if each.startswith(_PREFIX)), None)
    if found is None:
        return message
    headers = CIMultiDict(message.headers)
    headers[FIELD] = ", ".join(each for each in offered if not each.startswith(_PREFIX))
    if "Authorization" not in headers and (proof := _decode(found.removeprefix(_PREFIX))):
        headers["Authorization"] = proof
    raw = tuple((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items())
    return message._replace(headers=CIMultiDictProxy(headers), raw_headers=raw)


def _decode(digits: str) -> str:
    """What base64url without padding stands for; "" if that is no value of a header field."""
    try:
        text = base64.b64decode(digits + "=" * (-len(digits) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""
    return text if text.isprintable() else ""
