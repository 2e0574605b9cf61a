"""Revoked certificates: the lists are read again when the files change, for clients that are connected already.

New connections are refused by TLS itself; this is about clients whose certificate is revoked while they are connected.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Final

from cryptography import x509

from kafka_gateway.door.key_files import read_revocations

log = logging.getLogger("gateway.auth")

_LOOK_EVERY_S: Final = 1.0


class Revocations:
    """What the lists in some files say. A file that cannot be read changes nothing, and is logged once."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._looked_at = float("-inf")
        self._version: object = None
        self._revoked: frozenset[tuple[bytes, int]] = frozenset()

    def reload(self) -> None:
        """Reads the files again now."""
        self._version = None
        self._looked_at = float("-inf")

    def has(self, issuer: bytes, serial: int) -> bool:
        """Whether that issuer (a name in DER) has revoked the certificate of that number."""
        now = time.monotonic()
        if self._paths and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._read()
        return (issuer, serial) in self._revoked

    def _read(self) -> None:
        version = tuple(_version_of(path) for path in self._paths)
        if version == self._version:
            return
        self._version = version
        found: set[tuple[bytes, int]] = set()
        try:
            lists: list[x509.CertificateRevocationList] = [
                each for path in self._paths for each in read_revocations(path)
            ]
            for each in lists:
                found.update((each.issuer.public_bytes(), entry.serial_number) for entry in each)
        except (OSError, ValueError) as error:
            log.error("ssl.crl.location cannot be read: %s; what was revoked stays so", error)
            return
        self._revoked = frozenset(found)


def _version_of(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino
