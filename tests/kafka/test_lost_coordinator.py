"""The group's coordinator is another broker when a group's member asks where its partitions start. librdkafka asks once
(its issue 5586): the gateway asks until it is told, and says which partitions wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from tests.kafka.conftest import Topic, open_cluster
from tests.kafka.group_work import Work
from tests.mock_cluster import MOVED, OFFSET_FETCH, MockCluster
from tests.waiting import until

MANY = 100


@pytest.fixture
def mock() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    del cluster


@pytest.mark.parametrize("code", MOVED)
@pytest.mark.parametrize("times", [2, MANY])
async def test_records_come_and_what_waits_is_named(
    mock: MockCluster, unique: Callable[..., str], code: int, times: int
) -> None:
    topic, group = unique("topic"), unique("group")
    Topic(mock.bootstrap, topic).write([b"0", b"1"])
    mock.fail_next(OFFSET_FETCH, *([code] * times))
    async with open_cluster(mock.bootstrap) as cluster:
        work = Work()
        settings = ConsumerSettings(group, "test", auto_offset_reset="earliest", auto_commit=False)
        reader = await cluster.group_reader(settings, [topic], work)
        if times == MANY:

            async def named() -> bool:
                return {place.partition for place in reader.silent()} == {0, 1, 2, 3}

            await until(named, 20)
            assert all("COORDINATOR" in why for why in reader.silent().values())
            mock.clear(OFFSET_FETCH)

        async def arrived() -> bool:
            return work.found[:2] == [(0, 0), (0, 1)]

        await until(arrived, 20)

        async def nothing_waits() -> bool:
            return not reader.silent()

        await until(nothing_waits, 5)
        assert work.found == [(0, 0), (0, 1)]
        assert work.failures == []
        await reader.close()
