"""A server span for each request, whatever transport it came by."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from opentelemetry import context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kafka_gateway.messages import Reply, Request
from kafka_gateway.request_ids import HEADER, request_id
from kafka_gateway.tracing import names

Dispatch = Callable[[Request], Coroutine[Any, Any, Reply]]

_contexts = TraceContextTextMapPropagator()
_FIELDS = ("traceparent", "tracestate")


def traced(dispatch: Dispatch, tracer: Tracer) -> Dispatch:
    """``Gateway.dispatch`` with a span round each request; its parent is the one of ``traceparent``.

    The span is the current one while the request is served, so that of a produce becomes its child.
    """

    async def dispatch_traced(request: Request) -> Reply:
        carrier = {name: value for name in _FIELDS if (value := request.headers.get(name)) is not None}
        parent = _contexts.extract(carrier) if carrier else context.Context()
        transport = request.session.transport
        request.id = request.id or request_id(request.headers.get(HEADER))
        span = tracer.start_span(
            request.method,
            parent,
            SpanKind.SERVER,
            {
                names.HTTP_METHOD: request.method,
                names.URL_PATH: request.path.partition("?")[0][:1024],
                names.TRANSPORT: transport,
                names.REQUEST_ID: request.id,
            },
        )
        if span.is_recording():
            request.trace_id = format_trace_id(span.get_span_context().trace_id)
        token = context.attach(set_span_in_context(span, parent))
        try:
            reply = await dispatch(request)
        except BaseException as error:  # a client that left
            span.set_attribute(names.ERROR_TYPE, type(error).__name__)
            raise
        else:
            if reply.route:
                span.update_name(f"{request.method} {reply.route}")
                span.set_attribute(names.HTTP_ROUTE, reply.route)
            span.set_attribute(names.HTTP_STATUS, reply.status)
            if reply.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            return reply
        finally:
            context.detach(token)
            span.end()

    return dispatch_traced
