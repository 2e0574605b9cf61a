"""Logging in: what the tunnel must know of clients that do it the old way, and the gateway doing it itself.

After SaslHandshake v0 both sides send tokens without Kafka's header until the login is over, and nothing in the bytes
says when that is; the mechanism does (bridges.md C-24). Tokens are never logged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct

from gateway.upstream import Sasl
from transports.tunnel import apis
from transports.tunnel.broker import BadGateway, BrokerConnection
from transports.tunnel.wire import Cursor, WireError, frame, string

_FRAMES_OF_SERVER = {"PLAIN": 1, "SCRAM-SHA-256": 2, "SCRAM-SHA-512": 2}
_REQUEST = struct.Struct(">ihhih")
_VERSION_MAX = 20
"""No API has come to this version yet."""


class RawSasl:
    """A login without Kafka's headers, from the reply to its handshake on."""

    def __init__(self, mechanism: str) -> None:
        self._mechanism = mechanism
        self._server_frames = 0
        self.lockstep = mechanism in _FRAMES_OF_SERVER or mechanism == "OAUTHBEARER"
        """Whether the server answers every token, so that the client has nothing to send before."""

    def is_over(self, frame_: bytes) -> bool:
        """Whether the login is over after this frame of the server."""
        self._server_frames += 1
        if self._mechanism == "OAUTHBEARER":
            return len(frame_) == 4
        return self._server_frames == _FRAMES_OF_SERVER.get(self._mechanism)

    def is_request(self, frame_: bytes) -> bool:
        """Whether a frame of the client is a request again: with GSSAPI and others the server may say nothing last.

        Their tokens begin with 0x60 or 0x05 (RFC 4121), which would be API keys far from all known ones.
        """
        if self.lockstep or len(frame_) < _REQUEST.size:
            return False
        _, key, version, _, id_length = _REQUEST.unpack_from(frame_)
        return key in apis.KNOWN and 0 <= version <= _VERSION_MAX and -1 <= id_length <= len(frame_) - _REQUEST.size


_CLIENT_ID = b"kafka-gateway"
_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
MECHANISMS = ("PLAIN", *_HASHES)
"""Those with which the gateway can log in itself."""


async def log_in(broker: BrokerConnection, sasl: Sasl) -> None:
    """Authenticates a fresh connection with the gateway's own credentials (SaslHandshake v1, SaslAuthenticate v0).

    Raises:
        BadGateway: the broker refuses; the text tells nothing of the credentials.
    """
    try:
        answer = await _ask(broker, apis.SASL_HANDSHAKE, 1, string(sasl.mechanism.encode()))
        if answer.int16() != 0:
            raise BadGateway("The broker does not take the gateway's SASL mechanism.")
        if sasl.mechanism == "PLAIN":
            await _authenticate(broker, b"\0" + sasl.username.encode() + b"\0" + sasl.password.encode())
        else:
            await _scram(broker, sasl)
    except (WireError, ValueError) as error:
        raise BadGateway(f"The broker's part of the login makes no sense: {type(error).__name__}") from None


async def _ask(broker: BrokerConnection, key: int, version: int, body: bytes) -> Cursor:
    header = struct.pack(">hhi", key, version, 0) + string(_CLIENT_ID)
    return Cursor(await broker.ask(frame(header, body)), 8)


async def _authenticate(broker: BrokerConnection, token: bytes) -> bytes:
    answer = await _ask(broker, apis.SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
    if answer.int16() != 0:
        raise BadGateway("The broker refuses the gateway's own credentials.")
    answer.skip_string()
    return answer.bytes_of(max(0, answer.int32()))


async def _scram(broker: BrokerConnection, sasl: Sasl) -> None:
    """RFC 5802 without channel binding; Kafka takes names and passwords as they are in UTF-8."""
    name = _HASHES[sasl.mechanism]
    nonce = secrets.token_urlsafe(24)
    user = sasl.username.replace("=", "=3D").replace(",", "=2C")
    client_first = f"n={user},r={nonce}"
    server_first = (await _authenticate(broker, f"n,,{client_first}".encode())).decode()
    given = dict(part.split("=", 1) for part in server_first.split(","))
    if not given.get("r", "").startswith(nonce) or "s" not in given:
        raise BadGateway("The broker's SCRAM challenge is not for this login.")
    rounds = int(given.get("i", "0"))
    if not 4096 <= rounds <= 1_000_000:
        raise BadGateway("The broker asks for too few or too many SCRAM iterations.")
    salted = hashlib.pbkdf2_hmac(name, sasl.password.encode(), base64.b64decode(given["s"]), rounds)
    bare = f"c=biws,r={given['r']}"
    signed = f"{client_first},{server_first},{bare}".encode()
    client_key = hmac.digest(salted, b"Client Key", name)
    signature = hmac.digest(hashlib.new(name, client_key).digest(), signed, name)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
    server_last = (await _authenticate(broker, f"{bare},p={proof}".encode())).decode()
    expected = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", name), signed, name)).decode()
    if not hmac.compare_digest(server_last.encode(), f"v={expected}".encode()):
        raise BadGateway("The broker does not know the gateway's SCRAM credentials.")
