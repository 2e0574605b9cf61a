"""Logging in to a broker: SaslHandshake v1 and SaslAuthenticate v0 with PLAIN, SCRAM (RFC 5802) or
OAUTHBEARER (RFC 7628).

The credentials are the gateway's own, or those of a client in whose name it asks.

Credentials are never logged, and no text of an error holds any.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import struct
from collections.abc import Awaitable, Callable

from kafka_gateway.upstream import Sasl
from kafka_gateway.wire.frames import Cursor, WireError, frame, string

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends one frame and returns the next one that comes."""

_HANDSHAKE, _AUTHENTICATE = 17, 36
_CLIENT_ID = b"kafka-gateway"
_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
MECHANISMS = ("PLAIN", *_HASHES, "OAUTHBEARER")
"""Those with which the gateway can log in itself."""
BEARER = "OAUTHBEARER"
_REFUSED = 58
"""SASL_AUTHENTICATION_FAILED."""


def can_log_in(sasl: Sasl) -> bool:
    """Whether the gateway can do this login itself."""
    return sasl.mechanism in MECHANISMS and (sasl.mechanism != BEARER or sasl.renew is not None or bool(sasl.secret))


class SaslRefused(Exception):
    """The broker does not let the gateway in; the text says why, without the credentials."""


class CredentialsRefused(SaslRefused):
    """The broker knows no such user, or the password or token is not the right one."""


async def log_in(ask: Ask, sasl: Sasl) -> None:
    """Authenticates a fresh connection. SaslRefused if the broker refuses, or the mechanism is none of MECHANISMS."""
    if not can_log_in(sasl):
        raise SaslRefused(f"The gateway cannot log in with {sasl.mechanism} by itself.")
    if sasl.renew is not None:
        await sasl.renew()
    try:
        answer = await _request(ask, _HANDSHAKE, 1, string(sasl.mechanism.encode()))
        if answer.int16() != 0:
            raise SaslRefused(f"The broker does not offer the SASL mechanism {sasl.mechanism} on this listener.")
        if sasl.mechanism == "PLAIN":
            await _authenticate(ask, b"\0" + sasl.username.encode() + b"\0" + sasl.secret.encode())
        elif sasl.mechanism == BEARER:
            await _bearer(ask, sasl)
        else:
            await _scram(ask, sasl)
    except (WireError, ValueError) as error:
        raise SaslRefused(f"The broker's messages of the login cannot be read: {type(error).__name__}") from None


async def _request(ask: Ask, key: int, version: int, body: bytes) -> Cursor:
    header = struct.pack(">hhi", key, version, 0) + string(_CLIENT_ID)
    return Cursor(await ask(frame(header, body)), 8)


async def _authenticate(ask: Ask, token: bytes) -> bytes:
    answer = await _request(ask, _AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
    if (code := answer.int16()) != 0:
        if code == _REFUSED:
            raise CredentialsRefused("The broker refuses the credentials.")
        raise SaslRefused(f"The broker cannot judge the credentials (Kafka's error {code}).")
    answer.skip_string()
    return answer.bytes_of(max(0, answer.int32()))


async def _bearer(ask: Ask, sasl: Sasl) -> None:
    """RFC 7628 §3.2.2: a refused token is answered with a text, which the client has to confirm before it leaves. The
    gateway leaves at once."""
    members = [f"auth=Bearer {sasl.secret}", *(each.strip() for each in sasl.extensions.split(",") if each.strip())]
    if await _authenticate(ask, b"n,,\x01" + "".join(f"{each}\x01" for each in members).encode() + b"\x01"):
        raise CredentialsRefused("The broker refuses the token.")


async def _scram(ask: Ask, sasl: Sasl) -> None:
    """RFC 5802 without channel binding; Kafka takes names and passwords as they are in UTF-8."""
    name = _HASHES[sasl.mechanism]
    nonce = secrets.token_urlsafe(24)
    user = sasl.username.replace("=", "=3D").replace(",", "=2C")
    client_first = f"n={user},r={nonce}"
    server_first = (await _authenticate(ask, f"n,,{client_first}".encode())).decode()
    given = dict(part.split("=", 1) for part in server_first.split(","))
    if not given.get("r", "").startswith(nonce) or "s" not in given:
        raise SaslRefused("The broker's SCRAM challenge is not for this login.")
    rounds = int(given.get("i", "0"))
    if not 4096 <= rounds <= 1_000_000:
        raise SaslRefused("The broker asks for too few or too many SCRAM iterations.")
    # On a thread: the broker chooses the number of rounds, and a million of them take longer than the loop may be held.
    salted = await asyncio.to_thread(
        hashlib.pbkdf2_hmac, name, sasl.secret.encode(), base64.b64decode(given["s"]), rounds
    )
    bare = f"c=biws,r={given['r']}"
    signed = f"{client_first},{server_first},{bare}".encode()
    client_key = hmac.digest(salted, b"Client Key", name)
    signature = hmac.digest(hashlib.new(name, client_key).digest(), signed, name)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
    server_last = (await _authenticate(ask, f"{bare},p={proof}".encode())).decode()
    expected = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", name), signed, name)).decode()
    if not hmac.compare_digest(server_last.encode(), f"v={expected}".encode()):
        raise SaslRefused("The broker has not proved that it knows the credentials (SCRAM).")
