"""The AsyncAPI 3.0 document of a gateway: what travels over the sockets and streams of its transports."""

from __future__ import annotations

import re
from typing import Any, Final

from kafka_gateway.core import Gateway
from kafka_gateway.description import Channel, Message, Parameter
from kafka_gateway.transports.docs.shapes import Shapes
from kafka_gateway.version import VERSION

_ABOUT: Final = """\
What travels over the sockets and streams of this gateway. `send` is what the gateway sends, `receive` what it takes.
Requests with one reply are told by [openapi.json](openapi.json).\
"""
_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


def asyncapi(gateway: Gateway) -> dict[str, Any]:
    """The document, ready to be encoded."""
    channels = _channels(gateway)
    shapes = Shapes()
    for channel in channels:
        for message in (*channel.sends, *channel.takes):
            shapes.collect([message.shape, message.head])
    host = gateway.base_url.partition("://")[2] or "localhost"
    secure = gateway.base_url.startswith("https")
    protocols = {each.protocol for each in channels}
    servers = {
        name: {"host": host, "protocol": protocol + ("s" if secure else ""), "pathname": "/"}
        for name, protocol in (("sockets", "ws"), ("http", "http"))
        if protocol in protocols
    }
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kafka Gateway",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": servers,
        "channels": {},
        "operations": {},
        "components": {"messages": {}},
    }
    for channel in channels:
        _add(document, channel, shapes)
    document["components"]["schemas"] = shapes.components
    return document


def _channels(gateway: Gateway) -> list[Channel]:
    """The channels of the transports, and those of routes that one of them carries; each name once."""
    carriers = {each.name for each in gateway.transports}
    of_routes = [
        channel
        for route in gateway.offered()
        if route.description is not None
        for channel in route.description.channels
        if channel.carrier in carriers
    ]
    of_transports = [channel for transport in gateway.transports for channel in transport.channels]
    return list({channel.name: channel for channel in (*of_transports, *of_routes)}.values())


def _add(document: dict[str, Any], channel: Channel, shapes: Shapes) -> None:
    messages = {each.name: each for each in (*channel.sends, *channel.takes)}
    entry: dict[str, Any] = {
        "address": channel.address,
        "title": channel.title,
        "description": channel.text,
        "servers": [{"$ref": f"#/servers/{'sockets' if channel.protocol == 'ws' else 'http'}"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }
    if channel.parameters:
        entry["parameters"] = {name: {"description": text} for name, text in channel.parameters.items()}
    if channel.query and channel.protocol == "ws":
        entry["bindings"] = {"ws": {"method": "GET", "query": _query(channel.query)}}
    elif channel.query:
        entry["description"] += "\n\n" + "\n".join(f"- `{each.name}`: {each.doc}" for each in channel.query)
    document["channels"][channel.name] = entry
    for name, message in messages.items():
        document["components"]["messages"][name] = _message(message, shapes)
    for action, meant in (("send", channel.sends), ("receive", channel.takes)):
        if meant:
            name = _NAME.sub("-", f"{action}-{channel.name}")
            document["operations"][name] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{channel.name}"},
                "messages": [{"$ref": f"#/channels/{channel.name}/messages/{each.name}"} for each in meant],
            }


def _message(message: Message, shapes: Shapes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": message.name,
        "summary": message.summary,
        "contentType": message.media_type,
        "payload": shapes.schema(message.shape),
    }
    if message.head is not None:
        entry["headers"] = shapes.schema(message.head)
    example = {"payload": message.example, "headers": message.head_example}
    if any(each is not None for each in example.values()):
        entry["examples"] = [{name: each for name, each in example.items() if each is not None}]
    return entry


def _query(parameters: tuple[Parameter, ...] | Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {each.name: {**each.schema, "description": each.doc} for each in parameters},
        "required": [each.name for each in parameters if each.required],
    }
