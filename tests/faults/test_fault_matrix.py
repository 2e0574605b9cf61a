"""Faults of processes, brokers and lines, one after the other, while clients of every kind are at work (cluster.md §14
nos. 4 to 6). `bin/test cluster` runs all of them, `bin/test` those that are not marked ``cluster``.

After each: every stored record has come to everybody, in order; again only what §11 allows; no request has failed
where the fault was planned, and elsewhere only as `_allowed` says; no slot was served by two for longer than a
heartbeat; and everybody goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

import pytest

from tests.faults.deployment import HEARTBEAT_S, NODES, SESSION_S, SLOTS, Deployment, Strike, running, served
from tests.faults.lines import CUT, KAFKA, Way, Weather, both
from tests.faults.loads import BROKEN, PARTITIONS, Failure, Loads
from tests.faults.ownership import Ownership

pytestmark = [pytest.mark.slow, pytest.mark.broker]

SHORT_S, LONG_S = 3.0, 12.0
"""Below the session timeout, and far above it."""
DEAF_S = 2 * SESSION_S + 3
"""By then others have the slots of a node whose requests come to Kafka, and which hears nothing: it joins again when
its session is over for itself, and that is a sign of life (cluster.md §0.1)."""
SILENT_S = 40.0
"""By then TCP sends lost packets again after 25 s only, and whoever has a limit for a connection has given it up."""
QUIET_S = 20.0
"""By then TCP sends again what was lost after 13 s, and only members that hold slots have given a connection up."""
SETTLED_S = 12.0
"""What it takes until Kafka, away for `SILENT_S`, is reached again and the slots are shared out: 2 s to 5 s, on a busy
machine more. It was 16 s to 23 s while clients waited for what TCP sends again."""
RECORD_S = 30.0
"""How long a node tries to store a record."""
SLOW = Weather(delay_s=0.2)
LOSSY = Weather(delay_s=0.2, lost=0.05)
VICTIM, OTHER = 0, 1


class Fault(NamedTuple):
    """What happens, and what it is allowed to do to clients."""

    name: str
    strike: Strike
    planned: bool = False
    """No request fails, and no record comes twice."""
    breaks: bool = False
    """Connections to a process that is gone end without a reply."""
    keeps_slots: bool = False
    """Nobody takes anything over."""
    takes_over: bool = False
    """Others take over what a process had."""
    outlasts_records: bool = False
    """Kafka is away for longer than a node tries to store a record."""
    brokers: int = 1
    workers: int = 1
    packets: bool = False
    """Whether the lines are those of network namespaces."""
    always: bool = False
    """Whether `bin/test` runs it, too."""
    timeout_s: float = 400


# --- processes --------------------------------------------------------------------------------------------------------


def kill(nodes: Deployment) -> None:
    nodes.signal(VICTIM, signal.SIGKILL)
    nodes.ended(VICTIM)
    time.sleep(SESSION_S + 1)  # until the others have taken over
    nodes.start(VICTIM)


def kill_who_takes_over(nodes: Deployment) -> None:
    """What a node that stops has handed over is being opened by the others when one of these is killed."""
    nodes.signal(OTHER, signal.SIGTERM)
    assert nodes.ended(OTHER) == 0, nodes.log(OTHER)
    nodes.signal(VICTIM, signal.SIGKILL)
    nodes.ended(VICTIM)
    nodes.start(OTHER)
    time.sleep(SESSION_S + 1)  # until the others have taken over
    nodes.start(VICTIM)


def kill_worker(nodes: Deployment) -> None:
    nodes.signal_worker(VICTIM, 1, signal.SIGKILL)


def worker_stands_still(seconds: float) -> Strike:
    def strike(nodes: Deployment) -> None:
        nodes.signal_worker(VICTIM, 1, signal.SIGSTOP)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            nodes.signal_worker(VICTIM, 1, signal.SIGCONT)

    return strike


def stand_still(seconds: float) -> Strike:
    def strike(nodes: Deployment) -> None:
        nodes.signal(VICTIM, signal.SIGSTOP)
        time.sleep(seconds)
        nodes.signal(VICTIM, signal.SIGCONT)

    return strike


def restart(nodes: Deployment, number: int = VICTIM) -> None:
    nodes.signal(number, signal.SIGTERM)
    assert nodes.ended(number) == 0, nodes.log(number)
    nodes.start(number)


def stop_two(nodes: Deployment) -> None:
    """The second one while the group shares out what the first one had."""
    for number in (VICTIM, OTHER):
        nodes.signal(number, signal.SIGTERM)
        time.sleep(HEARTBEAT_S / 2)
    for number in (VICTIM, OTHER):
        assert nodes.ended(number) == 0, nodes.log(number)
        nodes.start(number)


def stop_beside_one_that_comes(nodes: Deployment) -> None:
    """A node stops while the group gives another one its share."""
    for pause_s in (0.0, HEARTBEAT_S / 2, HEARTBEAT_S, 2 * HEARTBEAT_S):
        nodes.signal(VICTIM, signal.SIGTERM)
        assert nodes.ended(VICTIM) == 0, nodes.log(VICTIM)
        nodes.start(VICTIM)
        time.sleep(pause_s)
        restart(nodes, OTHER)
        nodes.shared_out()


def reload(nodes: Deployment) -> None:
    nodes.signal(VICTIM, signal.SIGHUP)
    nodes.wait_for(VICTIM, "the configuration was read again")


def restart_all(times: int) -> Strike:
    def strike(nodes: Deployment) -> None:
        for _ in range(times):
            for number in range(NODES):
                restart(nodes, number)
                nodes.shared_out()

    return strike


# --- brokers ----------------------------------------------------------------------------------------------------------


def kill_broker(nodes: Deployment) -> None:
    nodes.kafka.kill(1)
    time.sleep(SHORT_S)
    nodes.kafka.restart(1)


def freeze_brokers(seconds: float) -> Strike:
    def strike(nodes: Deployment) -> None:
        for number in nodes.kafka.nodes:
            nodes.kafka.pause(number)
        time.sleep(seconds)
        for number in nodes.kafka.nodes:
            nodes.kafka.resume(number)

    return strike


def restart_brokers(nodes: Deployment) -> None:
    for number in nodes.kafka.nodes:
        nodes.kafka.restart(number)
        time.sleep(SHORT_S)  # until its replicas are in sync again


# --- lines ------------------------------------------------------------------------------------------------------------


def lines(weather: Weather, *ways: Way, seconds: float = LONG_S, gives_up: bool = False) -> Strike:
    """``gives_up``: at the end of the bad weather the victim says that it is not ready, and the others have its
    slots."""

    def strike(nodes: Deployment) -> None:
        for way in ways:
            nodes.lines.set(weather, way)
        time.sleep(seconds)
        if gives_up:
            assert not nodes.is_ready(VICTIM)
            assert not nodes.page(VICTIM)["slots"]
            assert len({slot for page in nodes.pages(VICTIM) for slot in served(page)}) == SLOTS
        nodes.lines.mend()

    return strike


KAFKAS = both(VICTIM, KAFKA)
FROM_KAFKA = (Way(KAFKA, VICTIM),)
TWO = both(VICTIM, OTHER)
ALL_OTHERS = tuple(way for other in range(NODES) if other != VICTIM for way in both(VICTIM, other))
CUTS: tuple[tuple[str, tuple[Way, ...]], ...] = (
    ("no line to Kafka", KAFKAS),
    ("nothing comes to Kafka", (Way(VICTIM, KAFKA),)),
    ("nothing comes from Kafka", FROM_KAFKA),
    ("no line between two nodes", TWO),
    ("nothing comes to one of two nodes", (Way(VICTIM, OTHER),)),
    ("nothing comes back from one of two nodes", (Way(OTHER, VICTIM),)),
    ("no line between a node and all others", ALL_OTHERS),
)


def _cuts(seconds: float, always: Collection[str], *, packets: bool) -> Iterator[Fault]:
    for name, ways in CUTS:
        lasts_s = max(seconds, DEAF_S) if ways == FROM_KAFKA else seconds
        how = f"{name}, {lasts_s:g} s of lost packets" if packets else name
        yield Fault(
            how,
            # Nobody reaches it: what it has is to be the others', and the balancer is to choose these.
            lines(CUT, *ways, seconds=lasts_s, gives_up=ways == ALL_OTHERS and seconds > LONG_S),
            takes_over=KAFKA in ways[0],
            outlasts_records=KAFKA in ways[0] and seconds > RECORD_S,
            always=name in always,
            packets=packets,
        )


FAULTS = (
    Fault("SIGKILL", kill, breaks=True),
    Fault("SIGKILL of a node that takes over", kill_who_takes_over, breaks=True),
    Fault("SIGSTOP for 3 s", stand_still(SHORT_S)),
    Fault("SIGSTOP for 12 s", stand_still(LONG_S), always=True),
    Fault("SIGTERM and a start", restart, planned=True),
    Fault("SIGTERM of two nodes one after the other", stop_two, planned=True),
    Fault("SIGTERM of a node beside one that comes", stop_beside_one_that_comes, planned=True),
    Fault("SIGHUP", reload, planned=True, keeps_slots=True),
    Fault("ten rolling restarts", restart_all(10), planned=True, timeout_s=1500),
    Fault("the only broker killed and started", kill_broker),
    Fault("the only broker frozen for 3 s", freeze_brokers(SHORT_S), keeps_slots=True),
    Fault("the only broker frozen for 12 s", freeze_brokers(LONG_S)),
    *_cuts(LONG_S, ("no line to Kafka", "nothing comes to one of two nodes"), packets=False),
    Fault("a slow line to Kafka", lines(SLOW, *KAFKAS), planned=True, keeps_slots=True),
    Fault("slow lines between nodes", lines(SLOW, *ALL_OTHERS), planned=True, keeps_slots=True),
    Fault("lossy lines between nodes", lines(LOSSY, *ALL_OTHERS), planned=True, keeps_slots=True),
    *_cuts(LONG_S, ("nothing comes from Kafka",), packets=True),
    *_cuts(SILENT_S, (), packets=True),
    Fault(
        f"no line between Kafka and all nodes, {QUIET_S:g} s of lost packets",
        lines(CUT, *(way for node in range(NODES) for way in both(node, KAFKA)), seconds=QUIET_S),
        packets=True,
    ),
    Fault("SIGKILL of a worker", kill_worker, breaks=True, keeps_slots=True, workers=2),
    Fault("SIGSTOP of a worker for 3 s", worker_stands_still(SHORT_S), keeps_slots=True, workers=2),
    Fault("SIGSTOP of a worker for 12 s", worker_stands_still(LONG_S), breaks=True, workers=2),
    Fault("SIGKILL of a parent", kill, breaks=True, workers=2),
    Fault("SIGSTOP of a parent for 12 s", stand_still(LONG_S), workers=2),
    Fault("SIGTERM and a start, workers", restart, planned=True, workers=2),
    Fault("SIGHUP, workers", reload, planned=True, keeps_slots=True, workers=2),
    Fault("rolling restarts, workers", restart_all(2), planned=True, workers=2, timeout_s=900),
    Fault("the only broker frozen for 12 s, workers", freeze_brokers(LONG_S), workers=2),
    Fault("brokers restarted one by one", restart_brokers, brokers=3, keeps_slots=True),
    Fault("one of three brokers killed and started", kill_broker, brokers=3),
    Fault("three brokers frozen for 12 s", freeze_brokers(LONG_S), brokers=3),
)


def _case(fault: Fault) -> object:
    marks = [pytest.mark.timeout(fault.timeout_s), *([] if fault.always else [pytest.mark.cluster, pytest.mark.alone])]
    deployment = (fault.brokers, fault.workers, fault.packets)
    return pytest.param(deployment, fault, id=re.sub("[ ,]+", "-", fault.name), marks=marks)


@pytest.fixture(scope="module")
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Three nodes of as many workers, before as many brokers, with lines of the kind that the parameter says."""
    brokers, workers, packets = request.param
    with running(brokers, tmp_path_factory.mktemp("nodes"), workers, packets=packets) as started:
        yield started


# The scope is said again: without it pytest takes a deployment down with each case, for the fault is no fixture.
@pytest.mark.parametrize(
    ("deployment", "fault"), [_case(fault) for fault in FAULTS], indirect=["deployment"], scope="module"
)
async def test_clients_lose_nothing(deployment: Deployment, fault: Fault) -> None:
    began = time.time()
    wrong: list[str] = []
    try:
        wrong = await _tried(deployment, fault)
    except AssertionError as error:  # somebody was waited for in vain
        wrong = [f"waited in vain: {error}"]
    finally:
        deployment.lines.mend()
        logs = list(map(deployment.log, range(NODES)))
        print("\n".join(logs))  # for whoever looks for the cause of a failure
    if wrong:
        # The reasons first, then not much of the logs: of a long failure CI shows the beginning.
        said = [each[:_REASON] for each in wrong]
        for number, log in enumerate(logs):
            since = [line[:_LINE] for line in log.splitlines() if _is_trouble(line, began)]
            said += [f"--- node {number}, the last of {len(since)} warnings and errors:", *since[-_LINES:]]
        pytest.fail("\n".join(said), pytrace=False)


_REASON, _LINE, _LINES = 2000, 240, 15


def _is_trouble(line: str, since: float) -> bool:
    """Whether a line of a log is a warning, or worse, of that time; seconds since 1970."""
    begin = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    return line >= begin and any(f" {level} " in line for level in ("WARNING", "ERROR", "CRITICAL"))


async def _tried(deployment: Deployment, fault: Fault) -> list[str]:
    """What was wrong, and behind that what there was; nothing if all was well."""
    topic, other = (deployment.kafka.create_topic(partitions=count) for count in (PARTITIONS, 1))
    async with Ownership(deployment) as ownership, Loads(deployment.balancer.url, topic, other) as loads:
        when, began = time.time(), time.monotonic()
        await asyncio.to_thread(fault.strike, deployment)
        over = time.monotonic()
        await asyncio.to_thread(deployment.shared_out)
        settled = time.monotonic()
        await loads.go_on()
        await loads.finish()
    overlaps = list(ownership.overlaps())
    gaps = loads.gaps()
    failures = Counter((each.status, each.code, each.message[:60]) for each in loads.clients.failures)
    account = (
        f"{fault.name}: {over - began:.1f} s, settled {settled - over:.1f} s later; {loads.topic.count()} records, "
        f"{loads.clients.sent} requests, failed {dict(failures)}, again {loads.repeated()}, longest gaps "
        f"{[round(gap, 2) for gap in gaps[-3:]]}, moves {ownership.takeovers}, overlaps {overlaps[:3]}"
    )
    print(account)
    unexpected = [each for each in loads.clients.failures if not _allowed(fault, each)]
    wrong = loads.wrong()
    wrong += [f"must not fail, {each.at - began:.1f} s after the beginning: {each}" for each in unexpected[:5]]
    if fault.planned and loads.repeated():
        wrong.append("records came again, though it was planned")
    if fault.keeps_slots and ownership.takeovers and _worker_away_s(deployment.log(VICTIM), when) < SESSION_S:
        wrong.append("slots moved, though nobody was to take anything over")
    if fault.takes_over and not ownership.takeovers:
        wrong.append("nobody took a slot over")
    if fault.outlasts_records and settled - over >= SETTLED_S:
        wrong.append(f"the slots were shared out again after {settled - over:.1f} s only, not within {SETTLED_S:g} s")
    too_long_s = max(HEARTBEAT_S, _told_late_s(deployment.log(VICTIM), when) if fault.takes_over else 0)
    wrong += [f"two served slot {slot} for {seconds:.2f} s" for slot, seconds in overlaps if seconds > too_long_s]
    return [*wrong, account] if wrong else []


def _told_late_s(log: str, since: float) -> float:
    """How much later than its session was over a node that was cut off from Kafka was told so. librdkafka looks once a
    heartbeat, if the machine lets its thread run, and says how long it took."""
    lines = [line for line in log.splitlines() if _is_trouble(line, since)]
    told = re.findall(r"Consumer group session timed out .* after (\d+) ms", "\n".join(lines))
    return max((int(each) / 1000 - SESSION_S for each in told), default=0)


def _worker_away_s(log: str, since: float) -> float:
    """How long a worker that had ended was away: on a machine without a processor to spare longer than its session,
    and then others take over what it had."""
    begin = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    ended = 0.0
    away = [0.0]
    for line in log.splitlines():
        if line >= begin and re.search(r" worker \d+ (ended|serves again)", line):
            at = time.mktime(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")) + int(line[20:23]) / 1000
            if "serves again" in line:
                away.append(at - ended)
            else:
                ended = at
    return max(away)


def _allowed(fault: Fault, failure: Failure) -> bool:
    if failure.what == "stream" and failure.code == 50301:
        return True  # streams of a node that stops end so, and their clients open them again
    if fault.planned:
        return False
    if failure.status == BROKEN:
        return fault.breaks
    if failure.what == "produce" and "may have been stored" in failure.message:
        return fault.outlasts_records
    # Nobody knows any more what a commit would commit, until something has been read.
    moved = failure.code == 50002 and any(why in failure.message for why in ("moved after a failure", "not known"))
    return failure.status == 503 or moved
