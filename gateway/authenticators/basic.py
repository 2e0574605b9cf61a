"""HTTP Basic authentication (RFC 7617) against a file of users.

Checking a password takes bcrypt some 60 ms, by design. So it is done in a thread, few at a time, once for however many
requests bring the same credentials, and what was found right is remembered for a while: under an HMAC with a key that
exists in this process only, never as it was sent. What was found wrong is not remembered, or guesses would drive out
the users. A name that is not in the file costs the same check as a wrong password (reliability.md S9).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import hmac
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

import bcrypt

from kafka_gateway.auth import Authenticator
from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.counted import counted
from kafka_gateway.emptied import Emptied
from kafka_gateway.errors import TooManyRequests, Unauthorized
from kafka_gateway.session import Principal

log = logging.getLogger("gateway.auth")

_FILE: Final = "authentication.basic.file"

_HASH = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
"""22 characters of salt, of which the last holds two bits, and 31 of the hash."""
_COSTS: Final = range(4, 15)
"""Of bcrypt: 4 is its least, 14 takes a second. One line with 31 would occupy a thread for days."""
_PASSWORD_MAX: Final = 72
"""Bytes of a password that bcrypt looks at; htpasswd cuts longer ones too."""

_AT_ONCE: Final = 2
_WAITING_MAX: Final = 256
"""Different credentials being checked or waiting for it. One address has a few of them at most (door/guesses.py)."""
_KNOWN_MAX: Final = 10_000
_KNOWN_S: Final = 300.0
_TRUST_S: Final = 2.5
"""How long a client goes on before its credentials are looked at again. With what passes until that is done and until
the file is read, a removed user is out within five seconds (security.md §2; reliability.md S9)."""
_FILE_CHECK_S: Final = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """One line of the file."""

    password_hash: bytes
    roles: frozenset[str]


def read_users(text: str) -> dict[str, User]:
    """The users of a file as ``htpasswd -B`` writes it: ``name:hash`` a line, and after another colon the roles, if
    any: ``name:hash:role,role``. Empty lines and those that begin with ``#`` do not count.

    Raises:
        ValueError: names the line, and nothing of its content.
    """
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        password_hash, _, roles = rest.partition(":")
        found = _HASH.fullmatch(password_hash)
        if not name or found is None:
            raise ValueError(f"line {number} is not NAME:HASH[:ROLE,ROLE] with a bcrypt hash (htpasswd -B)")
        if int(found["cost"]) not in _COSTS:
            raise ValueError(f"line {number}: the cost of the hash is not {_COSTS[0]} to {_COSTS[-1]}")
        if name in users:
            raise ValueError(f"line {number}: that user stands in the file already")
        words = (word.strip() for word in roles.split(","))
        users[name] = User(password_hash.encode(), frozenset(word for word in words if word))
    return users


class BasicAuthenticator(Authenticator):
    """``authentication.method=BASIC``. Belongs to one event loop."""

    name = "BASIC"
    scheme = "basic"

    def __init__(self, config: Config) -> None:
        self._path = config.text(_FILE)
        self._realm = config.text("authentication.realm")
        self._place = config.place(_FILE)
        self._realm_place = config.place("authentication.realm")
        self._users: dict[str, User] = {}
        self._nobody = b""
        self._version: object = None
        self._looked_at = -math.inf
        self._trouble = ""
        self._emptied = Emptied(_FILE, log, lambda: time.monotonic())
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, tuple[str, User, float]] = {}
        self._checks: dict[bytes, asyncio.Task[tuple[str, User] | None]] = {}
        self._threads = asyncio.Semaphore(_AT_ONCE)
        escaped = self._realm.replace("\\", "\\\\").replace('"', '\\"')
        self._challenge = f'basic realm="{escaped}"'

    @property
    def challenge(self) -> str:
        return self._challenge

    def faults(self) -> Sequence[Fault]:
        found = []
        if not (self._realm.isascii() and self._realm.isprintable()):
            found.append(Fault(self._realm_place, "authentication.realm", "is not visible ASCII"))
        if not self._path:
            found.append(Fault(self._place, _FILE, "names no file, and authentication.method=BASIC needs its users"))
            return found
        try:
            self._load()
        except ConfigError as error:
            found += error.faults
        return found

    def told(self) -> str:
        return f"{_FILE} has {counted(len(self._users), 'user')}"

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        self._reload()
        token = _token(headers.get("authorization", ""))
        return self._recall(hmac.digest(self._key, token.encode(), "sha256")) if token is not None else None

    def _recall(self, digest: bytes) -> Principal | None:
        now = time.monotonic()
        known = self._known.get(digest)
        if known is not None and now < known[2] and self._users.get(known[0]) == known[1]:
            return Principal(known[0], known[1].roles, now + self._trust_s)
        self._known.pop(digest, None)
        return None

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        self._reload()
        token = _token(headers.get("authorization", ""))
        if token is None:
            raise self._refusal()
        digest = hmac.digest(self._key, token.encode(), "sha256")
        if (known := self._recall(digest)) is not None:
            return known
        credentials = _credentials(token)
        if credentials is None:
            raise self._refusal()
        check = self._checks.get(digest)
        if check is None:
            if len(self._checks) >= _WAITING_MAX:
                raise TooManyRequests("Too many passwords are being checked; send the request again later.")
            check = asyncio.get_running_loop().create_task(self._check(*credentials), name="check-password")
            self._checks[digest] = check
            check.add_done_callback(lambda done: self._checks.pop(digest, None))
        # The check is shared: a client that leaves must not take it from the others.
        found = await asyncio.shield(check)
        if found is None:
            log.info("refused the credentials of a client at %s", peer)
            raise self._refusal()
        name, user = found
        now = time.monotonic()
        if len(self._known) >= _KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[digest] = (name, user, now + _KNOWN_S)
        return Principal(name, user.roles, now + self._trust_s)

    @property
    def _trust_s(self) -> float:
        return 0.0 if self._emptied.in_doubt else _TRUST_S

    async def _check(self, name: str, password: bytes) -> tuple[str, User] | None:
        user = self._users.get(name)
        password_hash = self._nobody if user is None else user.password_hash
        async with self._threads:
            right = await asyncio.to_thread(bcrypt.checkpw, password[:_PASSWORD_MAX], password_hash)
        return (name, user) if right and user is not None else None

    def _refusal(self) -> Unauthorized:
        return Unauthorized(challenge=self._challenge)

    def reload(self) -> None:
        self._looked_at = -math.inf
        self._version = None
        self._reload()

    def _reload(self) -> None:
        """Takes over a changed file. A faulty or missing one changes nothing: it may be half written yet."""
        now = time.monotonic()
        if now - self._looked_at < _FILE_CHECK_S:
            return
        self._looked_at = now
        try:
            self._load()
            self._trouble = ""
        except ConfigError as error:
            if str(error) != self._trouble:  # told once, not every second
                log.error("%s; the users stay as they were", error)
            self._trouble = str(error)

    def _load(self) -> None:
        try:
            found = os.stat(self._path)
            version = (found.st_mtime_ns, found.st_size, found.st_ino)
            if version == self._version:
                return
            with open(self._path, encoding="utf-8") as file:
                users = read_users(file.read())
        except OSError as error:
            raise ConfigError([Fault(self._place, _FILE, f"{self._path} cannot be read: {error.strerror}")]) from None
        except ValueError as error:
            reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise ConfigError([Fault(self._place, _FILE, f"{self._path}: {reason}")]) from None
        if self._emptied.doubts(users, self._users):
            return
        self._version, self._users = version, users
        if not users:  # no fault, but hardly meant
            log.warning("%s has no users: nobody comes in with a password", self._path)
        costs = [int(user.password_hash[4:6]) for user in users.values()]
        if len(set(costs)) > 1:
            log.warning("%s: hashes of different cost tell by the time of a refusal who is a user", self._path)
        # The hash for names that are not in the file: as costly to check as the others. Made up, not computed: this is
        # the event loop.
        self._nobody = bcrypt.gensalt(max(costs, default=10)) + secrets.token_hex(16)[:31].encode()


def _token(authorization: str) -> str | None:
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() == "basic" and token and token.isascii() else None


def _credentials(token: str) -> tuple[str, bytes] | None:
    """User name and password; None if the token is not Basic's (RFC 7617 §2)."""
    try:
        name, colon, password = base64.b64decode(token, validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
