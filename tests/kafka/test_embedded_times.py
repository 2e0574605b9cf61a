"""What the gateway does for the embedded Kafka: times of records, which it does not keep (embedded_times.py), and the
first reads of a group, which it takes three seconds to form."""

from __future__ import annotations

import json
import time

import aiohttp
import pytest

from kafka_gateway.config import load
from kafka_gateway.kafka.cluster import open_kafka
from kafka_gateway.kafka.producing.embedded_times import EmbeddedTimes
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.rights import EVERYTHING
from tests.keys import BUILTIN_KEYS
from tests.transports.conftest import gateway
from tests.transports.wire import V2, Wire

JSON = "application/vnd.kafka.json.v2+json"


async def test_the_first_record_at_or_after_a_time() -> None:
    times = EmbeddedTimes()
    for offset, stamp in enumerate([100, 300, 200, 400], 5):
        times.add("t", 0, offset, stamp)
    times.add("t", 0, 5, 900)  # reported twice
    found = {moment: (await times.at_time(("t", (0, 1), moment))) for moment in (0, 100, 150, 300, 301, 401)}
    assert {moment: each[0] for moment, each in found.items()} == {0: 5, 100: 5, 150: 6, 300: 6, 301: 8, 401: -1}
    assert all(each[1] == -1 for each in found.values())


async def test_records_of_others_have_the_time_of_the_one_before() -> None:
    times = EmbeddedTimes()
    times.add("t", 0, 0, 100)
    times.add("t", 0, 3, 200)
    assert (await times.at_time(("t", (0,), 101)))[0] == 3


async def test_results_carry_the_time_of_the_record() -> None:
    async with open_kafka(load(BUILTIN_KEYS)) as kafka:
        ready = kafka.producer.ready("t", EVERYTHING)
        if ready is not None:
            await ready
        before_ms = int(time.time() * 1000)
        records = [OutgoingRecord(None, b"1", 0), OutgoingRecord(None, b"2", 0, 1_700_000_000_123)]
        first, second = await kafka.producer.send("t", records)
        (alone,) = await kafka.producer.send("t", records[:1])
        assert second.timestamp()[1] == 1_700_000_000_123  # type: ignore[union-attr]
        for row in (first, alone):
            assert before_ms <= row.timestamp()[1] <= time.time() * 1000  # type: ignore[union-attr]


async def test_a_stream_since_a_time_has_its_records() -> None:
    async with gateway() as app, await Wire.open(app.addresses[0]) as wire:
        for number in range(3):
            stamp = 1_700_000_000_000 + number * 60_000
            body = b'{"records":[{"value":%d,"partition":0,"timestamp":%d}]}' % (number, stamp)
            assert (await wire.ask("POST", "/topics/t", body, Content_Type=JSON)).status == 200
        moment = "2023-11-14T22:14:20Z"  # of the second
        async with aiohttp.ClientSession() as client:
            query = f"since={moment}&until=end&format=json"
            async with client.get(f"{app.addresses[0]}/topics/t/stream?{query}") as response:
                text = await response.text()
        assert [f'"value":{number}' in text for number in range(3)] == [False, True, True]


@pytest.mark.timing
async def test_the_first_read_of_a_group_has_the_records() -> None:
    async with gateway() as app, await Wire.open(app.addresses[0]) as wire:
        body = b'{"records":[{"value":1}]}'
        assert (await wire.ask("POST", "/topics/t", body, Content_Type=JSON)).status == 200
        v2 = "application/vnd.kafka.v2+json"
        new = b'{"name":"i","format":"json","auto.offset.reset":"earliest"}'
        assert (await wire.ask("POST", "/consumers/g", new, Content_Type=v2)).status == 200
        path = "/consumers/g/instances/i"
        assert (await wire.ask("POST", f"{path}/subscription", b'{"topics":["t"]}', Content_Type=v2)).status == 204
        reply = await wire.ask("GET", f"{path}/records", b"", Accept=JSON)
        assert [each["value"] for each in json.loads(reply.body)] == [1]
        began = time.monotonic()
        assert json.loads((await wire.ask("GET", f"{path}/records?timeout=10", b"", Accept=JSON)).body) == []
        assert time.monotonic() - began < 2  # the group is there: the time is the client's own again


async def test_an_instance_seeks_to_a_time() -> None:
    """It went to the end: the mock cluster knows of no times."""
    async with gateway() as app, await Wire.open(app.addresses[0]) as wire:
        for number in range(3):
            stamp = 1_700_000_000_000 + number * 60_000
            body = b'{"records":[{"value":%d,"partition":0,"timestamp":%d}]}' % (number, stamp)
            assert (await wire.ask("POST", "/topics/t", body, Content_Type=JSON)).status == 200
        made = await wire.ask("POST", "/consumers/g", b'{"name":"a/b c","format":"json"}', Content_Type=V2)
        assert made.json["base_uri"].endswith("/consumers/g/instances/a/b c")
        path = "/consumers/g/instances/a%2Fb%20c"
        place = '{"topic":"t","partition":0'
        await wire.ask("POST", f"{path}/assignments", f'{{"partitions":[{place}}}]}}'.encode(), Content_Type=V2)
        for moment, values in (
            ("2023-11-14T22:14:20Z", [1, 2]),
            ("2023-11-14T22:14:21Z", [2]),
            ("1969-01-01T00:00:00Z", [0, 1, 2]),
        ):
            times = f'{{"timestamps":[{place},"timestamp":"{moment}"}}]}}'.encode()
            assert (await wire.ask("POST", f"{path}/positions", times, Content_Type=V2)).status == 204
            found: list[int] = []
            while len(found) < len(values):
                rows = (await wire.ask("GET", f"{path}/records?timeout=5000", Accept=JSON)).json
                found += [row["value"] for row in rows]
            assert found == values
        later = f'{{"timestamps":[{place},"timestamp":"2100-01-01T00:00:00Z"}}]}}'.encode()
        assert (await wire.ask("POST", f"{path}/positions", later, Content_Type=V2)).status == 204
        assert (await wire.ask("GET", f"{path}/records?timeout=500", Accept=JSON)).json == []
