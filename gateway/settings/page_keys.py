"""The keys for pages of browsers: which may use the gateway, and under which names they reach it."""

from __future__ import annotations

from kafka_gateway.settings.declaration import ConfigKey, section

CORS = section(
    "CORS",
    ConfigKey(
        name="access.control.allow.origin",
        type="list",
        default=(),
        doc="Origins whose pages may use the gateway, or *; empty: none.",
    ),
    ConfigKey(
        name="access.control.allow.methods",
        type="list",
        default=(),
        doc="Methods those pages may use; empty: GET, POST, HEAD.",
    ),
    ConfigKey(name="access.control.allow.headers", type="list", default=(), doc="Request headers those pages may set."),
    ConfigKey(
        name="access.control.expose.headers", type="list", default=(), doc="Response headers those pages may read."
    ),
    ConfigKey(
        name="access.control.skip.options",
        type="bool",
        default=True,
        doc="Answer the preflights of browsers without authentication.",
    ),
    ConfigKey(
        name="host.allowed",
        type="list",
        default=(),
        doc="Names besides its own under which a gateway answers on loopback that asks nobody who they are: *.NAME for "
        "all below it, * for all. Addresses, localhost and names without a dot need not be listed.",
    ),
    live=True,
)
