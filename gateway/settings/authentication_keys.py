"""The keys of how clients prove who they are (security.md §2)."""

from __future__ import annotations

from kafka_gateway.settings.declaration import ConfigKey, section

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Of tokens: those with a public key."""

AUTHENTICATION = section(
    "Authentication",
    ConfigKey(
        name="authentication.method",
        type="list",
        default=("NONE",),
        doc="How clients prove who they are: NONE, BASIC, OPENID, MTLS, KAFKA, names of plugins' authenticators; of "
        "several the first counts whose kind of proof a request carries.",
    ),
    ConfigKey(
        name="authentication.basic.file",
        type="file",
        doc="Users of BASIC, one a line as htpasswd -B writes them: NAME:HASH, or NAME:HASH:ROLE,ROLE.",
    ),
    ConfigKey(name="authentication.realm", doc="Realm that a refused client is told."),
    ConfigKey(
        name="authentication.roles",
        type="list",
        default=("*",),
        doc="Roles that may use the gateway; *: everyone who is authenticated.",
    ),
    ConfigKey(
        name="authentication.skip.paths",
        type="list",
        default=(),
        doc="Paths open to everyone; /health/* is all below /health.",
    ),
    ConfigKey(
        name="authentication.failures.max",
        type="int",
        default=20,
        minimum=0,
        doc="Wrong proofs of one address in a minute; further ones are answered 429. 0: no limit.",
    ),
)

MTLS = section(
    "Client certificates (authentication.method=MTLS)",
    ConfigKey(
        name="authentication.mtls.name",
        type="enum",
        default="subject",
        choices=("subject", "spiffe"),
        doc="What names the principal: the certificate's subject, by ssl.principal.mapping.rules, or its SPIFFE URI.",
    ),
    ConfigKey(
        name="ssl.principal.mapping.rules",
        default="DEFAULT",
        doc="Kafka's rules, separated by commas: RULE:PATTERN/REPLACEMENT/[LU], or DEFAULT for the whole subject. The "
        "first whose pattern fits the whole subject counts.",
        example="RULE:^CN=([^,]+).*$/$1/,DEFAULT",
    ),
)

OPENID = section(
    "Tokens of OpenID providers (authentication.method=OPENID)",
    ConfigKey(
        name="authentication.openid.issuers",
        type="list",
        default=(),
        doc="Issuers whose tokens are taken, as they stand in the claim iss.",
        example="https://login.example.org/realms/kafka",
    ),
    ConfigKey(
        name="authentication.openid.audience",
        type="list",
        default=(),
        doc="Audiences, one of which a token must be for (claim aud).",
        example="kafka-gateway",
    ),
    ConfigKey(
        name="authentication.openid.jwks.url",
        type="list",
        default=(),
        doc="Where the keys of each issuer are, in the order of the issuers; empty: as their discovery documents say.",
    ),
    ConfigKey(
        name="authentication.openid.algorithms",
        type="list",
        default=ALGORITHMS,
        doc="Algorithms of signatures that are taken.",
    ),
    ConfigKey(name="authentication.openid.principal.claim", default="sub", doc="Claim that names the principal."),
    ConfigKey(
        name="authentication.openid.principal.prefix",
        type="list",
        default=(),
        doc="What stands before the names of each issuer's principals, in the order of the issuers; - for nothing.",
        example="staff.,partners.",
    ),
    ConfigKey(
        name="authentication.openid.roles.claim",
        default="realm_access.roles",
        doc="Claim that lists the roles, a path with dots; empty: none.",
    ),
    ConfigKey(
        name="authentication.openid.leeway.ms",
        type="duration",
        default=0,
        unit="ms",
        maximum=300_000,
        doc="How far the clocks of provider and gateway may differ.",
    ),
    ConfigKey(
        name="authentication.openid.require.https",
        type="bool",
        default=True,
        doc="Whether issuers and keys are asked over https only.",
    ),
    ConfigKey(
        name="authentication.openid.require.exp",
        type="bool",
        default=True,
        doc="Whether tokens without an end (claim exp) are refused.",
    ),
)
