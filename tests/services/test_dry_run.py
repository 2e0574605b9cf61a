"""``?dry_run=true`` on produce routes: everything is judged, nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from kafka_gateway.services.rest.dry_run import murmur2
from tests.services.conftest import Rest, embedded

JSON = embedded("json")


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_what_would_be_stored(rest: Rest, generation: str) -> None:
    body = {"records": [{"value": 1}, {"value": 2, "partition": 1}, {"key": "k", "value": 3}]}
    answer = await rest.post("/topics/t?dry_run=true", body, embedded("json", generation))
    assert answer.status == 200
    key_partition = murmur2(b'"k"') % 2
    assert [row["partition"] for row in answer.body["offsets"]] == [None, 1, key_partition]
    assert {row["offset"] for row in answer.body["offsets"]} == {None}
    after = await rest.produce("t", {"value": 1, "partition": 1})
    assert after.body["offsets"][0]["offset"] == 0  # the first that is there


async def test_what_would_not_be(rest: Rest) -> None:
    body: dict[str, Any] = {"records": [{"value": 1, "partition": 7}, {"value": 1}]}
    answer = await rest.post("/topics/t?dry_run=true", body, JSON)
    assert [row["error_code"] for row in answer.body["offsets"]] == [50003, None]
    answer = await rest.post("/topics/bad%20name?dry_run=true", {"records": [{"value": 1}]}, JSON)
    assert answer.body["offsets"][0]["error_code"] == 50002
    assert (await rest.post("/topics/t?dry_run=maybe", body, JSON)).status == 400
    assert (await rest.post("/topics/t?dry_run=true", {"records": []}, JSON)).status == 422


async def test_false_is_no_dry_run(rest: Rest) -> None:
    answer = await rest.post("/topics/t?dry_run=false", {"records": [{"value": 1, "partition": 0}]}, JSON)
    assert answer.body["offsets"][0]["offset"] == 0


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_the_hash_is_javas(key: bytes, hashed: int) -> None:
    """The values of Kafka's own UtilsTest.testMurmur2."""
    assert murmur2(key) == hashed & 0x7FFFFFFF
