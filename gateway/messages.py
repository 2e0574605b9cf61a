"""What travels between a transport and the services: a Request in, a Reply out.

A transport builds a :class:`Request`. ``Gateway.dispatch`` turns it into a :class:`Call` (routed, negotiated, its body
read) for the handler, which answers a :class:`Response` with a value. The dialect renders that value, and the transport
gets a :class:`Reply`: bytes, or a stream of them. Every request makes one of each, so they are structs of msgspec,
which take a quarter of the time of dataclasses to make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from kafka_gateway.errors import BadRequest, ServiceError
from kafka_gateway.own_names import own_refusal
from kafka_gateway.query import parse_query

if TYPE_CHECKING:
    from kafka_gateway.dialect import Dialect
    from kafka_gateway.homes import Homes
    from kafka_gateway.rights import Need, Permission
    from kafka_gateway.session import Session
    from kafka_gateway.shortened import Shortened
    from kafka_gateway.stream import Stream

NOTHING: Mapping[str, str] = MappingProxyType({})


class Unanswered(NamedTuple):
    """What is known of a request that another process was sent and will not answer."""

    unreachable: str
    """The process that is not to be asked again at once."""
    began: float
    """When it was sent first (``time.monotonic()``)."""
    sent: bool = True
    """Whether it may have been carried out."""


class Request(msgspec.Struct, eq=False):
    """One request as a transport decoded it.

    ``path`` is undecoded and without query; ``headers`` are looked up by lower-case name; of a query parameter given
    several times the first counts (kafka-rest-http-observed.md §3.1). ``body`` is the raw bytes, or already an instance
    of what the route takes; for a route that streams bodies (`gateway.core.Gateway.takes_pieces`) also an asynchronous
    iterator of bytes. ``base_url`` is what absolute URLs in replies start with, e.g. ``http://host:8082``, or
    what makes it when it is wanted.
    ``default_generation`` is the API that a request is for whose media types and path do not tell; empty for
    ``api.default.generation``.
    """

    session: Session
    method: str
    path: str
    query: Mapping[str, str] = NOTHING
    headers: Mapping[str, str] = NOTHING
    body: Any = b""
    base_url: str | Callable[[], str] = ""
    dialect: Dialect | None = None
    begun: bool = False
    """Its head came before the gateway began to stop: it is served, however late the body arrives."""
    one_reply: bool = False
    """The client waits for one reply and has no use for pushes behind it: plain HTTP (atmosphere-binding.md §2.6)."""
    default_generation: str = ""
    raw_headers: Sequence[tuple[bytes, bytes]] | None = None
    """For a route with ``extras["raw"]``: the header's fields as they were sent, but for those that prove who asks."""
    settles: bool = False
    """The transport will call ``Reply.settle``."""
    area: str = ""
    """The area whose routes it may find (`gateway.router.Route.area`); the transport says it, never the client."""
    id: str = ""
    """What tells it from all others, in its reply and in logs; empty for ``X-Request-Id`` of the headers, or a new
    one (`gateway.request_ids`)."""
    creation: str = ""
    """The ``uid`` of the instance that it makes, where several nodes serve as one: a request that is sent again, by the
    same process or by another one, makes none again. No client can set it."""
    unanswered: Unanswered | None = None
    """What became of it at another process, which it was sent to before."""
    trace_id: str = ""
    """Of the trace that it belongs to; empty where it is not recorded."""
    shortened: Shortened | None = None
    """For a read that another process asks for: what ends its waiting when that one stops."""

    @classmethod
    def of(
        cls,
        session: Session,
        line: str,
        headers: Mapping[str, str] | None = None,
        body: Any = b"",
        **more: Any,
    ) -> Request:
        """The request that ``"GET /topics?a=b"`` names: method, path, query. BadRequest for a line that is none.

        Args:
            headers: by name in any case.
            body: bytes, or what the route takes: for the resources that produce, a list of `OutgoingRecord`.
            more: further fields.
        """
        method, blank, target = line.partition(" ")
        if not blank or not method or not target.startswith("/"):
            raise BadRequest("A request is METHOD /path?query.")
        path, _, query = target.partition("?")
        fields = lower_names(headers) if headers else NOTHING
        return cls(session, method.upper(), path, parse_query(query) if query else NOTHING, fields, body, **more)


def lower_names(headers: Mapping[str, str]) -> dict[str, str]:
    """The header fields by lower-case names. BadRequest for one that comes in two spellings: nobody could say which of
    the two counts."""
    fields = {name.lower(): value for name, value in headers.items()}
    if len(fields) != len(headers):
        raise BadRequest("A header field is given twice, in different spellings of its name.")
    return fields


class Resource(Protocol):
    """What a handler may ask of the route that has led to it, a `gateway.router.Route`."""

    @property
    def method(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def generation(self) -> str: ...
    @property
    def extras(self) -> Mapping[str, Any]: ...
    @property
    def permissions(self) -> tuple[Permission, ...]: ...


class Call(msgspec.Struct, eq=False):
    """A request on its way into a handler: route and path parameters found, media types agreed, body read."""

    request: Request
    route: Resource
    params: Mapping[str, Any]
    media_type: str
    """The media type of the response."""
    format: str
    """The embedded format: of the body for a produce request, of the response for a read; "" if there is none."""
    body: Any = None
    needs: tuple[Need, ...] = ()
    """What was required of names that do not stand in the path."""
    homes: Homes | None = None
    """With several workers, what knows which of them serves what; None with one."""
    changing_needs: Callable[[], Iterable[Need]] | None = None
    """What the call needs beside that, where it changes while a stream is open or a read waits."""

    def require(self, operation: str, resource: str, *names: str) -> None:
        """Raises gateway.errors.NotAuthorized unless the client may do this with all of the names.

        For names that do not stand in the path. What becomes a stream ends when the rules forbid one of them later.
        Nobody may do anything with the gateway's own topics and groups (KafkaAuthorization).
        """
        if (own := own_refusal(resource, names, operation)) is not None:
            raise own
        session = self.request.session
        session.rights.require(operation, resource, *names)
        needs = tuple((operation, resource, name) for name in names)
        self.needs += needs
        if session.guarded and session.witness is not None:
            for need in needs:
                session.witness.allowed(self.request, need, session.rights.decide(*need).rule)

    def require_making(self, topic: str) -> None:
        """As ``require``, for a request that makes a topic: ``create`` of it, or of the cluster."""
        session = self.request.session
        decision = session.rights.making(topic)
        if not decision.allowed:
            self.require("create", "topic", topic)
        if session.guarded and session.witness is not None:
            session.witness.allowed(self.request, ("create", "topic", topic), decision.rule)

    def tell_refusal(self, error: ServiceError) -> None:
        """For a handler that answers an error by itself, in a row, say, and does not raise it: the audit log has every
        refusal, once (security.md §7)."""
        if (witness := self.request.session.witness) is not None:
            witness.refused(self.request, error)

    @property
    def session(self) -> Session:
        return self.request.session

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query

    @property
    def base_url(self) -> str:
        """What absolute URLs in the reply start with."""
        url = self.request.base_url
        return url if isinstance(url, str) else url()


class Response(msgspec.Struct, eq=False):
    """What a handler answers: a JSON-encodable value, ready bytes, a Stream, or nothing (204 by default).

    `gateway.core` makes a `Reply` of it, which is another type because no handler knows the dialect in which its value
    is encoded, and no transport is to see a value that is not encoded yet.
    """

    value: Any = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str = ""
    """Overrides the negotiated one."""
    settle: Callable[[bool | None], None] | None = None
    """Called once, when it is known whether the whole reply was handed to the client's connection: True, or False for a
    client that left before; None if that will never be known, because the process that has the client is gone or out of
    reach. A transport that cannot tell counts as having written it. Not for streams."""
    records: int = 0
    """How many records it brought or has stored, for the access log."""


NO_CONTENT = Response(None, 204)


class Reply(msgspec.Struct, eq=False):
    """What a transport has to write: the status, the headers and the payload.

    Made of a handler's `Response`, or of a ServiceError.
    """

    status: int
    media_type: str
    body: bytes | Stream
    headers: tuple[tuple[str, str], ...] = ()
    settle: Callable[[bool | None], None] | None = None
    """See Response; only for requests that say ``settles``. Whoever gets one calls it, once, whatever happens."""
    request_id: str = ""
    """`Request.id`."""
    route: str = ""
    """The template of the route that answered; empty where none did."""
    records: int = 0
    """`Response.records`."""

    def facts(self, bytes_in: int) -> Facts:
        """What the access log tells of the request, beside what its transport knows."""
        return self.request_id, self.route, bytes_in, self.records


Facts = tuple[str, str, int, int]
"""Id of the request, template of the route, bytes of the request's body, records."""
