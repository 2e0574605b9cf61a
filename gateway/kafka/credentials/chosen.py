"""Which credentials a client uses for Kafka: the one place that looks at what it shows (security.md §4).

In this order: claims of its token, ``X-Kafka-Auth``, Basic credentials that Kafka judges (authentication.method=KAFKA),
its token itself, and what the operator has noted for its principal. What comes first counts, even if it is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka_gateway.caller import KafkaLease
from kafka_gateway.config import Config, Fault
from kafka_gateway.errors import KafkaLoginRefused, Unauthorized
from kafka_gateway.kafka.clients.properties import client_properties
from kafka_gateway.kafka.credentials.client_sets import ClientSet, ClientSets
from kafka_gateway.kafka.credentials.credential import (
    BEARER,
    PASSWORD_MECHANISMS,
    Credential,
    of_basic,
    of_bearer,
    of_header,
)
from kafka_gateway.kafka.credentials.judge import Judge
from kafka_gateway.kafka.credentials.principal_map import PrincipalMap, map_faults
from kafka_gateway.session import ANONYMOUS, Principal, Session

_KEY: Final = "kafka.credentials"
_USERNAME: Final = "authentication.openid.kafka.username.claim"
_PASSWORD: Final = "authentication.openid.kafka.password.claim"
_OLD: Final = "kafka.ws.proxy.server.openid-connect.custom-jwt"
_TOKEN_ONLY: Final = f"{_OLD}.kafka-token-auth-only"
_HEADER: Final = "x-kafka-auth"
_MISSING: Final = (
    "This gateway asks Kafka with its clients' own credentials: send some, for example in "
    "X-Kafka-Auth: base64(user:password)."
)
_FOREVER: Final = float("inf")


def mechanism(config: Config) -> str:
    """With which mechanism names and passwords of clients are shown to Kafka; "" if there is none for them."""
    properties = client_properties(config, "admin")
    if not properties.get("security.protocol", "").lower().startswith("sasl"):
        return ""
    found = str(config[f"{_KEY}.mechanism"]) or properties.get("sasl.mechanism", "").upper()
    return found if found in PASSWORD_MECHANISMS else ""


def is_secured(config: Config) -> bool:
    """Whether clients of the brokers log in."""
    return client_properties(config, "admin").get("security.protocol", "").lower().startswith("sasl")


def credential_faults(config: Config) -> list[Fault]:
    """What is wrong with the settings of this room; one of the checks of `gateway.config.load`."""
    mode, found = config.text(_KEY), []
    judged = "KAFKA" in config.methods

    def fault(key: str, text: str) -> None:
        found.append(Fault(config.place(key), key, text))

    if (mode != "gateway" or judged) and not (config.items("bootstrap.servers") and is_secured(config)):
        key = _KEY if mode != "gateway" else "authentication.method"
        if config.items("bootstrap.servers"):
            text = "Kafka judges no credentials on a listener without SASL: set client.security.protocol=SASL_SSL"
        else:
            text = "needs a Kafka that judges credentials; the embedded one does not: set bootstrap.servers"
        fault(key, text)
    elif judged and not mechanism(config):
        fault(
            "authentication.method",
            f"KAFKA needs client.sasl.mechanism to be one of {', '.join(PASSWORD_MECHANISMS)}, "
            f"or {_KEY}.mechanism where the gateway's own is another",
        )
    # The proxy's keys for them switch nothing on if there is only one (websocket-proxy.md §1.3.4).
    implied = any(config.text(f"{_OLD}.jwt-kafka-{name}-key") for name in ("username", "password"))
    if bool(config.text(_USERNAME)) != bool(config.text(_PASSWORD)) and not implied:
        fault(_USERNAME if config.text(_USERNAME) else _PASSWORD, "without the other claim it has no effect: set both")
    return [*found, *map_faults(config)]


class ChosenCredentials:
    """`kafka_gateway.caller.CredentialsOf`. Belongs to the event loop."""

    def __init__(self, config: Config, judge: Judge, sets: ClientSets) -> None:
        self._judge = judge
        self._sets = sets
        self._mode = config.text(_KEY)
        self._mechanism = mechanism(config)
        self._claims = (config.text(_USERNAME), config.text(_PASSWORD))
        self._token_only = config.flag(_TOKEN_ONLY)
        self._judges_basic = "KAFKA" in config.methods
        self._passes_tokens = config.text(f"{_KEY}.bearer") == "passthrough"
        self._map = PrincipalMap(config)
        # Authorization may be read by no authenticator at all, and is the client's credentials for Kafka all the same.
        self.fields = (_HEADER, "authorization") if self._passes_tokens else (_HEADER,)

    @property
    def is_own_allowed(self) -> bool:
        """Whether a client without credentials is served by the gateway's own."""
        return self._mode != "client"

    def recall(self, principal: Principal, proof: Mapping[str, str]) -> tuple[ClientSet | None, float] | None:
        if self._mode == "gateway":
            return None, _FOREVER
        credential = self._choose(principal, proof)
        if credential is None:
            if self._mode == "client":
                raise Unauthorized(_MISSING)
            return None, _FOREVER
        until = self._judge.recall(credential)
        return (self._sets.of(credential), until) if until is not None else None

    async def lease(self, principal: Principal, proof: Mapping[str, str]) -> tuple[ClientSet | None, float]:
        if (known := self.recall(principal, proof)) is not None:
            return known
        credential = self._choose(principal, proof)
        return (None, _FOREVER) if credential is None else await self._leased(credential)

    async def lease_of_socket(self, session: Session) -> ClientSet:
        """The clients for a socket of the proxy's protocol: never the gateway's own, whatever ``kafka.credentials``
        says (websocket-proxy.md §1.3.4). Raises as ``lease``. The session is looked at again as others are."""
        if isinstance(session.kafka, ClientSet):
            return session.kafka  # looked at when the session was opened
        credential = self._choose(session.principal, session.proof)
        if credential is None:
            raise Unauthorized(_MISSING)
        found, until = await self._leased(credential)
        self.use(session, found)
        session.end_by(until)
        return found

    async def lease_again(
        self, session: Session, principal: Principal, proof: Mapping[str, str]
    ) -> tuple[ClientSet | None, float]:
        credential = self._choose(principal, proof)
        if credential is None:
            raise Unauthorized(_MISSING)
        return await self._leased(credential)

    def use(self, session: Session, lease: KafkaLease | None) -> None:
        before = session.kafka
        if before is lease:
            return
        if isinstance(before, ClientSet):
            before.sessions.discard(session)
        session.kafka = lease
        if isinstance(lease, ClientSet):
            lease.sessions.add(session)

    async def _leased(self, credential: Credential) -> tuple[ClientSet, float]:
        until = await self._judge.judge(credential)
        return self._sets.of(credential), until

    def _choose(self, principal: Principal, proof: Mapping[str, str]) -> Credential | None:
        """What the client shows. Unauthorized where only claims count, and there are none."""
        if self._mechanism:
            if (found := self._of_claims(principal)) is not None:
                return found
            if self._token_only:
                raise KafkaLoginRefused("The token brings no credentials for Kafka.")
            pair = of_header(proof.get(_HEADER, ""))
            if pair is None and self._judges_basic:
                pair = of_basic(proof.get("authorization", ""))
            if pair is not None:
                return Credential(self._mechanism, *pair)
        if self._passes_tokens and (token := of_bearer(proof.get("authorization", ""))):
            return Credential(BEARER, "" if principal is ANONYMOUS else str(principal), token)
        if self._mechanism and (pair := self._map.get(str(principal))) is not None:
            return Credential(self._mechanism, *pair)
        return None

    def _of_claims(self, principal: Principal) -> Credential | None:
        name, password = self._claims
        if not name or not password:
            return None
        found = principal.attributes.get(name), principal.attributes.get(password)
        if isinstance(found[0], str) and isinstance(found[1], str) and found[0]:
            return Credential(self._mechanism, found[0], found[1])
        return None


class BasicJudge:
    """What `kafka_gateway.authenticators.kafka` asks: whether Kafka takes a name and a password."""

    def __init__(self, config: Config, judge: Judge) -> None:
        self._mechanism = mechanism(config)
        self._judge = judge

    def recall(self, user: str, password: str) -> float | None:
        """Until when they are good, by time.monotonic(); None if that is not known. KafkaLoginRefused."""
        return self._judge.recall(Credential(self._mechanism, user, password))

    async def judge(self, user: str, password: str) -> float:
        """As ``recall``, asking if need be. Unavailable while Kafka cannot say."""
        return await self._judge.judge(Credential(self._mechanism, user, password))
