"""One bound for what clients make the gateway hold: refusing, waiting, giving up, shares, and the bound itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kafka_gateway import memory_budget
from kafka_gateway.memory_budget import MemoryBudget, OutOfMemory, automatic_max_bytes, usable_bytes

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_budget, "PATIENCE_S", 0.01)


async def test_new_work_is_refused_while_it_is_used_up() -> None:
    memory = MemoryBudget(800)
    claim = memory.claim()
    claim.add(799)
    memory.check()
    claim.add(1)
    with pytest.raises(OutOfMemory) as refused:
        memory.check()
    assert refused.value.status == 503
    assert ("Retry-After", "1") in refused.value.headers
    claim.set_to(701)  # less than an eighth is free
    with pytest.raises(OutOfMemory):
        memory.check()
    claim.set_to(700)
    memory.check()
    claim.release()
    claim.release()
    assert memory.held == 0


async def test_readers_wait_until_there_is_room() -> None:
    memory = MemoryBudget(800)
    await memory.room()
    claim = memory.claim()
    claim.add(800)
    waiting = [asyncio.ensure_future(memory.room()) for _ in range(2)]
    called: list[int] = []
    memory.on_room(lambda: called.append(1))

    def never() -> None:
        called.append(2)

    memory.on_room(never)
    memory.forget(never)
    await asyncio.sleep(0)
    waiting[0].cancel()
    claim.release()
    await waiting[1]
    assert called == [1]
    assert waiting[0].cancelled()


async def test_those_who_hold_the_most_are_given_up_until_there_is_room() -> None:
    memory = MemoryBudget(1000)
    gone: list[int] = []
    for size in (50, 300, 100, 250):
        claim = memory.claim(lambda size=size: gone.append(size))  # type: ignore[misc]
        claim.add(size)
    memory.claim().add(299)  # nobody to give up
    assert not memory.used_up
    memory.claim(lambda: gone.append(1)).add(1)
    await asyncio.sleep(0.05)  # time itself: it is looked at several times
    assert gone == [300], "it alone makes an eighth of the room, and is given up once although it holds it still"
    assert memory.given_up == 1


async def test_nobody_is_given_up_who_lets_go_in_time() -> None:
    memory = MemoryBudget(1000)
    claim = memory.claim(lambda: pytest.fail("given up"))
    claim.add(1000)
    claim.set_to(10)
    await asyncio.sleep(0.03)  # time itself: as long as the patience, and longer
    claim.add(990)
    claim.set_to(10)
    await asyncio.sleep(0.03)  # time itself: as long as the patience, and longer


async def test_a_share_lets_in_first_come_first_served() -> None:
    memory = MemoryBudget(1000)
    share = memory.share(400)
    granted: list[str] = []
    assert share.take(500, lambda: granted.append("whole")), "more than all of it, when nothing else is held"
    assert memory.held == 500
    assert not share.take(100, lambda: granted.append("a"))
    assert not share.take(10, lambda: granted.append("b"))
    assert share.pressed
    share.give_back(500)
    assert granted == ["a", "b"]
    assert (share.held, memory.held) == (110, 110)
    share.give_back(110)
    assert memory.held == 0


async def test_a_share_waits_for_the_whole_budget_too() -> None:
    memory = MemoryBudget(1000)
    share = memory.share(400)
    other = memory.claim()
    assert share.take(100, lambda: None)
    other.add(900)
    granted: list[str] = []

    def forgotten() -> None:
        granted.append("forgotten")

    assert not share.take(100, lambda: granted.append("a"))
    assert not share.take(100, forgotten)
    share.forget(forgotten)
    other.release()
    assert granted == ["a"]
    assert share.held == 200


def test_the_bound_is_half_of_what_the_machine_has(tmp_path: Path) -> None:
    machine = usable_bytes(tmp_path)
    assert machine > 100 * MIB
    assert automatic_max_bytes(tmp_path) == min(machine // 2, 2048 * MIB)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "104857600\n"}, 100 * MIB),
        ("0::/pod/box\n", {"pod/box/memory.max": "max\n", "pod/memory.max": "52428800\n"}, 50 * MIB),
        ("0::/not/seen/here\n", {"memory.max": "104857600\n"}, 100 * MIB),
        ("5:cpu,cpuacct:/x\n4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "104857600\n"}, 100 * MIB),
        ("4:memory:/docker/1\n0::/\n", {"memory/memory.limit_in_bytes": "104857600\n"}, 100 * MIB),
    ],
)
def test_the_limit_of_a_container(tmp_path: Path, group: str, files: dict[str, str], limit: int) -> None:
    write(tmp_path / "proc/self/cgroup", group)
    for name, text in files.items():
        write(tmp_path / "sys/fs/cgroup" / name, text)
    assert usable_bytes(tmp_path) == limit
    assert automatic_max_bytes(tmp_path) == limit // 2
