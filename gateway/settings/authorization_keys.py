"""The keys of what principals may do, how much of it, and what is written down about it (security.md §3, §5, §7)."""

from __future__ import annotations

from kafka_gateway.settings.declaration import ConfigKey, section

AUTHORIZATION = section(
    "Authorisation",
    ConfigKey(
        name="authorization.file",
        type="file",
        doc="Rules: who may do what, one a line (docs/security.md). Without it every principal may do everything.",
    ),
    ConfigKey(
        name="authorization.super.users",
        type="list",
        default=(),
        doc="Principals that may do everything whatever the rules say, such as User:admin, Role:operators.",
    ),
)

QUOTAS = section(
    "Quotas of each principal",
    ConfigKey(
        name="quota.requests.per.sec",
        type="int",
        default=0,
        minimum=0,
        doc="Requests of one principal a second; further ones are answered 429. 0: no limit, here and below.",
    ),
    ConfigKey(
        name="quota.produce.bytes.per.sec",
        type="long",
        default=0,
        minimum=0,
        doc="Bytes of the bodies that one principal produces with; further ones are answered 429.",
    ),
    ConfigKey(
        name="quota.consume.bytes.per.sec",
        type="long",
        default=0,
        minimum=0,
        doc="Bytes of records that one principal gets; reads are answered 429 above it, streams are slowed down.",
    ),
    ConfigKey(
        name="quota.connections",
        type="int",
        default=0,
        minimum=0,
        doc="Connections of one principal that are open at the same time.",
    ),
    ConfigKey(
        name="quota.streams",
        type="int",
        default=0,
        minimum=0,
        doc="Streams, pushes and sockets of one principal that are open at the same time.",
    ),
    ConfigKey(
        name="quota.consumer.instances",
        type="int",
        default=100,
        minimum=0,
        doc="Consumer instances of one principal. With authentication.method=NONE all clients are one principal, and "
        "it counts only if it is set.",
    ),
    live=True,
)

AUDIT = section(
    "Audit log",
    ConfigKey(
        name="audit.log",
        doc="File, or stderr, for one JSON line a decision (docs/security.md); empty: none.",
    ),
)
