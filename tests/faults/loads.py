"""What clients do while something fails, and an exact account of it: what was stored, what came, what was committed,
and each request that failed.

Every request goes through the balancer on a connection of its own, so it comes to any node. A few of them a second:
what counts is that nothing is lost, not how much there is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import aiohttp

from tests.sse import events

V2, JSON_V2 = "application/vnd.kafka.v2+json", "application/vnd.kafka.json.v2+json"
PARTITIONS = 2
PATIENCE_S = 90.0
PRODUCE_S, CHURN_S, ROUND_S, COMMIT_S, AGAIN_S = 0.15, 1.0, 0.3, 1.0, 0.1
READ_MS = 500
BROKEN = 0
"""In the place of a status: the connection ended before the reply."""


class Failure(NamedTuple):
    """A request that did not get what it asked for."""

    at: float
    """time.monotonic()"""
    took_s: float
    what: str
    status: int
    code: int
    message: str


class Answer(NamedTuple):
    status: int
    body: Any


class Clients:
    """Sends requests, and keeps what failed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.failures: list[Failure] = []
        self.sent = 0

    async def __aenter__(self) -> Clients:
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=aiohttp.ClientTimeout(PATIENCE_S)
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.http.close()

    async def ask(self, method: str, path: str, body: Any = None, type: str = V2, accept: str = "*/*") -> Answer | None:
        """The answer, if it is 2xx; all else is a failure."""
        began = time.monotonic()
        self.sent += 1
        headers = {"Accept": accept, **({} if body is None else {"Content-Type": type})}
        content = None if body is None else json.dumps(body).encode()
        try:
            async with self.http.request(method, self.url + path, data=content, headers=headers) as reply:
                found = await reply.read()
                status = reply.status
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failed(began, f"{method} {path}", BROKEN, 0, f"{type_of(error)}: {error}")
            return None
        answer = json.loads(found) if found else None
        if status >= 300:
            self.failed(began, f"{method} {path}", status, answer["error_code"], answer["message"])
            return None
        return Answer(status, answer)

    def failed(self, began: float, what: str, status: int, code: int, message: str) -> None:
        """Notes it."""
        now = time.monotonic()
        self.failures.append(Failure(now, now - began, what, status, code, message))

    async def insist(self, method: str, path: str, body: Any = None) -> Answer:
        """The answer, however often that takes. For what prepares a load, and for its end."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if (answer := await self.ask(method, path, body)) is not None:
                return answer
            await asyncio.sleep(AGAIN_S)
        raise AssertionError(self.failures[-20:])


def type_of(error: BaseException) -> str:
    return type(error).__name__


class Topic:
    """What was stored: offsets by partition."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stored: dict[int, set[int]] = defaultdict(set)

    def count(self) -> int:
        """How many records were stored."""
        return sum(map(len, self.stored.values()))

    async def store(self, clients: Clients, value: int, partition: int) -> bool:
        """Whether it is stored, as far as its client knows."""
        began = time.monotonic()
        body = {"records": [{"value": value, "partition": partition}]}
        answer = await clients.ask("POST", f"/topics/{self.name}", body, JSON_V2)
        if answer is None:
            return False
        (row,) = answer.body["offsets"]
        if row.get("error_code") is not None:
            clients.failed(began, "produce", answer.status, row["error_code"], row["error"])
            return False
        self.stored[row["partition"]].add(row["offset"])
        return True


class Reading(NamedTuple):
    """A record that came."""

    partition: int
    offset: int


@dataclasses.dataclass
class Delivered:
    """What the members of a group got."""

    name: str
    commits: bool
    """Whether it is known what was committed: its client does that."""
    next: dict[int, int] = dataclasses.field(default_factory=lambda: defaultdict(int))
    """By partition, the offset behind what came last."""
    seen: dict[int, set[int]] = dataclasses.field(default_factory=lambda: defaultdict(set))
    committed: dict[int, int] = dataclasses.field(default_factory=dict)
    behind: set[int] = dataclasses.field(default_factory=set)
    """Partitions of which a commit without a body is: those of which something has come since one was refused."""
    repeated: int = 0
    """Records that came again."""
    wrong: list[str] = dataclasses.field(default_factory=list)
    """What no fault allows."""
    gaps: list[float] = dataclasses.field(default_factory=list)
    """Seconds from one good reply to the next."""
    told: deque[str] = dataclasses.field(default_factory=lambda: deque(maxlen=30))
    """What was asked and answered last, for whoever looks for the cause of what is wrong."""

    def note(self, what: str) -> None:
        self.told.append(f"{time.monotonic():.2f} {what}")

    def take(self, partition: int, offset: int) -> None:
        self.note(f"got {offset} of {partition}")
        due = self.next[partition]
        if offset > due and not (missed := set(range(due, offset))) <= self.seen[partition]:
            self.wrong.append(f"{self.name}: partition {partition} went on at {offset} and not at {min(missed)}")
        if offset in self.seen[partition]:
            self.repeated += 1
            if self.commits and offset < self.committed.get(partition, 0):
                self.wrong.append(f"{self.name}: {offset} of partition {partition} came again, which was committed")
        if self.wrong:
            self.wrong[-1] += "" if "; before: " in self.wrong[-1] else f"; before: {', '.join(self.told)}"
        self.seen[partition].add(offset)
        self.next[partition] = offset + 1
        self.behind.add(partition)

    def missing(self, topic: Topic) -> dict[int, list[int]]:
        """What was stored and has not come."""
        return {number: lost for number in topic.stored if (lost := sorted(topic.stored[number] - self.seen[number]))}


class Load:
    """One client. ``run`` goes on until it is cancelled; ``rounds`` counts what went well."""

    rounds = 0

    def __init__(self, name: str, clients: Clients) -> None:
        self.name = name
        self.clients = clients

    async def prepare(self) -> None: ...
    async def run(self) -> None:
        raise NotImplementedError

    async def clean(self) -> None: ...


class Producing(Load):
    """Stores one record after the other, in turn in each partition."""

    def __init__(self, clients: Clients, topic: Topic) -> None:
        super().__init__("producer", clients)
        self._topic = topic

    async def run(self) -> None:
        for number in itertools.count():
            if await self._topic.store(self.clients, number, number % PARTITIONS):
                self.rounds += 1
            await asyncio.sleep(PRODUCE_S)


class Instance(Load):
    """A consumer instance, made through the balancer."""

    def __init__(self, clients: Clients, delivered: Delivered, topic: Topic, automatic: bool) -> None:
        super().__init__(delivered.name, clients)
        self.delivered = delivered
        self.path = ""
        self._topic = topic
        self._automatic = automatic

    async def prepare(self) -> None:
        options = {
            "format": "json",
            "auto.offset.reset": "earliest",
            "auto.commit.enable": str(self._automatic).lower(),
        }
        made = await self.clients.insist("POST", f"/consumers/{self.name}", options)
        self.path = f"/consumers/{self.name}/instances/{made.body['instance_id']}"
        await self.clients.insist("POST", f"{self.path}/subscription", {"topics": [self._topic.name]})

    async def clean(self) -> None:
        await self.clients.insist("DELETE", self.path)

    async def commit(self) -> bool:
        """Commits what has come, without naming it."""
        positions = {partition: self.delivered.next[partition] for partition in self.delivered.behind}
        self.delivered.note(f"commits {positions}")
        if await self.clients.ask("POST", f"{self.path}/offsets") is None:
            self.delivered.note("commit failed")
            # Its instance may have moved, and then begins as after a crash: what came before comes again, and the next
            # commit is of what has been read since (docs/cluster.md, What is guaranteed). No reply need say so: where
            # the next request is a read, no commit is refused.
            self.delivered.behind.clear()
            return False
        self.delivered.note("committed")
        if self.delivered.commits:
            self.delivered.committed.update(positions)
        return True


class Consuming(Instance):
    """Reads in a loop, and commits after each read that brought something unless that is automatic."""

    async def run(self) -> None:
        answered_at = time.monotonic()
        while True:
            self.delivered.note("reads")
            answer = await self.clients.ask("GET", f"{self.path}/records?timeout={READ_MS}", accept=JSON_V2)
            if answer is None:
                self.delivered.note("read failed")
                await asyncio.sleep(AGAIN_S)
                continue
            now = time.monotonic()
            self.delivered.gaps.append(now - answered_at)
            answered_at = now
            for record in answer.body:
                self.delivered.take(record["partition"], record["offset"])
            self.rounds += 1
            if answer.body and not self._automatic:
                await self.commit()


class Streaming(Instance):
    """The instance as an event stream, which its client opens again when it ends."""

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._follow(began)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.clients.failed(began, "stream", BROKEN, 0, f"{type_of(error)}: {error}")
            await asyncio.sleep(AGAIN_S)

    async def _follow(self, began: float) -> None:
        headers = {"Accept": "text/event-stream"}
        url = f"{self.clients.url}{self.path}/records"
        timeout = aiohttp.ClientTimeout(None)
        async with self.clients.http.get(url, headers=headers, timeout=timeout) as reply:
            if reply.status != 200:
                error = json.loads(await reply.read())
                self.clients.failed(began, "GET stream", reply.status, error["error_code"], error["message"])
                return
            async for event in events(reply):
                if event.name == "message":
                    for record in json.loads(event.data):
                        self.delivered.take(record["partition"], record["offset"])
                    self.rounds += 1
                elif event.name == "error":
                    error = json.loads(event.data)
                    code = error["error_code"]
                    self.clients.failed(began, "stream", code // 100, code, error["message"])
                    return
        self.clients.failed(began, "stream", BROKEN, 0, "ended without a word")


class RoundTrip(Instance):
    """Stores a record and reads until it comes; a topic and an instance of its own."""

    async def run(self) -> None:
        for number in itertools.count():
            stored = await self._topic.store(self.clients, number, 0)
            last = max(self._topic.stored[0], default=-1)
            while stored and self.delivered.next[0] <= last:
                answer = await self.clients.ask("GET", f"{self.path}/records?timeout={READ_MS}", accept=JSON_V2)
                if answer is None:
                    await asyncio.sleep(AGAIN_S)
                    continue
                for record in answer.body:
                    self.delivered.take(record["partition"], record["offset"])
            self.rounds += stored
            await asyncio.sleep(ROUND_S)


class Churning(Load):
    """Makes an instance, subscribes it and ends it, again and again."""

    def __init__(self, clients: Clients, topic: Topic) -> None:
        super().__init__("churn", clients)
        self._topic = topic
        self._group = f"churn-{uuid.uuid4().hex[:8]}"

    async def run(self) -> None:
        ask = self.clients.ask
        for number in itertools.count():
            name = f"c{number}"
            path = f"/consumers/{self._group}/instances/{name}"
            if await ask("POST", f"/consumers/{self._group}", {"name": name, "format": "json"}):
                wanted = {"topics": [self._topic.name]}
                if await ask("POST", f"{path}/subscription", wanted) is not None:
                    found = await ask("GET", f"{path}/subscription")
                    assert found is None or found.body == wanted, found
                if await ask("DELETE", path) is not None:
                    self.rounds += 1
            await asyncio.sleep(CHURN_S)


class Loads:
    """All of them at once."""

    def __init__(self, url: str, topic: str, other_topic: str) -> None:
        """``topic`` has `PARTITIONS` partitions, ``other_topic`` has one."""
        self.clients = Clients(url)
        self.topic = Topic(topic)
        own = uuid.uuid4().hex[:8]
        trips = Topic(other_topic)
        self.trip = RoundTrip(self.clients, Delivered(f"trip-{own}", False), trips, True)
        self.instances: list[Instance] = [
            *(self._consuming(f"commits-{number}-{own}", False) for number in range(3)),
            *(self._consuming(f"auto-{number}-{own}", True) for number in range(3)),
            Streaming(self.clients, Delivered(f"stream-{own}", False), self.topic, False),
        ]
        self._all: list[Load] = [*self.instances, self.trip, Churning(self.clients, self.topic)]
        self._producing = Producing(self.clients, self.topic)
        self._tasks: list[asyncio.Task[None]] = []

    def _consuming(self, name: str, automatic: bool) -> Consuming:
        return Consuming(self.clients, Delivered(name, not automatic), self.topic, automatic)

    async def __aenter__(self) -> Loads:
        """Returns when each has gone well once."""
        await self.clients.__aenter__()
        try:
            for load in self._all:
                await load.prepare()
            self._tasks = [asyncio.create_task(load.run()) for load in (self._producing, *self._all)]
            await self.go_on()
            assert not self.clients.failures, self.clients.failures
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end(self._tasks)
        await self.clients.__aexit__()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def go_on(self) -> None:
        """Returns when each load has gone well twice from now on."""
        loads = [self._producing, *self._all]
        before = [load.rounds for load in loads]
        await self._wait(
            lambda: all(load.rounds > rounds + 1 for load, rounds in zip(loads, before, strict=True)),
            lambda: [load.name for load, rounds in zip(loads, before, strict=True) if load.rounds <= rounds + 1],
        )

    async def finish(self) -> None:
        """No more is stored; returns when all that was has come to everybody, and the instances are gone."""
        await self._end(self._tasks[:1])
        self._tasks = self._tasks[1:]
        await self._wait(
            lambda: not any(each.delivered.missing(self.topic) for each in self.instances),
            lambda: {each.name: each.delivered.missing(self.topic) for each in self.instances},
        )
        await self._end(self._tasks)
        self._tasks = []
        for load in self._all:
            await load.clean()

    async def _wait(self, done: Callable[[], bool], state: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not done():
            for task in self._tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < until, (state(), self.clients.failures[-20:])
            await asyncio.sleep(0.05)

    def repeated(self) -> dict[str, int]:
        """How many records came again, by client."""
        return {each.name: each.delivered.repeated for each in (*self.instances, self.trip) if each.delivered.repeated}

    def wrong(self) -> list[str]:
        """What no fault allows."""
        return [text for each in (*self.instances, self.trip) for text in each.delivered.wrong]

    def gaps(self) -> list[float]:
        """Seconds between good replies, of all that read in a loop."""
        return sorted(gap for each in self.instances for gap in each.delivered.gaps)
