"""Client certificates: TLS has verified them, here they get a name (security.md §2)."""

from __future__ import annotations

import base64
import dataclasses
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cryptography import x509

from kafka_gateway.auth import CERTIFICATE, Authenticator
from kafka_gateway.authenticators.mapping_rules import MappingRule, read_mapping_rules, subject_of
from kafka_gateway.authenticators.revocations import Revocations
from kafka_gateway.config import Config, Fault
from kafka_gateway.errors import Unauthorized
from kafka_gateway.session import Principal

log = logging.getLogger("gateway.auth")

RULES: Final = "ssl.principal.mapping.rules"
_TRUST_S: Final = 2.5
"""How long a client goes on before its certificate is looked at again."""
_KNOWN_MAX: Final = 10_000
_NAME_MAX: Final = 1000
_SPIFFE_MAX: Final = 2048
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)*")
"""A trust domain, and segments of a path, none of which is empty, . or .. (SPIFFE-ID, sections 2.1 to 2.3)."""


class MtlsAuthenticator(Authenticator):
    """``authentication.method=MTLS``. Belongs to one event loop."""

    name = "MTLS"
    proof = (CERTIFICATE,)

    def __init__(self, config: Config) -> None:
        self._config = config
        self._by_uri = config.text("authentication.mtls.name") == "spiffe"
        self._rules: Sequence[MappingRule] = ()
        own = [config, *(config.for_listener(name) for name in _tls_listeners(config))]
        paths = dict.fromkeys(path for each in own if (path := each.text("ssl.crl.location")))
        self._revocations = Revocations(tuple(paths))
        self._known: dict[str, _Known] = {}
        """By certificate."""

    def faults(self) -> Sequence[Fault]:
        config, found = self._config, []
        try:
            self._rules = read_mapping_rules(config.text(RULES))
        except ValueError as error:
            found.append(Fault(config.place(RULES), RULES, str(error)))
        key = "ssl.client.authentication"
        listeners = _tls_listeners(config)
        if not any(config.for_listener(name).text(key) != "NONE" for name in listeners):
            found.append(Fault(config.place(key), key, "no listener asks clients for certificates; write REQUESTED"))
        for name in listeners:
            own = config.for_listener(name)
            if own.text(key) != "NONE" and not own.text("ssl.truststore.location"):
                where = "ssl.truststore.location"
                found.append(
                    Fault(own.place(where), where, "names no authorities, so no certificate would be believed")
                )
                break
        return found

    def reload(self) -> None:
        self._revocations.reload()

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        shown = headers.get(CERTIFICATE, "")
        known = self._known.get(shown)
        if known is None:
            return None
        left = known.ends_at - time.time()
        if left <= 0 or self._revocations.has(known.issuer, known.serial):
            del self._known[shown]
            return None
        named = known.named
        until = time.monotonic() + min(left, _TRUST_S)
        return Principal(named.name, until=until, attributes=named.attributes)

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        shown = headers.get(CERTIFICATE, "")
        if not shown:
            raise Unauthorized("The gateway asks for a client certificate, which was not shown.")
        if (recalled := self.recall(headers)) is not None:
            return recalled
        try:
            known = self._known_of(x509.load_der_x509_certificate(base64.b64decode(shown)))
        except ValueError:  # OpenSSL has verified it, but the library cannot read it
            raise Unauthorized("The client certificate cannot be read.") from None
        if known.ends_at <= time.time():
            raise Unauthorized("The client certificate has expired.")
        if self._revocations.has(known.issuer, known.serial):
            raise Unauthorized("The client certificate has been revoked.")
        if len(self._known) >= _KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[shown] = known
        recalled = self.recall(headers)
        if recalled is None:
            raise Unauthorized("The client certificate has expired.")
        return recalled

    def _known_of(self, certificate: x509.Certificate) -> _Known:
        names = _alternative_names(certificate)
        subject = subject_of(certificate)
        if self._by_uri:
            name = next(
                (each for kind, each in names if kind is x509.UniformResourceIdentifier and _is_spiffe(each)), ""
            )
        else:
            name = next((each for rule in self._rules if (each := rule.name_of(subject)) is not None), "")
        if not name or len(name) > _NAME_MAX or not name.isprintable():
            log.info("a client certificate names nobody: %r", subject[:300])
            where = "it has no SPIFFE URI" if self._by_uri else f"no rule of {RULES} gives its subject a name"
            raise Unauthorized(f"The client certificate names nobody: {where}.")
        attributes: dict[str, Any] = {"subject": subject, "san": [each for _, each in names]}
        return _Known(
            Principal(name, attributes=attributes),
            certificate.not_valid_after_utc.timestamp(),
            certificate.issuer.public_bytes(),
            certificate.serial_number,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    """A certificate that a principal was made of."""

    named: Principal
    ends_at: float
    """Seconds since 1970."""
    issuer: bytes
    serial: int


def _tls_listeners(config: Config) -> list[str]:
    try:
        return [each.name for each in config.listeners() if each.tls]
    except ValueError:  # a fault of its own
        return []


def _alternative_names(certificate: x509.Certificate) -> list[tuple[type[x509.GeneralName], str]]:
    """The names of the host or URIs that the certificate has besides its subject, and of which kind each is."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    kinds = (x509.UniformResourceIdentifier, x509.DNSName)
    return [(type(each), str(each.value)) for each in found if isinstance(each, kinds)]


def _is_spiffe(uri: str) -> bool:
    """Whether it is the id of a workload, or of a whole trust domain (SPIFFE-ID, section 2)."""
    return len(uri) <= _SPIFFE_MAX and _SPIFFE.fullmatch(uri) is not None
