"""A gateway is killed (SIGKILL) under subscriptions of every kind: nothing is lost, and each kind goes on within 10 s
of there being a gateway again, however long the machine takes to start one.

One gateway, one topic, one kill for all: each kind has its own group and comes back as its clients do. What they do
when their connection breaks is in the coroutine of each; where that is more than to connect again, its comment says so.

Two kinds begin at the end of a topic of their own, to which nothing is written until the gateway is dead: where they go
on is what is committed by then. That of the socket is when it is open; the gateway is killed in that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import confluent_kafka
import pytest
from aiohttp import web

from tests.cache import node_packages
from tests.gateway_process import GatewayProcess
from tests.js.test_js_client import CLIENT
from tests.kafka_cluster import KafkaCluster
from tests.sse import events
from tests.transports.npm import Driver
from tests.waiting import until

ATMOSPHERE = Path(__file__).parents[1] / "clients" / "atmosphere"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.fetches(what=functools.partial(node_packages, ATMOSPHERE)),
]

BEFORE, AFTER = 150, 250
"""Records before the kill, and after it."""
PROGRAMS_S = 5.0
"""What the machine may take to have all clients connect again."""
AGAIN_S = 0.2

V1, V2 = "application/vnd.kafka.v1+json", "application/vnd.kafka.v2+json"
JSON_V1, JSON_V2 = "application/vnd.kafka.json.v1+json", "application/vnd.kafka.json.v2+json"
OF_V2 = {"format": "json", "auto.offset.reset": "earliest", "auto.commit.enable": "true"}
OF_V1 = {"format": "json", "auto.offset.reset": "smallest"}

JS = """
import { connect } from './src/node/index.js';
const [url, topic] = process.argv.slice(-2);
const say = (kind, what) => process.stdout.write(JSON.stringify([kind, what]) + '\\n');
async function follow(kind, transport, place, create) {
  const gateway = connect(url, { transports: [transport] });
  const onError = (error) => say(kind, error.message);
  const id = { group: topic + '-' + kind, instance: 'i' };
  const subscription = await gateway.subscribe({ ...id, format: 'json', create, onError, ...place });
  for await (const record of subscription) say(kind, record.value);
}
const v2 = { 'auto.offset.reset': 'earliest', 'auto.commit.enable': 'true' };
const v1 = { 'auto.offset.reset': 'smallest', 'auto.commit.enable': 'true' };
for (const transport of ['websocket', 'sse', 'long-polling']) {
  follow('js-' + transport, transport, { topics: [topic] }, v2);
  follow('js-v1-' + transport, transport, { topic }, v1);
}
follow('js-no-commit', 'websocket', { topics: [topic] }, { ...v2, 'auto.commit.enable': 'false' });
"""
JS_KINDS = ("js-websocket", "js-sse", "js-long-polling", "js-v1-websocket", "js-v1-sse", "js-v1-long-polling",
            "js-no-commit")  # fmt: skip


class Seen:
    """What a kind has got, and when."""

    def __init__(self) -> None:
        self.values: dict[int, float] = {}
        self.said: list[Any] = []
        """What was no record: errors, for the message of a failure."""

    def got(self, value: Any) -> None:
        if isinstance(value, int):
            self.values.setdefault(value, time.monotonic())
        else:
            self.said.append(value)


class Surroundings:
    """What a kind needs to know."""

    def __init__(self, http: aiohttp.ClientSession, url: str, topic: str, kind: str, seen: Seen) -> None:
        self.http, self.url, self.topic, self.group, self.seen = http, url, topic, f"{topic}-{kind}", seen

    async def ask(self, method: str, path: str, body: Any = None, accept: str = V2, as_: str = V2) -> tuple[int, Any]:
        headers = {"Accept": accept} | ({"Content-Type": as_} if body is not None else {})
        data = None if body is None else json.dumps(body)
        async with self.http.request(method, self.url + path, data=data, headers=headers) as reply:
            text = await reply.text()
            return reply.status, json.loads(text) if text else None


async def rest_v2(given: Surroundings) -> None:
    """The instance is gone with its gateway: 404, and the client makes it again."""
    instance = f"/consumers/{given.group}/instances/i"
    while True:
        await given.ask("POST", f"/consumers/{given.group}", {"name": "i", **OF_V2})
        await given.ask("POST", f"{instance}/subscription", {"topics": [given.topic]})
        while True:
            status, rows = await given.ask("GET", f"{instance}/records?timeout=1000", accept=JSON_V2)
            if status != 200:
                given.seen.got(rows)
                break
            for row in rows:
                given.seen.got(row["value"])


async def rest_v1(given: Surroundings) -> None:
    """As v2; it commits what it has read, as clients of v1 do."""
    instance = f"/consumers/{given.group}/instances/i"
    while True:
        await given.ask("POST", f"/consumers/{given.group}", {"name": "i", **OF_V1}, V1, V1)
        while True:
            status, rows = await given.ask("GET", f"{instance}/topics/{given.topic}", accept=JSON_V1)
            if status != 200:
                given.seen.got(rows)
                break
            for row in rows:
                given.seen.got(row["value"])
            await given.ask("POST", f"{instance}/offsets", accept=V1)


async def pull(given: Surroundings) -> None:
    while True:
        status, answer = await given.ask("GET", f"/flasfka/{given.topic}/{given.group}?limit=50", accept="*/*")
        if status != 200:
            given.seen.got(answer)
            await asyncio.sleep(AGAIN_S)  # time itself: a client that comes again
            continue
        for message in answer["messages"]:
            given.seen.got(json.loads(message))
        if not answer["messages"]:
            await asyncio.sleep(AGAIN_S)  # time itself: a client that comes again


async def lines(given: Surroundings, accept: str, query: str, token: list[str]) -> None:
    """A stream by HTTP; ``token`` is where it goes on, if it is not a group's."""
    headers = {"Accept": accept} | ({"Last-Event-ID": token[-1]} if token else {})
    url = f"{given.url}/topics/{given.topic}/stream?format=json&offset=earliest{query}"
    async with given.http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as reply:
        if reply.content_type == "text/event-stream":
            async for event in events(reply):
                if event.name == "message":
                    for row in json.loads(event.data):
                        given.seen.got(row["value"])
                if event.id:
                    token.append(event.id)
        else:
            async for line in reply.content:
                if line.startswith(b"{"):
                    row = json.loads(line)
                    given.seen.got(row.get("value", row))


async def group_sse(given: Surroundings) -> None:
    await lines(given, "text/event-stream", f"&group={given.group}", [])


async def group_lines(given: Surroundings) -> None:
    await lines(given, "*/*", f"&group={given.group}", [])


async def group_socket(given: Surroundings) -> None:
    """With acknowledgements."""
    url = f"{given.url}/topics/{given.topic}/stream?format=json&offset=earliest&ack=client&group={given.group}"
    async with given.http.ws_connect(url) as socket:
        async for message in socket:
            rows = json.loads(message.data)
            if isinstance(rows, dict):
                continue
            for row in rows:
                given.seen.got(row["value"])
            ends = {row["partition"]: row["offset"] + 1 for row in rows}
            places = [{"topic": given.topic, "partition": each, "offset": end} for each, end in ends.items()]
            await socket.send_str(json.dumps({"ack": places}))


async def proxy_socket(given: Surroundings) -> None:
    query = f"clientId=c&groupId={given.group}&topic={given.topic}&valType=json"
    async with given.http.ws_connect(f"{given.url}/socket/out?{query}") as socket:
        async for message in socket:
            given.seen.got(json.loads(message.data)["value"]["value"])


async def socket_at_end(opened: asyncio.Event, given: Surroundings) -> None:
    query = f"clientId=c&groupId={given.group}&topic={given.topic}&valType=json&offsetResetStrategy=latest"
    async with given.http.ws_connect(f"{given.url}/socket/out?{query}") as socket:
        opened.set()
        async for message in socket:
            given.seen.got(json.loads(message.data)["value"]["value"])


async def proxy_socket_with_commits(given: Surroundings) -> None:
    query = f"clientId=c&groupId={given.group}&topic={given.topic}&valType=json&autoCommit=false"
    async with given.http.ws_connect(f"{given.url}/socket/out?{query}") as socket:
        async for message in socket:
            record = json.loads(message.data)
            given.seen.got(record["value"]["value"])
            await socket.send_str(json.dumps({"wsProxyMessageId": record["wsProxyMessageId"]}))


async def envelope(given: Surroundings) -> None:
    """One socket with envelopes, and the three requests of a subscription, as often as it is opened."""
    async with given.http.ws_connect(f"{given.url}/") as socket:
        for head, body in subscription(given.topic, given.group):
            await socket.send_str(json.dumps(head) + (json.dumps(body) if body else ""))
            if body:
                await socket.receive_str()
        async for message in socket:
            take_reply(given.seen, message.data)


def subscription(topic: str, group: str) -> list[tuple[dict[str, Any], Any]]:
    """Envelopes that make an instance and subscribe to its records."""
    instance = f"/consumers/{group}/instances/i"
    return [
        ({"id": "1", "method": "POST", "path": f"/consumers/{group}", "type": V2}, {"name": "i", **OF_V2}),
        ({"id": "2", "method": "POST", "path": f"{instance}/subscription", "type": V2}, {"topics": [topic]}),
        ({"id": "3", "method": "GET", "path": f"/ws{instance}/records", "accept": JSON_V2}, None),
    ]


def take_reply(seen: Seen, text: str) -> str:
    """Takes the records of a reply; its id."""
    head, end = json.JSONDecoder().raw_decode(text)
    if head.get("id") == "3" and head["code"] == 200:
        for row in json.loads(text[end:]):
            seen.got(row["value"])
    elif head.get("code", 500) >= 400:
        seen.got(text)
    return str(head.get("id"))


async def atmosphere(given: Surroundings, transport: str) -> None:
    """atmosphere.js 3, which connects again by itself; its page subscribes again when it says so."""
    options = {"enableProtocol": True, "fallbackTransport": "long-polling", "reconnectInterval": 300}
    options |= {"maxReconnectOnClose": 1000, "maxRequest": 100_000, "trackMessageLength": True}
    async with await Driver.start(ATMOSPHERE / "driver.js", "3") as driver:
        driver.do("subscribe", request={"url": given.url + "/", "transport": transport, **options})
        steps: list[tuple[dict[str, Any], Any]] = []

        def go_on() -> None:
            if steps:
                head, body = steps.pop(0)
                driver.do("push", message=json.dumps(head) + (json.dumps(body) if body else ""))

        assert driver._process.stdout is not None
        async for raw in driver._process.stdout:
            event = json.loads(raw)
            if event["event"] in ("open", "reopen"):
                steps = subscription(given.topic, given.group)
                go_on()
            elif event["event"] == "message":
                if take_reply(given.seen, event["responseBody"]) in ("1", "2"):
                    go_on()
            elif not event["event"].startswith(("done", "messagepublished")):
                given.seen.got(event)


KINDS: dict[str, Callable[[Surroundings], Awaitable[None]]] = {
    "rest-v2": rest_v2,
    "rest-v1": rest_v1,
    "pull": pull,
    "group-sse": group_sse,
    "group-lines": group_lines,
    "group-socket": group_socket,
    "socket-out": proxy_socket,
    "socket-out-commits": proxy_socket_with_commits,
    "envelope": envelope,
    "atmosphere-websocket": functools.partial(atmosphere, transport="websocket"),
    "atmosphere-sse": functools.partial(atmosphere, transport="sse"),
}


SOCKET_AT_END, BRIDGE_AT_END = "socket-out-at-end", "bridge-at-end"
AT_END = (SOCKET_AT_END, BRIDGE_AT_END)


@contextlib.asynccontextmanager
async def sink(seen: Seen) -> AsyncIterator[str]:
    """Where the bridge posts to."""

    async def take(request: web.Request) -> web.Response:
        seen.got(json.loads(await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def start_stored(kafka: KafkaCluster, topic: str, kind: str, within_s: float) -> None:
    """Waits until the group has committed where it begins; what becomes of one that has not is for the test to see."""
    group = confluent_kafka.Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"{topic}-{kind}"})
    try:
        asked = [confluent_kafka.TopicPartition(topic, each) for each in range(2)]

        async def stored() -> bool:
            return all(one.offset >= 0 for one in await asyncio.to_thread(group.committed, asked, 10))

        with contextlib.suppress(TimeoutError):
            await until(stored, within_s)
    finally:
        group.close()


async def again_and_again(kind: Callable[[Surroundings], Awaitable[None]], given: Surroundings) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
            await kind(given)
        await asyncio.sleep(AGAIN_S)  # time itself: a client that comes again


async def topic_stream(given: Surroundings) -> None:
    """Streams without a group go on by their token."""
    token: list[str] = []
    while True:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await lines(given, "text/event-stream", "", token)
        await asyncio.sleep(AGAIN_S)  # time itself: a client that comes again


@contextlib.asynccontextmanager
async def javascript(url: str, topic: str, seen: dict[str, Seen]) -> AsyncIterator[None]:
    """The JavaScript client, all its kinds in one process."""
    process = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "-e", JS, "--", f"{url}/", topic, cwd=CLIENT, stdout=subprocess.PIPE
    )

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            kind, value = json.loads(line)
            seen[kind].got(value)

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        process.kill()
        await process.wait()
        await reading


async def until_all(seen: dict[str, Seen], has: Callable[[Seen], bool], within_s: float) -> list[str]:
    """The kinds for which the condition does not hold within the time."""
    with contextlib.suppress(TimeoutError):
        await until(lambda: all(map(has, seen.values())), within_s)
    return [kind for kind, each in seen.items() if not has(each)]


@pytest.mark.timing  # how long each client stood still
async def test_nothing_is_lost_and_nothing_stands_still(kafka: KafkaCluster, topic: str) -> None:
    quiet = f"{topic}-quiet"
    kafka.create_topic(topic, partitions=2)
    kafka.create_topic(quiet, partitions=2)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0})

    async def produce(first: int, last: int, *topics: str) -> None:
        for number in range(first, last):
            for each in topics:
                producer.produce(each, json.dumps(number), partition=number % 2)
            producer.poll(0)
            await asyncio.sleep(0.02)  # time itself: the load's pace
        assert await asyncio.to_thread(producer.flush, 20) == 0

    settings: tuple[str, ...] = (
        "push.pull.enable=true",
        "push.pull.prefix=/flasfka",
        "transport.websocket.enable=true",
    )
    seen = {kind: Seen() for kind in (*KINDS, "topic-stream", *JS_KINDS)}
    at_end = {kind: Seen() for kind in AT_END}
    async with aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(sink(at_end[BRIDGE_AT_END]))
        bridge = {"topic": quiet, "group": f"{quiet}-{BRIDGE_AT_END}", "offset.reset": "latest", "sink": url}
        settings += ("bridge.sink.allow=127.0.0.1", *(f"bridge.consumer.b.{key}={bridge[key]}" for key in bridge))
        first = stack.enter_context(GatewayProcess(*settings, bootstrap=kafka.bootstrap))
        each_given = {kind: Surroundings(http, first.url, topic, kind, seen[kind]) for kind in seen}
        tasks = [asyncio.create_task(again_and_again(KINDS[kind], each_given[kind])) for kind in KINDS]
        tasks.append(asyncio.create_task(topic_stream(each_given["topic-stream"])))
        try:
            await stack.enter_async_context(javascript(first.url, topic, seen))
            await produce(0, BEFORE, topic)
            assert await until_all(seen, lambda each: len(each.values) > BEFORE // 2, 40) == [], _said(seen)
            await start_stored(kafka, quiet, BRIDGE_AT_END, 10)
            opened = asyncio.Event()
            given = Surroundings(http, first.url, quiet, SOCKET_AT_END, at_end[SOCKET_AT_END])
            tasks.append(asyncio.create_task(again_and_again(functools.partial(socket_at_end, opened), given)))
            await asyncio.wait_for(opened.wait(), 20)
            first.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(first.process.wait)
            killed_at = time.monotonic()
            sending = asyncio.create_task(produce(BEFORE, BEFORE + AFTER, topic, quiet))
            port = first.url.rpartition(":")[2]
            second = GatewayProcess(*settings, f"port={port}", bootstrap=kafka.bootstrap, own_port=False)
            await asyncio.to_thread(second.__enter__)
            serves_at = time.monotonic()
            stack.callback(second.__exit__, None, None, None)
            await sending
            whole = range(BEFORE + AFTER)
            late = await until_all(seen, lambda each: len(each.values) == len(whole), 60)
            late += await until_all(at_end, lambda each: len(each.values) == AFTER, 0 if late else 20)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in outcomes if not isinstance(each, asyncio.CancelledError)] == []
    seen |= at_end
    assert late == [], {
        kind: (sorted(set(whole) - seen[kind].values.keys())[-10:], seen[kind].said[-3:]) for kind in late
    }
    still = {
        kind: min(at for at in each.values.values() if at > killed_at + 0.5) - serves_at for kind, each in seen.items()
    }
    print(f"served again {serves_at - killed_at:.1f} s after the kill")
    print("back after", {kind: round(seconds, 1) for kind, seconds in sorted(still.items(), key=lambda each: each[1])})
    assert [kind for kind, seconds in still.items() if seconds > 10 + PROGRAMS_S] == [], still


def _said(seen: dict[str, Seen]) -> dict[str, Any]:
    return {kind: (len(each.values), each.said[-3:]) for kind, each in seen.items()}
