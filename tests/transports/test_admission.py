"""Who is let in over HTTP, to what, and how often: authentication, roles, open paths, CORS, lists, rate limit."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import bcrypt
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.auth import Authenticator
from kafka_gateway.authenticators import basic
from kafka_gateway.config import ConfigError
from kafka_gateway.errors import Unauthorized
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.messages import Call, Response
from kafka_gateway.router import Route
from kafka_gateway.session import Principal
from tests.transports.conftest import gateway
from tests.transports.wire import Reply, Wire

ROOT = Path(__file__).parents[2]
PAGE = "https://app.example.com"


async def whoami(call: Call) -> Response:
    return Response({"name": call.session.principal.name})


class Whoami:
    """A plugin with a resource that tells who asks, and one that is meant to be open."""

    @hookimpl
    def gateway_routes(self) -> Sequence[Route]:
        return [Route("GET", path, whoami) for path in ("/whoami", "/open", "/public/a", "/public/{name}/b")]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """The built-ins are imported with the first gateway, which is no work of a loop under test."""
    Plugins(installed=False)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    file = tmp_path / "users"
    lines = [(name, roles, bcrypt.hashpw(name.encode(), bcrypt.gensalt(4))) for name, roles in ROLES.items()]
    file.write_text("".join(f"{name}:{hashed.decode()}:{roles}\n" for name, roles, hashed in lines))
    return file


ROLES = {"ada": "admin,writer", "bob": "reader", "eve": ""}
"""The users; each one's password is the name."""


def basic_settings(users: Path, **more: object) -> dict[str, object]:
    settings = {"authentication.method": "BASIC", "authentication.basic.file": users, "authentication.realm": "kafka"}
    # A connection to the world is refused without authentication and the default with it: stay at home.
    return {**settings, "listeners": "http://127.0.0.1:0", **more}


def remove_all_but_eve(users: Path) -> None:
    users.write_text(next(line for line in users.read_text().splitlines() if line.startswith("eve:")))


def proof(name: str, password: str | None = None) -> dict[str, str]:
    text = f"{name}:{name if password is None else password}"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


async def ask(wire: Wire, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    await wire.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
    return await wire.reply()


async def opened(app: App) -> Wire:
    return await Wire.open(app.addresses[0])


def who(reply: Reply) -> str | int:
    return str(reply.json["name"]) if reply.status == 200 else reply.status


# --- BASIC -----------------------------------------------------------------------------------------------------------


async def test_a_refusal_says_how_to_come_in(users: Path) -> None:
    async with gateway(Whoami(), **basic_settings(users)) as app, await opened(app) as wire:
        for headers in ({}, proof("ada", "wrong"), proof("nobody"), {"Authorization": "Bearer x"}):
            reply = await ask(wire, "/whoami", headers)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == 'basic realm="kafka"'
            assert reply.headers["content-type"] == "application/json"
            assert reply.json == {"error_code": 401, "message": "HTTP 401 Unauthorized"}
        assert who(await ask(wire, "/whoami", proof("ada"))) == "ada"
        assert app.gateway.running == 0


async def test_each_request_of_a_connection_is_its_senders(users: Path) -> None:
    """A proxy sends the requests of many clients over one connection."""
    async with gateway(Whoami(), **basic_settings(users)) as app, await opened(app) as wire:
        seen = [who(await ask(wire, "/whoami", headers)) for headers in (proof("ada"), proof("bob"), {}, proof("eve"))]
        assert seen == ["ada", "bob", 401, "eve"]
        assert len(app.gateway.sessions) == 1


async def test_a_body_of_a_refused_request_is_not_read_as_the_next(users: Path) -> None:
    async with gateway(Whoami(), **basic_settings(users)) as app, await opened(app) as wire:
        body = "GET /whoami HTTP/1.1\r\n\r\n"
        await wire.send(f"POST /whoami HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        assert (await wire.reply()).status == 401
        assert who(await ask(wire, "/whoami", proof("ada"))) == "ada"


@pytest.mark.parametrize(
    ("roles", "seen"),
    [
        ("*", ["ada", "bob", "eve"]),
        ("admin", ["ada", 403, 403]),
        ("reader,writer", ["ada", "bob", 403]),
        ("nothing", [403, 403, 403]),
        ("", [403, 403, 403]),
    ],
)
async def test_authenticated_is_not_yet_allowed(users: Path, roles: str, seen: list[str | int]) -> None:
    settings = basic_settings(users, **{"authentication.roles": roles})
    async with gateway(Whoami(), **settings) as app, await opened(app) as wire:
        assert [who(await ask(wire, "/whoami", proof(name))) for name in ROLES] == seen
        assert (await ask(wire, "/whoami")).status == 401


async def test_a_removed_user_is_out_within_seconds_on_an_open_connection(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """reliability.md S9, with the seconds taken away."""
    monkeypatch.setattr(basic, "_TRUST_S", 0.0)
    monkeypatch.setattr(basic, "_FILE_CHECK_S", 0.0)
    async with gateway(Whoami(), **basic_settings(users)) as app, await opened(app) as wire:
        assert who(await ask(wire, "/whoami", proof("ada"))) == "ada"
        remove_all_but_eve(users)
        assert who(await ask(wire, "/whoami", proof("ada"))) == 401


async def test_guessers_are_sent_away_with_the_time_to_wait(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basic, "_WAITING_MAX", 0)
    async with gateway(Whoami(), **basic_settings(users)) as app, await opened(app) as wire:
        reply = await ask(wire, "/whoami", proof("ada"))
        assert (reply.status, reply.json["error_code"], reply.headers["retry-after"]) == (429, 429, "1")


async def test_a_refusal_is_in_the_access_log_without_the_credentials(
    users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    settings = basic_settings(users, **{"access.log.enable": True})
    async with gateway(Whoami(), **settings) as app, await opened(app) as wire:
        await ask(wire, "/whoami?a=b", proof("ada", "c4nary"))
    secret = proof("ada", "c4nary")["Authorization"][6:]
    assert "c4nary" not in caplog.text
    assert secret not in caplog.text
    assert "c4nary" not in repr(app.gateway.config)
    assert [line for line in caplog.messages if '"GET /whoami?a=b" 401' in line]


class Refusing(Authenticator):
    """Refuses everyone, and remembers the headers that it was shown."""

    name = "REFUSING"
    proof = ("x-one", "x-two")

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None]] = []

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        self.asked.append((headers.get("x-one"), headers.get("x-two")))
        if self.asked[-1] == (None, None):
            raise Unauthorized()
        return Principal("somebody")

    @hookimpl
    def gateway_authenticators(self) -> Sequence[Authenticator]:
        return [self]


async def test_a_change_in_any_header_of_the_proof_is_noticed() -> None:
    plugin = Refusing()
    settings = {"authentication.method": "refusing", "listeners": "http://127.0.0.1:0"}
    async with gateway(Whoami(), plugin, **settings) as app, await opened(app) as wire:
        for headers in ({"X-One": "1"}, {"X-One": "1"}, {"X-One": "1", "X-Two": "2"}, {"Authorization": "Basic eA=="}):
            await ask(wire, "/whoami", headers)
    assert plugin.asked == [("1", None), ("1", "2"), (None, None)]


async def test_faulty_settings_of_the_authenticator_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"authentication\.basic\.file: names no file"):
        async with gateway(**{"authentication.method": "basic"}):
            raise AssertionError("has started")


# --- open paths ------------------------------------------------------------------------------------------------------

OPEN = {"authentication.skip.paths": "/open, /public/*"}


async def test_open_paths_need_no_proof_and_open_nothing_else(users: Path) -> None:
    async with gateway(Whoami(), **basic_settings(users, **OPEN)) as app, await opened(app) as wire:
        # On one connection: what was let in without a proof must not let in the next request.
        paths = ["/open", "/whoami", "/open?a=b", "/public/a", "/public/x/b", "/whoami"]
        seen = [who(await ask(wire, path)) for path in paths]
        assert seen == ["anonymous", 401, "anonymous", "anonymous", "anonymous", 401]
        assert app.gateway.sessions == set()
        assert who(await ask(wire, "/whoami", proof("ada"))) == "ada"
        assert who(await ask(wire, "/open", proof("ada"))) == "ada"
        assert who(await ask(wire, "/open", proof("ada", "wrong"))) == "anonymous"
        assert who(await ask(wire, "/whoami", proof("ada"))) == "ada"
        assert {session.principal.name for session in app.gateway.sessions} == {"ada"}


@pytest.mark.parametrize(
    "path",
    [
        "/open/",
        "/OPEN",
        "/%6Fpen",
        "/open%2F",
        "/open%3F",
        "/open;a=b",
        "//open",
        "/whoami/../open",
        "/whoami?/open",
        "/whoami?x=/public/a",
        "/public",
        "/publicity",
        "http://x/whoami",
        "/open#",
        "*",
    ],
)
async def test_what_only_looks_like_an_open_path_is_not(users: Path, path: str) -> None:
    async with gateway(Whoami(), **basic_settings(users, **OPEN)) as app, await opened(app) as wire:
        assert (await ask(wire, path)).status in (400, 401)


@pytest.mark.parametrize(
    "path", ["/public/../whoami", "/public/%2E%2E/whoami", "/public/..%2Fwhoami", "/public//whoami"]
)
async def test_nothing_closed_is_reached_through_an_open_path(users: Path, path: str) -> None:
    async with gateway(Whoami(), **basic_settings(users, **OPEN)) as app, await opened(app) as wire:
        assert (await ask(wire, path)).status in (400, 404)


# --- browsers --------------------------------------------------------------------------------------------------------

CORS = {"access.control.allow.origin": PAGE}
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}


async def test_a_preflight_needs_no_proof_and_a_refusal_can_be_read(users: Path) -> None:
    async with gateway(Whoami(), **basic_settings(users, **CORS)) as app, await opened(app) as wire:
        reply = await ask(wire, "/whoami", PREFLIGHT, "OPTIONS")
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert reply.headers["access-control-allow-methods"] == "GET,POST,HEAD"
        reply = await ask(wire, "/whoami", {"Origin": PAGE})
        assert reply.status == 401
        assert reply.headers["access-control-allow-origin"] == PAGE
        reply = await ask(wire, "/whoami", {"Origin": PAGE, **proof("ada")})
        assert who(reply) == "ada"
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert "Origin" in reply.headers["vary"]


async def test_options_can_be_guarded_too(users: Path) -> None:
    settings = basic_settings(users, **CORS, **{"access.control.skip.options": False})
    async with gateway(Whoami(), **settings) as app, await opened(app) as wire:
        assert (await ask(wire, "/whoami", PREFLIGHT, "OPTIONS")).status == 401
        assert (await ask(wire, "/whoami", {**PREFLIGHT, **proof("ada")}, "OPTIONS")).status == 200


@pytest.mark.parametrize("origin", ["null", "https://evil.com", f"{PAGE}.evil.com", f"{PAGE}\xe9"])
async def test_a_foreign_page_gets_no_header_on_any_reply(origin: str) -> None:
    async with gateway(Whoami(), **CORS) as app, await opened(app) as wire:
        foreign = {**PREFLIGHT, "Origin": origin}
        replies = [await ask(wire, path, foreign) for path in ("/whoami", "/nothing")]
        replies.append(await ask(wire, "/whoami", foreign, "OPTIONS"))
        assert [name for reply in replies for name in reply.headers if name.startswith("access-control")] == []


async def test_a_star_never_comes_with_credentials() -> None:
    async with gateway(Whoami(), **{"access.control.allow.origin": "*"}) as app, await opened(app) as wire:
        for origin in (PAGE, "null"):
            for method in ("GET", "OPTIONS"):
                reply = await ask(wire, "/whoami", {**PREFLIGHT, "Origin": origin}, method)
                assert reply.headers["access-control-allow-origin"] == origin
                assert "access-control-allow-credentials" not in reply.headers
        reply = await ask(wire, "/whoami", {"Origin": "https://\xe4.example"})  # cannot be echoed in a header
        assert reply.status == 200
        assert "access-control-allow-origin" not in reply.headers


# --- lists and rate --------------------------------------------------------------------------------------------------


async def test_blocked_resources_are_not_there() -> None:
    blocked = {"api.endpoints.blocklist": "api.v2.topics.*,api.v2.produce-to-topic", "api.v1.enable": False}
    async with gateway(**blocked) as app, await opened(app) as wire:
        assert (await ask(wire, "/topics")).status == 404
        assert (await ask(wire, "/brokers")).status == 200
        reply = await ask(
            wire, "/topics/t", {"Content-Length": "0", "Content-Type": "application/vnd.kafka.json.v2+json"}, "POST"
        )
        assert reply.status == 405
        assert (await ask(wire, "/topics", method="OPTIONS")).status == 200
        assert (await ask(wire, "/health/live")).status == 200


async def test_an_entry_that_fits_nothing_stops_the_start() -> None:
    with pytest.raises(
        ConfigError, match=r"there is no resource 'api\.v2\.topic\.\*' \(did you mean api\.v2\.topics\.\*"
    ):
        async with gateway(**{"api.endpoints.blocklist": "api.v2.topic.*"}):
            raise AssertionError("has started")


async def test_the_rate_limit_counts_for_all_and_spares_what_is_free() -> None:
    settings = {
        "rate.limit.enable": True,
        "rate.limit.permits.per.sec": 2,
        "rate.limit.costs": "api.v2.brokers.list=0",
        "api.v1.enable": False,
    }
    async with gateway(**settings) as app, await opened(app) as one, await opened(app) as other:
        replies = await asyncio.gather(*(ask(wire, "/topics") for wire in (one, other)))
        assert [reply.status for reply in replies] == [200, 200]
        refused = await ask(one, "/topics")
        assert refused.status == 429
        assert refused.json["message"].startswith("Request rate limit exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await ask(one, "/brokers")).status == 200
        assert (await ask(one, "/health/live")).status == 200


# --- who may listen to the world -------------------------------------------------------------------------------------


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA")}
    command = [sys.executable, "-P", "-m", "kafka_gateway", "embedded.enable=true", *arguments]
    return subprocess.run(
        command,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("method", ["NONE", "none", " None "])
@pytest.mark.slow
def test_an_open_port_without_authentication_is_refused(method: str) -> None:
    done = start("listeners=http://0.0.0.0:0,http://[::]:0,http://127.0.0.1:0", f"authentication.method={method}")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    for line, address in zip(lines, ("http://0.0.0.0:0", "http://[::]:0"), strict=True):
        assert re.match(rf"kafka-gateway: .*listeners: {re.escape(address)} can be reached from other machines", line)


@pytest.mark.slow
def test_an_authenticator_that_is_not_there_opens_nothing() -> None:
    done = start("listeners=http://0.0.0.0:0", "authentication.method=BEARER")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "no authenticator is called 'BEARER'; there are BASIC, NONE" in line
