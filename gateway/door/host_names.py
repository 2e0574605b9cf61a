"""Under which host names a gateway answers that asks nobody who they are, and that only this machine can reach.

Such a gateway trusts whoever reaches it, and a page that a browser on this machine shows does: the page's own name is
made to lead to 127.0.0.1, and the browser takes the gateway for the page's own server (DNS rebinding). What gives it
away is the name in ``Host`` (RFC 9110 §7.2). No page can have an address, a name of the loopback interface, or a name
without a dot as its own, for nobody can register these.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import Final
from urllib.parse import urlsplit

from kafka_gateway.config import Config
from kafka_gateway.errors import HostNotAllowed
from kafka_gateway.settings.listeners import Listener

log = logging.getLogger("gateway.host")

KEY: Final = "host.allowed"
_KNOWN_MAX: Final = 1000
_KNOWN_LENGTH_MAX: Final = 255
_TOLD_MAX: Final = 20


class HostNames:
    """The names of one gateway. Belongs to the event loop."""

    def __init__(self, config: Config) -> None:
        listed = [_plain(each) for each in config.items(KEY)]
        self._all = "*" in listed
        self._suffixes = (".localhost", *(each[1:] for each in listed if each.startswith("*.")))
        own = [urlsplit(each).hostname or "" for each in config.items("advertised.listeners")]
        self._names = frozenset(
            ("", *listed, *map(_plain, own), _plain(config.text("host.name")), _plain(socket.gethostname()))
        )
        self._known: set[str] = set()
        """Hosts, with their ports, under which it answers: looking at one again would cost more than the request."""
        self._told: set[str] = set()

    def check(self, *hosts: str) -> None:
        """Refuses a request that came under another name. ``hosts``: its ``Host``, "" if it has none, and what a
        trusted proxy says that its client asked for. HostNotAllowed."""
        for host in hosts:
            if host not in self._known:
                self._check(host)

    def _check(self, host: str) -> None:
        name = _plain(host if host.endswith("]") else host.rpartition(":")[0] or host)
        if not (self._all or name in self._names or "." not in name or name.endswith(self._suffixes)):
            try:
                ipaddress.ip_address(name)
            except ValueError:
                self._tell(name)
                raise HostNotAllowed(
                    f"The gateway does not answer under the name {name[:100]}: it asks nobody who they are, and a page "
                    f"of that name could use it. If a proxy in front has that name, list it in {KEY}."
                ) from None
        if len(host) <= _KNOWN_LENGTH_MAX:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known.add(host)

    def _tell(self, name: str) -> None:
        """Once for each name, and for a few: an operator looks into the log when a new proxy gets no answer."""
        if len(self._told) < _TOLD_MAX and name not in self._told:
            self._told.add(name)
            log.warning("refused a request for the host %r, which is not in %s", name[:100], KEY)


def checks_names(config: Config, listener: Listener) -> bool:
    """Whether requests through the listener may be a rebound page's: no proof is asked for, and where others can reach
    the gateway too, it is open to them anyhow. No browser speaks over a Unix socket."""
    return listener.loopback and listener.scheme != "unix" and not config.for_listener(listener.name).asks_who


def _plain(name: str) -> str:
    """As names are compared (RFC 1035, section 2.3.3), and without the dot of the root, and brackets."""
    return name.strip("[]").lower().removesuffix(".")
