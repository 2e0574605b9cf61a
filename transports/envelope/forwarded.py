"""Envelopes that another process answers, and that no task of this one waits for (gateway/forwarded_at_once.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from kafka_gateway.core import Gateway
from kafka_gateway.forwarding import Forwarder
from kafka_gateway.messages import Reply, Request
from kafka_gateway.session import Session
from kafka_gateway.transports.envelope.channel import Channel
from kafka_gateway.transports.envelope.codec import Envelope

Own = list[asyncio.Task[None]]
"""Tells a request from all others, and has its task, if it has one."""


class Client(Protocol):
    """What such a request needs of `gateway.transports.envelope.session.EnvelopeSession`."""

    def reply(self, reply: Reply, payload: bytes, part: Envelope, method: str = "") -> int: ...
    def go_on(self, request: Request, part: Envelope, own: Own, reply: Reply) -> None: ...
    def over(self, part: Envelope, own: Own) -> None: ...
    def log(self, session: Session, part: Envelope, reply: Reply, sent: int, started: float) -> None: ...


class ForwardedEnvelope:
    """One of them; called with its reply, or with None when its client has left."""

    __slots__ = ("_channel", "_client", "_own", "_part", "_request", "_started")

    def __init__(self, client: Client, channel: Channel, request: Request, part: Envelope, own: Own) -> None:
        self._client, self._channel, self._request, self._part, self._own = client, channel, request, part, own
        self._started = time.perf_counter()

    def __call__(self, reply: Reply | None) -> None:
        client, session, body = self._client, self._request.session, reply.body if reply is not None else b""
        closed, is_whole = session.closed, isinstance(body, bytes)
        if reply is None or (closed is not None and (closed.error is None or not is_whole)):
            client.over(self._part, self._own)
            if reply is not None and reply.settle is not None:
                reply.settle(False)
        elif isinstance(body, bytes):
            settle = reply.settle
            try:
                sent = client.reply(reply, body, self._part, self._request.method)
                client.log(session, self._part, reply, sent, self._started)
            finally:
                client.over(self._part, self._own)
                if settle is not None:
                    self._settle(session, settle)
        else:
            client.go_on(self._request, self._part, self._own, reply)

    def _settle(self, session: Session, settle: Callable[[bool], None]) -> None:
        """Tells whether the client's connection has taken the reply, as soon as that is known."""
        if self._channel.has_written():
            settle(True)
            return
        task = asyncio.get_running_loop().create_task(_written(self._channel))
        session.tasks.add(task)
        task.add_done_callback(partial(_settled, session, settle))


def forward(
    client: Client, gateway: Gateway, homes: Forwarder, channel: Channel, request: Request, part: Envelope, own: Own
) -> bool:
    """Has another process answer the request, if it is another one's, and can be asked now. Else nothing has happened:
    it is for a task, like all that come with a proof of their own, or whose client's proof has to be looked at."""
    if (
        part.headers is not None
        or request.session.principal.until < time.monotonic()
        or (worker := homes.elsewhere(request.method, request.path, request.area)) is None
    ):
        return False
    answered = ForwardedEnvelope(client, channel, request, part, own)
    return gateway.at_once.forward(request, worker, answered) is not None


async def _written(channel: Channel) -> bool:
    try:
        await channel.written()
    except ConnectionError:
        return False
    return True


def _settled(session: Session, settle: Callable[[bool], None], done: asyncio.Task[bool]) -> None:
    session.tasks.discard(done)
    settle(not done.cancelled() and done.result())
