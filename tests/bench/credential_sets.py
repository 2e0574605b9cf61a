"""What it takes until clients with Kafka credentials of their own are served: one after the other, and all at once.

``python -m tests.bench.credential_sets [N]`` starts a Kafka with SASL_SSL and a gateway of its own for each of N rounds
(2), and prints for N = 50 users the time to the reply to the first produce, the processor time of gateway and Kafka for
each set. Times depend on what else the machine does; processor time hardly does.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

import aiohttp

from tests.credentials.conftest import basic
from tests.gateway_process import GatewayProcess
from tests.secured_kafka import PLAIN_USERS, SecuredKafka

_USERS = 50
_V2 = {"Content-Type": "application/vnd.kafka.json.v2+json"}
_PROPERTIES = (
    "kafka.credentials=client", "authentication.method=KAFKA", "listeners.insecure=true", "access.log.enable=false",
)  # fmt: skip


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def first_produce(http: aiohttp.ClientSession, url: str, topic: str, user: str) -> float:
    """Seconds until this user's first produce is answered."""
    headers = {**_V2, "Authorization": basic(user, PLAIN_USERS[user])}
    began = time.monotonic()
    async with http.post(f"{url}/topics/{topic}", json={"records": [{"value": 1}]}, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
    return time.monotonic() - began


async def measure(gateway: GatewayProcess, kafka: int, topic: str) -> None:
    """One round, and its lines."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await first_produce(http, gateway.url, topic, "user-59")
        single = [await first_produce(http, gateway.url, topic, f"user-{number}") for number in range(50, 59)]
        print(f"  one by one  {' '.join(f'{1000 * each:.0f}' for each in single)} ms")
        before, kafka_before = processor_s(gateway.pid), processor_s(kafka)
        users = [f"user-{number}" for number in range(_USERS)]
        taken = sorted(await asyncio.gather(*(first_produce(http, gateway.url, topic, user) for user in users)))
        spent, kafka_spent = processor_s(gateway.pid) - before, processor_s(kafka) - kafka_before
    print(
        f"  at once     first {taken[0]:.2f} s, tenth {taken[9]:.2f}, half {statistics.median(taken):.2f}, "
        f"all {taken[-1]:.2f}"
    )
    print(f"  a set costs the gateway {1000 * spent / _USERS:.1f} ms, Kafka {1000 * kafka_spent / _USERS:.1f}")


def main() -> None:
    with SecuredKafka() as kafka:
        assert isinstance(kafka, SecuredKafka)
        topic = kafka.create_topic()
        kafka.allow("*", "read,write", f"topic:{topic}")
        process = kafka.nodes[1].process
        assert process is not None
        for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 2):
            properties = (
                *kafka.properties(),
                "kafka.credentials=client",
                "authentication.method=KAFKA",
                "listeners.insecure=true",
            )
            with GatewayProcess(*properties, "access.log.enable=false") as gateway:
                print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}")
                asyncio.run(measure(gateway, process.pid, topic))


if __name__ == "__main__":
    main()
