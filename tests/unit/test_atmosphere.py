"""Parameters, classification, handshake and framing of the Atmosphere protocol (atmosphere-binding.md §3)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.config import load
from kafka_gateway.errors import BadRequest
from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere import sse, streaming
from kafka_gateway.transports.atmosphere.protocol import AtmosphereSettings, Kind, Parameters
from kafka_gateway.transports.envelope.codec import Form
from tests.keys import BUILTIN_KEYS

ID = "6fb26239-bfec-4099-b42e-1b2339af6c2d"


def parameters(headers: dict[str, str] | None = None, **query: str) -> Parameters:
    return atmosphere.parameters(headers or {}, {name.replace("_", "-"): value for name, value in query.items()})


# --- parameters (§3.1) ----------------------------------------------------------------------------------------------


def test_the_parameters_of_a_client() -> None:
    found = parameters(
        X_Atmosphere_tracking_id=ID,
        X_Atmosphere_Framework="3.1.3-javascript",
        X_Atmosphere_Transport="SSE",
        X_atmo_protocol="true",
        X_Atmosphere_TrackMessageSize="true",
        X_Heartbeat_Server="10",
        X_Atmosphere_Binary="true",
        X_Atmosphere_SimpleRestProtocolDetached="lf",
        X_Atmosphere_SimpleRestHeaders="true",
    )
    assert found == Parameters("sse", ID, 3, True, True, 10, True, Form.DETACHED_LF, True)


def test_names_have_any_case_and_headers_come_first() -> None:
    found = parameters({"x-atmosphere-transport": "streaming"}, x_ATMOSPHERE_transport="sse", X_ATMO_PROTOCOL="TRUE")
    assert (found.transport, found.protocol) == ("streaming", True)


@pytest.mark.parametrize(
    ("version", "major"),
    [
        ("2.3.1-javascript", 2),
        ("4.0.1", 4),
        ("5.0.7", 5),
        ("", 2),
        ("x", 2),
        ("-5", 2),
        ("٥", 2),
        ("9" * 4000, 2),
    ],
)
def test_versions(version: str, major: int) -> None:
    assert parameters(X_Atmosphere_Framework=version).major_version == major


@pytest.mark.parametrize(
    "id",
    [
        "0",
        "",
        "1795220049949",  # clients without the protocol invent one from the time
        ID.upper(),
        ID + "\n",
        ID[:-1],
        "6fb26239-bfec-1099-b42e-1b2339af6c2d",  # not version 4: not random
        "6fb26239-bfec-4099-042e-1b2339af6c2d",
        "a\r\nSet-Cookie: x",
    ],
)
def test_what_is_no_id_of_a_gateway_counts_as_none(id: str) -> None:
    assert parameters(X_Atmosphere_tracking_id=id).tracking_id == ""


def test_ids_are_random() -> None:
    ids = [atmosphere.new_id() for _ in range(2000)]
    assert all(parameters(X_Atmosphere_tracking_id=id).tracking_id == id for id in ids)
    digits = ["".join(column) for column in zip(*(id.replace("-", "") for id in ids), strict=True)]
    assert [len(set(column)) for column in digits] == [16] * 12 + [1] + [16] * 3 + [4] + [16] * 15  # 122 bits


@pytest.mark.parametrize(
    ("id", "version", "protocol", "wanted"),
    [
        ("0", "3.1.3", "true", True),
        ("0", "5.0.7", "true", True),
        (ID, "3.1.3", "true", False),  # it would hand the handshake to the application
        (ID, "5.0.7", "true", True),  # it would take a message with a | for the handshake
        ("0", "5.0.7", "", False),
        (ID, "5.0.7", "", False),
    ],
)
def test_who_gets_a_handshake(id: str, version: str, protocol: str, wanted: bool) -> None:
    found = parameters(X_Atmosphere_tracking_id=id, X_Atmosphere_Framework=version, X_atmo_protocol=protocol)
    assert found.wants_handshake is wanted


@pytest.mark.parametrize(
    ("asked", "configured", "seconds"), [("", 60, 60), ("10", 60, 60), ("90", 60, 90), ("0", 60, 0), ("90", 0, 90)]
)
def test_the_interval_of_heartbeats(asked: str, configured: int, seconds: int) -> None:
    assert parameters(X_Heartbeat_Server=asked).quiet_s(configured) == seconds


# --- what a request is (§3.2) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "transport", "live", "kind"),
    [
        ("GET", "/", "close", True, Kind.CLOSE),
        ("POST", "/x", "close", False, Kind.CLOSE),
        ("DELETE", "/", "close", True, Kind.REST),
        ("GET", "/", "sse", False, Kind.OPEN),
        ("GET", "/x", "streaming", True, Kind.OPEN),
        ("GET", "/", "long-polling", True, Kind.OPEN),
        ("HEAD", "/", "sse", False, Kind.REST),
        ("GET", "/topics", "polling", True, Kind.PUSH),
        ("POST", "/", "polling", True, Kind.PUSH),
        ("DELETE", "/x", "polling", True, Kind.PUSH),
        ("POST", "/", "sse", True, Kind.PUSH),
        ("PUT", "/", "long-polling", True, Kind.PUSH),
        ("POST", "/", "polling", False, Kind.REST),
        ("POST", "/", "sse", False, Kind.REST),
        ("POST", "/", "", True, Kind.REST),
        ("GET", "/", "jsonp", True, Kind.UNSUPPORTED),
        ("GET", "/", "webtransport", False, Kind.UNSUPPORTED),
        ("GET", "/", "websocket", True, Kind.UNSUPPORTED),
        ("POST", "/", "websocket", True, Kind.UNSUPPORTED),
        ("GET", "/", "carrier-pigeon", True, Kind.REST),
        ("GET", "/", "", False, Kind.REST),
    ],
)
def test_classification(method: str, path: str, transport: str, live: bool, kind: Kind) -> None:
    found = parameters(X_Atmosphere_Transport=transport, X_Atmosphere_tracking_id=ID)
    assert atmosphere.classify(method, path, "*/*", found, live) is kind


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("/", "text/event-stream", Kind.OPEN),
        ("/", "application/json, Text/Event-Stream", Kind.OPEN),
        ("/topics", "text/event-stream", Kind.REST),
        ("/", "*/*", Kind.REST),
    ],
)
def test_an_event_source_without_parameters(path: str, accept: str, kind: Kind) -> None:
    assert atmosphere.classify("GET", path, accept, parameters(), False) is kind


def test_a_pushed_request_has_its_headers_in_the_query() -> None:
    headers = {"Accept": "*/*", "X-B": "real", "Content-Type": "text/plain"}
    query = {
        "X-Atmosphere-tracking-id": ID,
        "x-ATMO-protocol": "true",
        "X-Heartbeat-Server": "1",
        "_": "17",
        "accept": "application/json",
        "content-type": "application/xml",
        "Authorization": "Basic Zm9v",
        "x-a": "1",
        "X-b": "2",
        "max_bytes": "10",
        "acceptance": "y",
    }
    found, left = atmosphere.pushed_request(headers, query)
    assert found == {
        "accept": "application/json",
        "x-b": "real",
        "content-type": "text/plain",
        "authorization": "Basic Zm9v",
        "x-a": "1",
    }
    assert left == {"max_bytes": "10", "acceptance": "y"}


@pytest.mark.parametrize("query", [{"accept": "a\r\nX: y"}, {"x-a\n": "1"}, {"x-a": "\x00"}])
def test_a_pushed_header_cannot_break_out(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        atmosphere.pushed_request({}, query)


# --- what is sent (§3.3, §3.4, §3.14) -------------------------------------------------------------------------------


def test_the_handshake() -> None:
    assert atmosphere.handshake(ID, 0, "X") == f"{ID}|0|X|".encode()
    assert atmosphere.with_length(atmosphere.handshake(ID, 0, "X")) == f"41|{ID}|0|X|".encode()
    assert atmosphere.handshake(ID, 20000, "Y") == f"{ID}|20000|Y|".encode()


@pytest.mark.parametrize(
    ("message", "framed"),
    [
        ('{"code":200,"id":"1"}["a|b"]', '28|{"code":200,"id":"1"}["a|b"]'),
        ("", "0|"),
        ("é", "1|é"),
        ("€", "1|€"),
        ("😀", "2|😀"),
        ("a😀é|", "5|a😀é|"),
    ],
)
def test_lengths_are_those_of_javascript(message: str, framed: str) -> None:
    assert atmosphere.with_length(message.encode()) == framed.encode()


def test_the_json_heartbeat_is_spelled_as_in_the_original() -> None:
    assert re.fullmatch(rb'\{"heartbeat": "u", "time": \d{13}\}', atmosphere.json_heartbeat("u"))


def test_response_headers() -> None:
    always = {"Expires": "-1", "Cache-Control": "no-store, no-cache, must-revalidate", "Pragma": "no-cache"}
    assert atmosphere.response_headers(parameters(X_Atmosphere_tracking_id=ID), ID) == {
        **always,
        "X-Atmosphere-tracking-id": ID,
    }
    assert atmosphere.response_headers(parameters(), ID) == {
        **always,
        "X-Atmosphere-tracking-id": ID,
        "X-Atmosphere-first-request": "true",
    }
    assert atmosphere.response_headers(parameters(), "") == always


def test_settings_below_zero_switch_off() -> None:
    beats = "org.atmosphere.interceptor.HeartbeatInterceptor."
    values: dict[str, Any] = {
        beats + "heartbeatFrequencyInSeconds": -1,
        beats + "clientHeartbeatFrequencyInSeconds": 20,
        beats + "paddingChar": "Y",
        "org.atmosphere.client.TrackMessageSizeInterceptor.delimiter": "<|>",
    }
    assert AtmosphereSettings.of(load(BUILTIN_KEYS).with_values(values)) == AtmosphereSettings(0, 20000, b"Y", b"<|>")


# --- framing (§3.7, §3.8) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (b'["test"]', b'data:["test"]\r\n\r\n'),
        (b"a\nb", b"data:a\r\ndata:b\r\n\r\n"),
        (b"a\r\nb\rc", b"data:a\r\ndata:b\r\ndata:c\r\n\r\n"),
        (b" a", b"data:  a\r\n\r\n"),
        (b"a\n b\n", b"data:a\r\ndata:  b\r\ndata:\r\n\r\n"),
        (b"\n\n", b"data:\r\ndata:\r\ndata:\r\n\r\n"),
        (b"\r\rdata:x\revent:y", b"data:\r\ndata:\r\ndata:data:x\r\ndata:event:y\r\n\r\n"),
        (b"x\xff", b"data:x\xef\xbf\xbd\r\n\r\n"),
        ("a\u2028b\x0b\x85".encode("utf-8"), "data:a\u2028b\x0b\x85\r\n\r\n".encode()),
    ],
)
def test_events(message: bytes, event: bytes) -> None:
    assert sse.event(sse.text(message)) == event


def parsed(stream: str) -> list[str]:
    """The events of a stream, as clients read them (HTML standard §9.2.6)."""
    events: list[str] = []
    data: list[str] = []
    for line in re.split(r"\r\n|\n|\r", stream):
        name, _, value = line.partition(":")
        if not line:
            if data:
                events.append("\n".join(data))
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))
        else:
            assert name == " " * 2000, name
    return events


@given(st.lists(st.text(st.sampled_from("\n\r :da\u00e9\U0001f600|0")) | st.text(), max_size=4))
def test_no_payload_breaks_an_event(messages: list[str]) -> None:
    stream = sse.PADDING + b"".join(sse.event(sse.text(message.encode())) for message in messages)
    expected = [re.sub(r"\r\n|\r", "\n", message) for message in messages]
    assert parsed(stream.decode()) == expected


@given(st.text(st.sampled_from("\n\ra\U0001f600")))
def test_lengths_are_those_of_what_the_client_reads(message: str) -> None:
    framed = sse.event(atmosphere.with_length(sse.text(message.encode())))
    (read,) = parsed(framed.decode())
    length, _, text = read.partition("|")
    assert int(length) == len(text.encode("utf-16-le")) // 2


def test_the_padding_of_a_stream_is_for_old_clients() -> None:
    assert sse.SSE.opening(5) == sse.SSE.opening(3) == b" " * 2000 + b"\n"
    assert streaming.STREAMING.opening(4) == b" " * 2048 + b"\n"
    assert streaming.STREAMING.opening(5) == b""


def test_json_survives_every_framing() -> None:
    document = json.dumps({"a": "\r\n\ndata: x"}).encode()
    assert sse.text(document) == streaming.STREAMING.text(document) == document
