"""A plugin of Kafka Gateway that uses every hook; docs/plugins.md walks through it."""

from __future__ import annotations

from prometheus_client import Counter

from kafka_gateway.auth import Authenticator
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.rights import Authorizer
from kafka_gateway.router import Route
from kafka_gateway.transport import Transport
from kafka_gateway_lines.api_keys import ApiKeyAuthenticator
from kafka_gateway_lines.lines import LinesTransport
from kafka_gateway_lines.read_only import ReadOnly
from kafka_gateway_lines.resources import ECHOES, ROUTES
from kafka_gateway_lines.text import TextCodec


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return [
        ConfigKey(
            name="transport.lines.port",
            type="int",
            default=8090,
            minimum=0,
            maximum=65535,
            doc="Port of 127.0.0.1 for clients that speak lines of JSON; 0: any.",
        ),
        ConfigKey(
            name="authentication.apikey.keys",
            type="secret",
            doc="Keys of APIKEY: NAME:KEY, separated by commas.",
        ),
        ConfigKey(name="lines.read.only", type="bool", default=False, doc="Nobody may change anything."),
    ]


@hookimpl
def gateway_codecs() -> list[Codec]:
    return [TextCodec()]


@hookimpl
def gateway_authenticators(config: Config) -> list[Authenticator]:
    return [ApiKeyAuthenticator(config)]


@hookimpl
def gateway_authorizers(config: Config) -> list[Authorizer]:
    return [ReadOnly()] if config.flag("lines.read.only") else []


@hookimpl
def gateway_metrics() -> list[Counter]:
    return [ECHOES]


@hookimpl
def gateway_routes() -> list[Route]:
    return ROUTES


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    return [LinesTransport(config)]
