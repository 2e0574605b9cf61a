"""The page at ``/``: for browsers alone."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import bcrypt
import pytest

from tests.transports.conftest import gateway

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
OTHERS = [
    None,
    "*/*",
    "application/json",
    "application/json, text/plain, */*",
    "application/vnd.kafka.v2+json",
    "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",  # Java's HttpURLConnection
]


async def ask(url: str, accept: str | None, method: str = "GET") -> tuple[int, str, str]:
    async with aiohttp.ClientSession(skip_auto_headers=["Accept"]) as client:
        headers = {} if accept is None else {"Accept": accept}
        async with client.request(method, url, headers=headers) as response:
            return response.status, response.content_type, await response.text()


@pytest.mark.parametrize("accept", [CHROMIUM, "text/html"])
async def test_a_browser_gets_links(accept: str) -> None:
    async with gateway() as app:
        status, kind, page = await ask(f"{app.addresses[0]}/", accept)
        assert (status, kind) == (200, "text/html")
        for link in ("console", "health/ready", "topics"):
            assert f'href="{link}"' in page
            assert (await ask(f"{app.addresses[0]}/{link}", None))[0] == 200
        assert (await ask(f"{app.addresses[0]}/", accept, "HEAD"))[0] == 200
        # Other paths are as they were.
        assert (await ask(f"{app.addresses[0]}/topics", "application/json, */*"))[1].endswith("json")


@pytest.mark.parametrize("accept", OTHERS)
async def test_everybody_else_gets_what_the_api_answers(accept: str | None) -> None:
    async with gateway() as app:
        assert (await ask(f"{app.addresses[0]}/", accept))[0::2] == (200, "{}")


async def test_it_says_how_to_have_a_console() -> None:
    async with gateway(console_enabled="false") as app:
        page = (await ask(f"{app.addresses[0]}/", CHROMIUM))[2]
        assert "console.enabled=true" in page
        assert 'href="console"' not in page


@pytest.mark.parametrize(("admins", "seen"), [("", {"alice"}), ("alice", {"alice", "bob"}), ("bob", {"alice"})])
async def test_who_sees_which_clients(tmp_path: Path, admins: str, seen: set[str]) -> None:
    users = tmp_path / "users"
    users.write_bytes(
        b"".join(b"%b:%b\n" % (name, bcrypt.hashpw(name, bcrypt.gensalt(4))) for name in (b"alice", b"bob"))
    )
    settings = {"authentication_method": "BASIC", "authentication_basic_file": users, "embedded_enable": True}
    async with gateway(console_enabled="true", console_admins=admins, **settings) as app:
        url = app.addresses[0]
        alice, bob = ({"Authorization": aiohttp.encode_basic_auth(name, name)} for name in ("alice", "bob"))
        async with aiohttp.ClientSession(headers=bob) as other, aiohttp.ClientSession(headers=alice) as client:
            async with other.get(f"{url}/topics") as response:
                assert response.status == 200
            async with client.get(f"{url}/console/clients") as response:
                assert {each["principal"] for each in await response.json()} == seen
