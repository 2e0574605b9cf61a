"""HTTP Basic authentication: the file of users, what is remembered, what it costs, and that nothing is told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.authenticators import basic
from kafka_gateway.authenticators.basic import BasicAuthenticator, read_users
from kafka_gateway.config import Config, load
from kafka_gateway.errors import TooManyRequests, Unauthorized
from kafka_gateway.session import Principal
from tests.keys import BUILTIN_KEYS

COST = 4


def hashed(password: str, cost: int = COST) -> str:
    """As ``htpasswd -B`` writes it."""
    return bcrypt.hashpw(password.encode(), b"$2b$%02d$abcdefghijklmnopqrstuu" % cost).decode().replace("$2b$", "$2y$")


ADA, BOB = hashed("ada's"), hashed("b:b:")


class Clock:
    """Stands for the module ``time``, and goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(basic, "time", found)
    return found


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads in which bcrypt has worked, a check each."""
    found: list[str] = []
    real = bcrypt.checkpw

    def check(password: bytes, password_hash: bytes) -> bool:
        found.append(threading.current_thread().name)
        return real(password, password_hash)

    monkeypatch.setattr(bcrypt, "checkpw", check)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"# people\nada:{ADA}:admin, writer\n\nbob:{BOB}\n")
    return path


def configuration(file: Path | str, **values: object) -> Config:
    return load(BUILTIN_KEYS).with_values(
        {"authentication.basic.file": file, "authentication.realm": 'the "realm"', **values}
    )


Make = Callable[..., BasicAuthenticator]


@pytest.fixture
def users(file: Path) -> BasicAuthenticator:
    found = BasicAuthenticator(configuration(file))
    assert found.faults() == []
    return found


def header(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def ask(users: BasicAuthenticator, name: str, password: str) -> Principal:
    return await users.authenticate(header(name, password), "192.0.2.1")


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_line_is_a_name_a_hash_and_roles() -> None:
    users = read_users(f"ada:{ADA}:admin, writer,\r\nbob:{BOB}\n\n  # carol:x\n")
    assert {name: sorted(user.roles) for name, user in users.items()} == {"ada": ["admin", "writer"], "bob": []}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ada", "line 2 is not NAME:HASH"),
        ("ada:", "line 2 is not NAME:HASH"),
        (f":{ADA}", "line 2 is not NAME:HASH"),
        ("ada:secret", "line 2 is not NAME:HASH"),
        ("ada:$apr1$salt$hash", "line 2 is not NAME:HASH"),
        ("ada:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "line 2 is not NAME:HASH"),
        (f"ada:{ADA[:-1]}", "line 2 is not NAME:HASH"),
        (f"ada:{ADA}x", "line 2 is not NAME:HASH"),
        (f"ada:{ADA.replace('$04$', '$31$')}", "line 2: the cost of the hash is not 4 to 14"),
        (f"bob:{ADA}", "line 2: that user stands in the file already"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_not_shown(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_users(f"bob:{BOB}\n{line}\n")
    assert "secret" not in str(caught.value)
    assert ADA[10:] not in str(caught.value)


@given(st.text())
def test_any_text_is_users_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(user.password_hash for user in read_users(text).values())


@given(st.text(alphabet="./AZaz09Oeu", min_size=53, max_size=53))
def test_bcrypt_takes_every_hash_that_is_taken_from_the_file(rest: str) -> None:
    try:
        users = read_users(f"ada:$2y$04${rest}")
    except ValueError:
        return
    assert bcrypt.checkpw(b"x", users["ada"].password_hash) is False


def test_what_is_wrong_with_the_settings_is_a_fault(tmp_path: Path) -> None:
    assert "names no file" in str(BasicAuthenticator(configuration("")).faults()[0])
    wrong = tmp_path / "wrong"
    wrong.write_text("ada:x\n")
    (fault,) = BasicAuthenticator(configuration(wrong)).faults()
    assert str(fault).startswith(f"argument: authentication.basic.file: {wrong}: line 1 is not")
    wrong.write_bytes(b"\xff\xfe\n")
    assert "is not UTF-8" in str(BasicAuthenticator(configuration(wrong)).faults()[0])
    gone = BasicAuthenticator(configuration(wrong))
    wrong.unlink()
    assert "cannot be read: No such file" in str(gone.faults()[0])
    injected = {"authentication.realm": "a\r\nSet-Cookie: b"}
    assert "visible ASCII" in str(BasicAuthenticator(configuration("", **injected)).faults()[0])


# --- who is let in ---------------------------------------------------------------------------------------------------


async def test_the_right_password_proves_the_user_and_the_roles(users: BasicAuthenticator) -> None:
    ada, bob = await ask(users, "ada", "ada's"), await ask(users, "bob", "b:b:")
    assert (ada.name, sorted(ada.roles)) == ("ada", ["admin", "writer"])
    assert (bob.name, sorted(bob.roles)) == ("bob", [])
    lower = {"authorization": header("ada", "ada's")["authorization"].replace("Basic ", "basic   ")}
    assert (await users.authenticate(lower, "")).name == "ada"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !",
        "Basic é",
        "Basic \udce9",  # a byte that is no UTF-8, as aiohttp hands it on
        "Basic YWRh",  # no colon
        "Basic /w==",  # "\xff"
        "Basic /zp4",  # "\xff:x", no UTF-8
        "Bearer YWRhOmFkYSdz",
        "YWRhOmFkYSdz",
        "Basic YWRhOmFkYSdz YWRhOmFkYSdz",
        "Basic OmFkYSdz",  # no name
        "Basic YWRhOg==",  # no password
        "Basic YWRhOmFkYSdzAA==",  # the password and a NUL
        "Basic " + "A" * 100_000,
    ],
)
async def test_everything_else_is_refused_alike(users: BasicAuthenticator, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    with pytest.raises(Unauthorized) as caught:
        await users.authenticate(headers, "")
    assert caught.value.message == "HTTP 401 Unauthorized"
    assert caught.value.headers == (("WWW-Authenticate", 'basic realm="the \\"realm\\""'),)


async def test_of_a_long_password_as_much_counts_as_of_htpasswd(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"ada:{hashed('x' * 72)}\n")
    users = BasicAuthenticator(configuration(file))
    assert users.faults() == []
    assert (await ask(users, "ada", "x" * 100)).name == "ada"
    with pytest.raises(Unauthorized):
        await ask(users, "ada", "x" * 71)


async def test_nobody_has_the_password_of_nobody(users: BasicAuthenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bcrypt, "checkpw", lambda *arguments: True)
    with pytest.raises(Unauthorized):
        await ask(users, "nobody", "x")


async def test_an_emptied_file_counts_when_it_stays_so(
    users: BasicAuthenticator, file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A writer that truncates it leaves it so for a moment: everybody got 401."""
    for text in (f"ada:{ADA}\n", ""):
        assert (await ask(users, "ada", "ada's")).until == clock.now + 2.5
        await asyncio.to_thread(file.write_text, "")
        clock.now += 1.1
        assert (await ask(users, "ada", "ada's")).until == clock.now  # it is looked at again at once
        assert "authentication.basic.file: the file is empty; what it said before stays" in caplog.text
        caplog.clear()
        await asyncio.to_thread(file.write_text, text)
        clock.now += 1.1
    with pytest.raises(Unauthorized):
        await ask(users, "ada", "ada's")


async def test_a_file_without_users_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("")
    users = BasicAuthenticator(configuration(file))
    assert users.faults() == []
    with pytest.raises(Unauthorized):
        await ask(users, "ada", "")


# --- what it costs ---------------------------------------------------------------------------------------------------


async def test_a_password_is_checked_once_and_in_a_thread(
    users: BasicAuthenticator, checks: list[str], clock: Clock
) -> None:
    for _ in range(3):
        assert (await ask(users, "ada", "ada's")).until == clock.now + 2.5
    assert len(checks) == 1
    assert threading.main_thread().name not in checks
    clock.now += 301
    await ask(users, "ada", "ada's")
    assert len(checks) == 2


async def test_what_is_wrong_is_checked_every_time(users: BasicAuthenticator, checks: list[str]) -> None:
    for name, password in [("ada", "x"), ("ada", "x"), ("nobody", "x"), ("nobody", "x")]:
        with pytest.raises(Unauthorized):
            await ask(users, name, password)
    assert len(checks) == 4


async def test_requests_with_the_same_credentials_share_a_check(users: BasicAuthenticator, checks: list[str]) -> None:
    found = await asyncio.gather(*(ask(users, "ada", "ada's") for _ in range(100)))
    assert {principal.name for principal in found} == {"ada"}
    assert len(checks) == 1


async def test_a_client_that_leaves_does_not_take_the_check_from_the_others(
    users: BasicAuthenticator, checks: list[str]
) -> None:
    leaving, staying = (asyncio.create_task(ask(users, "ada", "ada's")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).name == "ada"
    assert leaving.cancelled()
    assert len(checks) == 1


async def test_guessing_is_bounded(users: BasicAuthenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many guess, two threads are at work, and whoever comes when many wait is sent away at once."""
    await ask(users, "ada", "ada's")
    going, most = 0, 0
    lock, release = threading.Lock(), threading.Event()

    def check(password: bytes, password_hash: bytes) -> bool:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
        assert release.wait(20)
        with lock:
            going -= 1
        return False

    monkeypatch.setattr(bcrypt, "checkpw", check)
    monkeypatch.setattr(basic, "_WAITING_MAX", 32)
    guesses = [asyncio.create_task(ask(users, "ada", f"guess {number}")) for number in range(100)]
    sent_away, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
    while len(sent_away) < 68:
        done, _ = await asyncio.wait(set(guesses) - sent_away, return_when=asyncio.FIRST_COMPLETED)
        sent_away |= done
    assert {type(task.exception()) for task in sent_away} == {TooManyRequests}
    assert (await ask(users, "ada", "ada's")).name == "ada", "who was right before is let in all the same"
    release.set()
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert [type(answer) for answer in answers].count(Unauthorized) == 32
    assert most == 2


@pytest.mark.slow
@pytest.mark.timing
async def test_a_name_that_is_nobodys_costs_as_much_as_a_wrong_password(tmp_path: Path) -> None:
    """reliability.md S9: less than 5 % apart. They take turns, so that the machine's moods meet both; what they take of
    the processor is compared, for of the time others have a part."""
    file = tmp_path / "users"
    file.write_text(f"ada:{hashed('x', 8)}\n")
    users = BasicAuthenticator(configuration(file))
    assert users.faults() == []
    taken: dict[str, list[float]] = {"ada": [], "nobody": []}
    for number in range(60):
        for name, times in taken.items():
            started = time.process_time()
            with pytest.raises(Unauthorized):
                await ask(users, name, f"wrong {number}")
            times.append(time.process_time() - started)
    # Who can tell them apart can do so by the least that each takes, and by what they take one behind the other.
    # What else the machine had to do may be in one of the two.
    least = min(taken["nobody"]) / min(taken["ada"])
    usual = statistics.median(nobody / ada for ada, nobody in zip(taken["ada"], taken["nobody"], strict=True))
    assert min(abs(least - 1), abs(usual - 1)) < 0.05


def test_the_hash_of_nobody_is_as_costly_as_the_costliest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "users"
    file.write_text(f"ada:{hashed('x', 4)}\nbob:{hashed('x', 6)}\n")
    users = BasicAuthenticator(configuration(file))
    assert users.faults() == []
    assert users._nobody.startswith(b"$2b$06$")
    assert "different cost" in caplog.text


# --- a file that changes ---------------------------------------------------------------------------------------------


def rewrite(file: Path, text: str | None) -> None:
    """The file with another content, None to remove it."""
    if text is None:
        file.unlink()
        return
    file.write_text(text)
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1_000_000_000))


async def test_a_changed_file_counts_within_a_second(
    users: BasicAuthenticator, file: Path, clock: Clock, checks: list[str]
) -> None:
    users._looked_at = clock.now
    assert (await ask(users, "ada", "ada's")).roles == {"admin", "writer"}
    await ask(users, "bob", "b:b:")
    rewrite(file, f"ada:{ADA}\nbob:{hashed('new')}\n")
    assert (await ask(users, "ada", "ada's")).roles == {"admin", "writer"}
    clock.now += 1.1
    assert (await ask(users, "ada", "ada's")).roles == set()
    with pytest.raises(Unauthorized):
        await ask(users, "bob", "b:b:")
    assert (await ask(users, "bob", "new")).name == "bob"
    rewrite(file, f"bob:{BOB}\n")
    clock.now += 1.1
    with pytest.raises(Unauthorized):
        await ask(users, "ada", "ada's")


async def test_users_that_do_not_change_are_not_checked_again(
    users: BasicAuthenticator, file: Path, clock: Clock, checks: list[str]
) -> None:
    users._looked_at = clock.now
    await ask(users, "ada", "ada's")
    rewrite(file, f"ada:{ADA}:writer,admin\ncarol:{BOB}\n")
    clock.now += 1.1
    await ask(users, "ada", "ada's")
    assert len(checks) == 1


async def test_a_broken_or_missing_file_changes_nothing_and_is_told_once(
    users: BasicAuthenticator, file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    users._looked_at = clock.now
    for text in ("half a li", None):
        caplog.clear()
        rewrite(file, text)
        for _ in range(3):
            clock.now += 1.1
            assert (await ask(users, "ada", "ada's")).name == "ada"
        assert [record.levelname for record in caplog.records] == ["ERROR"]
    caplog.clear()
    rewrite(file, "# nobody is left\n")
    clock.now += 1.1
    assert (await ask(users, "ada", "ada's")).name == "ada"
    caplog.clear()
    for _ in range(2):
        clock.now += 1.1
        with pytest.raises(Unauthorized):
            await ask(users, "ada", "ada's")
    assert [each.getMessage() for each in caplog.records if each.levelname == "WARNING"] == [
        f"{file} has no users: nobody comes in with a password"
    ]


# --- what is kept and told -------------------------------------------------------------------------------------------


async def test_no_credential_is_kept_or_logged(users: BasicAuthenticator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await ask(users, "ada", "ada's")
    with pytest.raises(Unauthorized):
        await ask(users, "passw0rd-as-name", "hunter2")
    kept = repr({name: value for name, value in vars(users).items() if name != "_users"})
    sent = header("ada", "ada's")["authorization"].removeprefix("Basic ")
    for secret in ("ada's", "hunter2", "passw0rd", sent, header("passw0rd-as-name", "hunter2")["authorization"][6:]):
        assert secret not in kept
        assert secret not in caplog.text
    assert "refused the credentials of a client at 192.0.2.1" in caplog.text


async def test_what_is_remembered_is_bounded(
    users: BasicAuthenticator, monkeypatch: pytest.MonkeyPatch, checks: list[str]
) -> None:
    monkeypatch.setattr(basic, "_KNOWN_MAX", 2)
    monkeypatch.setattr(bcrypt, "checkpw", lambda *arguments: True)
    for number in range(5):
        await ask(users, "ada", str(number))
    known: Any = users._known
    assert len(known) == 2
