"""F9: the group's coordinator is another broker when a consumer asks where it starts. librdkafka asks once (its issue
5586), so the gateway asks again: no read fails, and the records come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.rest import Rest
from tests.gateway_process import GatewayProcess
from tests.mock_cluster import MOVED, OFFSET_FETCH, MockCluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mock() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    del cluster


@pytest.fixture(scope="module")
def gateway(mock: MockCluster) -> Iterator[GatewayProcess]:
    with GatewayProcess("consumer.session.timeout.ms=6000", bootstrap=mock.bootstrap) as running:
        yield running


@pytest.mark.parametrize("code", MOVED)
@pytest.mark.parametrize("how", ["assigned", "subscribed"])
async def test_f9_coordinator_moved(
    mock: MockCluster, gateway: GatewayProcess, unique: Callable[..., str], code: int, how: str
) -> None:
    topic = unique("topic")
    async with Rest(gateway.url) as rest:
        await rest.store(topic, "first", "second")
        path = await rest.instance(unique("g"), *([topic] if how == "subscribed" else []))
        mock.fail_next(OFFSET_FETCH, code, code)
        if how == "assigned":
            await rest.assign(path, topic)
        assert [record["value"] for record in await rest.read_some(path)] == ["first", "second"]


async def test_f9_a_seek_beats_the_question(
    mock: MockCluster, gateway: GatewayProcess, unique: Callable[..., str]
) -> None:
    topic = unique("topic")
    async with Rest(gateway.url) as rest:
        await rest.store(topic, *range(5))
        path = await rest.instance(unique("g"))
        mock.fail_next(OFFSET_FETCH, *MOVED)
        await rest.assign(path, topic)
        position = {"topic": topic, "partition": 0, "offset": 3}
        answer = await rest.request("POST", f"{path}/positions", {"offsets": [position]})
        assert answer.status == 204, answer
        assert [record["value"] for record in await rest.read_some(path)] == [3, 4]
        assert await rest.read(path, 500) == []  # what is answered late moves nothing
        await rest.store(topic, 5)
        assert [record["value"] for record in await rest.read_some(path)] == [5]
