"""The built-in plugin ``core``: what belongs to no single protocol, registered through the hooks that anyone uses."""

from __future__ import annotations

from gateway.auth import Authenticator, NoAuthentication
from gateway.authenticators.basic import BasicAuthenticator
from gateway.authenticators.single_user import SingleUserAuthenticator
from gateway.codec import Codec
from gateway.codecs.binary import BinaryCodec
from gateway.codecs.json import JsonCodec
from gateway.codecs.schema import AVRO, JSON_SCHEMA, PROTOBUF
from gateway.config import Config, ConfigKey
from gateway.markers import hookimpl
from gateway.settings.keys import CORE_KEYS


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(CORE_KEYS)


@hookimpl
def gateway_codecs(config: Config) -> list[Codec]:
    return [BinaryCodec(), JsonCodec(), AVRO, JSON_SCHEMA, PROTOBUF]


@hookimpl
def gateway_authenticators(config: Config) -> list[Authenticator]:
    found: list[Authenticator] = [NoAuthentication(), BasicAuthenticator(config), SingleUserAuthenticator(config)]
    if config.text("authentication.method").upper() == "OPENID":
        from gateway.authenticators.openid import OpenIdAuthenticator  # a token's cryptography takes a while to import

        found.append(OpenIdAuthenticator(config))
    return found
