"""Kafka's ACLs: searched, created and deleted (kafka-rest-http.md §7.8).

librdkafka's binding cannot tell brokers without an authorizer from brokers without ACLs, so the gateway asks itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka_gateway.kafka.admin.broker_questions import BrokerQuestions, Controller, check
from kafka_gateway.kafka.ports.administration import Acl, AclFilter
from kafka_gateway.kafka_errors import KafkaRefused
from kafka_gateway.wire.apis import CREATE_ACLS, DELETE_ACLS, DESCRIBE_ACLS

_RESOURCES = ("UNKNOWN", "ANY", "TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN", "USER")
_PATTERNS = ("UNKNOWN", "ANY", "MATCH", "LITERAL", "PREFIXED")
_OPERATIONS = (
    *("UNKNOWN", "ANY", "ALL", "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "CLUSTER_ACTION"),
    *("DESCRIBE_CONFIGS", "ALTER_CONFIGS", "IDEMPOTENT_WRITE", "CREATE_TOKENS", "DESCRIBE_TOKENS"),
    "TWO_PHASE_COMMIT",
)
_AT_ONCE = 1000
"""ACLs of one request. Kafka takes fewer than 10,000 changes in one, and needs a second for some thousand."""
_PERMISSIONS = ("UNKNOWN", "ANY", "DENY", "ALLOW")
"""Kafka's words by their numbers in the protocol (`AclOperation` and others)."""


class Acls:
    """The questions and changes of the `Administration` port about ACLs."""

    def __init__(self, questions: BrokerQuestions) -> None:
        self._questions = questions

    async def search(self, matching: AclFilter) -> list[Acl]:
        answer = await self._questions.ask(DESCRIBE_ACLS, _numbers(matching))
        check(answer["error_code"], answer["error_message"])
        return [_acl(resource | one) for resource in answer["resources"] for one in resource["acls"]]

    async def shows(self, acl: Acl, there: bool) -> bool:
        """Whether a broker tells of this ACL, or of none like it."""
        return (acl in await self.search(AclFilter(*acl))) is there

    async def create(self, acls: Sequence[Acl], controller: Controller) -> None:
        for start in range(0, len(acls), _AT_ONCE):
            part = [_numbers(acl) for acl in acls[start : start + _AT_ONCE]]
            answer = await self._questions.ask_controller(CREATE_ACLS, {"creations": part}, _codes, controller)
            for result in answer["results"]:
                check(result["error_code"], result["error_message"])

    async def delete(self, matching: AclFilter, controller: Controller) -> list[Acl]:
        filters = {"filters": [_numbers(matching)]}
        answer = await self._questions.ask_controller(DELETE_ACLS, filters, _codes, controller)
        (result,) = answer["results"]
        check(result["error_code"], result["error_message"])
        for one in result["matching"]:
            check(one["error_code"], one["error_message"])
        return [_acl(one) for one in result["matching"]]


def _codes(answer: Mapping[str, Any]) -> list[int]:
    return [each["error_code"] for each in answer["results"]]


def _numbers(acl: Acl | AclFilter) -> dict[str, Any]:
    return {
        **acl._asdict(),
        "resource_type": _number(_RESOURCES, acl.resource_type),
        "pattern_type": _number(_PATTERNS, acl.pattern_type),
        "operation": _number(_OPERATIONS, acl.operation),
        "permission": _number(_PERMISSIONS, acl.permission),
    }


def _number(words: Sequence[str], word: str) -> int:
    try:
        return words.index(word)
    except ValueError:
        raise KafkaRefused(f"{word[:100]!r} is not one of {', '.join(words)}.") from None


def _acl(found: Mapping[str, Any]) -> Acl:
    return Acl(
        _word(_RESOURCES, found["resource_type"]),
        found["resource_name"],
        _word(_PATTERNS, found["pattern_type"]),
        found["principal"],
        found["host"],
        _word(_OPERATIONS, found["operation"]),
        _word(_PERMISSIONS, found["permission"]),
    )


def _word(words: Sequence[str], number: int) -> str:
    return words[number] if 0 <= number < len(words) else "UNKNOWN"
