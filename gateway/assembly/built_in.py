"""The built-in plugins by name, and the keys that they declare."""

from __future__ import annotations

import importlib
from types import MappingProxyType

from kafka_gateway.config import ConfigKey

BUILT_IN = MappingProxyType(
    {
        "http": "kafka_gateway.transports.http.plugin",
        "push_pull": "kafka_gateway.transports.push_pull.plugin",
        "atmosphere": "kafka_gateway.transports.atmosphere.plugin",
        "websocket": "kafka_gateway.transports.websocket.plugin",
        "websocket_proxy": "kafka_gateway.transports.websocket_proxy.plugin",
        "console": "kafka_gateway.transports.console.plugin",
        "docs": "kafka_gateway.transports.docs.plugin",
        "tunnel": "kafka_gateway.transports.tunnel.plugin",
        "core": "kafka_gateway.assembly.builtin",
        "operation": "kafka_gateway.services.operation.plugin",
        "rest": "kafka_gateway.services.rest.plugin",
        "v3": "kafka_gateway.services.v3.plugin",
        "bridges": "kafka_gateway.transports.bridges.plugin",
    }
)
"""Name → module, in the order of registration. The newest transport is asked first, so ``http`` begins."""

OLDER_NAMES = MappingProxyType(
    {
        "transports.http": "http",
        "transports.push_pull": "push_pull",
        "services.push_pull": "push_pull",
        "transports.atmosphere_http": "atmosphere",
        "transports.websocket": "websocket",
        "transports.websocket_proxy": "websocket_proxy",
        "transports.proxy_http": "websocket_proxy",
        "services.proxy_routes": "websocket_proxy",
        "transports.console": "console",
        "transports.tunnel.endpoint": "tunnel",
        "gateway.builtin": "core",
        "services.routes": "rest",
        "transports.bridges": "bridges",
    }
)
"""What ``plugins.disable`` called them in version 0.1: their modules of that time."""

INDISPENSABLE = "core"
"""Nothing works without it."""


def declared_keys(name: str) -> list[ConfigKey]:
    """The keys of one built-in plugin; empty if it has none. Imports its hooks, not what they make."""
    hook = getattr(importlib.import_module(BUILT_IN[name]), "gateway_config_keys", None)
    return hook() if hook is not None else []


def built_in_keys() -> tuple[ConfigKey, ...]:
    """The keys of all built-in plugins, in the order of the reference: what is common first."""
    names = [INDISPENSABLE, *(name for name in BUILT_IN if name != INDISPENSABLE)]
    return tuple(key for name in names for key in declared_keys(name))
