"""TLS of the listeners: PEM files in, an SSLContext out."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl

from kafka_gateway.config import Config, ConfigError, Fault

log = logging.getLogger("gateway.tls")

_FILE_CHECK_S = 1.0

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_CERTIFICATE = {"NONE": ssl.CERT_NONE, "REQUESTED": ssl.CERT_OPTIONAL, "REQUIRED": ssl.CERT_REQUIRED}


def server_context(config: Config) -> ssl.SSLContext:
    """The context of one listener, from its ``ssl.*`` keys. ConfigError names the key whose file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    versions = [_VERSIONS[name] for name in config.items("ssl.enabled.protocols") if name in _VERSIONS]
    context.minimum_version = min(versions, default=ssl.TLSVersion.TLSv1_2)
    if versions:
        context.maximum_version = max(versions)
    if ciphers := config.items("ssl.cipher.suites"):
        context.set_ciphers(":".join(ciphers))
    load_certificate(context, config)
    if authorities := config.text("ssl.truststore.location"):
        try:
            context.load_verify_locations(authorities)
        except (OSError, ssl.SSLError) as error:
            raise _fault("ssl.truststore.location", error) from None
    context.verify_mode = _CLIENT_CERTIFICATE[config.text("ssl.client.authentication")]
    return context


def load_certificate(context: ssl.SSLContext, config: Config) -> None:
    """Loads the certificate, also into a context in use: new connections get the new one."""
    password = config.secret("ssl.key.password") or config.secret("ssl.keystore.password")
    try:
        # A function, so that OpenSSL never asks on the terminal.
        context.load_cert_chain(config.text("ssl.keystore.location"), password=lambda: password)
    except (OSError, ssl.SSLError) as error:
        raise _fault("ssl.keystore.location", error) from None


async def follow(context: ssl.SSLContext, config: Config) -> None:
    """Loads the certificate again whenever its file has changed, for ever; one that cannot be used is logged, once."""
    path = config.text("ssl.keystore.location")
    seen = _stamp(path)
    while True:
        await asyncio.sleep(_FILE_CHECK_S)
        stamp = _stamp(path)
        if stamp == seen:
            continue
        seen = stamp
        try:
            # On trial first: a file that is half written would leave the context with a certificate and no key.
            load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), config)
            load_certificate(context, config)
        except ConfigError as error:
            log.warning("the certificate stays as it was: %s", error)
        else:
            log.info("loaded the certificate in %s again", path)


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _fault(key: str, error: Exception) -> ConfigError:
    return ConfigError([Fault(key=key, place="", message=f"cannot be used: {error}")])
