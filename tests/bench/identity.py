"""What it costs each request that clients prove who they are, with rights on 1,000 lines and quotas on, beside NONE.

``python -m tests.bench.identity`` prints it. A request is what the door does for one whose head is known: the proof is
compared with the session's, whose time is looked at, and the request is begun without a task (gateway/at_once.py). At
most 1.5 µs more than with ``NONE`` is the goal. The ways take turns, so that the machine's moods meet all of them
alike; the best round counts.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from kafka_gateway.assembly import builtin
from kafka_gateway.auth import CERTIFICATE, Authenticator, NoAuthentication
from kafka_gateway.authorizers.file import FileAuthorizer
from kafka_gateway.config import load
from kafka_gateway.core import Gateway
from kafka_gateway.messages import Reply, Request
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.router import Router
from kafka_gateway.services.rest.routes import RestServices
from kafka_gateway.session import Principal, Session
from tests.bench.stages import V2, NullProducer, produce_body
from tests.keys import BUILTIN_KEYS
from tests.services.fake_kafka import FakeKafka

_REQUESTS = 500
_PROOFS: Mapping[str, Mapping[str, str]] = {
    "NONE": {},
    "BASIC": {"authorization": "Basic " + "YWxpY2U6c2VjcmV0" * 2},
    "OPENID": {"authorization": "Bearer " + "eyJhbGciOiJSUzI1NiIs" * 45},
    "MTLS": {CERTIFICATE: "MIIBszCCAVmgAwIBAgIU" * 45},
}
METHODS = tuple(_PROOFS)
ALICE = Principal("alice", frozenset({"shop"}), attributes={"tenant": "acme"})
"""She may write to the topic orders, and describe it."""


class Proven(Authenticator):
    """Stands for all that ask: nobody is asked here, the clients are in."""

    def __init__(self, name: str, proof: tuple[str, ...]) -> None:
        self.name, self.proof = name, proof


def gateway_with(method: str, folder: Path) -> Gateway:
    """One whose clients come in by this method; all but NONE with rights on 1,000 lines and quotas."""
    overrides = []
    if method != "NONE":
        rules = folder / "rules"
        lines = [f"allow  User:user-{number}  read,write  topic:topic-{number}.*" for number in range(998)]
        lines += ["allow  Role:shop  write  topic:orders", "deny  User:*  write  topic:audit.*"]
        rules.write_text("\n".join(lines) + "\n")
        overrides = [
            f"authorization.file={rules}",
            "quota.requests.per.sec=100000000",
            "quota.produce.bytes.per.sec=100000000000",
            "quota.connections=100000",
        ]
    config = load(BUILTIN_KEYS, overrides=overrides)
    codecs = {codec.name: codec for codec in builtin.gateway_codecs(config)}
    kafka = FakeKafka()
    kafka.producer = NullProducer()  # type: ignore[assignment]
    routes = RestServices(config, kafka, codecs, Catalogue(config, codecs)).routes()
    judges = []
    if method != "NONE":
        authorizer = FileAuthorizer(config)
        assert not authorizer.faults()
        judges.append(authorizer)
    asks: Authenticator = NoAuthentication()
    if method != "NONE":
        asks = Proven(method, tuple(_PROOFS[method]))
    return Gateway(config, Router(routes), codecs, asks, judges)


def request_of(method: str, folder: Path) -> Callable[[], Awaitable[None]]:
    """Serves one request of a client that came in by this method."""
    gateway, shown = gateway_with(method, folder), dict(_PROOFS[method])
    certificate = shown.pop(CERTIFICATE, "")
    proofs = gateway.proofs
    headers = {"content-type": V2 % "binary", "host": "gateway.example", "user-agent": "bench", **shown}
    principal = ALICE if method != "NONE" else None
    proof = proofs.shown(headers, certificate)
    session = Session("http", principal=principal, proof=proof) if principal is not None else Session("http")
    proofs.welcome(session, "")
    known = proofs.shown(headers)
    body = produce_body(1, "binary")

    proven_by = proven = plan = None

    def request() -> Request:
        return Request(session, "POST", "/topics/orders", headers=headers, body=body, base_url="http://x")

    async def serve() -> None:
        nonlocal proven_by, proven, plan
        # As `Door.serve_known` and `Door.begin_known` do.
        if proven_by is not known or proven is not session.proof:
            again = proofs.shown(headers, certificate) if certificate else known
            assert again == session.proof
            proven_by, proven = known, session.proof
        if session.closed is not None or session.principal.until < time.monotonic():
            raise AssertionError("the client is in")
        if plan is None:
            reply = await gateway.dispatch(request())
            plan = gateway.at_once.plan(request())
            assert plan is not None
        else:
            answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            assert gateway.at_once.begin(plan, request(), answered.set_result)
            reply = await answered
        assert reply.status == 200, reply

    return serve


async def _time(serve: Callable[[], Awaitable[None]]) -> float:
    """The seconds of processor time of some requests."""
    began = time.process_time()
    for _ in range(_REQUESTS):
        await serve()
    return time.process_time() - began


def measure(rounds: int = 15) -> dict[str, float]:
    """Method → microseconds of a request, the best of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {method: request_of(method, Path(folder)) for method in METHODS}
        best = dict.fromkeys(runs, math.inf)
        for _ in range(rounds):
            for method, serve in runs.items():
                best[method] = min(best[method], asyncio.run(_time(serve)))
    return {method: seconds / _REQUESTS * 1e6 for method, seconds in best.items()}


def main() -> None:
    found = measure()
    for method, micros in found.items():
        print(f"{micros:8.3f} µs  {method:7}  {micros - found['NONE']:+.3f}")


if __name__ == "__main__":
    main()
