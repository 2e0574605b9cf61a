"""The hooks through which everything registers, built-in or not. All run once, at start, as plain functions.

A plugin is a module or object with functions of these names, marked ``@hookimpl`` (from kafka_gateway.transport),
announced as an entry point of the group ``kafka_gateway``. It may leave out arguments that it does not need.
docs/plugins.md walks through one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafka_gateway.auth import Authenticator
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.following import Judge
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.markers import NAME, hookimpl, hookspec
from kafka_gateway.metrics.registry import Collects, Metrics
from kafka_gateway.rights import Authorizer
from kafka_gateway.router import Route
from kafka_gateway.schemas import Schemas
from kafka_gateway.transport import Transport

__all__ = ["NAME", "hookimpl", "hookspec"]


@hookspec
def gateway_config_keys() -> Sequence[ConfigKey]:  # type: ignore[empty-body]
    """The configuration keys that this plugin reads. Called before the configuration is."""


@hookspec
def gateway_codecs(config: Config) -> Sequence[Codec]:  # type: ignore[empty-body]
    """Embedded formats, each with a name of its own."""


@hookspec
def gateway_authenticators(config: Config) -> Sequence[Authenticator]:  # type: ignore[empty-body]
    """Ways to tell who is asking; ``authentication.method`` names the one that is used."""


@hookspec
def gateway_authorizers(config: Config) -> Sequence[Authorizer]:  # type: ignore[empty-body]
    """Who says what principals may do. All that are answered count: each of them must allow."""


@hookspec
def gateway_routes(  # type: ignore[empty-body]
    config: Config,
    kafka: Kafka,
    codecs: Mapping[str, Codec],
    schemas: Schemas,
    metrics: Metrics,
    following: list[Judge],
) -> Sequence[Route]:
    """Paths of the service layer; every transport serves them. A path that exists already is refused at start.

    What their services count, they give to ``metrics``; what follows the configuration when it is read again, to
    ``following``.
    """


@hookspec
def gateway_metrics(config: Config) -> Sequence[Collects]:  # type: ignore[empty-body]
    """Metrics of the plugin's own: collectors of prometheus-client, made with ``registry=None``. They stand in
    ``GET /metrics`` beside the gateway's; a name that is taken is refused at start."""


@hookspec
def gateway_transports(config: Config) -> Sequence[Transport]:  # type: ignore[empty-body]
    """Ways for requests to come in. The newest plugin's transports are asked first whether a request is theirs."""
