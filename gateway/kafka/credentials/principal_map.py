"""Credentials that the operator has noted for principals which cannot pass on their own, such as certificates.

``kafka.credentials.mtls.map`` names a file that nobody else may read: ``PRINCIPAL USER PASSWORD`` a line, in quotation
marks what has blanks in it: ``"User:CN=sensor, O=Plant" sensor s3cret``. It is read again when it changes.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from typing import Final

from kafka_gateway.config import Config, Fault
from kafka_gateway.counted import counted
from kafka_gateway.emptied import Emptied
from kafka_gateway.rights import kind_meant

log = logging.getLogger("gateway.auth")

KEY: Final = "kafka.credentials.mtls.map"
_LOOK_EVERY_S: Final = 1.0


def read_map(path: str) -> dict[str, tuple[str, str]]:
    """User and password by principal. ValueError names the line, and nothing of its content; OSError."""
    mode = os.stat(path).st_mode
    if mode & 0o077:
        raise ValueError(f"others may read it (mode {mode & 0o777:04o}): chmod 600 it, it holds passwords")
    found: dict[str, tuple[str, str]] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                parts = shlex.split(line, comments=True)
            except ValueError:
                raise ValueError(f"line {number} has a quotation mark that is not closed") from None
            if not parts:
                continue
            if len(parts) != 3 or ":" not in parts[0]:
                raise ValueError(f"line {number} is not PRINCIPAL USER PASSWORD, such as User:sensor-1 sensor-1 s3cret")
            if meant := kind_meant(parts[0].partition(":")[0]):
                raise ValueError(f"line {number} has a kind of principal that is none (did you mean {meant}?)")
            if parts[0] in found:
                raise ValueError(f"line {number}: that principal stands in the file already")
            found[parts[0]] = (parts[1], parts[2])
    return found


def map_faults(config: Config) -> list[Fault]:
    """What is wrong with the file; one of the checks at start."""
    path = config.text(KEY)
    if not path:
        return []
    try:
        read_map(path)
    except (ValueError, OSError) as error:
        text = f"cannot be used: {error.strerror}" if isinstance(error, OSError) else str(error)
        return [Fault(config.place(KEY), KEY, text)]
    return []


def map_told(config: Config) -> str:
    """What ``--check`` says of the file, which has no faults; "" where there is none."""
    path = config.text(KEY)
    return f"{KEY} has {counted(len(read_map(path)), 'principal')}" if path else ""


class PrincipalMap:
    """The file as it is. Belongs to the event loop."""

    def __init__(self, config: Config) -> None:
        self._path = config.text(KEY)
        self._entries: dict[str, tuple[str, str]] = {}
        self._version: object = None
        self._emptied = Emptied(KEY, log)
        self._looked_at = float("-inf")

    def get(self, principal: str) -> tuple[str, str] | None:
        """User and password of ``kind:name``; None if the file has none for it."""
        if not self._path:
            return None
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._entries.get(principal)

    def _look(self) -> None:
        try:
            status = os.stat(self._path)
            version = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)
            if version != self._version:
                self._version = version
                entries = read_map(self._path)
                if self._emptied.doubts(entries, self._entries):
                    self._version = None  # to be read again
                else:
                    self._entries = entries
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            log.error("%s: %s; what was read before goes on", KEY, reason)
