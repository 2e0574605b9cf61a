"""Credentials of a browser's WebSocket (gateway/door/subprotocol_proof.py)."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from multidict import CIMultiDict

from kafka_gateway.door.subprotocol_proof import FIELD, move_proof

BASIC = "authorization.QmFzaWMgZFRwdw"


class Message(NamedTuple):
    headers: Any
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()


def message(offered: str, **more: str) -> Message:
    return Message(CIMultiDict({FIELD: offered, "Host": "x", **more}))


@pytest.mark.parametrize(
    ("offered", "left"), [(f"kafka-gateway, {BASIC}", "kafka-gateway"), (BASIC, ""), (f"a,{BASIC},b", "a, b")]
)
def test_the_proof_becomes_the_field(offered: str, left: str) -> None:
    moved = move_proof(message(offered))
    assert (moved.headers["authorization"], moved.headers["host"], moved.headers[FIELD]) == ("Basic dTpw", "x", left)
    assert (b"Authorization", b"Basic dTpw") in moved.raw_headers
    assert b"QmFzaWMg" not in repr(moved.raw_headers).encode()


@pytest.mark.parametrize("offered", ["authorization.", "authorization.%%", "authorization.w6Q", "authorization.YQpi"])
def test_anything_else_is_no_proof(offered: str) -> None:
    assert "Authorization" not in move_proof(message(offered)).headers


def test_other_subprotocols_stay_as_they_are() -> None:
    given = message("kafka-gateway, mqtt")
    assert move_proof(given) is given


def test_a_field_of_its_own_wins() -> None:
    assert move_proof(message(BASIC, Authorization="Bearer a")).headers["Authorization"] == "Bearer a"
