"""Records that were fetched and are held count in the memory budget."""

from __future__ import annotations

import pytest

from kafka_gateway.assembly import app as assembly
from tests.services.fake_kafka import FakeKafka
from tests.transports.streams import serve
from tests.transports.wire import Wire
from tests.waiting import until


async def test_fetched_records_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "_COUNT_EVERY_S", 0.01)
    kafka = FakeKafka(t=1)
    async with serve(monkeypatch, kafka, memory_max_bytes=1 << 20) as app, await Wire.open(app.addresses[0]) as wire:
        assert (await wire.ask("GET", "/topics")).status == 200
        kafka.held_bytes = 1 << 20
        await until(lambda: app.gateway.memory.used_up)
        assert (await wire.ask("GET", "/topics")).status == 503
        kafka.held_bytes = 0
        await until(lambda: not app.gateway.memory.used_up)
        assert (await wire.ask("GET", "/topics")).status == 200
