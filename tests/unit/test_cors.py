"""Which origins get which headers (Fetch standard §3.3; kafka-rest-http.md §3.9; reliability.md S11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.config import load
from kafka_gateway.door.cors import Cors
from tests.keys import BUILTIN_KEYS

OWN = "https://app.example.com"


def cors(origin: str = OWN, **more: str) -> Cors:
    names = {name.replace("_", "."): value for name, value in more.items()}
    return Cors(load(BUILTIN_KEYS).with_values({"access.control.allow.origin": origin, **names}))


def preflight(origin: str, headers: str = "") -> dict[str, str]:
    found = {"origin": origin, "access-control-request-method": "POST"}
    return found | ({"access-control-request-headers": headers} if headers else {})


def test_it_is_off_without_origins() -> None:
    assert not cors("").enabled
    assert cors().enabled


@pytest.mark.parametrize("origin", [OWN, "https://APP.example.com", "http://localhost:3000"])
def test_a_listed_origin_may_read(origin: str) -> None:
    found = dict(cors(f"{OWN}, http://localhost:3000").headers({"origin": origin}))
    assert found == {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


FOREIGN = [
    None,
    "",
    "null",
    "https://evil.com",
    f"{OWN}.evil.com",
    "https://evil.com/app.example.com",
    "https://evilapp.example.com",
    "https://app.example.com:444",
    "http://app.example.com",
    "https://аpp.example.com",  # the first letter is Cyrillic
    "*",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin_gets_no_header_that_lets_it_read(origin: str | None) -> None:
    request = {} if origin is None else preflight(origin)
    assert cors().headers(request) == (("Vary", "Origin"),)
    assert cors().preflight(request) == ()


@pytest.mark.parametrize("origin", ["https://anyone.example", "null", OWN])
def test_a_star_is_for_everyone_and_the_origin_is_echoed(origin: str) -> None:
    found = dict(cors("*").headers({"origin": origin}))
    assert found["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("origin", ["*", OWN, f"*,{OWN}"])
def test_credentials_are_never_allowed(origin: str) -> None:
    found = cors(origin, access_control_expose_headers="x")
    reply = found.preflight(preflight(OWN, "authorization"))
    names = {name.lower() for name, _ in (*found.headers({"origin": OWN}), *reply)}
    assert "access-control-allow-credentials" not in names


def test_a_preflight_is_answered_with_what_is_allowed() -> None:
    reply = cors().preflight(preflight(OWN))
    assert dict(reply) == {"Access-Control-Allow-Methods": "GET,POST,HEAD", "Access-Control-Max-Age": "1800"}
    configured = cors(
        access_control_allow_methods="GET, DELETE",
        access_control_allow_headers="X-A,X-B",
        access_control_expose_headers="X-C",
    )
    reply = configured.preflight(preflight(OWN, "x-other"))
    assert dict(reply)["Access-Control-Allow-Methods"] == "GET,DELETE"
    assert dict(reply)["Access-Control-Allow-Headers"] == "X-A,X-B"
    assert dict(configured.headers({"origin": OWN}))["Access-Control-Expose-Headers"] == "X-C"


def test_without_a_list_a_page_may_set_the_headers_that_it_names() -> None:
    reply = cors().preflight(preflight(OWN, "content-type,x-api-key"))
    assert dict(reply)["Access-Control-Allow-Headers"] == "content-type,x-api-key"


@given(st.text(), st.text())
def test_nothing_of_a_client_breaks_a_header(origin: str, headers: str) -> None:
    found = cors("*")
    reply = found.preflight(preflight(origin, headers))
    for _, value in (*found.headers({"origin": origin}), *reply):
        assert value.isascii()
        assert value.isprintable()
