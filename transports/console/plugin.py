"""The built-in plugin ``console``: the console page and what it asks for, and the page at ``/``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kafka_gateway import media
from kafka_gateway.config import Config
from kafka_gateway.description import Description, Parameter
from kafka_gateway.errors import BadRequest, SchemasUnavailable, SerializationError
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka_errors import KafkaAuthorization
from kafka_gateway.messages import Call, Response
from kafka_gateway.router import Route
from kafka_gateway.schemas import Schemas
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    """The console only with ``console.enabled``: true, or auto with the embedded Kafka."""
    from kafka_gateway.transports.console.start_page import StartPage
    from kafka_gateway.transports.console.transport import ConsoleTransport

    start = StartPage(_enabled(config))
    return [start, ConsoleTransport(config)] if _enabled(config) else [start]


@hookimpl
def gateway_routes(config: Config, kafka: Kafka, schemas: Schemas) -> Sequence[Route]:
    from kafka_gateway.services.common.log_ends import LogEnds
    from kafka_gateway.services.common.registered_schemas import RegisteredSchemas, SubjectSchema

    if not _enabled(config):
        return []
    registered = RegisteredSchemas(schemas)
    refusals = (SchemasUnavailable, SerializationError, KafkaAuthorization)

    def route(name: str, handler: Callable[[Call], Awaitable[Response]], told: Description) -> Route:
        needs, produces = "read gateway:console", media.plain_json()
        return Route(
            "GET", f"/console/{name}", handler, f"console.{name}", permission=needs, produces=produces, description=told
        )

    ends = Description(
        "Ends of the logs of topics, by partition",
        tag="Pages",
        replies={200: dict[str, dict[str, int]]},
        parameters=(Parameter("topics", "Names of topics, with commas between."),),
    )
    subjects = Description("Subjects of the schema registry", tag="Pages", replies={200: list[str]}, errors=refusals)
    schema = Description(
        "The newest schema of a subject",
        tag="Pages",
        replies={200: SubjectSchema},
        parameters=(Parameter("subject", "Name of the subject.", required=True, example="orders-value"),),
        errors=(BadRequest, *refusals),
    )
    return [
        route("ends", LogEnds(kafka.admin).ends, ends),
        route("subjects", registered.subjects, subjects),
        route("schema", registered.schema, schema),
    ]


def _enabled(config: Config) -> bool:
    wanted = config.text("console.enabled").lower()
    return wanted == "true" or (wanted == "auto" and not config.items("bootstrap.servers"))
