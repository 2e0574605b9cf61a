"""Allow and block lists, and the rate limit (kafka-rest-http.md §3.9)."""

from __future__ import annotations

import asyncio

import pytest

from kafka_gateway import limits
from kafka_gateway.config import Config, load
from kafka_gateway.errors import MethodNotAllowed, NotFound, ServiceError, TooManyRequests
from kafka_gateway.limits import Limits, TokenBucket
from kafka_gateway.router import Route
from tests.keys import BUILTIN_KEYS


async def handler(call: object) -> None:
    raise AssertionError("is not called")


LIST = Route("GET", "/topics", handler, "api.v2.topics.list", "v2")
GET = Route("GET", "/topics/{topic}", handler, "api.v2.topics.get", "v2")
DELETE = Route("DELETE", "/consumers/{group}", handler, "api.v2.consumers.delete", "v2")
PRODUCE = Route(
    "POST",
    "/topics/{topic}",
    handler,
    "api.v2.produce-to-topic",
    "v2",
    extras={"names": {"json": "api.v2.produce-to-topic.json", "binary": "api.v2.produce-to-topic.binary"}},
)
LIVE = Route("GET", "/health/live", handler, "health.live")
ROUTES = [LIST, GET, DELETE, PRODUCE, LIVE]
PRODUCE_JSON = "api.v2.produce-to-topic.json"


def configuration(**values: object) -> Config:
    return load(BUILTIN_KEYS).with_values({name.replace("_", "."): value for name, value in values.items()})


def offered(**values: object) -> set[str]:
    """The names of the resources that are."""
    found = Limits(configuration(**values))
    names = set()
    for route in ROUTES:
        name = PRODUCE_JSON if route is PRODUCE else route.name
        try:
            found.check_offered(name, route)
            names.add(route.name)
        except NotFound:
            assert route.method == "GET"
        except MethodNotAllowed:
            assert route.method != "GET"
    return names


ALL = {route.name for route in ROUTES}


@pytest.mark.parametrize(
    ("allow", "block", "names"),
    [
        ("", "", ALL),
        ("", "api.v2.topics.list", ALL - {LIST.name}),
        ("", "api.v2.topics.*", ALL - {LIST.name, GET.name}),
        ("", "api.v2.topics.list,api.v2.consumers.*", ALL - {LIST.name, DELETE.name}),
        ("api.v2.topics.list", "", {LIST.name, LIVE.name}),
        ("api.v2.topics.*", "", {LIST.name, GET.name, LIVE.name}),
        # An entry for a method overrides one for its class, whichever list it is in.
        ("api.v2.topics.*", "api.v2.topics.list", {GET.name, LIVE.name}),
        ("api.v2.topics.list", "api.v2.topics.*", {LIST.name, LIVE.name}),
        ("api.v2.topics.list", "api.v2.topics.list", {LIVE.name}),
        ("api.v2.topics.*", "api.v2.topics.*", {LIVE.name}),
        # With an embedded format: by its whole name, by the name that stands for all formats, by class.
        ("", "api.v2.produce-to-topic.json", ALL - {PRODUCE.name}),
        ("", "api.v2.produce-to-topic", ALL - {PRODUCE.name}),
        ("", "api.v2.produce-to-topic.*", ALL - {PRODUCE.name}),
        ("", "api.v2.produce-to-topic.binary", ALL),
        ("api.v2.produce-to-topic.json", "api.v2.produce-to-topic.*", {PRODUCE.name, LIVE.name}),
        ("api.v2.produce-to-topic.json", "api.v2.produce-to-topic", {PRODUCE.name, LIVE.name}),
    ],
)
def test_the_lists_decide_what_is_offered(allow: str, block: str, names: set[str]) -> None:
    assert offered(**{"api.endpoints.allowlist": allow, "api.endpoints.blocklist": block}) == names


@pytest.mark.parametrize(
    ("key", "entry", "message"),
    [
        (
            "api.endpoints.blocklist",
            "api.v2.topic.list",
            "there is no resource 'api.v2.topic.list' (did you mean api.v2",
        ),
        ("api.endpoints.blocklist", "api.v2.*", "there is no resource 'api.v2.*'"),
        ("api.endpoints.allowlist", "topics", "there is no resource 'topics'"),
        ("api.endpoints.blocklist", "health.live", "there is no resource 'health.live'"),
        ("rate.limit.costs", "api.v2.topics.lists=2", "there is no resource 'api.v2.topics.lists'"),
        ("rate.limit.costs", "api.v2.topics.list", "'api.v2.topics.list' is not NAME=NUMBER"),
        ("rate.limit.costs", "api.v2.topics.list=-1", "is not NAME=NUMBER"),
        ("rate.limit.costs", "api.v2.topics.list=1.5", "is not NAME=NUMBER"),
        ("rate.limit.costs", "api.v2.topics.list=", "is not NAME=NUMBER"),
    ],
)
def test_an_entry_that_fits_nothing_is_a_fault(key: str, entry: str, message: str) -> None:
    (fault,) = limits.faults(configuration(**{key: entry}), ROUTES)
    assert str(fault).startswith(f"argument: {key}: ")
    assert message in str(fault)


@pytest.mark.parametrize(
    ("key", "entries"),
    [
        ("api.endpoints.allowlist", "api.v2.topics.list,api.v2.produce-to-topic.json,api.v2.produce-to-topic.*"),
        ("api.endpoints.blocklist", "api.v3.topics.create,api.v1.topics.*"),
        ("rate.limit.costs", "api.v2.topics.* = 2,api.v3.clusters.*=1,api.v2.topics.list=0"),
    ],
)
def test_entries_of_resources_and_of_generations_that_are_not_served_are_none(key: str, entries: str) -> None:
    assert limits.faults(configuration(**{key: entries}), ROUTES) == []


# --- rate ------------------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_second_and_fills_steadily() -> None:
    clock = Clock()
    bucket = TokenBucket(10, clock)
    assert [bucket.wait_s(1) for _ in range(10)] == [0.0] * 10
    assert bucket.wait_s(1) == pytest.approx(0.1)
    bucket.give_back(1)
    clock.now = 0.35
    assert [bucket.wait_s(1) for _ in range(3)] == [0.0] * 3
    assert bucket.wait_s(1) == pytest.approx(0.05)
    clock.now = 100
    assert [bucket.wait_s(5), bucket.wait_s(5)] == [0.0, 0.0]
    assert bucket.wait_s(1) > 0


def test_those_who_wait_stand_in_line() -> None:
    bucket = TokenBucket(10, Clock())
    bucket.wait_s(10)
    assert [bucket.wait_s(1), bucket.wait_s(2), bucket.wait_s(1)] == pytest.approx([0.1, 0.3, 0.4])


def test_what_costs_more_than_a_second_goes_when_the_bucket_is_full() -> None:
    """With a rate of 1 and a cost of 2 nothing would ever go (reliability.md S17: every limit at its least)."""
    clock = Clock()
    bucket = TokenBucket(1, clock)
    assert bucket.wait_s(3) == 0.0
    assert bucket.wait_s(1) == pytest.approx(3.0)


def rated(**values: object) -> Limits:
    return Limits(configuration(**{"rate.limit.enable": True, "rate.limit.permits.per.sec": 2, **values}))


def test_costs_are_by_method_then_by_class_then_the_default() -> None:
    costs = "api.v2.topics.*=3,api.v2.topics.list=0,api.v2.produce-to-topic=4,api.v2.produce-to-topic.json=5"
    found = rated(**{"rate.limit.default.cost": 7, "rate.limit.costs": costs})
    assert [found.cost(route.name, route) for route in (LIST, GET, DELETE, LIVE)] == [0, 3, 7, 0]
    assert found.cost(PRODUCE_JSON, PRODUCE) == 5
    assert found.cost("api.v2.produce-to-topic.binary", PRODUCE) == 4


def test_without_the_limit_nothing_costs() -> None:
    assert Limits(configuration()).cost(GET.name, GET) == 0


async def test_the_excess_is_refused_with_the_time_to_wait() -> None:
    found = rated()
    await found.take(2)
    with pytest.raises(TooManyRequests) as caught:
        await found.take(2)
    error: ServiceError = caught.value
    limit = (("X-RateLimit-Limit", "2"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1"))
    assert (error.status, error.error_code, error.headers) == (429, 429, (("Retry-After", "1"), *limit))
    assert error.message == ("Request rate limit exceeded: The rate limit of requests per second has been exceeded.")


async def test_what_is_refused_takes_nothing() -> None:
    found, clock = rated(), Clock()
    found._bucket = TokenBucket(2, clock)
    await found.take(2)
    for _ in range(5):
        with pytest.raises(TooManyRequests):
            await found.take(2)
    clock.now = 1
    await found.take(2)


@pytest.mark.timing  # no longer than a second
async def test_a_patient_gateway_lets_requests_wait() -> None:
    found = rated(**{"rate.limit.permits.per.sec": 100, "rate.limit.timeout.ms": 1000})
    await found.take(100)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(found.take(1), found.take(1))
    assert 0.015 <= loop.time() - started < 1


@pytest.mark.parametrize(("permits", "cost"), [(1, 1), (1, 999_999_999), (2**31 - 1, 2**31 - 1)])
async def test_limits_at_their_bounds(permits: int, cost: int) -> None:
    found = rated(**{"rate.limit.permits.per.sec": permits, "rate.limit.default.cost": cost})
    await found.take(found.cost(GET.name, GET))
    with pytest.raises(TooManyRequests) as caught:
        await found.take(found.cost(GET.name, GET))
    assert isinstance(caught.value, TooManyRequests)
    assert caught.value.retry_after_s >= 1
