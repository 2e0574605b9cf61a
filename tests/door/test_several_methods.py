"""Several ways to prove who one is, at once: the first decides whose kind of proof there is (security.md §2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.auth import Authenticator
from kafka_gateway.config import ConfigError
from kafka_gateway.errors import Unauthorized
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from tests.door.conftest import BASIC, proof
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.transports.wire import Wire


class Tokens(Authenticator):
    """``Bearer right`` and nothing else."""

    name = "TOKENS"
    scheme = "bearer"
    query_parameter = "access_token"
    challenge = "Bearer"

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        if headers["authorization"] != "Bearer right":
            raise Unauthorized(challenge=self.challenge)
        return Principal("token")

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


async def answers(users: Path, method: str, *shown: tuple[str, dict[str, str]], **more: Any) -> list[int]:
    found = []
    settings = {**BASIC, "authentication.basic.file": users, "authentication.method": method, **more}
    async with gateway(StubService(), Tokens(), **settings) as app:
        for target, headers in shown:
            async with await Wire.open(app.addresses[0]) as wire:
                found.append((await wire.ask("GET", target, **headers)).status)
    return found


PATH = "/stub/echo"
NOTHING = (PATH, {})
ADA = (PATH, proof("ada"))
WRONG = (PATH, proof("ada", "wrong"))
TOKEN = (PATH, {"Authorization": "Bearer right"})
WRONG_TOKEN = (PATH, {"Authorization": "Bearer wrong"})
OTHER = (PATH, {"Authorization": "Digest x"})
IN_QUERY = (f"{PATH}?access_token=right", {})
WRONG_IN_QUERY = (f"{PATH}?access_token=wrong", {})
TWICE = (f"{PATH}?access_token=wrong", {"Authorization": "Bearer right"})
TWICE_WRONG = (f"{PATH}?access_token=right", {"Authorization": "Bearer wrong"})
BASIC_AND_QUERY = (f"{PATH}?access_token=wrong", proof("ada"))
CASES = [NOTHING, ADA, WRONG, TOKEN, WRONG_TOKEN, OTHER, IN_QUERY, WRONG_IN_QUERY, TWICE, TWICE_WRONG, BASIC_AND_QUERY]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("BASIC,TOKENS", [401, 200, 401, 200, 401, 401, 200, 401, 200, 401, 401]),
        ("tokens,basic", [401, 200, 401, 200, 401, 401, 200, 401, 200, 401, 401]),
        ("TOKENS,NONE", [200, 200, 200, 200, 401, 200, 200, 401, 200, 401, 401]),
        ("BASIC,NONE", [200, 200, 401, 200, 200, 200, 200, 200, 200, 200, 200]),
    ],
)
async def test_which_of_them_decides(users: Path, method: str, expected: list[int]) -> None:
    more = {"listeners.insecure": True} if "NONE" in method else {}
    assert await answers(users, method, *CASES, **more) == expected


async def test_all_of_them_are_offered(users: Path) -> None:
    settings = {**BASIC, "authentication.basic.file": users, "authentication.method": "BASIC,TOKENS"}
    async with gateway(StubService(), Tokens(), **settings) as app:
        for headers in ({}, {"Authorization": "Digest x"}):
            async with await Wire.open(app.addresses[0]) as wire:
                reply = await wire.ask("GET", PATH, **headers)
                assert reply.headers["www-authenticate"] == 'basic realm="", Bearer'


async def test_proof_that_nobody_reads_is_no_guess(users: Path) -> None:
    more = {"authentication.failures.max": 3}
    assert await answers(users, "BASIC,TOKENS", *[OTHER] * 9, ADA, **more) == [401] * 9 + [200]
    assert await answers(users, "BASIC,TOKENS", *[WRONG_TOKEN] * 5, ADA, **more) == [401] * 3 + [429] * 3


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("NONE,BASIC", "NONE comes last"),
        ("BASIC,SINGLE-USER", "both read the same"),
        ("BASIC,basic", "both read the same"),
        ("BASIC,FOO", "no authenticator is called 'FOO'"),
        ("", "names none"),
    ],
)
async def test_lists_that_are_refused(users: Path, method: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await answers(users, method)
