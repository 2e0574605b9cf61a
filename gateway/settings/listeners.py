"""The addresses on which the gateway listens: the ``listeners`` property, read and judged."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

_FORM = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z0-9_-]*)://(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:/?#@\s]*):(?P<port>\d{1,5})/?"
)


@dataclass(frozen=True, slots=True)
class Listener:
    """One address to listen on.

    ``name`` is the word before ``://``, by which ``listener.name.<name>.*`` refers to it. ``scheme`` is ``http``,
    ``https`` or ``unix``. ``port`` 0 asks the system for a free port. ``path`` is set for ``unix`` only.
    """

    name: str
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    transports: tuple[str, ...] = ()
    """Names of the transports that it offers; empty: all that need not be named."""
    admin: bool = False
    """Whether it is for operators: one of ``admin.listeners``."""

    @property
    def tls(self) -> bool:
        """True when clients must speak TLS."""
        return self.scheme == "https"

    @property
    def loopback(self) -> bool:
        """True when only programs on this machine can reach the listener."""
        if self.scheme == "unix" or self.host.lower() in ("localhost", "ip6-localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


def parse_listener(text: str, protocols: dict[str, str] | None = None) -> Listener:
    """The listener that ``http://host:port``, ``https://host:port``, ``NAME://host:port`` or ``unix:/path`` names.

    Args:
        protocols: what ``listener.protocol.map`` says: listener name to ``http`` or ``https``.
    Raises:
        ValueError: with a message for the operator.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"{text!r}: write unix:/absolute/path")
        # sun_path holds 108 bytes on Linux, the closing NUL among them (unix(7)).
        if len(path.encode()) > 107:
            raise ValueError(f"{text!r}: a socket path has at most 107 bytes")
        return Listener("unix", "unix", path=path)
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not http://HOST:PORT, https://HOST:PORT or unix:/PATH")
    name = match["name"]
    by_name = {known.lower(): scheme for known, scheme in (protocols or {}).items()}
    scheme = by_name.get(name.lower(), name.lower())
    if scheme not in ("http", "https"):
        raise ValueError(f"{text!r}: {name} is neither http nor https; say which in listener.protocol.map")
    port = int(match["port"])
    if port > 65535:
        raise ValueError(f"{text!r}: a port is at most 65535")
    return Listener(name, scheme, match["host"].strip("[]") or "0.0.0.0", port)


def clashes(listeners: Iterable[Listener]) -> list[str]:
    """A message for each pair of listeners that cannot both be opened."""
    messages = []
    seen: list[Listener] = []
    for listener in listeners:
        for other in seen:
            if _clash(listener, other):
                messages.append(f"{other} and {listener} ask for the same address")
        seen.append(listener)
    return messages


def _clash(one: Listener, other: Listener) -> bool:
    if "unix" in (one.scheme, other.scheme):
        return one.scheme == other.scheme and one.path == other.path
    if one.port != other.port or one.port == 0:
        return False
    everywhere = {"0.0.0.0", "::"}
    return one.host.lower() == other.host.lower() or one.host in everywhere or other.host in everywhere
