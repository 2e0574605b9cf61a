"""Whether a client has what was written to it (gateway/door/half_closed.py)."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from kafka_gateway.door import half_closed

ESTABLISHED, CLOSED = b"\x01", b"\x07"


class Connection:
    """A connection, as its system tells of it."""

    family = socket.AF_INET
    state = ESTABLISHED

    def getsockopt(self, *_: int) -> bytes:
        return self.state

    def fileno(self) -> int:
        return -1

    # --- the transport of it

    def get_extra_info(self, name: str) -> Connection:
        return self

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.mark.parametrize(("state", "taken"), [(ESTABLISHED, True), (CLOSED, False)])
async def test_a_reset_in_the_moment_of_the_look_is_no_acknowledgement(
    monkeypatch: pytest.MonkeyPatch, state: bytes, taken: bool
) -> None:
    connection = Connection()

    def unacknowledged(descriptor: int) -> int:
        connection.state = state
        return 0

    monkeypatch.setattr(half_closed, "_unacknowledged", unacknowledged)
    assert await half_closed.has_taken_all(cast(Any, connection)) is taken
