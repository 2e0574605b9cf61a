"""Server-sent events as a browser reads them (HTML standard §9.2.6), for clients made with aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp


class Event(NamedTuple):
    """An event that is complete: the empty line behind it has come."""

    name: str
    """"message" where the event has none."""
    data: str
    id: str


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """The events of the response until it ends; comments are passed over."""
    name, data, token = "", [], ""
    async for raw in response.content:
        line = raw.decode().rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "data":
                data.append(value)
            case "id":
                token = value
            case "" if not line:
                if data:
                    yield Event(name or "message", "\n".join(data), token)
                name, data = "", []
