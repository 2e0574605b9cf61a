"""TLS of the listeners: from their ``ssl.*`` keys to the contexts with which connections are made.

Each listener has one context for as long as it is open. Connections only begin with it: a client is then given the
context made of the files as they are at that moment, by the name of the host that it asks for (RFC 6066, section 3). So
new files count for new connections, and no connection is dropped. What cannot be changed that way, versions, ciphers
and whether there is a list of revoked certificates, stays as it was at the start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping
from typing import Final

from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.counted import counted
from kafka_gateway.door import key_files

log = logging.getLogger("gateway.tls")

_FILE_CHECK_S = 1.0

KEYSTORE: Final = "ssl.keystore.location"
TRUSTSTORE: Final = "ssl.truststore.location"
REVOKED: Final = "ssl.crl.location"
SNI: Final = "ssl.sni."

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_CERTIFICATE = {"NONE": ssl.CERT_NONE, "REQUESTED": ssl.CERT_OPTIONAL, "REQUIRED": ssl.CERT_REQUIRED}


class ListenerTls:
    """TLS of one listener. ConfigError names the key whose file cannot be used."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._hosts = _hosts(config)
        self._current, self._by_host, self.ends_at = self._load()
        self._seen = self._stamps()
        self.context = _context(config)
        """What the listener is opened with."""
        self.context.sni_callback = self._choose
        self.asks_certificate = self.context.verify_mode != ssl.CERT_NONE
        """Whether clients may show one."""
        self._follows = config.flag("ssl.keystore.reload")

    def _choose(self, connection: ssl.SSLObject, host: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._of_host(host) if host and self._by_host else self._current

    def _of_host(self, host: str) -> ssl.SSLContext:
        name = host.lower()
        found = self._by_host.get(name) or self._by_host.get("*." + name.partition(".")[2])
        return found or self._current

    def reload(self) -> None:
        """Takes what the files say now; what cannot be used is logged, and what there was stays."""
        self._seen = self._stamps()
        try:
            self._current, self._by_host, self.ends_at = self._load()
        except ConfigError as error:
            log.warning("the certificates stay as they were: %s", error)
        else:
            log.info("loaded the certificates in %s again", self._config.text(KEYSTORE))

    async def follow(self) -> None:
        """Loads the files again whenever one has changed, until it is cancelled; what cannot be used is logged once."""
        while self._follows:
            await asyncio.sleep(_FILE_CHECK_S)
            if self._stamps() != self._seen:
                self.reload()

    def _load(self) -> tuple[ssl.SSLContext, Mapping[str, ssl.SSLContext], float]:
        current = _context(self._config)
        ends_at = _load_key(current, self._config)
        by_host = {}
        for host, settings in self._hosts.items():
            by_host[host] = context = _context(self._config)
            password = settings.get("keystore.password", "")
            key = f"{SNI}{host}.keystore.location"
            try:
                ends = key_files.load_key(
                    context, settings["keystore.location"], password, settings.get("key.password", "")
                )
            except (OSError, ValueError) as error:
                raise _fault(self._config, key, error) from None
            ends_at = min(ends_at, ends)
        return current, by_host, ends_at

    def _stamps(self) -> tuple[tuple[int, ...], ...]:
        """What tells whether a file has changed."""
        config = self._config
        paths = [config.text(KEYSTORE), config.text(TRUSTSTORE), config.text(REVOKED)]
        paths += [settings.get("keystore.location", "") for settings in self._hosts.values()]
        return tuple(_stamp(path) for path in paths if path)


def _context(config: Config) -> ssl.SSLContext:
    """All but the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    versions = [_VERSIONS[name] for name in config.items("ssl.enabled.protocols") if name in _VERSIONS]
    context.minimum_version = min(versions, default=ssl.TLSVersion.TLSv1_2)
    if versions:
        context.maximum_version = max(versions)
    if ciphers := config.items("ssl.cipher.suites"):
        try:
            context.set_ciphers(":".join(ciphers))
        except ssl.SSLError as error:
            raise _fault(config, "ssl.cipher.suites", error) from None
    context.set_alpn_protocols(["http/1.1"])
    if authorities := config.text(TRUSTSTORE):
        try:
            key_files.load_authorities(context, authorities, config.secret("ssl.truststore.password"))
        except (OSError, ValueError) as error:
            raise _fault(config, TRUSTSTORE, error) from None
    context.verify_mode = _CLIENT_CERTIFICATE[config.text("ssl.client.authentication")]
    if context.verify_mode != ssl.CERT_NONE:
        # A client that resumes a session shows no certificate: nobody would check whether it is still valid.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        if revoked := config.text(REVOKED):
            try:
                key_files.load_revocations(context, revoked)
            except (OSError, ValueError) as error:
                raise _fault(config, REVOKED, error) from None
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _load_key(context: ssl.SSLContext, config: Config) -> float:
    try:
        return key_files.load_key(
            context, config.text(KEYSTORE), config.secret("ssl.keystore.password"), config.secret("ssl.key.password")
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise _fault(config, KEYSTORE, error) from None


def _hosts(config: Config) -> dict[str, dict[str, str]]:
    """Host → what ``ssl.sni.HOST.`` says of its certificate."""
    hosts: dict[str, dict[str, str]] = {}
    for rest, text in config.under(SNI).items():
        for name in SNI_NAMES:
            if rest.endswith("." + name):
                hosts.setdefault(rest.removesuffix("." + name).lower(), {})[name] = text
    for host, settings in hosts.items():
        if not settings.get("keystore.location"):
            key = f"{SNI}{host}.keystore.location"
            raise ConfigError([Fault("", key, "names no file with this host's certificate")])
    return hosts


SNI_NAMES: Final = ("keystore.location", "keystore.password", "key.password")


def certificate_refusal(error: OSError) -> str:
    """Why a client's certificate was refused, or that it has shown none, if TLS could not begin for that; else ""."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "no client certificate was shown"
    return ""


NO_HOST: Final = "the name of the host that is asked for (SNI) has bytes that no such name has"


def is_of_host(error: OSError) -> bool:
    """Whether TLS could not begin because the name of the host that the client asks for is none
    (`kafka_gateway.host_names`)."""
    return isinstance(error, ssl.SSLError) and error.reason == "CALLBACK_FAILED"


def tell_no_host(count: int, peer: str, reason: str) -> None:
    """Tells the log of so many clients that asked for a host with such a name since it was told last."""
    log.info("refused TLS of %s, the last one at %s: %s", counted(count, "client"), peer, reason)


def tell_refused(count: int, peer: str, reason: str) -> None:
    """Tells the log of so many clients whose certificates were refused since it was told last."""
    log.info("refused the certificates of %s, the last one at %s: %s", counted(count, "client"), peer, reason)


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _fault(config: Config, key: str, error: Exception) -> ConfigError:
    return ConfigError([Fault(key=key, place=config.place(key), message=f"cannot be used: {error}")])


def tls_faults(config: Config) -> list[Fault]:
    """What is wrong with the files of the listeners: one of the checks of `gateway.config.load`."""
    found: list[Fault] = []
    try:
        listeners = config.listeners()
    except ValueError:  # a fault of its own
        return found
    for name in dict.fromkeys(each.name for each in listeners if each.tls):
        own = config.for_listener(name)
        if own.text(KEYSTORE):
            try:
                ListenerTls(own)
            except ConfigError as error:
                found += error.faults
    return list(dict.fromkeys(found))
