"""Replies: what a service answered, or an error, as bytes in the dialect of the request (kafka-rest-http.md §3.3)."""

from __future__ import annotations

from collections.abc import Iterable

from kafka_gateway import media
from kafka_gateway.config import Config
from kafka_gateway.dialect import REST, Dialect
from kafka_gateway.errors import ServiceError
from kafka_gateway.generations import error_media_type
from kafka_gateway.messages import Reply, Request, Response
from kafka_gateway.stream import Stream


class Replies:
    """Renders every reply of a gateway. Errors are rendered here and nowhere else."""

    def __init__(self, config: Config, generations: Iterable[str]) -> None:
        """``generations``: those of the routes that there are."""
        self._enabled = set(generations)
        self._helps = False
        self.follow(config)
        given = config.given("response.mediatype.preferred")
        self._preferred = config.items("response.mediatype.preferred") if given else None
        given = config.given("response.mediatype.default")
        self._default = config.text("response.mediatype.default") if given else None

    def follow(self, config: Config) -> None:
        """Takes what this configuration says of errors."""
        self._helps = config.flag("errors.help")

    def render(self, request: Request, response: Response, media_type: str) -> Reply:
        """The reply with what a handler has answered; ``media_type`` is what was negotiated."""
        value, settle = response.value, response.settle
        media_type = response.media_type or media_type
        if settle is None and not hasattr(value, "aclose"):
            body = (request.dialect or REST).render(value)
            return Reply(response.status, media_type, body, response.headers, records=response.records)
        return self._render_kept(request, response, media_type)

    def _render_kept(self, request: Request, response: Response, media_type: str) -> Reply:
        """The reply that is a stream, or about which its handler wants to know whether it was written."""
        value, settle = response.value, response.settle
        if hasattr(value, "aclose"):
            request.session.add_stream(value)
            body: bytes | Stream = value
        else:
            try:
                body = (request.dialect or REST).render(value)
            except BaseException:
                if settle is not None:
                    settle(False)
                raise
        if settle is not None and not request.settles:
            settle(True)
            settle = None
        return Reply(response.status, media_type, body, response.headers, settle, records=response.records)

    def render_error(self, request: Request, error: ServiceError, media_type: str | None) -> Reply:
        """The reply that says what went wrong; ``media_type`` is None where no resource was chosen before."""
        headers = error.headers
        if media_type is not None:
            media_type = media_type if media_type != media.EVENTS else media.JSON
            return Reply(error.status, media_type, self.error_body(error, request.id, request.dialect), headers)
        generation = "v1" if "v2" not in self._enabled and "v1" in self._enabled else ""
        media_type = error_media_type(
            request.headers.get("accept"),
            error.status,
            generation or request.default_generation,
            self._preferred,
            self._default,
        )
        if error.status == 406 and generation == "v1":  # v1 answers it without a body (§3.3)
            return Reply(406, "", b"", headers)
        return Reply(error.status, media_type, self.error_body(error, request.id, request.dialect), headers)

    def error_body(self, error: ServiceError, request_id: str, dialect: Dialect | None = None) -> bytes:
        """The error, with help or without as ``errors.help`` says; in the words of the REST API without a dialect."""
        dialect = dialect or REST
        return dialect.error_with_help(error, request_id) if self._helps else dialect.error(error)
