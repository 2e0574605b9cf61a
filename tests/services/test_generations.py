"""Which generation a consumer instance's request is meant for, by common clients' headers (kafka-rest-http.md §3.1).

The instance decides unless the request can only mean the other generation: a client that sends one ``Accept`` with
everything says what it can read, and not which API it speaks.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.conftest import V1, V2, Rest, embedded

CLIENTS: dict[str, str | None] = {
    "go": None,
    "curl, python-requests, fetch, node-fetch": "*/*",
    "axios, Angular": "application/json, text/plain, */*",
    "httpie": "application/json, */*;q=0.5",
    "jQuery": "application/json, text/javascript, */*; q=0.01",
    "Java HttpURLConnection": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
    "Spring RestTemplate": "text/plain, application/json, application/*+json, */*",
    "Ruby rest-client": "*/*; q=0.5, application/xml",
    "Firefox": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "v2 by its type": V2,
    "v2, then JSON": f"{V2}, application/vnd.kafka+json; q=0.9, application/json; q=0.8",
    "PHP client": "application/json, application/vnd.kafka.v2+json",
}
"""What they accept. Each stands for clients that were pointed at the gateway."""

ONLY_V1 = [V1, f"{V1}, application/vnd.kafka+json, application/json", embedded("json", "v1")]


@pytest.mark.parametrize("content_type", [None, V2, embedded("json")], ids=["no type", "v2", "json.v2"])
@pytest.mark.parametrize("accept", CLIENTS.values(), ids=CLIENTS.keys())
async def test_a_v2_instance_answers_them_all(rest: Rest, accept: str | None, content_type: str | None) -> None:
    instance = await rest.instance()

    async def send(method: str, path: str, body: Any = b"") -> int:
        return (await rest.send(method, instance + path, body, accept, content_type)).status

    assert await send("POST", "/subscription", {"topics": ["t"]}) == 204
    assert await send("GET", "/subscription") == 200
    assert await send("POST", "/offsets") == 200
    read = await rest.get(f"{instance}/records?timeout=0", accept="application/json, */*;q=0.5")
    # A read is answered in the format that it accepts, and without a preference as binary: not this instance's (§3.3).
    assert (read.status, read.code) == (406, 40601)
    assert await send("DELETE", "/subscription") == 204
    assert await send("DELETE", "") == 204
    assert (await rest.delete(instance, V2)).code == 40403


@pytest.mark.parametrize("accept", CLIENTS.values(), ids=CLIENTS.keys())
async def test_a_v2_instance_of_binary_records_can_be_read_by_them_all(rest: Rest, accept: str | None) -> None:
    instance = await rest.instance(format="binary")
    await rest.post(f"{instance}/subscription", {"topics": ["t"]}, V2)
    assert (await rest.get(f"{instance}/records?timeout=0", accept=accept)).status == 200


@pytest.mark.parametrize(
    "accept", [each for each in CLIENTS.values() if each is None or "v2" not in each], ids=lambda each: str(each)
)
async def test_a_v1_instance_answers_those_that_do_not_ask_for_v2(rest: Rest, accept: str | None) -> None:
    answer = await rest.post("/consumers/g", {"name": "c", "format": "json"}, V1)
    assert answer.status == 200
    assert (await rest.send("POST", "/consumers/g/instances/c/offsets", b"", accept)).status == 200
    assert (await rest.delete("/consumers/g/instances/c", accept)).status == 204


@pytest.mark.parametrize("accept", ["application/json", "application/vnd.kafka+json", "application/xml"])
async def test_a_delete_has_no_content_that_its_client_could_not_read(rest: Rest, accept: str) -> None:
    assert (await rest.delete(await rest.instance(), accept)).status == 204


@pytest.mark.parametrize("accept", ONLY_V1)
async def test_the_other_generation_is_meant_by_its_own_types_alone(rest: Rest, accept: str) -> None:
    instance = await rest.instance()
    assert (await rest.delete(instance, accept)).code == 40403
    assert (await rest.send("POST", f"{instance}/offsets", b"", accept)).code == 40403
    assert (await rest.send("POST", f"{instance}/offsets", {}, "*/*", V1)).code == 40403
    assert (await rest.get(f"{instance}/subscription", accept=V2)).status == 200


@pytest.mark.parametrize("accept", ["application/json", "application/vnd.kafka+json", "text/plain, application/json"])
async def test_generic_types_alone_do_not_hide_an_instance(rest: Rest, accept: str) -> None:
    """Fault: 404 with 40403 for an instance that is there, since JSON selects v1."""
    instance = await rest.instance()
    for answer in (
        await rest.send("POST", f"{instance}/offsets", b"", accept),
        await rest.send("POST", f"{instance}/offsets", {"offsets": []}, accept, V2),
        await rest.get(f"{instance}/subscription", accept=accept),
    ):
        assert (answer.status, answer.code) == (406, 406)
    assert (await rest.send("POST", f"{instance}/offsets", {"offsets": []}, accept, "application/json")).status == 415


@pytest.mark.parametrize("accept", CLIENTS.values(), ids=CLIENTS.keys())
async def test_the_type_of_the_content_decides_for_every_method(rest: Rest, accept: str | None) -> None:
    """Fault: a commit was v2's, 404 with 40403, and a delete with the same headers was v1's."""
    await rest.post("/consumers/g", {"name": "c", "format": "json"}, V1)
    for method, path in (("POST", "/consumers/g/instances/c/offsets"), ("DELETE", "/consumers/g/instances/c")):
        assert (await rest.send(method, path, b"", accept, V2)).code == 40403
        answer = await rest.send(method, path, b"", accept, V1)
        assert answer.status == (204 if method == "DELETE" else 406 if accept == V2 else 200)


async def test_two_instances_of_one_name_are_told_apart_by_the_headers(rest: Rest) -> None:
    await rest.instance()
    assert (await rest.post("/consumers/g", {"name": "c"}, V1)).status == 200
    axios = CLIENTS["axios, Angular"]
    assert (await rest.delete("/consumers/g/instances/c", axios)).status == 204  # JSON selects v1 (§3.1)
    assert (await rest.get("/consumers/g/instances/c/subscription", accept=V2)).status == 200
    assert (await rest.delete("/consumers/g/instances/c", axios)).status == 204
    assert (await rest.delete("/consumers/g/instances/c", V2)).code == 40403


async def test_octets_are_what_older_proxies_take(rest: Rest) -> None:
    """``application/octet-stream``, which some libraries send with bytes, is a binary body of v1 (§3.2)."""
    body = {"records": [{"value": "dmFsdWU="}]}
    answer = await rest.post("/topics/t", body, "application/octet-stream")
    assert (answer.status, answer.media_type) == (200, V1)
    assert (await rest.send("POST", "/topics/t", body, "*/*", "application/octet-stream")).status == 200
    assert (await rest.send("POST", "/topics/t", body, V2, "application/octet-stream")).status == 415
