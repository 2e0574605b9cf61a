"""What ``cluster.peer.*`` says of the connections between nodes, and what is wrong with it (cluster.md §3)."""

from __future__ import annotations

import logging
import os
import ssl
import time
from dataclasses import dataclass, field
from typing import Final

from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.state_log import StateLog
from kafka_gateway.workers.addresses import PeerAddress, parse_net_address
from kafka_gateway.workers.greeting import SECRET_MIN
from kafka_gateway.workers.own_certificate import WrongCertificate, judge
from kafka_gateway.workers.part import count_of
from kafka_gateway.workers.peer_directory import PEER_DIR

log = logging.getLogger("gateway.workers")

LISTENER: Final = "cluster.peer.listener"
ADVERTISED: Final = "cluster.peer.advertised"
CERT: Final = "cluster.peer.tls.cert"
KEY: Final = "cluster.peer.tls.key"
CA: Final = "cluster.peer.tls.ca"
SECRET: Final = "cluster.peer.secret.file"
_SECRET_MAX: Final = 4096
_SOON_S: Final = 7 * 24 * 3600
"""So long before its end a certificate is spoken of."""


def brings_proofs(config: Config) -> bool:
    """Whether a forwarded request brings what its client proves itself with: Kafka is asked with it."""
    return config.text("kafka.credentials") != "gateway"


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """``listener`` and ``advertised`` are those of worker 0; None: this node does not listen for others. ``tls`` is
    there where the certificates are."""

    listener: PeerAddress | None
    advertised: PeerAddress | None
    tls: PeerTls | None
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, config: Config) -> PeerSettings:
        """ConfigError, with all faults."""
        faults: list[Fault] = []
        listener = _address(config, LISTENER, faults)
        advertised = _address(config, ADVERTISED, faults) or listener
        secret = _secret(config, faults)
        if listener is not None and advertised is not None:
            _judge(config, listener, advertised, faults)
        elif config.text(ADVERTISED) and not config.text(LISTENER):
            faults.append(_fault(config, ADVERTISED, f"has no effect without {LISTENER}"))
        tls = None
        given = [name for name in (CERT, KEY, CA) if config.text(name)]
        if len(given) == 3:
            try:
                tls = PeerTls(config, _named_host(advertised))
            except WrongCertificate as error:
                faults.append(_fault(config, CERT, f"{config.text(CERT)} {error}"))
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                faults.append(_fault(config, CERT, f"cannot be used with {KEY} and {CA}: {error}"))
        elif given or (listener is not None and listener.scheme == "tls"):
            missing = next(name for name in (CERT, KEY, CA) if name not in given)
            faults.append(_fault(config, missing, f"is missing: {CERT}, {KEY} and {CA} belong together"))
        if faults:
            raise ConfigError(faults)
        return cls(listener, advertised, tls, secret)


def peer_faults(config: Config) -> list[Fault]:
    """What is wrong with these settings: one of the checks of `gateway.config.load`."""
    try:
        PeerSettings.of(config)
    except ConfigError as error:
        return list(error.faults)
    return []


def reach_notes(config: Config) -> list[str]:
    """What to tell the operator at start of a node that other nodes may not reach; nothing if all is well."""
    listener, advertised = _parsed(config, LISTENER), _parsed(config, ADVERTISED)
    if listener is None:
        if config.text(PEER_DIR):
            return []
        return [
            f"other nodes of the cluster cannot reach this one: set {LISTENER}, or {PEER_DIR} where all of them are on"
            " this machine"
        ]
    for key, address in ((ADVERTISED, advertised), (LISTENER, listener)):
        if address is not None and address.is_loopback:
            return [
                f"other nodes of the cluster cannot reach this one, unless they are on this machine: {key} is"
                f" {address}, which leads to the machine itself; name one of its addresses in the network"
            ]
    return []


def _parsed(config: Config, key: str) -> PeerAddress | None:
    """What the key says, if that can be read: what cannot is a fault of its own."""
    try:
        return parse_net_address(config.text(key)) if config.text(key) else None
    except ValueError:
        return None


def _named_host(advertised: PeerAddress | None) -> str:
    """The host that this node's certificate has to name, "" for none: who only connects is reached by nobody."""
    if advertised is None or advertised.scheme != "tls" or advertised.everywhere:
        return ""
    return advertised.host


def _address(config: Config, key: str, faults: list[Fault]) -> PeerAddress | None:
    if not (text := config.text(key)):
        return None
    try:
        found = parse_net_address(text)
        found.of_worker(count_of(config) - 1)
    except ValueError as error:
        faults.append(_fault(config, key, str(error)))
        return None
    return found


def _secret(config: Config, faults: list[Fault]) -> bytes:
    if not (path := config.text(SECRET)):
        return b""
    try:
        with open(path, "rb") as file:
            found = file.read(_SECRET_MAX + 1).strip()
            is_open = os.fstat(file.fileno()).st_mode & 0o077
    except OSError as error:
        faults.append(_fault(config, SECRET, f"{path} cannot be read: {error.strerror}"))
        return b""
    if is_open:
        faults.append(_fault(config, SECRET, f"{path} must be its user's alone: chmod 600"))
    if not SECRET_MIN <= len(found) <= _SECRET_MAX:
        faults.append(
            _fault(
                config,
                SECRET,
                f"{path} must hold {SECRET_MIN} to {_SECRET_MAX} bytes, blanks at its ends aside: openssl rand -hex 32",
            )
        )
    return found


def _judge(config: Config, listener: PeerAddress, advertised: PeerAddress, faults: list[Fault]) -> None:
    if listener.scheme != advertised.scheme:
        faults.append(_fault(config, ADVERTISED, f"must begin with {listener.scheme}://, as {LISTENER} does"))
    if advertised.everywhere:
        key = ADVERTISED if config.text(ADVERTISED) else LISTENER
        faults.append(_fault(config, key, f"{advertised.host} is no address to connect to: set {ADVERTISED}"))
    if listener.scheme == "tcp":
        if not config.text(SECRET):
            text = f"tcp:// needs {SECRET}: nothing else tells who connects; or take tls://"
            faults.append(_fault(config, LISTENER, text))
        if brings_proofs(config):
            text = f"tcp:// does not go with kafka.credentials={config.text('kafka.credentials')}: it would carry the "
            faults.append(_fault(config, LISTENER, f"{text}clients' credentials in the clear; take tls://"))
    ports = range(listener.port, listener.port + count_of(config))
    try:
        clients = config.listeners()
    except ValueError:  # a fault of its own
        return
    faults += [
        _fault(config, LISTENER, f"has the port of {each}, where clients are served")
        for each in clients
        if each.scheme != "unix" and each.port in ports
    ]


def _fault(config: Config, key: str, text: str) -> Fault:
    return Fault(config.place(key), key, text)


def _day(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_s))


class PeerTls:
    """Both ends' TLS of the connections between nodes: certificates are shown and asked for, by both.

    ``host``: the one that this node's certificate has to name, "" for none.

    The files are looked at whenever a connection begins, and read again when they have changed; what cannot be used is
    logged once, and what there was stays. Belongs to the event loop.

    Raises OSError, ssl.SSLError: they cannot be used; WrongCertificate: other nodes would refuse this one.
    """

    def __init__(self, config: Config, host: str) -> None:
        self._host = host
        self.ends_at = 0.0
        """When this node's certificate ends, as time.time()."""
        self._paths = config.text(CERT), config.text(KEY), config.text(CA)
        self._seen = self._stamps()
        self._server, self._client = self._load()

    def of_server(self) -> ssl.SSLContext:
        """For the end that was connected to. It asks for a certificate; whose that is, is asked later."""
        self._look()
        return self._server

    def of_client(self) -> ssl.SSLContext:
        """For the end that connects. It judges the name of the host that it connects to."""
        self._look()
        return self._client

    def look_at_end(self, states: StateLog) -> None:
        """Tells when this node's certificate ends, or has ended. New files are taken."""
        self._look()
        left_s = self.ends_at - time.time()
        if left_s > _SOON_S:
            states.well(PeerTls, text="%s: the certificate is good until %s", values=(CERT, _day(self.ends_at)))
        elif left_s > 0:
            text = "%s: the certificate ends on %s; other nodes refuse it then: put a new one there"
            states.trouble(PeerTls, "soon", logging.WARNING, text, CERT, _day(self.ends_at))
        else:
            text = "%s: the certificate has ended, and other nodes refuse it: put a new one there"
            states.trouble(PeerTls, "ended", logging.ERROR, text, CERT)

    def _look(self) -> None:
        if (seen := self._stamps()) == self._seen:
            return
        self._seen = seen
        try:
            self._server, self._client = self._load()
        except WrongCertificate as error:
            log.error("%s: the certificates stay as they were: the new one %s", CERT, error)
        except (OSError, ValueError) as error:
            log.error("%s, %s, %s: the certificates stay as they were: %s", CERT, KEY, CA, error)
        else:
            log.info("loaded %s again", self._paths[0])

    def _stamps(self) -> tuple[tuple[int, ...], ...]:
        found: list[tuple[int, ...]] = []
        for path in self._paths:
            try:
                status = os.stat(path)
            except OSError:
                found.append(())
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _load(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        cert, key, ca = self._paths
        made = []
        for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(protocol)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            # A function: OpenSSL never asks on the terminal.
            context.load_cert_chain(cert, key, password=lambda: b"")
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
            made.append(context)
        # A peer that resumes a TLS session shows no certificate.
        made[0].num_tickets = 0
        made[2].check_hostname = False
        self.ends_at = judge(made[0], made[2], self._host)
        return made[0], made[1]
