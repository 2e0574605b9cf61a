"""Writing the body of an aiohttp response while it is being made."""

from __future__ import annotations

from aiohttp import web

from kafka_gateway.door.client_writer import ClientWriter, taken
from kafka_gateway.memory_budget import MemoryBudget

_PIECE = 64 * 1024


class ResponseWriter(ClientWriter):
    """For one response; a client that does not read it is cut off, as everywhere."""

    __slots__ = ("_protocol", "_response")

    def __init__(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        memory: MemoryBudget,
        write_timeout_s: float,
        carrier: str,
    ) -> None:
        """ConnectionResetError if the client is gone. ``unwatch`` when the response is over."""
        super().__init__(request.transport, memory, write_timeout_s, carrier)
        self._protocol, self._response = request.protocol, response

    async def write(self, data: bytes) -> None:
        """Returns when there is room for more; ConnectionResetError if the client left, or accepted nothing."""
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            self.written_bytes += len(piece)
            self.watch()  # aiohttp waits in there if the client is behind
            await self._response.write(piece)
        await taken(self._protocol, self)
