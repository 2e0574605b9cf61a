"""Users who are removed or get another password while they are here, and guesses beside them (security.md §2)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from tests.door.conftest import BASIC, proof
from tests.door.open_ends import end_of, opened
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.transports.wire import Wire
from tests.waiting import until


def line(name: str, password: str) -> str:
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}"


@pytest.mark.timing
@pytest.mark.parametrize("change", ["removed", "password"])
async def test_what_a_user_has_open_ends_within_five_seconds(users: Path, change: str) -> None:
    async with gateway(**{**BASIC, "authentication.basic.file": users}) as app:
        url = app.addresses[0]
        async with (
            aiohttp.ClientSession(url, headers=proof("ada")) as hers,
            aiohttp.ClientSession(url, headers=proof("bob")) as his,
        ):
            of_ada, of_bob = await opened(hers), await opened(his)
            stay = [line("bob", "bob"), *([line("ada", "new")] if change == "password" else [])]
            await asyncio.to_thread(users.write_text, "\n".join(stay))
            told = dict(zip(of_ada, await asyncio.gather(*map(end_of, of_ada.values())), strict=True))
            assert told["envelope"].endswith("1008")
            assert '"error_code":40101' in told["stream socket"]
            assert told["stream socket"].endswith("1008")
            assert '"error_code":40101' in told["events"]
            assert told["proxy socket"].endswith("1008")
            with pytest.raises(TimeoutError):
                await of_bob["envelope"].receive(timeout=0.5)
            async with hers.get("/topics") as reply:
                assert reply.status == 401
            if change == "password":
                async with hers.get("/topics", headers=proof("ada", "new")) as reply:
                    assert reply.status == 200
            for each in of_bob.values():
                assert not each.closed
                each.close() if isinstance(each, aiohttp.ClientResponse) else await each.close()


async def test_a_thousand_wrong_logins_beside_good_clients(users: Path) -> None:
    """From a hundred addresses, behind a proxy: each is sent away in its turn, and who may goes on as before."""
    settings = {**BASIC, "authentication.basic.file": users, "forwarded.trust": "127.0.0.1"}
    async with gateway(StubService(), **settings, **{"authentication.failures.max": 5}) as app:
        found: dict[int, int] = {}
        going, served = True, dict.fromkeys(("ada", "bob"), 0)

        async def guess(number: int) -> None:
            async with await Wire.open(app.addresses[0]) as wire:
                for attempt in range(50):
                    peer = {"X-Forwarded-For": f"192.0.2.{(number * 50 + attempt) % 100}"}
                    name = ("ada", "nobody")[attempt % 2]
                    reply = await wire.ask("GET", "/stub/echo", **peer, **proof(name, f"{number}-{attempt}"))
                    found[reply.status] = found.get(reply.status, 0) + 1

        async def use(name: str, peer: str) -> None:
            async with await Wire.open(app.addresses[0]) as wire:
                while going:
                    reply = await wire.ask("GET", "/stub/echo", **{"X-Forwarded-For": peer}, **proof(name))
                    assert reply.status == 200
                    served[name] += 1

        # bob has been seen at an address from which guesses come too.
        good = [asyncio.ensure_future(use(*each)) for each in (("ada", "198.51.100.1"), ("bob", "192.0.2.7"))]
        await until(lambda: min(served.values()))
        before = dict(served)
        await asyncio.gather(*(guess(number) for number in range(20)))
        going = False
        await asyncio.gather(*good)
    assert found == {401: 500, 429: 500}
    assert min(served[name] - before[name] for name in served) > 10


@pytest.mark.timing
async def test_what_a_lost_role_had_opened_ends_within_five_seconds(users: Path, tmp_path: Path) -> None:
    """Streams and sockets that write: they are judged by the roles of now."""
    rules = tmp_path / "rules"
    await asyncio.to_thread(rules.write_text, "allow Role:team read,write topic:t\nallow Role:team read group:*\n")
    team = line("ada", "ada") + ":team\n" + line("bob", "bob") + ":team\n"
    await asyncio.to_thread(users.write_text, team)
    settings = {**BASIC, "authentication.basic.file": users, "authorization.file": rules}
    async with gateway(**settings) as app:
        url = app.addresses[0]
        async with (
            aiohttp.ClientSession(url, headers=proof("ada")) as hers,
            aiohttp.ClientSession(url, headers=proof("bob")) as his,
        ):
            of_ada, of_bob = await opened(hers), await opened(his)
            await asyncio.to_thread(users.write_text, team.replace(":team", ":other", 1))
            async with asyncio.timeout(6):
                ends = await asyncio.gather(*(end_of(of_ada[each]) for each in ("stream socket", "events")))
                socket_end = await end_of(of_ada["proxy socket"])
            assert all('"error_code":40301' in each for each in ends)
            assert socket_end
            for each in of_bob.values():
                assert not each.closed
                each.close() if isinstance(each, aiohttp.ClientResponse) else await each.close()
            await of_ada["envelope"].close()
