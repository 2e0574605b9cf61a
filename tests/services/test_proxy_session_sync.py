"""The sync of sessions over a log in memory that several share, and that can fail (websocket-proxy.md §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from kafka_gateway.kafka.ports.admin import GroupInfo
from kafka_gateway.kafka.ports.compacted_logs import CompactedTopic, LogListener
from kafka_gateway.kafka_errors import BrokerNotAvailable
from kafka_gateway.services.websocket_proxy import session_sync as session_sync
from kafka_gateway.services.websocket_proxy.session import CONSUMER, PRODUCER, Instance, ProxySession, decode, encode
from kafka_gateway.services.websocket_proxy.session_sync import SessionSync
from kafka_gateway.services.websocket_proxy.session_table import Duplicate, LimitReached
from kafka_gateway.services.websocket_proxy.sessions import SessionsUnavailable
from tests.waiting import settled, until

TOPIC = CompactedTopic("sessions")


class SharedLog:
    """A topic in memory, as all its readers and writers see it; also Kafka, as far as the sync asks for it."""

    embedded = False

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes | None]] = []
        self.readers: list[tuple[LogListener, int]] = []
        self.readable = True
        self.writable = asyncio.Event()
        self.writable.set()
        self.broken, self.refused = False, 0
        self.alive: set[str] | None = set()
        """Gateways that Kafka knows; None: it does not answer."""
        self.trouble = "not read yet"

    # --- Kafka

    @property
    def admin(self) -> Any:
        return self

    async def describe_groups(self, names: Sequence[str]) -> list[GroupInfo]:
        if self.alive is None:
            raise BrokerNotAvailable()
        return [
            GroupInfo(name, "STABLE", members=("m",))
            if name.rpartition("-")[2] in self.alive
            else GroupInfo(name, "DEAD")
            for name in names
        ]

    async def compacted_log(self, topic: CompactedTopic, reader: str, listener: LogListener) -> Any:
        assert reader.startswith("ws-proxy-session-consumer-")
        self.readers.append((listener, 0))
        if self.readable:
            self.deliver()
            listener.caught_up()
        return self

    # --- the log

    async def write(self, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        await asyncio.sleep(0)
        if self.broken:
            self.refused += 1
            raise BrokerNotAvailable()
        await self.writable.wait()
        self.records += records
        offset = len(self.records) - 1
        asyncio.get_running_loop().call_soon(self.deliver)
        await asyncio.sleep(0)
        return offset

    def deliver(self) -> None:
        for number, (listener, place) in enumerate(self.readers):
            self.readers[number] = (listener, len(self.records))
            for offset in range(place, len(self.records)):
                listener.record(*self.records[offset], offset)

    async def close(self) -> None:
        return None

    def last(self, session_id: str) -> ProxySession | None:
        values = [value for key, value in self.records if key == session_id.encode()]
        return decode(values[-1]) if values and values[-1] is not None else None

    def put(self, session: ProxySession) -> None:
        self.records.append((session.id.encode(), encode(session)))


def ids(session: ProxySession | None) -> set[str]:
    return {each.id for each in session.instances} if session else set()


@pytest.fixture
def log() -> SharedLog:
    return SharedLog()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_sync, "HANDLER_S", 0.2)


Open = Callable[[str], SessionSync]


@pytest.fixture
async def opened(log: SharedLog) -> Any:
    all_syncs: list[SessionSync] = []

    def make(server: str, presence_s: float = 0.0) -> SessionSync:
        sync = SessionSync(log, server, CompactedTopic("sessions", presence_s=presence_s))  # type: ignore[arg-type]
        sync.start()
        all_syncs.append(sync)
        return sync

    yield make
    log.broken = False
    log.writable.set()
    for sync in all_syncs:
        await sync.aclose()


async def test_the_records_of_one_socket(log: SharedLog, opened: Open) -> None:
    sync = opened("a")
    await sync.add(CONSUMER, "g", "c", 2)
    sync.remove("g", "c")
    await until(lambda: len(log.records) == 3)
    assert [ids(decode(value)) for _, value in log.records if value] == [set(), {"c"}, set()]
    assert log.records[0] == (b"g", encode(ProxySession(CONSUMER, "g", 2)))
    await sync.add(CONSUMER, "g", "d", 2)  # the session is there already
    assert len(log.records) == 4


async def test_the_limit_is_exact_for_sockets_that_open_at_once(log: SharedLog, opened: Open) -> None:
    sync = opened("a")
    results = await asyncio.gather(
        *(sync.add(PRODUCER, "p", str(number), 3) for number in range(10)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 3
    assert sum(isinstance(result, LimitReached) for result in results) == 7
    assert len(ids(log.last("p"))) == 3


async def test_two_gateways(log: SharedLog, opened: Open) -> None:
    one, two = opened("a"), opened("b")
    await asyncio.gather(
        *(each.add(CONSUMER, "g", f"{each.table.server}{n}", 0) for each in (one, two) for n in range(5))
    )
    expected = {f"{server}{n}" for server in "ab" for n in range(5)}
    await until(lambda: ids(log.last("g")) == expected)
    with pytest.raises(Duplicate):
        await two.add(CONSUMER, "g", "a0", 0)
    await one.aclose()
    await until(lambda: ids(log.last("g")) == {f"b{n}" for n in range(5)})


async def test_a_write_that_fails_leaves_nothing_registered(log: SharedLog, opened: Open) -> None:
    sync = opened("a")
    log.broken = True
    with pytest.raises(SessionsUnavailable, match="cannot be written"):
        await sync.add(PRODUCER, "p", "1", 1)
    log.broken = False
    await sync.add(PRODUCER, "p", "2", 1)
    await until(lambda: ids(log.last("p")) == {"2"})


async def test_a_write_that_takes_too_long_and_is_stored_after_all(log: SharedLog, opened: Open) -> None:
    sync = opened("a")
    log.writable.clear()
    with pytest.raises(SessionsUnavailable, match="in time"):
        await sync.add(PRODUCER, "p", "1", 1)
    log.writable.set()
    log.put(ProxySession(PRODUCER, "p", 1, (Instance("1", "a"),)))  # what the abandoned write left
    log.deliver()
    await until(lambda: ids(log.last("p")) == set())
    await sync.add(PRODUCER, "p", "2", 1)


async def test_a_cancelled_registration_leaves_nothing(log: SharedLog, opened: Open) -> None:
    sync = opened("a")
    await sync.add(PRODUCER, "p", "0", 2)
    log.writable.clear()
    task = asyncio.create_task(sync.add(PRODUCER, "p", "1", 2))
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    log.writable.set()
    await sync.add(PRODUCER, "p", "2", 2)
    await until(lambda: ids(log.last("p")) == {"0", "2"})


async def test_nothing_is_opened_before_the_topic_is_read(log: SharedLog, opened: Open) -> None:
    log.readable = False
    log.put(ProxySession(CONSUMER, "g", 1, (Instance("c", "b"),)))
    sync = opened("a")
    with pytest.raises(SessionsUnavailable, match="not read yet"):
        await sync.add(CONSUMER, "g", "c", 0)
    log.deliver()
    sync.caught_up()
    with pytest.raises(Duplicate):
        await sync.add(CONSUMER, "g", "c", 0)


async def test_a_removal_while_kafka_is_away_is_published_later(log: SharedLog, opened: Open) -> None:
    sync = opened("a")
    await sync.add(PRODUCER, "p", "1", 1)
    log.broken = True
    sync.remove("p", "1")
    await until(lambda: log.refused)
    log.broken = False
    await until(lambda: ids(log.last("p")) == set())


async def test_leftovers_and_records_that_are_none(log: SharedLog, opened: Open) -> None:
    log.records += [(b"x", b"{}"), (b"\xff", b"\xff"), (b"y", None), (b"z", encode(ProxySession(CONSUMER, "other")))]
    log.put(ProxySession(CONSUMER, "g", 1, (Instance("c", "a"), Instance("d", "b"))))
    log.put(ProxySession(PRODUCER, "p", 1, (Instance("1", "a"),)))
    log.put(ProxySession(PRODUCER, "p", 1))  # cleaned by itself: no reason to write
    opened("a")
    await until(lambda: ids(log.last("g")) == {"d"})
    assert len(log.records) == 8
    await asyncio.sleep(0.35)  # time itself: nothing more is written
    assert len(log.records) == 8


async def test_the_topic_begins_anew(log: SharedLog, opened: Open) -> None:
    sync = opened("a")
    await sync.add(CONSUMER, "g", "c", 1)
    log.records.clear()
    log.readers = [(listener, 0) for listener, _ in log.readers]
    sync.restarted()
    assert log.last("g") is None
    sync.caught_up()
    await until(lambda: ids(log.last("g")) == {"c"})


async def test_two_gateways_of_one_name_do_not_fight_for_ever(
    log: SharedLog, opened: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_sync, "_some_time", lambda: 0.001)
    one, two = opened("a"), opened("a")
    await one.add(CONSUMER, "g", "1", 0)
    await until(lambda: "server-id a in use twice" in caplog.text)
    count = len(log.records)
    assert count < 100
    await asyncio.sleep(0.5)  # time itself: how much is written in it
    assert len(log.records) - count < 20  # and from then on ever more slowly
    assert two.table.servers() == set()


async def test_the_places_of_a_dead_gateway(
    log: SharedLog, opened: Callable[..., SessionSync], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    woken = asyncio.Event()

    async def look(seconds: float) -> None:
        looks.append(seconds)
        woken.clear()
        await woken.wait()

    real = asyncio.sleep
    log.put(ProxySession(PRODUCER, "p", 1, (Instance("1", "dead"),)))
    log.alive = None
    monkeypatch.setattr(session_sync, "_pause", look)
    sync = opened("a", 9.0)
    await until(lambda: looks == [3.0])

    async def next_look(alive: Iterable[str] | None) -> None:
        log.alive = None if alive is None else set(alive)
        count = len(looks)
        woken.set()
        await until(lambda: len(looks) > count)
        await real(0)

    await next_look(None)  # Kafka does not tell: nobody is dead
    await next_look([])
    await next_look(["dead"])  # it was only slow
    await next_look([])
    await next_look(None)  # and not twice in a row
    await next_look([])
    with pytest.raises(LimitReached):
        await sync.add(PRODUCER, "p", "2", 1)
    await next_look([])
    await sync.add(PRODUCER, "p", "2", 1)
    assert ids(log.last("p")) == {"2"}


async def test_two_gateways_whose_clients_come_and_go(log: SharedLog, opened: Open) -> None:
    all_syncs = [opened("a"), opened("b")]
    stays: set[str] = set()

    async def client(number: int) -> None:
        sync, name = all_syncs[number % 2], str(number)
        for _ in range(5):
            await sync.add(CONSUMER, "g", name, 0)
            await asyncio.sleep(0.001 * (number % 7))  # time itself: they come and go at different times
            sync.remove("g", name)
        if number % 3 == 0:
            await sync.add(CONSUMER, "g", name, 0)
            stays.add(name)

    await asyncio.gather(*(client(number) for number in range(30)))
    await until(lambda: ids(log.last("g")) == stays, within_s=10)
    await until(lambda: all(ids(sync.table.sessions["g"]) == stays for sync in all_syncs))
