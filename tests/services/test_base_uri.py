"""kafka-rest-http.md §3.8."""

from __future__ import annotations

import pytest

from kafka_gateway.services.rest.base_uri import BaseUrls
from tests.services.conftest import configuration


@pytest.mark.parametrize(
    ("settings", "request_url", "base"),
    [
        ({}, "http://asked:8082", "http://asked:8082"),
        ({}, "http://asked", "http://asked"),
        ({}, "http://[::1]:8082/rest/", "http://[::1]:8082/rest"),
        ({"host.name": "named"}, "http://asked", "http://named"),
        ({"host.name": "named"}, "http://asked:1234", "http://named:8082"),
        ({"host.name": "named"}, "http://[::1]:1234/rest", "http://named:8082/rest"),
        ({"host.name": "named"}, "http://[::1]", "http://named"),
        ({"host.name": "::1", "port": "99"}, "http://asked:1", "http://[::1]:99"),
        (
            {"host.name": "named", "listeners": "http://127.0.0.1:1000,http://127.0.0.1:2000"},
            "http://asked:1",
            "http://named:2000",
        ),
        ({"host.name": "named", "listeners": "http://127.0.0.1:0", "port": "0"}, "http://asked:1", "http://named:1"),
        ({"advertised.listeners": "https://s:1,http://a:2,http://b:3"}, "http://asked:9", "http://a:2"),
        ({"advertised.listeners": "https://s:1", "host.name": "named"}, "http://asked", "http://named"),
        ({"advertised.listeners": "https://s:1"}, "https://asked", "https://s:1"),
    ],
)
def test_base(settings: dict[str, str], request_url: str, base: str) -> None:
    assert BaseUrls(configuration(**settings)).base(request_url) == base


def test_instances_are_named_as_they_are() -> None:
    urls = BaseUrls(configuration())
    assert urls.instance("http://h:1", "g x", "a/b") == "http://h:1/consumers/g x/instances/a/b"
