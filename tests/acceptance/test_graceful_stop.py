"""Signals to the real program, on uvloop. SIGTERM: work is finished, what was acknowledged is stored, the exit code is
0. SIGSTOP: nothing that came meanwhile is too late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.transports.wire import JSON_V2, V2, Wire, produce, request
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

GRACE_S = 3.0
SHORT_S = 0.75
QUIET = (f"shutdown.graceful.ms={GRACE_S * 1000:.0f}", "consumer.request.timeout.ms=60000")


def ids_stored(bootstrap: str, topic: str) -> list[int]:
    """The values in partition 0, in order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", "enable.auto.commit": False})
    partition = TopicPartition(topic, 0, 0)
    _, end = consumer.get_watermark_offsets(partition, timeout=10)
    consumer.assign([partition])
    found: list[int] = []
    while len(found) < end:
        found += [int(record.value()) for record in consumer.consume(1000, 1.0) if not record.error()]
    consumer.close()
    return found


class Load:
    """Connections that produce one record after the other, with numbers of their own."""

    def __init__(self, url: str, topic: str, count: int) -> None:
        self.acknowledged: list[int] = []
        self.refused = 0
        self.unanswered = 0
        self.odd: list[str] = []
        self._tasks = [asyncio.ensure_future(self._run(url, topic, number)) for number in range(count)]

    async def _run(self, url: str, topic: str, number: int) -> None:
        wire = await Wire.open(url)
        for value in range(number * 1_000_000, (number + 1) * 1_000_000):
            try:
                await wire.send(produce(topic, b'{"records":[{"value":%d,"partition":0}]}' % value))
                reply = await wire.reply()
            except ConnectionError:  # it was closed between two requests: this one was not begun
                self.unanswered += 1
                break
            if reply.status == 200 and reply.json["offsets"][0]["error_code"] is None:
                self.acknowledged.append(value)
            elif reply.status == 503:
                self.refused += 1
            else:
                self.odd.append(repr(reply))
            if reply.closes:
                break
        wire.writer.close()

    async def ended(self) -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(*self._tasks)


@pytest.mark.alone
@pytest.mark.timing
@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_under_load(kafka: KafkaCluster, create_topic: Callable[..., str], workers: int) -> None:
    topic = create_topic()
    properties = (*QUIET, "producer.linger.ms=20", f"workers={workers}")
    with GatewayProcess(*properties, bootstrap=kafka.bootstrap, start_s=60) as gateway:
        load = Load(gateway.url, topic, 16)
        await until(lambda: len(load.acknowledged) >= 200)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        await load.ended()
        assert await asyncio.to_thread(gateway.process.wait, 10) == 0
        assert time.monotonic() - began < GRACE_S + 1
    assert load.odd == []
    stored = await asyncio.to_thread(ids_stored, kafka.bootstrap, topic)
    assert set(load.acknowledged) <= set(stored)
    assert len(stored) == len(set(stored)), "doubled"
    assert len(stored) - len(load.acknowledged) <= load.unanswered
    assert "Traceback" not in "\n".join(gateway.output)


@pytest.mark.alone
@pytest.mark.timing
async def test_sigterm_with_all_kinds_of_connections() -> None:
    with GatewayProcess(*QUIET) as gateway:
        wires = {name: await Wire.open(gateway.url) for name in ("idle", "silent", "read", "body", "late body", "half")}
        assert (await wires["idle"].ask("GET", "/health/live")).status == 200
        read = wires["read"]
        await read.ask("POST", "/consumers/g", b'{"name":"i","format":"json"}', Content_Type=V2)
        await read.ask("POST", "/consumers/g/instances/i/subscription", b'{"topics":["t"]}', Content_Type=V2)
        await read.send(request("GET", "/consumers/g/instances/i/records", Accept=JSON_V2))
        await wires["body"].send(produce("t")[:-5])
        await wires["late body"].send(produce("t")[:-5])
        await wires["half"].send(b"GET / HT")
        await asyncio.sleep(0.3)  # time itself: nothing tells what the gateway has read
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        for name in ("idle", "silent", "half"):
            assert await wires[name].closed() == b"", name
        reply = await read.reply()
        assert (reply.status, reply.json, reply.closes) == (200, [], True)
        assert time.monotonic() - began < 1.5
        await wires["body"].send(produce("t")[-5:])
        reply = await wires["body"].reply()
        assert (reply.status, reply.json["offsets"][0]["error_code"], reply.closes) == (200, None, True)
        assert await asyncio.to_thread(gateway.process.wait, 10) == 0
        assert time.monotonic() - began < GRACE_S + 1
        for wire in wires.values():
            wire.writer.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_more_signals_do_no_harm(number: signal.Signals) -> None:
    """An impatient init system, or Ctrl-C held down."""
    with GatewayProcess(*QUIET) as gateway:
        while gateway.process.poll() is None:
            gateway.process.send_signal(number)
            time.sleep(0.001)  # time itself: a signal a millisecond
        assert gateway.process.returncode == 0
    assert "Traceback" not in "\n".join(gateway.output)


def test_what_came_while_the_process_stood_still_is_in_time() -> None:
    """It waits for events when it is stopped, and its loop runs timers before it looks for events again. Whoever loses
    a connection then does not know whether the request was served."""
    body = b'{"records":[{"value":1}]}'
    alive = request("GET", "/health/live")
    head = request("POST", "/topics/still", Content_Type=JSON_V2, Content_Length=str(len(body)), Expect="100-continue")
    short = [f"{name}.timeout.ms={SHORT_S * 1000:.0f}" for name in ("request.header", "request.body", "idle")]
    with GatewayProcess(*short) as gateway, contextlib.ExitStack() as stack:
        url = urlsplit(gateway.url)

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection((url.hostname, url.port), PATIENCE_S))

        def answer(client: socket.socket, sent: bytes) -> bytes:
            client.sendall(sent)
            return client.recv(1000).splitlines()[0]

        fresh, idle, sending = [connect() for _ in range(3)]  # the first is accepted before the last
        assert answer(sending, head) == b"HTTP/1.1 100 Continue"
        assert answer(idle, alive) == b"HTTP/1.1 200 OK"
        time.sleep(SHORT_S / 4)  # time itself: behind its replies the process waits for events again
        os.kill(gateway.pid, signal.SIGSTOP)
        try:
            for client, data in ((fresh, alive), (idle, alive), (sending, body)):
                client.sendall(data)
            time.sleep(2 * SHORT_S)  # time itself: twice what they have
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        assert [answer(client, b"") for client in (fresh, idle, sending)] == [b"HTTP/1.1 200 OK"] * 3
