"""The built-in plugin ``core``: what belongs to no single protocol, registered through the hooks that anyone uses."""

from __future__ import annotations

from kafka_gateway.auth import Authenticator, NoAuthentication
from kafka_gateway.authenticators.basic import BasicAuthenticator
from kafka_gateway.authenticators.kafka import KafkaAuthenticator
from kafka_gateway.authenticators.single_user import SingleUserAuthenticator
from kafka_gateway.authorizers.file import FileAuthorizer
from kafka_gateway.codec import Codec
from kafka_gateway.codecs.binary import BinaryCodec
from kafka_gateway.codecs.json import JsonCodec
from kafka_gateway.codecs.later import LaterCodec
from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.markers import hookimpl
from kafka_gateway.rights import Authorizer
from kafka_gateway.settings.keys import CORE_KEYS


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(CORE_KEYS)


@hookimpl
def gateway_codecs(config: Config) -> list[Codec]:
    v1, v2 = frozenset({"v1", "v2"}), frozenset({"v2"})
    later = [
        LaterCodec("avro", "AVRO", v1, _avro),
        LaterCodec("jsonschema", "JSON", v2, lambda: _json_schema(config)),
        LaterCodec("protobuf", "PROTOBUF", v2, _protobuf),
    ]
    # If a registry is configured, the first schema comes soon.
    with_schemas = [each.codec for each in later] if config.given("schema.registry.url") else later
    return [BinaryCodec(), JsonCodec(), *with_schemas]


def _avro() -> Codec:
    from kafka_gateway.codecs.avro import AvroCodec

    return AvroCodec()


def _json_schema(config: Config) -> Codec:
    from kafka_gateway.codecs.json_schema import JsonSchemaCodec

    return JsonSchemaCodec(config.flag("schema.json.fill.defaults"))


def _protobuf() -> Codec:
    from kafka_gateway.codecs.protobuf import ProtobufCodec

    return ProtobufCodec()


@hookimpl
def gateway_authenticators(config: Config) -> list[Authenticator]:
    found: list[Authenticator] = [NoAuthentication(), BasicAuthenticator(config), SingleUserAuthenticator(config)]
    if "KAFKA" in config.methods:
        found.append(KafkaAuthenticator(config))
    if "OPENID" in config.methods:
        from kafka_gateway.authenticators.openid import (
            OpenIdAuthenticator,  # importing the cryptography of tokens takes a while
        )

        found.append(OpenIdAuthenticator(config))
    if "MTLS" in config.methods:
        from kafka_gateway.authenticators.mtls import MtlsAuthenticator

        found.append(MtlsAuthenticator(config))
    return found


@hookimpl
def gateway_authorizers(config: Config) -> list[Authorizer]:
    return [FileAuthorizer(config)] if config.text("authorization.file") else []
