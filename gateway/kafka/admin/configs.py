"""Settings of topics, of brokers and of all brokers (kafka-rest-http.md §7.5).

librdkafka cannot ask for the cluster-wide defaults, so all of them are asked for in one way, by the gateway itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from kafka_gateway.errors import NotFound, ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.admin.broker_questions import BrokerQuestions, broker_error
from kafka_gateway.kafka.ports.administration import ConfigChange, ConfigOf, ConfigSynonym, Setting
from kafka_gateway.wire.apis import DESCRIBE_CONFIGS, INCREMENTAL_ALTER_CONFIGS

_TYPES = {"TOPIC": 2, "BROKER": 4}
_KINDS = {number: kind for kind, number in _TYPES.items()}
_OPERATIONS = {"SET": 0, "DELETE": 1}
_SOURCES = {
    1: "DYNAMIC_TOPIC_CONFIG",
    2: "DYNAMIC_BROKER_CONFIG",
    3: "DYNAMIC_DEFAULT_BROKER_CONFIG",
    4: "STATIC_BROKER_CONFIG",
    5: "DEFAULT_CONFIG",
    6: "DYNAMIC_BROKER_LOGGER_CONFIG",
    8: "DYNAMIC_GROUP_CONFIG",
}
"""Numbers of the protocol (`DescribeConfigsResponse.ConfigSource`) and the names of the contract."""

_AT_ONCE = 200
"""Topics in one request: its answer has some 30 settings of each, a few kilobytes."""


class Configs:
    """The questions and changes of the `Administration` port about settings."""

    def __init__(self, questions: BrokerQuestions) -> None:
        self._questions = questions

    async def describe(self, of: Sequence[ConfigOf]) -> dict[ConfigOf, list[Setting] | ServiceError]:
        found: dict[ConfigOf, list[Setting] | ServiceError] = {}
        for answer in await asyncio.gather(*(self._describe(part, node) for part, node in _parts(of))):
            found |= answer
        return {each: found[each] for each in of if each in found}

    async def _describe(self, of: Sequence[ConfigOf], node: int | None) -> dict[ConfigOf, list[Setting] | ServiceError]:
        if (refused := await self._check_node(node)) is not None:
            return dict.fromkeys(of, refused)
        body = {
            "resources": [{"type": _TYPES[each.kind], "name": each.name, "keys": None} for each in of],
            "include_synonyms": True,
        }
        answer = await self._questions.ask(DESCRIBE_CONFIGS, body, node)
        return await asyncio.to_thread(_described, answer["results"])

    async def alter(
        self, changes: Mapping[ConfigOf, Sequence[ConfigChange]], validate_only: bool
    ) -> dict[ConfigOf, ServiceError | None]:
        outcomes: dict[ConfigOf, ServiceError | None] = {}
        for part, node in _parts([each for each in changes if changes[each]]):
            if (refused := await self._check_node(node)) is not None:
                outcomes |= dict.fromkeys(part, refused)
                continue
            body = {
                "resources": [
                    {
                        "type": _TYPES[each.kind],
                        "name": each.name,
                        "configs": [
                            {"name": one.name, "operation": _OPERATIONS[one.operation], "value": one.value}
                            for one in changes[each]
                        ],
                    }
                    for each in part
                ],
                "validate_only": validate_only,
            }
            answer = await self._questions.ask(INCREMENTAL_ALTER_CONFIGS, body, node)
            for one in answer["responses"]:
                key = ConfigOf(_KINDS[one["type"]], one["name"])
                outcomes[key] = broker_error(one["error_code"], one["error_message"])
        return {each: outcomes.get(each) for each in changes}

    async def shows(self, of: ConfigOf, changes: Sequence[ConfigChange]) -> bool:
        """Whether a broker tells of these changes. Of secrets and of what it does not list nobody can say."""
        found = (await self.describe([of]))[of]
        if isinstance(found, ServiceError):
            raise found
        settings = {each.name: each for each in found}
        return all(_shows(of, settings.get(each.name), each) for each in changes)

    async def _check_node(self, node: int | None) -> NotFound | None:
        if node is None or node in await self._questions.brokers.nodes():
            return None
        return NotFound(f"Broker {node} cannot be found.")


def _parts(of: Sequence[ConfigOf]) -> list[tuple[list[ConfigOf], int | None]]:
    """The questions of each request, and its broker: a broker is asked for its own settings."""
    anywhere = [each for each in of if each.kind != "BROKER" or not each.name]
    parts: list[tuple[list[ConfigOf], int | None]] = [
        (anywhere[start : start + _AT_ONCE], None) for start in range(0, len(anywhere), _AT_ONCE)
    ]
    return parts + [([each], int(each.name)) for each in of if each.kind == "BROKER" and each.name]


def _shows(of: ConfigOf, setting: Setting | None, change: ConfigChange) -> bool:
    if setting is None or setting.sensitive:
        return True
    if change.operation == "DELETE":
        return setting.source != (_SOURCES[1] if of.kind == "TOPIC" else _SOURCES[2] if of.name else _SOURCES[3])
    return _spelled(setting.value) == _spelled(change.value)


def _spelled(value: str | None) -> str:
    """The value as Kafka shows it again: ``TRUE`` as ``true``, ``a, b`` as ``a,b``, ``007`` as ``7``."""
    text = (value or "").replace(" ", "").lower()
    return text.lstrip("0") if text.isdigit() else text


def _described(results: Sequence[Mapping[str, Any]]) -> dict[ConfigOf, list[Setting] | ServiceError]:
    found: dict[ConfigOf, list[Setting] | ServiceError] = {}
    for each in results:
        key = ConfigOf(_KINDS[each["type"]], each["name"])
        error = broker_error(each["error_code"], each["error_message"])
        if isinstance(error, UnknownTopicOrPartition):
            error = UnknownTopicOrPartition()
        found[key] = error if error is not None else sorted(map(_setting, each["configs"]), key=_name)
    return found


def _setting(config: Mapping[str, Any]) -> Setting:
    return Setting(
        config["name"],
        None if config["sensitive"] else config["value"],
        _SOURCES.get(config["source"], "UNKNOWN"),
        config["read_only"],
        config["sensitive"],
        tuple(
            ConfigSynonym(
                one["name"], None if config["sensitive"] else one["value"], _SOURCES.get(one["source"], "UNKNOWN")
            )
            for one in config["synonyms"]
        ),
    )


def _name(setting: Setting) -> str:
    return setting.name
