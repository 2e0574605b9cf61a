"""A catalogue of schemas with a registry in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kafka_gateway.assembly import builtin
from kafka_gateway.config import load
from kafka_gateway.registry.catalogue import Catalogue
from tests.keys import BUILTIN_KEYS
from tests.registry.fake_registry import FakeRegistry, serving

MakeCatalogue = Callable[..., Catalogue]


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as registry:
        yield registry


@pytest.fixture
async def catalogue(fake: FakeRegistry) -> AsyncIterator[MakeCatalogue]:
    """Makes catalogues with these properties; times are short."""
    open_: list[Any] = []

    async def make(**values: object) -> Catalogue:
        usual = {"schema.registry.url": (fake.url,), "schema.registry.request.timeout.ms": 1500}
        texts = {name.replace("_", "."): value for name, value in values.items()}
        times = {f"schema.registry.http.{name}.timeout.ms": "300" for name in ("connect", "read")}
        under = {name: texts.pop(name) for name in list(texts) if name.startswith("schema.registry.ssl.")}
        config = load(BUILTIN_KEYS, overrides=[f"{name}={value}" for name, value in (times | under).items()])
        config = config.with_values(usual | texts)
        made = Catalogue(config, {codec.name: codec for codec in builtin.gateway_codecs(config)})
        context = made.lifespan()
        await context.__aenter__()
        open_.append(context)
        return made

    yield make  # type: ignore[misc]
    for context in open_:
        await context.__aexit__(None, None, None)
