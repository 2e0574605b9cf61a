"""Topics made, enlarged and deleted; and partitions that move from broker to broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from kafka_gateway.errors import Unavailable
from kafka_gateway.kafka.admin.broker_questions import DEADLINE_S, MOVED, BrokerQuestions, Code, Controller, check
from kafka_gateway.kafka.errors import kafka_error, to_service_error
from kafka_gateway.kafka.ports.administration import Created, Reassignment, TopicToCreate
from kafka_gateway.kafka_errors import KafkaRefused
from kafka_gateway.wire.apis import CREATE_TOPICS, LIST_PARTITION_REASSIGNMENTS

_TIMEOUT_MS = int(DEADLINE_S * 1000)


class TopicChanges:
    """The changes of the `Administration` port to topics."""

    def __init__(self, client: AdminClient, questions: BrokerQuestions) -> None:
        self._client = client
        self._questions = questions

    async def create(self, topic: TopicToCreate, validate_only: bool, controller: Controller) -> Created:
        """See the port."""
        names = [name for name, _ in topic.configs]
        if len(set(names)) < len(names):
            raise KafkaRefused("Each config may be given once only.")
        by_hand = bool(topic.assignments)
        body = {
            "topics": [
                {
                    "name": topic.name,
                    "num_partitions": -1 if by_hand else topic.partitions,
                    "replication_factor": -1 if by_hand else topic.replicas,
                    "assignments": [
                        {"partition": partition, "brokers": list(brokers)}
                        for partition, brokers in topic.assignments.items()
                    ],
                    "configs": [{"name": name, "value": value} for name, value in topic.configs],
                }
            ],
            "timeout_ms": _TIMEOUT_MS,
            "validate_only": validate_only,
        }
        answer = await self._questions.ask_controller(
            CREATE_TOPICS, body, lambda found: [each["error_code"] for each in found["topics"]], controller
        )
        (made,) = answer["topics"]
        if made["error_code"] == Code.NOT_CONTROLLER:
            raise Unavailable(
                "The cluster's controller is moving, the topic was not made; send the request again later."
            )
        if made["error_code"] in MOVED:
            raise Unavailable(
                "The cluster's controller did not answer in time, it may be moving; look whether the topic is there, "
                "and send the request again later if it is not."
            )
        check(made["error_code"], made["error_message"])
        return Created(made["num_partitions"], made["replication_factor"])

    async def enlarge(self, topic: str, total: int) -> None:
        try:
            (done,) = self._client.create_partitions(
                [NewPartitions(topic, total)], request_timeout=DEADLINE_S, operation_timeout=DEADLINE_S
            ).values()
            await asyncio.wrap_future(done)
        except ValueError:  # the binding looks at the number before Kafka does
            raise KafkaRefused(f"A topic cannot have {total} partitions: it has at least 1.") from None
        except confluent_kafka.KafkaException as error:
            raise _own_text(error) from error

    async def delete(self, topic: str) -> None:
        try:
            (done,) = self._client.delete_topics(
                [topic], request_timeout=DEADLINE_S, operation_timeout=DEADLINE_S
            ).values()
            await asyncio.wrap_future(done)
        except confluent_kafka.KafkaException as error:
            raise _own_text(error) from error

    async def reassignments(
        self, topic: str | None, partitions: Sequence[int], controller: Controller
    ) -> list[Reassignment]:
        asked: Any = None if topic is None else [{"name": topic, "partitions": list(partitions)}]
        if asked is not None and not partitions:
            return []
        answer = await self._questions.ask_controller(
            LIST_PARTITION_REASSIGNMENTS,
            {"timeout_ms": _TIMEOUT_MS, "topics": asked},
            lambda found: [found["error_code"]],
            controller,
        )
        check(answer["error_code"], answer["error_message"])
        return sorted(
            Reassignment(each["name"], one["partition"], tuple(one["adding"]), tuple(one["removing"]))
            for each in answer["topics"]
            for one in each["partitions"]
            if one["adding"] or one["removing"]
        )


def _own_text(error: confluent_kafka.KafkaException) -> Exception:
    """The failure with Kafka's own words, where it has some, and without the name of the code before them."""
    failure = to_service_error(error)
    cause = kafka_error(error)
    if cause is None or not failure.message.startswith(f"{cause.name()}: "):
        return failure
    return type(failure)(cause.str())
