"""The brokers of a cluster, for requests of the gateway's own: one connection to each, opened when it is needed.

Addresses come from ``bootstrap.servers`` and from the cluster itself, never from a client of the gateway. A broker that
cannot be reached is asked last for `_AVOIDED_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from kafka_gateway.upstream import Broker, Upstream
from kafka_gateway.wire.apis import Api
from kafka_gateway.wire.connection import BrokerClient, ConnectionLost, connect

_IDLE_S = 60.0
"""Brokers close connections that were idle for ten minutes; ours end long before, so none dies under a request."""
_AGE_MAX_S = 300.0
"""A login may be valid for a limited time (KIP-368): a new connection logs in again."""
_CONNECT_S = 2.0
_AVOIDED_S = 5.0
_NODES_S = 5.0

Address = tuple[str, int]


class Brokers:
    """Asks brokers. Belongs to the event loop; ``close`` ends its connections."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._clients: dict[Address, BrokerClient] = {}
        self._opening: dict[Address, asyncio.Task[BrokerClient]] = {}
        self._avoided: dict[Address, float] = {}
        self._nodes: dict[int, Broker] = {}
        self._nodes_until = 0.0

    async def nodes(self) -> dict[int, Broker]:
        """The brokers by id, at most `_NODES_S` old. ServiceError if Kafka does not say."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._nodes_until:
            _, brokers = await self._upstream.cluster()
            self._nodes = {each.node: each for each in brokers}
            self._nodes_until = loop.time() + _NODES_S
        return self._nodes

    def forget_nodes(self) -> None:
        """The next question asks for the brokers again: one of them was not where it should be."""
        self._nodes_until = 0.0

    async def ask(self, api: Api, body: dict[str, Any], node: int | None = None) -> dict[str, Any]:
        """The answer of the broker ``node``, or of any broker. The caller limits the time.

        Raises:
            ConnectionLost: no broker could be reached, or this one; or it left while it worked on the request.
            UnsupportedApi, WireError, SaslRefused: as `BrokerClient` raises them.
            ServiceError: Kafka does not say which brokers there are.
        """
        if node is not None:
            found = (await self.nodes()).get(node)
            if found is None:
                raise ConnectionLost(f"broker {node} is not there", False)
            return await self._ask_at((found.host, found.port), api, body)
        failure: ConnectionLost | None = None
        for address in await self._any():
            try:
                return await self._ask_at(address, api, body)
            except ConnectionLost as error:
                if error.sent:
                    raise
                failure = error
        raise failure or ConnectionLost("no broker is known", False)

    async def _any(self) -> list[Address]:
        """All addresses in the order to try them: connected ones first, those that failed recently last."""
        known: list[Address] = [(each.host, each.port) for each in (await self.nodes()).values()]
        known += [address for address in self._upstream.servers if address not in known]
        now = asyncio.get_running_loop().time()

        def rank(address: Address) -> tuple[bool, bool]:
            client = self._clients.get(address)
            return self._avoided.get(address, 0.0) > now, client is None or client.closed

        return sorted(known, key=rank)

    async def _ask_at(self, address: Address, api: Api, body: dict[str, Any]) -> dict[str, Any]:
        client = await self._client(address)
        try:
            return await client.ask(api, body)
        except asyncio.CancelledError:
            # The caller gave up, most likely because the broker is late. It answers in order, so no other request must
            # wait behind this one.
            if self._clients.get(address) is client:
                del self._clients[address]
            client.close_when_idle()
            raise
        except ConnectionLost:
            self._clients.pop(address, None)
            raise

    async def _client(self, address: Address) -> BrokerClient:
        now = asyncio.get_running_loop().time()
        client = self._clients.get(address)
        if client is not None and client.idle and _is_stale(client, now):
            client.close()
        if client is not None and not client.closed:
            return client
        opening = self._opening.get(address)
        if opening is None:
            opening = self._opening[address] = asyncio.get_running_loop().create_task(self._open(address))
            opening.add_done_callback(lambda done: self._opened(address, done))
        return await asyncio.shield(opening)

    async def _open(self, address: Address) -> BrokerClient:
        try:
            async with asyncio.timeout(_CONNECT_S):
                client = await connect(*address, self._upstream.tls, self._upstream.sasl)
        except TimeoutError:
            self._avoid(address)
            raise ConnectionLost("the broker did not answer in time", False) from None
        except ConnectionLost as error:
            self._avoid(address)
            raise ConnectionLost(str(error), False) from None  # a login is no request
        self._avoided.pop(address, None)
        self._clients[address] = client
        return client

    def _avoid(self, address: Address) -> None:
        self._avoided[address] = asyncio.get_running_loop().time() + _AVOIDED_S
        self.forget_nodes()

    def _opened(self, address: Address, task: asyncio.Task[BrokerClient]) -> None:
        self._opening.pop(address, None)
        if not task.cancelled():
            task.exception()  # all who wanted it may have gone

    async def close(self) -> None:
        """Ends all connections; requests under way fail."""
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        with contextlib.suppress(Exception):
            await asyncio.gather(*opening, return_exceptions=True)
        for client in self._clients.values():
            client.close()
        self._clients.clear()


def _is_stale(client: BrokerClient, now: float) -> bool:
    return now - client.used_at > _IDLE_S or now - client.opened_at > _AGE_MAX_S
