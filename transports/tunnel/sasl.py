"""Logins through the tunnel: those of clients that use SaslHandshake v0, and those that the gateway does itself.

After SaslHandshake v0 both sides send tokens without Kafka's header until the login is over. Nothing in the bytes says
when that is, but the mechanism does (bridges.md C-24). Tokens are never logged.
"""

from __future__ import annotations

import struct

from kafka_gateway.transports.tunnel import apis
from kafka_gateway.transports.tunnel.broker import BadGateway, BrokerConnection
from kafka_gateway.upstream import Sasl
from kafka_gateway.wire import sasl as wire_sasl

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
        """Whether the server answers every token, so that the client sends nothing until it has the answer."""

    def is_over(self, frame_: bytes) -> bool:
        """Whether the login is over after this frame of the server."""
        self._server_frames += 1
        if self._mechanism == "OAUTHBEARER":
            return len(frame_) == 4
        return self._server_frames == _FRAMES_OF_SERVER.get(self._mechanism)

    def is_request(self, frame_: bytes) -> bool:
        """Whether a frame of the client is a request again. With GSSAPI and others the client may send the last token,
        and the server does not answer it.

        Their tokens begin with 0x60 or 0x05 (RFC 4121), which would be API keys far from all known ones.
        """
        if self.lockstep or len(frame_) < _REQUEST.size:
            return False
        _, key, version, _, id_length = _REQUEST.unpack_from(frame_)
        return key in apis.KNOWN and 0 <= version <= _VERSION_MAX and -1 <= id_length <= len(frame_) - _REQUEST.size


MECHANISMS = wire_sasl.MECHANISMS
"""Those with which the gateway can log in itself."""


async def log_in(broker: BrokerConnection, sasl: Sasl) -> None:
    """Authenticates a fresh connection with the gateway's own credentials.

    Raises:
        BadGateway: the broker refuses; the text tells nothing of the credentials.
    """
    try:
        await wire_sasl.log_in(broker.ask, sasl)
    except wire_sasl.SaslRefused as error:
        raise BadGateway(str(error)) from None
