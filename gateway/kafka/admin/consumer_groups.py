"""Consumer groups with their members, of both protocols, many in one request (kafka-rest-http.md §7.9).

Every broker lists the groups that it coordinates, so it can be asked for all of them at once; librdkafka would look for
the coordinator of each and send one request a group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import confluent_kafka

from kafka_gateway.errors import NotSupported
from kafka_gateway.kafka.admin.broker_questions import DEADLINE_S, MOVED, BrokerQuestions, broker_error, check
from kafka_gateway.kafka.ports.administration import GroupDetails, GroupMember
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.kafka_errors import KafkaAuthorization, KafkaError
from kafka_gateway.wire.apis import (
    CONSUMER_ASSIGNMENT,
    CONSUMER_GROUP_DESCRIBE,
    DESCRIBE_GROUPS,
    FIND_COORDINATOR,
    LIST_GROUPS,
    Api,
)
from kafka_gateway.wire.frames import WireError

Code = confluent_kafka.KafkaError

_PAUSE_S = 0.1
_AT_ONCE = 500
_STATES = {
    "PreparingRebalance": "PREPARING_REBALANCE",
    "CompletingRebalance": "COMPLETING_REBALANCE",
    "Assigning": "ASSIGNING",
    "Reconciling": "RECONCILING",
    "Stable": "STABLE",
    "Dead": "DEAD",
    "Empty": "EMPTY",
}
_PROTOCOL = "consumer"
"""The protocol type of groups of consumers; Connect's and other workers' have others. "" for offsets alone."""


class ConsumerGroups:
    """The questions of the `Administration` port about groups."""

    def __init__(self, questions: BrokerQuestions) -> None:
        self._questions = questions

    async def all(self) -> list[GroupDetails]:
        """All that may be described, by name. A broker that is being replaced by another is waited for."""
        nodes = await self._questions.brokers.nodes()
        found = await asyncio.gather(*(self._of_broker(node) for node in nodes))
        groups = {group.name: group for part in found for group in part if group.exists}
        return [groups[name] for name in sorted(groups)]

    async def _of_broker(self, node: int) -> list[GroupDetails]:
        answer = await self._questions.ask(LIST_GROUPS, {"states": [], "types": []}, node)
        if answer["error_code"] in MOVED:
            return []  # it coordinates nothing yet: the groups are with another broker, or will be
        check(answer["error_code"], None)
        classic: list[str] = []
        consumer: list[str] = []
        for group in answer["groups"]:
            if group["protocol_type"] in (_PROTOCOL, ""):
                (consumer if group.get("type", "").lower() == "consumer" else classic).append(group["group_id"])
        described = await asyncio.gather(
            *(self._classic(part, node) for part in _parts(classic)),
            *(self._consumer(part, node) for part in _parts(consumer)),
        )
        return [group for part in described for group in part.values() if isinstance(group, GroupDetails)]

    async def one(self, name: str) -> GroupDetails:
        """One group, `GroupDetails.exists` or not. Raises KafkaAuthorization."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    if (found := await self._one(name)) is not None:
                        return found
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            check(Code.COORDINATOR_NOT_AVAILABLE, "The group's coordinator is not available.")
            raise

    async def _one(self, name: str) -> GroupDetails | None:
        """None if the coordinator is elsewhere by now, or not there yet."""
        answer = await self._questions.ask(FIND_COORDINATOR, {"key": name, "key_type": 0})
        if answer["error_code"] in MOVED:
            return None
        check(answer["error_code"], answer["error_message"])
        node = answer["node_id"]
        of_new, of_old = await asyncio.gather(self._consumer([name], node), self._classic([name], node))
        for found in (of_new.get(name), of_old.get(name)):
            if isinstance(found, GroupDetails):
                return found
        refusals = [each for each in (of_new.get(name), of_old.get(name)) if isinstance(each, int)]
        if any(code in MOVED for code in refusals):
            self._questions.brokers.forget_nodes()
            return None
        refused = next((code for code in refusals if code != Code.GROUP_ID_NOT_FOUND), 0)
        if error := broker_error(refused, f"Not authorized to access group: {name}" if _forbids(refused) else None):
            raise error
        return GroupDetails(name, "DEAD", "CLASSIC", True, "", node)

    async def _classic(self, names: Sequence[str], node: int) -> dict[str, GroupDetails | int]:
        """Groups of the classic protocol; the error code for those that are none."""
        groups = await self._describe(DESCRIBE_GROUPS, names, node)
        found: dict[str, GroupDetails | int] = {}
        for group in groups:
            name = group["group_id"]
            if group["error_code"]:
                found[name] = group["error_code"]
                continue
            state = _STATES.get(group["state"], "UNKNOWN")
            if group["protocol_type"] not in (_PROTOCOL, ""):
                raise KafkaError(f"{name} is a group of {group['protocol_type']}, not of consumers.")
            simple = not group["protocol_type"]
            if simple and state == "DEAD":
                found[name] = Code.GROUP_ID_NOT_FOUND
                continue
            found[name] = GroupDetails(
                name,
                state,
                "CLASSIC",
                simple,
                group["protocol"] or "",
                node,
                members=tuple(_classic_member(each) for each in group["members"]),
            )
        return found

    async def _consumer(self, names: Sequence[str], node: int) -> dict[str, GroupDetails | int]:
        """Groups of KIP-848; the error code for those that are none. Nothing of brokers that do not know them."""
        try:
            groups = await self._describe(CONSUMER_GROUP_DESCRIBE, names, node)
        except NotSupported:
            return {}
        found: dict[str, GroupDetails | int] = {}
        for group in groups:
            name = group["group_id"]
            if group["error_code"]:
                found[name] = group["error_code"]
                continue
            kinds = {each.get("member_type", -1) for each in group["members"]}
            found[name] = GroupDetails(
                name,
                _STATES.get(group["state"], "UNKNOWN"),
                "CONSUMER",
                False,
                group["assignor"] or "",
                node,
                mixed={0, 1} <= kinds,
                members=tuple(_consumer_member(each) for each in group["members"]),
            )
        return found

    async def _describe(self, api: Api, names: Sequence[str], node: int) -> list[dict[str, Any]]:
        if not names:
            return []
        answer = await self._questions.ask(api, {"groups": list(names), "include_operations": False}, node)
        groups: list[dict[str, Any]] = answer["groups"]
        return groups


def _parts(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))


def _forbids(code: int) -> bool:
    return isinstance(broker_error(code, None), KafkaAuthorization)


def _classic_member(member: Mapping[str, Any]) -> GroupMember:
    return GroupMember(
        member["member_id"],
        member["client_id"],
        member["instance_id"],
        member["client_host"],
        _classic_assignment(member["assignment"]),
    )


def _classic_assignment(assignment: bytes | None) -> tuple[TopicPartition, ...]:
    """Kafka does not check these bytes; what cannot be read counts as no assignment."""
    if not assignment:
        return ()
    try:
        topics = CONSUMER_ASSIGNMENT.decode(assignment)["topics"] or ()
    except WireError:
        return ()
    return tuple(sorted(TopicPartition(each["topic"], one) for each in topics for one in each["partitions"] or ()))


def _consumer_member(member: Mapping[str, Any]) -> GroupMember:
    assigned = (
        TopicPartition(each["topic_name"], one) for each in member["assignment"]["topics"] for one in each["partitions"]
    )
    return GroupMember(
        member["member_id"], member["client_id"], member["instance_id"], member["client_host"], tuple(sorted(assigned))
    )
