"""The slots of a node and where its requests go, without Kafka and without other nodes (cluster.md §14 no. 2)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec import structs

from kafka_gateway import jsonio
from kafka_gateway.auth import NoAuthentication
from kafka_gateway.cluster import standstill, store
from kafka_gateway.cluster.homes import ClusterHomes
from kafka_gateway.cluster.ports import MISROUTED, PeerLost, Process, Reach
from kafka_gateway.cluster.processes import Processes
from kafka_gateway.cluster.records import Claim, hash_of_key, record_key, write_slots
from kafka_gateway.cluster.routing import SlotState
from kafka_gateway.cluster.store import SlotStore
from kafka_gateway.config import Config, load
from kafka_gateway.core import Gateway
from kafka_gateway.definitions import Definition, SlotKey, new_uid, opened_by
from kafka_gateway.errors import InstanceExists, InstanceUnavailable, ServiceError, ShuttingDown, Unavailable
from kafka_gateway.forwarding import Sent
from kafka_gateway.homes import Elsewhere, Misrouted, MisroutedLate, may_be_done
from kafka_gateway.kafka.ports.slots import SlotRecord
from kafka_gateway.messages import Call, Reply, Request, Response
from kafka_gateway.router import Route, Router
from kafka_gateway.session import Session
from kafka_gateway.stream import Payload
from tests.keys import BUILTIN_KEYS
from tests.waiting import settled

COUNT = 8
HELD_BYTES = 100
SUSPEND_S = 600.0
ME = Process("test", "me/0", "1")


class Log:
    """The topic of instances: what is written comes back to the store, unless it is to be held."""

    def __init__(self) -> None:
        self.store: SlotStore | None = None
        self.records: list[SlotRecord] = []
        self.held = False
        self.before: list[SlotRecord] = []
        """What another process writes a moment earlier."""
        self.refuses = False
        """Kafka takes nothing."""
        self.stores: asyncio.Event | None = None
        """Set when Kafka says that it has stored it; None: it says so at once."""

    def send(self, topic: str, records: Sequence[Any], partition: int | None = None) -> asyncio.Future[list[Any]]:
        if self.refuses:
            return asyncio.ensure_future(self._refused())
        for each in records:
            headers = {name: value.decode() for name, value in each.headers or ()}
            self.append(SlotRecord(each.partition, each.key, each.value, headers))
        return asyncio.ensure_future(self._stored(len(records)))

    async def _stored(self, count: int) -> list[Any]:
        if self.stores is not None:
            await self.stores.wait()
        return [object()] * count

    async def _refused(self) -> list[Any]:
        return [Unavailable()]

    def append(self, record: SlotRecord) -> None:
        new, self.before = [*self.before, record], []
        self.records += new
        if not self.held and self.store is not None:
            asyncio.get_running_loop().call_soon(self.store.records, new)


class Watch:
    """Watcher and Holder."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.why = ""
        self.handed: list[SlotKey] = []
        self.dropped: list[SlotKey] = []
        self.suspended: list[SlotKey] = []
        self.resumed: list[SlotKey] = []

    def slots_changed(self) -> None:
        self._changed()

    def fenced(self, why: str) -> None:
        self.why = why

    async def hand_over(self, keys: Collection[SlotKey]) -> None:
        self.handed += keys

    def drop(self, keys: Collection[SlotKey]) -> None:
        self.dropped += keys

    def suspend(self, keys: Collection[SlotKey]) -> None:
        self.suspended += keys

    def resume(self, keys: Collection[SlotKey]) -> None:
        self.resumed += keys


class Others:
    """`Peers`: answers as it is told."""

    addresses = ("unix:me/0.sock",)
    carries_proofs = True

    def __init__(self) -> None:
        self.answers: list[Reply | Exception] = []
        self.asked: list[str] = []
        self.called = asyncio.Event()
        self.known: dict[str, Sequence[str]] = {}
        self.reached: dict[str, Reach] = {}
        self.calls: list[asyncio.Task[None]] = []

    def reach(self, process: str) -> Reach | None:
        return self.reached.get(process)

    def end_reads(self) -> None:
        pass

    def know(self, process: str, boot: str, addresses: Sequence[str]) -> None:
        self.known[process] = addresses

    def forget(self, process: str) -> None:
        self.known.pop(process, None)

    async def question(self, process: str, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        raise PeerLost(process, sent=False)

    async def call(self, process: str, request: Request, relay: str = "") -> Reply:
        self.asked.append(process)
        self.called.set()
        answer = self.answers.pop(0) if self.answers else None
        await asyncio.sleep(0)
        while answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def begin(self, process: str, request: Request, sent: Sent) -> bool:
        async def call() -> None:
            try:
                sent.answered(await self.call(process, request))
            except ServiceError as error:
                sent.answered(error)
            except PeerLost:
                sent.answered(None)

        self.calls.append(asyncio.ensure_future(call()))
        sent.carrier, sent.number, sent.request = self, len(self.calls) - 1, request
        return True

    def drop(self, number: int) -> None:
        self.calls[number].cancel()


class Setup:
    def __init__(self, config: Config, standstill_s: float = math.inf, routes: Sequence[Route] = ()) -> None:
        self.log, self.others = Log(), Others()
        self.watch = Watch(lambda: self.homes.changed(range(COUNT)))
        self.store = self.log.store = SlotStore(ME, "instances", lambda: self.log, self.watch, SUSPEND_S, standstill_s)  # type: ignore[arg-type]
        self.store.count = COUNT
        self.store.holders = [self.watch]
        gateway = self.gateway = Gateway(config, Router(routes), {}, NoAuthentication())
        self.processes = Processes(ME, self.others, self.store.served, lambda slots: self.homes.changed(slots))
        self.homes = ClusterHomes(gateway, ME, self.store, self.processes.table, self.others)

    def serve(self, *slots: int) -> None:
        self.store.assigned(slots)
        self.store.caught_up(slots)

    def claim(self, process: str, *slots: int, state: str = "serving") -> None:
        claim = Claim(1, "b", ("unix:x.sock",), write_slots(slots), state)  # type: ignore[arg-type]
        self.processes.record(process.encode(), jsonio.encode(claim), 0)


@pytest.fixture
async def setup() -> Setup:
    """A request is held as long as a test may take: one in which that ends says so."""
    return Setup(load(BUILTIN_KEYS, overrides=["cluster.hold.ms=60000", f"cluster.hold.max.bytes={HELD_BYTES}"]))


MY_NAME = "me/0/1"
"""As the writer of records."""


def defined(name: str = "c", uid: str = "", by: str = MY_NAME) -> Definition:
    return Definition(1, uid or new_uid(), "g", name, 2, "json", "User:alice", by)


KEY = SlotKey("g", "c")
SLOT = hash_of_key(KEY) % COUNT


def as_it_stands(definition: Definition, **changed: Any) -> Definition:
    """The same, but for that."""
    return structs.replace(definition, **changed)


def record(definition: Definition) -> SlotRecord:
    key = SlotKey(definition.group, definition.name)
    return SlotRecord(hash_of_key(key) % COUNT, record_key(key), jsonio.encode(definition))


def request(method: str = "GET", forwarded: bool = False) -> Request:
    session = Session("http")
    session.forwarded = forwarded
    return Request(session, method, "/consumers/g/instances/c")


# --- definitions ------------------------------------------------------------------------------------------------------


async def test_a_creation_counts_when_it_has_been_read_back(setup: Setup) -> None:
    setup.serve(SLOT)
    mine = defined()
    await setup.store.create(mine)
    assert setup.store.find(KEY) == mine
    with pytest.raises(InstanceExists):
        await setup.store.create(defined())
    setup.log.held = True
    deleting = [asyncio.ensure_future(setup.store.delete(mine)) for _ in range(2)]
    await settled()
    assert setup.store.find(KEY) is None
    assert list(setup.store.idle(-1)) == [], "nobody is to end it again"
    assert len(setup.log.records) == 2, "nor is it ended twice"
    setup.log.held = False
    setup.store.records(setup.log.records[-1:])
    await asyncio.gather(*deleting)
    await setup.store.create(defined())


async def test_who_was_first_in_the_log_has_the_name(setup: Setup) -> None:
    """Another process believed to hold the slot at the same time: its record stands before ours, which is void."""
    setup.serve(SLOT)
    theirs = defined(by="other/0")
    setup.log.before = [record(theirs)]
    with pytest.raises(InstanceExists):
        await setup.store.create(defined())
    await asyncio.sleep(0)
    assert setup.store.find(KEY) == theirs
    last = setup.log.records[-1]
    assert jsonio.decode_value(last.value or b"{}").get("uid") == theirs.uid, "compaction must keep theirs"
    assert setup.store.voids == 1


async def test_nothing_is_made_where_the_slot_is_not_served(setup: Setup) -> None:
    for prepare in (lambda: None, lambda: setup.store.assigned([SLOT])):
        prepare()
        with pytest.raises(Elsewhere):
            await setup.store.create(defined())
        assert setup.store.find(KEY) is None
    assert setup.log.records == []


async def test_what_another_process_changed_is_let_go_here(setup: Setup) -> None:
    setup.serve(SLOT)
    mine = defined()
    await setup.store.create(mine)
    await setup.store.change(mine)
    assert setup.watch.dropped == []
    setup.store.records([record(defined(uid=mine.uid, by="other/0"))])
    assert setup.watch.dropped == [KEY]


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("change", [{"handed": True}, {"options": {"note": "late"}}], ids=["a hand-over", "a change"])
async def test_what_comes_late_changes_nothing_of_what_was_opened_here(
    setup: Setup, change: dict[str, Any], is_stored: bool
) -> None:
    """Kafka was away, so the slot moved before the record was stored, and now it comes: the client has been given more
    here, which a commit without a body must cover, and may have changed what it reads."""
    theirs = as_it_stands(defined(by="other/0"), epoch=4)
    late = as_it_stands(theirs, **change)
    setup.store.assigned([SLOT])
    setup.store.records([record(theirs)])
    setup.store.caught_up([SLOT])
    setup.log.held = not is_stored  # of what is written here
    opening = asyncio.ensure_future(setup.store.open(theirs))
    await settled()
    assert opening.done() is is_stored
    opened = opened_by(MY_NAME, theirs, 5)
    subscribed = as_it_stands(opened, options={"note": "subscribed"})
    setup.log.held = True
    await setup.store.change(subscribed)
    setup.store.records([record(late)])
    await settled()
    assert setup.watch.dropped == []
    assert setup.store.find(KEY) == subscribed
    assert list(setup.store.idle(-1)) == [subscribed]
    assert setup.log.records[-1] == record(subscribed), "compaction must not keep the late one"
    setup.store.records(setup.log.records if not is_stored else setup.log.records[-1:])
    await settled()
    assert (setup.watch.dropped, len(setup.log.records)) == ([], 3 if is_stored else 2)
    assert setup.store.find(KEY) == subscribed
    assert await opening == opened


async def test_of_two_that_open_it_the_first_in_the_log_has_it(setup: Setup) -> None:
    """The slot has moved on before either was stored: the one that is not the first is void for whoever reads it."""
    theirs = as_it_stands(defined(by="other/0"), epoch=4)
    setup.store.assigned([SLOT])
    setup.store.records([record(theirs)])
    setup.store.caught_up([SLOT])
    setup.log.held = True
    opening = asyncio.ensure_future(setup.store.open(theirs))
    await settled()
    first = opened_by("third/0", theirs, 5)
    setup.store.records([record(first)])
    setup.store.records(setup.log.records)
    with pytest.raises(InstanceUnavailable):
        await opening
    await settled()
    assert setup.store.find(KEY) == first
    assert setup.log.records[-1] == record(first), "compaction must keep that"
    setup.log.held = False
    again = await setup.store.open(first)
    assert (setup.store.find(KEY), again.epoch) == (again, 6)


def deletion(definition: Definition, by: str) -> SlotRecord:
    """By whoever would have opened it next."""
    headers = {"uid": definition.uid, "epoch": str(definition.epoch + 1), "by": by}
    return record(definition)._replace(value=None, headers=headers)


async def opened_here(setup: Setup) -> tuple[Definition, Definition]:
    """As another process has left it, and as it has been opened here."""
    theirs = as_it_stands(defined(by="other/0/1"), epoch=4)
    setup.store.assigned([SLOT])
    setup.store.records([record(theirs)])
    setup.store.caught_up([SLOT])
    return theirs, await setup.store.open(theirs)


async def test_a_deletion_that_comes_late_ends_nothing_that_was_opened_here(setup: Setup) -> None:
    """It expired where it was, Kafka was away, and the slot has moved: its client uses it here."""
    theirs, opened = await opened_here(setup)
    late = deletion(theirs, "other/0/1")
    setup.store.records([late])
    await settled()
    assert (setup.store.find(KEY), setup.watch.dropped) == (opened, [])
    assert list(setup.store.idle(-1)) == [opened]
    assert setup.log.records[-1] == record(opened)._replace(headers=late.headers), (
        "compaction must not keep the late one"
    )
    for log in (setup.log.records, [late, *setup.log.records[-1:]]):
        other = Setup(load(BUILTIN_KEYS))
        other.store.assigned([SLOT])
        other.store.records(log)
        other.store.caught_up([SLOT])
        assert other.store.find(KEY) == opened, "compacted or not"
    changed = as_it_stands(opened, options={"note": "later"})
    await setup.store.change(changed)
    await settled()
    assert setup.store.find(KEY) == changed


async def test_a_change_behind_a_void_deletion_does_not_keep_that_from_being_repaired(setup: Setup) -> None:
    """Were the log compacted between the two, the change alone would be one of an instance that has ended."""
    theirs, opened = await opened_here(setup)
    late = deletion(theirs, "other/0/1")
    changed = as_it_stands(opened, options={"note": "changed"})
    setup.log.before = [late]
    await setup.store.change(changed)
    await settled()
    assert setup.log.records[-3:] == [late, record(changed), record(changed)._replace(headers=late.headers)]


@pytest.mark.parametrize("headers", [{}, {"epoch": "-1", "by": "x"}, {"epoch": "9" * 30}, {"epoch": "²"}])
async def test_a_deletion_of_a_version_that_does_not_count_ends_it_whenever_it_comes(
    setup: Setup, headers: dict[str, str]
) -> None:
    _, opened = await opened_here(setup)
    setup.store.records([record(opened)._replace(value=None, headers={"uid": opened.uid, **headers})])
    assert (setup.store.find(KEY), setup.watch.dropped) == (None, [KEY])
    setup.store.records([record(as_it_stands(opened, epoch=9))])
    assert setup.store.find(KEY) is None, "who is dead stays dead"


async def test_a_deletion_in_time_counts_and_nothing_late_raises_it(setup: Setup) -> None:
    """Not even what another process has opened before it could know."""
    _, opened = await opened_here(setup)
    await setup.store.delete(opened)
    assert setup.log.records[-1] == deletion(opened, MY_NAME)
    setup.store.records([record(opened_by("third/0/1", opened, opened.epoch + 1))])
    await settled()
    assert setup.store.find(KEY) is None
    assert setup.log.records[-1] == deletion(opened, MY_NAME), "compaction must not keep the late one"
    assert len(setup.log.records) == 3


async def test_a_deletion_does_not_count_if_another_process_has_opened_it_before(setup: Setup) -> None:
    """Its client is told to ask again, and finds it as the log has it."""
    _, opened = await opened_here(setup)
    first = opened_by("third/0/1", opened, opened.epoch + 1)
    setup.log.before = [record(first)]
    with pytest.raises(InstanceUnavailable):
        await setup.store.delete(opened)
    await settled()
    assert (setup.store.find(KEY), set(setup.watch.dropped)) == (first, {KEY})
    await setup.store.delete(first)
    assert setup.store.find(KEY) is None


@pytest.mark.parametrize("how", ["never stored", "never read"])
async def test_what_was_not_ended_is_found_again(setup: Setup, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(store, "_READ_BACK_S", 0.01)
    _, opened = await opened_here(setup)
    setup.log.held = True
    setup.log.refuses = how == "never stored"
    with pytest.raises(InstanceUnavailable):
        await setup.store.delete(opened)
    assert setup.store.find(KEY) == opened
    assert list(setup.store.idle(-1)) == [opened]
    if how == "never read":  # and then it is
        setup.store.records(setup.log.records[-1:])
        assert (setup.store.find(KEY), setup.watch.dropped) == (None, [KEY])


@pytest.mark.parametrize("how", ["lost before it is stored", "lost", "handed over"])
async def test_whoever_has_the_slot_next_is_asked_for_a_deletion_of_which_nothing_is_known(
    setup: Setup, how: str
) -> None:
    """And a process that has sent a deletion which never counts does not hide the instance for ever."""
    _, opened = await opened_here(setup)
    before = list(setup.log.records)
    setup.log.held = True
    stores = setup.log.stores = asyncio.Event()
    deleting = asyncio.ensure_future(setup.store.delete(opened))
    await settled()
    if how != "lost before it is stored":
        stores.set()
        await settled()
    if how == "handed over":
        await setup.store.give_up([SLOT])
        await deleting  # nobody else has had it
        assert (setup.watch.handed, setup.watch.dropped) == ([], [KEY])
    else:
        setup.store.lost([SLOT])
        stores.set()
        with pytest.raises(Elsewhere) as elsewhere:
            await deleting
        assert elsewhere.value.sent
        assert setup.store.slot(elsewhere.value.worker) == SLOT
    setup.store.assigned([SLOT])
    setup.store.records(before)
    setup.store.caught_up([SLOT])
    assert setup.store.find(KEY) == opened, "its deletion was void, and has been compacted away"


async def test_a_process_that_is_started_again_takes_nothing_for_its_own_of_before(setup: Setup) -> None:
    """It was killed when it had opened the instance and Kafka had not stored that: now it comes, with the same name and
    epoch as what its successor has written."""
    theirs, opened = await opened_here(setup)
    changed = as_it_stands(opened, options={"note": "subscribed"})
    await setup.store.change(changed)
    await settled()
    setup.store.records([record(opened_by("me/0/0", theirs, 5))])
    await settled()
    assert (setup.store.find(KEY), setup.watch.dropped) == (changed, [])
    assert setup.log.records[-1] == record(changed), "compaction must not keep the late one"


async def test_what_a_process_was_before_may_have_opened_it_first(setup: Setup) -> None:
    theirs = as_it_stands(defined(by="other/0/1"), epoch=4)
    setup.store.assigned([SLOT])
    setup.store.records([record(theirs)])
    setup.store.caught_up([SLOT])
    first = opened_by("me/0/0", theirs, 5)
    setup.log.before = [record(first)]
    with pytest.raises(InstanceUnavailable):
        await setup.store.open(theirs)
    assert setup.store.find(KEY) == first
    again = await setup.store.open(first)
    assert (again.epoch, setup.store.find(KEY)) == (6, again)


async def test_an_opening_that_was_never_stored_raises_nothing(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored when another process has opened the instance, it would count if its epoch were higher."""
    monkeypatch.setattr(store, "_READ_BACK_S", 0.01)
    setup.serve(SLOT)
    await setup.store.create(as_it_stands(defined(), epoch=1))
    setup.log.held = True
    for _ in range(2):
        (found,) = setup.store.idle(-1)
        with pytest.raises(InstanceUnavailable):
            await setup.store.open(found)
        (found,) = setup.store.idle(-1)
        assert found.epoch == 2


async def test_a_hand_over_that_comes_late_is_believed_if_nobody_has_opened_it_since(setup: Setup) -> None:
    theirs = as_it_stands(defined(by="other/0"), epoch=4)
    late = as_it_stands(theirs, handed=True)
    setup.store.assigned([SLOT])
    setup.store.records([record(theirs)])
    setup.store.caught_up([SLOT])
    setup.store.records([record(late)])
    assert setup.store.find(KEY) == late


@pytest.mark.parametrize("how", ["handed over", "lost", "stood still"])
async def test_a_change_is_not_confirmed_here_when_its_slot_has_gone(how: str) -> None:
    """The next holder may have opened the instance before it was stored: that process is asked for it."""
    setup = Setup(load(BUILTIN_KEYS), standstill_s=0.2 if how == "stood still" else math.inf)
    setup.serve(SLOT)
    await setup.store.create(mine := defined())
    setup.log.stores = asyncio.Event()
    changing = asyncio.ensure_future(setup.store.change(mine))
    await settled()
    if how == "handed over":
        await setup.store.give_up([SLOT])
    elif how == "lost":
        setup.store.lost([SLOT])
    else:
        stand_still(0.5)
    setup.log.stores.set()
    with pytest.raises(Elsewhere):
        await changing


async def test_a_hand_over_in_time_is_believed(setup: Setup) -> None:
    theirs = defined(by="other/0")
    handed = as_it_stands(theirs, handed=True)
    setup.store.assigned([SLOT])
    setup.store.records([record(theirs), record(handed)])
    setup.store.caught_up([SLOT])
    assert setup.store.find(KEY) == handed
    await setup.store.write_again()  # the topic was deleted
    await settled()
    assert setup.store.find(KEY) == handed
    assert len(setup.log.records) == 1
    opened = as_it_stands(theirs, by=MY_NAME)
    setup.log.held = True
    await setup.store.change(opened)
    assert setup.store.find(KEY) == opened, "from now on nobody believes the anchors"


async def test_a_replay_repairs_what_it_finds(setup: Setup) -> None:
    """Of two records of one name the second is the last of its key, and would live on alone after compaction."""
    first, second = defined(), defined()
    setup.store.assigned([SLOT])
    setup.store.records([record(first), record(second)])
    assert setup.log.records == [], "not before all has been read"
    setup.store.caught_up([SLOT])
    await settled()
    assert [each.value for each in setup.log.records] == [jsonio.encode(first)]


async def test_a_hand_over_serves_nothing_and_forgets(setup: Setup) -> None:
    setup.serve(SLOT)
    await setup.store.create(defined())
    giving = asyncio.ensure_future(setup.store.give_up([SLOT]))
    await asyncio.sleep(0)
    await giving
    assert setup.watch.handed == [KEY]
    assert setup.store.state(SLOT) is None
    assert setup.store.find(KEY) is None
    setup.store.records([record(defined())])  # of a slot that is not held: late, and nobody's
    assert setup.store.instances() == {}


@pytest.mark.parametrize("how", ["handed over", "lost"])
async def test_a_creation_whose_slot_goes_is_for_whoever_has_it_next(setup: Setup, how: str) -> None:
    """Its record may be stored already: that reads it, and is asked for the same creation."""
    setup.serve(SLOT)
    setup.log.held = True
    creating = asyncio.ensure_future(setup.store.create(defined()))
    await settled()
    assert not creating.done()
    if how == "lost":
        setup.store.lost([SLOT])
    else:
        await setup.store.give_up([SLOT])
    with pytest.raises(Elsewhere):
        async with asyncio.timeout(2):  # less than it waits for its record
            await creating


async def test_a_newcomer_is_ready_when_it_serves_its_share(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka gives it none at first, because others have to give some up; if none come, it does without."""
    later: list[Callable[[], None]] = []
    loop = Mock(call_later=lambda seconds, what, *arguments: later.append(what))
    monkeypatch.setattr("asyncio.get_running_loop", lambda: loop)
    setup.store.assigned([])
    assert "no share" in setup.store.trouble
    setup.store.assigned([1])
    later.pop()()  # the time is over
    assert "no share" in setup.store.trouble, "it is read"
    setup.store.caught_up([1])
    assert setup.store.trouble == ""
    setup.store.lost([1])
    setup.store.assigned([])
    assert "no share" in setup.store.trouble
    later.pop()()
    assert setup.store.trouble == ""


async def test_lost_slots_are_suspended_until_all_of_their_log_is_read_again(setup: Setup) -> None:
    store, watch = setup.store, setup.watch
    setup.serve(SLOT)
    await store.create(defined())
    assert store.trouble == ""
    store.lost([SLOT])
    assert (watch.suspended, watch.dropped, watch.handed) == ([KEY], [], [])
    assert "coordinator" in store.trouble
    assert (store.serves(SLOT), store.find(KEY), store.suspended()) == (False, None, [SLOT])
    store.assigned([SLOT])
    store.records(setup.log.records)
    assert watch.resumed == []
    store.caught_up([SLOT])
    assert (watch.resumed, watch.dropped, store.suspended()) == ([KEY], [], [])
    store.fenced("or Kafka believes so")
    assert (watch.suspended, watch.why, store.suspended()) == ([KEY] * 2, "or Kafka believes so", [SLOT])
    store.assigned([SLOT])
    store.lost([SLOT])  # it had not been served yet
    assert (watch.suspended, watch.dropped, store.suspended()) == ([KEY] * 2, [], [SLOT])


async def give_up(store: SlotStore) -> None:
    store.assigned([SLOT])
    await store.give_up([SLOT])


async def wait(store: SlotStore) -> None:
    await asyncio.sleep(0.01)  # time itself: of the suspension


def stand_still(seconds: float) -> None:
    """As SIGSTOP does: nothing runs meanwhile."""
    time.sleep(seconds)  # time itself: of a standstill


@pytest.mark.parametrize("lost", [True, False])
async def test_who_stood_still_serves_nobody_until_it_knows_better(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """What its clients had sent meanwhile is read before the word comes that others have its slots."""
    monkeypatch.setattr(standstill, "_DOUBT_S", 0.1)
    setup = Setup(load(BUILTIN_KEYS), standstill_s=0.2)
    setup.serve(SLOT)
    await setup.store.create(defined())
    setup.claim("other/0", SLOT)
    stand_still(0.5)
    with pytest.raises(Elsewhere):
        setup.store.check_here(KEY)
    assert setup.store.state(SLOT) is SlotState.DOUBTED
    assert list(setup.store.idle(0)) == [], "nothing expires that others may have in use"
    setup.others.answers = [Reply(200, "", b"")]
    forwarding = asyncio.ensure_future(setup.homes.forward(request(), hash_of_key(KEY)))
    if lost:
        setup.store.lost([SLOT])
    reply = await forwarding
    assert (reply is not None, setup.others.asked) == (lost, ["other/0"] if lost else [])


@pytest.mark.parametrize("end", [give_up, wait])
async def test_what_is_suspended_ends(setup: Setup, end: Callable[[SlotStore], Awaitable[None]]) -> None:
    """When the slot goes to another process in order, or after its time."""
    setup.serve(SLOT)
    await setup.store.create(defined())
    if end is wait:
        setup.store._suspended._within_s = 0.0
    setup.store.lost([SLOT])
    await end(setup.store)
    assert (setup.watch.dropped, setup.watch.handed, setup.store.suspended()) == ([KEY], [], [])
    setup.serve(SLOT)
    assert setup.watch.resumed == []


async def test_the_log_says_once_what_is_served_and_why_it_is_not(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.cluster")

    def told() -> list[str]:
        found = caplog.messages
        caplog.clear()
        return found

    setup.serve(1, 2)
    setup.store.assigned([])  # as at the end of each rebalance
    assert told() == ["serving 2 of 8 slots"]
    await setup.store.give_up([2])
    setup.store.assigned([])
    assert told() == ["serving 1 of 8 slots"]
    setup.store.failed("INVALID_SESSION_TIMEOUT: Broker: Invalid session timeout")
    (line,) = told()
    assert "cluster.session.timeout.ms" in line
    assert "cluster.session.timeout.ms" in setup.store.trouble
    setup.store.fenced("its reason")
    assert (setup.watch.why, told()) == ("its reason", [])
    setup.serve(1)
    assert told() == ["serving 1 of 8 slots"]


# --- where requests go ------------------------------------------------------------------------------------------------

HASH = hash_of_key(KEY)


async def test_a_request_is_forwarded_to_whoever_claims_the_slot(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    setup.others.answers = [Reply(200, "", b"x")]
    reply = await setup.homes.forward(request(), HASH)
    assert reply is not None
    assert reply.body == b"x"
    assert setup.others.asked == ["a/0"]
    assert setup.others.known == {"a/0": ("unix:x.sock",)}


async def test_a_request_is_held_until_somebody_serves_the_slot(setup: Setup) -> None:
    asking = asyncio.ensure_future(setup.homes.forward(request(), HASH))
    await settled()
    assert setup.homes.held == 1
    setup.serve(SLOT)
    assert await asking is None, "it is at home here by now"
    assert setup.homes.held == 0


async def test_a_hold_ends(setup: Setup) -> None:
    setup.homes._hold_s = 0.3
    with pytest.raises(InstanceUnavailable):
        await setup.homes.forward(request(), HASH)


async def test_a_node_that_stops_holds_as_any_other(setup: Setup) -> None:
    """The new owner of its slots may need some time, also on a busy machine."""
    asking = asyncio.ensure_future(setup.homes.forward(request(), HASH))
    await settled()
    setup.gateway.stopping = True
    stand_still(1.6)
    setup.homes.changed([])
    await settled()
    assert setup.homes.held == 1
    setup.claim("a/0", SLOT)
    setup.others.answers = [Reply(200, "", b"x")]
    reply = await asking
    assert reply is not None
    assert reply.body == b"x"


@pytest.mark.parametrize("forwarded", [False, True], ids=["held", "forwarded"])
@pytest.mark.parametrize("proof", [{}, {"authorization": "Basic YQ=="}], ids=["open", "proven"])
async def test_whoever_waits_when_a_node_ends_is_answered(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, forwarded: bool, proof: Mapping[str, str]
) -> None:
    """Before its connections close: also what came before it stopped, and what nobody answers."""
    gateway = setup.gateway
    monkeypatch.setattr(setup.homes, "elsewhere", lambda *_: HASH)
    gateway.homes = setup.homes
    made = request()
    made.session.proof = proof
    if forwarded:
        setup.claim("a/0", SLOT)
    asking = asyncio.ensure_future(gateway.dispatch(made))
    await settled()
    assert (setup.homes.held, setup.others.asked) == ((0, ["a/0"]) if forwarded else (1, []))
    assert await gateway.drain(1.0), "answered within its time"
    reply = await asking
    assert reply.status == 503
    assert isinstance(reply.body, bytes)
    assert b"50303" in reply.body
    assert dict(reply.headers)["Retry-After"] == "1"
    late = request()
    late.begun = True
    assert (await gateway.dispatch(late)).status == 503, "it is answered at once"
    assert setup.homes.held == 0


async def test_who_is_lost_or_wrong_is_not_asked_again_at_once(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    setup.others.answers = [PeerLost("a/0", True), Reply(MISROUTED, "", b""), Reply(200, "", b"y")]
    reply = await setup.homes.forward(request(), HASH)
    assert reply is not None
    assert reply.body == b"y"
    assert setup.others.asked == ["a/0"] * 3


@pytest.mark.parametrize(("method", "status"), [("DELETE", 204), ("GET", 404)])
async def test_a_delete_that_is_sent_again_finds_nothing_and_is_well(setup: Setup, method: str, status: int) -> None:
    setup.claim("a/0", SLOT)
    setup.others.answers = [PeerLost("a/0", True), Reply(404, "", b"{}")]
    reply = await setup.homes.forward(request(method), HASH)
    assert reply is not None
    assert reply.status == status


async def test_one_that_was_not_sent_before_does_not(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    setup.others.answers = [PeerLost("a/0", False), Reply(404, "", b"{}")]
    reply = await setup.homes.forward(request("DELETE"), HASH)
    assert reply is not None
    assert reply.status == 404


@pytest.mark.parametrize("task", [True, False])
async def test_a_delete_of_which_its_home_does_not_know_what_became_finds_nothing_and_is_well(
    setup: Setup, task: bool
) -> None:
    """Its slot went when the deletion had been sent: it may count."""
    setup.claim("a/0", SLOT)
    setup.others.answers = [Reply(MISROUTED, "", b"", MisroutedLate().headers), Reply(404, "", b"{}")]
    reply = await (setup.homes.forward(request("DELETE"), HASH) if task else Client(setup, "DELETE").reply())
    assert reply is not None
    assert reply.status == 204


@pytest.mark.parametrize("forwarded", [False, True])
async def test_who_has_sent_a_deletion_and_lost_its_slot_says_so(forwarded: bool) -> None:
    async def delete(call: Call) -> Response:
        raise Elsewhere(HASH, sent=True)

    route = Route("DELETE", "/consumers/{group}/instances/{name}", delete)
    setup = Setup(load(BUILTIN_KEYS), routes=[route])
    gateway = setup.gateway
    gateway.homes = setup.homes
    setup.homes.elsewhere = lambda *_: None  # type: ignore[method-assign]  # it is here when it comes
    setup.claim("a/0", SLOT)
    setup.others.answers = [Reply(404, "", b"{}")]
    reply = await gateway.dispatch(request("DELETE", forwarded))
    assert (reply.status, may_be_done(reply.headers)) == ((MISROUTED, True) if forwarded else (204, False))


async def test_nothing_is_forwarded_twice(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    with pytest.raises(Misrouted):
        await setup.homes.forward(request(forwarded=True), HASH)
    setup.store.assigned([SLOT])  # held, and not served yet: it waits here
    asking = asyncio.ensure_future(setup.homes.forward(request(forwarded=True), HASH))
    await settled()
    setup.store.caught_up([SLOT])
    assert await asking is None
    assert setup.others.asked == []


async def test_whoever_stands_still_is_given_up_when_another_has_the_slot(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    asking = asyncio.ensure_future(setup.homes.forward(request(), HASH))
    await setup.others.called.wait()
    setup.others.answers = [Reply(200, "", b"z")]
    setup.claim("b/0", SLOT)
    reply = await asking
    assert reply is not None
    assert reply.body == b"z"
    assert setup.others.asked == ["a/0", "b/0"]


async def test_bodies_of_requests_that_wait_have_a_bound(setup: Setup) -> None:
    def asked(size: int) -> asyncio.Future[Any]:
        made = request("POST")
        made.body = b"x" * size
        return asyncio.ensure_future(setup.homes.forward(made, HASH))

    waiting = [asked(HELD_BYTES - 1), asked(1), asked(0)]
    await asyncio.sleep(0)
    assert setup.homes.held == 3
    with pytest.raises(InstanceUnavailable):
        await asked(1)
    assert setup.homes.held == 3, "it was refused at once"
    setup.serve(SLOT)
    assert await asyncio.gather(*waiting) == [None] * 3
    setup.store.lost([SLOT])
    again = asked(HELD_BYTES)
    await asyncio.sleep(0)
    assert setup.homes.held == 1
    setup.serve(SLOT)
    assert await again is None


async def test_a_client_that_leaves_ends_its_call(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    asking = asyncio.ensure_future(setup.homes.forward(request(), HASH))
    await settled()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert setup.homes._calls == set()


# --- without a task ---------------------------------------------------------------------------------------------------


class Client:
    """Of a request that needs no task."""

    def __init__(self, setup: Setup, method: str = "GET") -> None:
        self.replies: list[Reply | None] = []
        self.gateway = setup.gateway
        self.gateway.homes = setup.homes
        setup.homes.elsewhere = lambda *_: HASH  # type: ignore[method-assign]
        self.request = request(method)
        self.begun = self.gateway.at_once.forward(self.request, HASH, self.replies.append)

    async def reply(self) -> Reply | None:
        while not self.replies:  # noqa: ASYNC110  # it waits for nothing but the loop
            await asyncio.sleep(0)
        await settled()
        (reply,) = self.replies
        assert (self.gateway.running, self.gateway.entrusted.sent) == (0, set())
        assert sum(way.running for way in self.gateway.counters.ways.values()) == 0
        return reply


async def test_a_request_is_forwarded_without_a_task(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    setup.others.answers = [Reply(200, "", b"x", route="/consumers/{group}")]
    client = Client(setup)
    assert (client.gateway.running, len(setup.homes._calls)) == (1, 1)
    reply = await client.reply()
    assert reply is not None
    assert (reply.body, reply.request_id) == (b"x", client.request.id)
    assert setup.homes.forwarded == {("a/0", "200"): 1}
    assert setup.homes._calls == set()
    assert list(client.gateway.counters.requests) == [("http", "/consumers/{group}", "GET", 200)]


@pytest.mark.parametrize(("method", "status"), [("DELETE", 204), ("GET", 404)])
async def test_what_is_not_answered_goes_on_with_a_task(setup: Setup, method: str, status: int) -> None:
    """It is known that it was sent: a DELETE that finds nothing is well then."""
    setup.claim("a/0", SLOT)
    setup.others.answers = [PeerLost("a/0", True), Reply(MISROUTED, "", b""), Reply(404, "", b"{}")]
    reply = await Client(setup, method).reply()
    assert reply is not None
    assert reply.status == status
    assert setup.others.asked == ["a/0"] * 3


async def test_one_that_was_misrouted_was_not_carried_out(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    setup.others.answers = [Reply(MISROUTED, "", b""), Reply(404, "", b"{}")]
    reply = await Client(setup, "DELETE").reply()
    assert reply is not None
    assert reply.status == 404


async def test_whoever_stands_still_is_given_up_without_a_task_too(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    client = Client(setup)
    await setup.others.called.wait()
    setup.others.answers = [Reply(200, "", b"z")]
    setup.claim("b/0", SLOT)
    reply = await client.reply()
    assert reply is not None
    assert reply.body == b"z"
    assert setup.others.asked == ["a/0", "b/0"]


@pytest.mark.parametrize("when", ["sent", "held"])
async def test_a_client_that_leaves_is_missed(setup: Setup, when: str) -> None:
    setup.claim("a/0", SLOT)
    if when == "held":
        setup.others.answers = [PeerLost("a/0", True)]
    client = Client(setup)
    await setup.others.called.wait()
    if when == "held":
        while not setup.homes.held:  # noqa: ASYNC110  # it waits for nothing but the loop
            await asyncio.sleep(0)
    assert client.begun is not None
    client.begun.cancel()
    assert await client.reply() is None
    assert (setup.homes._calls, setup.homes.held) == (set(), 0)
    assert sorted(client.gateway.counters.requests) == [("http", "", "", 499)]


async def test_what_waits_without_a_task_is_answered_when_a_node_ends(setup: Setup) -> None:
    setup.claim("a/0", SLOT)
    client = Client(setup)
    assert await client.gateway.drain(1.0)
    reply = await client.reply()
    assert reply is not None
    assert reply.status == 503
    assert isinstance(reply.body, bytes)
    assert b"50303" in reply.body


@pytest.mark.parametrize("why", ["unproven", "traced", "stopping", "full", "memory", "ended", "held"])
async def test_what_may_have_to_wait_needs_a_task(setup: Setup, why: str) -> None:
    gateway = setup.gateway
    if why != "held":
        setup.claim("a/0", SLOT)
    gateway.stopping = why == "stopping"
    gateway.at_once.enabled = why != "traced"
    gateway.requests_max = 0 if why == "full" else 10
    gateway.memory.used_up = why == "memory"
    gateway.entrusted.ended = why == "ended"
    if why == "unproven":
        made = request()
        made.session.proven = False
        gateway.homes = setup.homes
        assert gateway.at_once.forward(made, HASH, lambda _: None) is None
    else:
        assert Client(setup).begun is None
    assert (setup.others.asked, gateway.running) == ([], 0)


class Endless:
    """A stream of another node, of which nothing comes."""

    def __init__(self) -> None:
        self._over: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> Payload:
        return await self._over

    async def aclose(self) -> None:
        self._over.cancel()

    def fail(self, error: ServiceError) -> None:
        if not self._over.done():
            self._over.set_exception(error)


async def test_a_stream_of_another_node_says_that_this_one_stops(setup: Setup) -> None:
    """The client is connected here: it is told the same as where the instance is here."""
    setup.claim("other/0", SLOT)
    setup.others.answers = [Reply(200, "text/event-stream", Endless())]
    reply = await setup.homes.forward(request(), SLOT)
    assert reply is not None
    assert not isinstance(reply.body, bytes)
    coming = asyncio.ensure_future(anext(aiter(reply.body)))
    await asyncio.sleep(0)
    setup.homes.drain()
    with pytest.raises(ShuttingDown):
        await coming


async def test_generated_names_fall_into_own_slots(setup: Setup) -> None:
    assert setup.homes.is_here("g", "any"), "where nothing is served, whoever makes it chooses a name"
    setup.serve(SLOT)
    assert setup.homes.is_here("g", "c")
    others = [name for name in map(str, range(100)) if hash_of_key(SlotKey("g", name)) % COUNT != SLOT]
    assert not any(setup.homes.is_here("g", name) for name in others)
    with pytest.raises(Elsewhere):
        setup.homes.check_here("g", others[0])
