"""Links and resource names in v3 replies, and the one cluster that they are about (kafka-rest-http.md §3.8, §7.1)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

from kafka_gateway import jsonio
from kafka_gateway.config import Config
from kafka_gateway.errors import NotFound
from kafka_gateway.kafka.ports.administration import Administration
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.rest.base_uri import BaseUrls

_OTHER = "The gateway serves one cluster: GET /v3/clusters tells its id."
_SAFE = "~!$&'()*+,;=:@-._"
"""Characters that a path segment may hold as they are (RFC 3986 §3.3)."""

LARGE = 200
"""Lists of more elements are made on a thread: an element costs some 10 µs, and the event loop belongs to everybody."""


class Link(jsonio.Struct, gc=False):
    related: str


class Metadata(jsonio.Struct, rename={"url": "self"}, omit_defaults=True, gc=False):
    """Of a single resource; those without a name have none."""

    url: str
    resource_name: str | None = None


class ListMetadata(jsonio.Struct, rename={"url": "self"}, gc=False):
    """Of a list. There is no pagination: ``next`` is null, always (§7.1)."""

    url: str
    next: None = None


class Listing(jsonio.Struct):
    """A list of resources."""

    kind: str
    metadata: ListMetadata
    data: list[object]


class Links:
    """The links in replies to one request. Paths begin after ``/v3/clusters/{cluster_id}``."""

    __slots__ = ("_crn", "_url", "cluster")

    def __init__(self, base: str, authority: str, cluster: str) -> None:
        self.cluster = cluster
        self._url = f"{base}/v3/clusters/{segment(cluster)}"
        self._crn = f"crn://{authority}/kafka={cluster}"

    def url(self, path: str) -> str:
        return self._url + path

    def to(self, path: str) -> Link:
        return Link(self._url + path)

    def metadata(self, path: str, name: str = "") -> Metadata:
        """``name`` is the resource name behind the cluster's, ``/topic=t``."""
        return Metadata(self._url + path, self._crn + name)

    def listing(self, kind: str, path: str, data: list[object]) -> Listing:
        """A list of elements of this kind; few."""
        return Listing(f"{kind}List", ListMetadata(self._url + path), data)

    async def listed(self, kind: str, path: str, size: int, elements: Iterable[object]) -> Response:
        """The reply with a list of so many elements of this kind; see `listed`."""
        return await listed(size, partial(self.listing, kind, path), elements)


def segment(text: str) -> str:
    """A name as one segment of a path."""
    return text if text.isalnum() and text.isascii() else quote(text, safe=_SAFE)


class ClusterLinks:
    """Gives requests their links, once it is sure that they mean this cluster."""

    def __init__(self, config: Config, administration: Administration) -> None:
        self._administration = administration
        self._urls = BaseUrls(config)
        self._authority = config.text("confluent.resource.name.authority").strip("/")
        self._cluster = ""

    async def of(self, call: Call, text: str = "Cluster {} cannot be found.") -> Links:
        """The links for the replies to a request. NotFound with this text if it names another cluster."""
        asked = str(call.params["cluster_id"])
        if asked != self._cluster:
            self._cluster = (await self._administration.cluster()).id
            if asked != self._cluster:
                raise NotFound(text.format(asked) if text else None).with_help(_OTHER)
        return self.to(call, asked)

    def to(self, call: Call, cluster: str) -> Links:
        """The links to a cluster whose id is known."""
        return Links(self._urls.base(call.base_url), self._authority, cluster)

    def clusters_url(self, call: Call) -> str:
        return f"{self._urls.base(call.base_url)}/v3/clusters"


async def listed(size: int, whole: Callable[[list[Any]], object], elements: Iterable[object]) -> Response:
    """The reply with ``whole`` of so many elements, which stand in its last member and are made as they are iterated.

    Many are made and encoded on a thread, `LARGE` at a time: whatever is one step of the interpreter there holds the
    event loop, too. The settings of 500 topics, 9 MB, held it for up to 90 ms.
    """
    if size <= LARGE:
        return Response(whole(list(elements)))
    return Response(await asyncio.to_thread(_in_pieces, jsonio.encode(whole([])), iter(elements)))


def _in_pieces(empty: bytes, elements: Iterator[object]) -> bytes:
    """``empty``, an object that ends with an empty list, with these elements in the list."""
    assert empty.endswith(b"[]}")
    pieces: list[bytes] = []
    while some := list(itertools.islice(elements, LARGE)):
        pieces.append(jsonio.encode(some)[1:-1])
    return b"%b%b]}" % (empty[:-2], b",".join(pieces))
