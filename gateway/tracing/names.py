"""The names of what spans tell, in one table (OpenTelemetry's semantic conventions for HTTP and messaging)."""

from __future__ import annotations

from typing import Final

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
ERROR_TYPE: Final = "error.type"

SYSTEM: Final = "messaging.system"
DESTINATION: Final = "messaging.destination.name"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGE_COUNT: Final = "messaging.batch.message_count"
GROUP: Final = "messaging.consumer.group.name"
PARTITION: Final = "messaging.destination.partition.id"

TRANSPORT: Final = "kafka_gateway.transport"
REQUEST_ID: Final = "kafka_gateway.request_id"

KAFKA: Final = "kafka"
