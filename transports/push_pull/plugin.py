"""The built-in plugin ``push_pull``: flasfka's push and pull."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import Config, ConfigKey
from gateway.kafka.ports import Kafka
from gateway.router import Route
from gateway.transport import Transport, hookimpl
from services.push_pull.keys import PUSH_PULL


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(PUSH_PULL)


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    if not config.flag("push.pull.enable"):
        return []
    from transports.push_pull.transport import PushPullTransport

    return [PushPullTransport(config)]


@hookimpl
def gateway_routes(config: Config, kafka: Kafka) -> Sequence[Route]:
    if not config.flag("push.pull.enable"):
        return []
    from services.push_pull.service import PushPull

    return PushPull(config, kafka).routes()
