"""Assembly: from a configuration to a running gateway, and back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kafka_gateway import limits
from kafka_gateway.assembly.metrics import measuring
from kafka_gateway.assembly.plugins import PluginError, Plugins
from kafka_gateway.assembly.traces import traces
from kafka_gateway.authenticators.kafka import KafkaAuthenticator
from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.core import Gateway
from kafka_gateway.door.host import Host
from kafka_gateway.following import Judge
from kafka_gateway.homes import NodeReplaced
from kafka_gateway.kafka.cluster import KafkaCluster, open_kafka
from kafka_gateway.kafka.credentials_of_clients import ClientCredentials, are_possible
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics import door as door_metrics
from kafka_gateway.metrics.joined import worker_states
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.router import Route, RouteClash, Router
from kafka_gateway.upstream import Upstream

if TYPE_CHECKING:
    from kafka_gateway.cluster.node import Node
    from kafka_gateway.workers.part import Parent, WorkerPart

log = logging.getLogger("gateway")

_COUNT_EVERY_S = 1.0
"""How often the fetched records are counted that are held."""


@dataclass(frozen=True, slots=True)
class Worker:
    """This process, as one of several of a gateway."""

    part: WorkerPart
    parent: Parent


@dataclass(frozen=True, slots=True)
class App:
    """A gateway that serves. ``addresses`` tells where, with the real ports."""

    gateway: Gateway
    host: Host
    kafka: Kafka
    transports: tuple[str, ...]
    """Names of the transports that are offered."""
    ports: Mapping[str, int]
    """The port of each transport that has one of its own, by the transport's name."""
    node: Node | None = None
    """What it is of a cluster of gateways; None: it is alone."""

    @property
    def addresses(self) -> list[str]:
        return self.host.addresses


@contextlib.asynccontextmanager
async def serve(config: Config, plugins: Plugins, worker: Worker | None = None) -> AsyncIterator[App]:
    """Serves for as long as the context is open; leaving it stops in order.

    First the listeners close and new requests are refused, then running requests finish (waiting reads answer with what
    they have), records on their way are confirmed, consumers leave their groups; all within ``shutdown.graceful.ms``
    and a few seconds at the very most. ``worker``: this process's part where there are several. Raises ConfigError,
    PluginError, or OSError for an address that cannot be had.
    """
    _check_extensions()
    grace_s = config.seconds("shutdown.graceful.ms")
    codecs, authenticator, transports = (
        plugins.codecs(config),
        plugins.authenticator(config),
        plugins.transports(config),
    )
    authorizers = plugins.authorizers(config)
    async with contextlib.AsyncExitStack() as stack:
        opened = open_kafka(config) if worker is None else open_kafka(config, worker.part.embedded)
        own = await stack.enter_async_context(opened)
        credentials = ClientCredentials(config, own) if are_possible(config) else None
        kafka: Kafka = own if credentials is None else credentials.kafka
        if credentials is not None:
            await stack.enter_async_context(credentials.lifespan())
        trace = await stack.enter_async_context(traces(config))
        kafka = trace.kafka(kafka)
        schemas = Catalogue(config, codecs)
        # It ends before the Kafka clients do: their threads may be waiting for a schema.
        await stack.enter_async_context(schemas.lifespan())
        metrics = Metrics()
        plugins.add_metrics(config, metrics)
        metrics.add(schemas.families)
        following: list[Judge] = []
        routes = plugins.routes(config, kafka, codecs, schemas, metrics, following)
        try:
            router = Router(routes)
        except RouteClash as error:
            raise PluginError(str(error)) from None
        resources = [resource for each in transports for resource in each.resources]
        if faults := limits.faults(config, [*routes, *resources]):
            raise ConfigError(faults)
        if authorizers:
            _check_declared(routes)
        gateway = Gateway(config, router, codecs, authenticator, authorizers, metrics)
        gateway.transports = tuple(transports)
        metrics.add(door_metrics.requests(gateway))
        gateway.following += following
        trace.requests(gateway)
        await stack.enter_async_context(measuring(metrics, own))
        if credentials is not None:
            gateway.tells_caller = True
            gateway.proofs.know_credentials(credentials.chosen)
            for each in (authenticator, *getattr(authenticator, "methods", ())):
                if isinstance(each, KafkaAuthenticator):
                    each.passwords = credentials.passwords
        stack.callback(gateway.access.flush)  # the last lines before the stop
        await stack.enter_async_context(authenticator.lifespan())
        await stack.enter_async_context(gateway.admission.watching())
        await stack.enter_async_context(gateway.proofs.watching())
        await stack.enter_async_context(_counting(gateway, kafka))
        gateway.state[Upstream] = own.upstream if credentials is None else credentials.upstream
        owners = {route.service: route.owner for route in routes if route.service is not None}
        gateway.is_worker = worker is not None
        node = None
        if config.flag("cluster.enable"):
            node = await stack.enter_async_context(_node(config, own, gateway, worker))
            node.hold([held for each in owners if (held := each.share(node.store, metrics)) is not None])
        for service, owner in owners.items():
            await _enter(stack, f"plugin {owner}: {type(service).__name__}", service.lifespan)
        _check_offers(config, {each.name for each in transports})
        siblings = None
        if worker is not None and node is None:
            from kafka_gateway.workers.siblings import Siblings

            gateway.homes = siblings = Siblings(gateway, worker.part, worker.parent)
        host = Host(config, gateway, transports, worker.part.sockets if worker is not None else None)
        try:
            gateway.base_url = _base_url([str(listener) for listener in config.listeners()])
            for transport in transports:
                await _enter(stack, f"transport {transport.name}", partial(transport.lifespan, gateway))
            if siblings is not None:
                await stack.enter_async_context(siblings.serving())
            await host.open()
            gateway.base_url = _base_url(host.addresses)
            ports = {each.name: each.port for each in transports if each.port}
            if node is not None:
                await stack.enter_async_context(node.serving())
            yield App(gateway, host, kafka, tuple(each.name for each in transports), ports, node)
        finally:
            if node is not None:
                await node.leave()
                await asyncio.sleep(config.seconds("cluster.drain.wait.ms"))
            started = time.monotonic()
            await host.stop_listening()
            gateway.stopping = True  # what ends from here on ends for that reason
            for service in owners:
                service.drain()
            schemas.drain()
            if node is not None:
                node.homes.drain()
            finished = await gateway.drain(grace_s)
            if not finished:
                log.warning("%d requests were still running after shutdown.graceful.ms", gateway.running)
            if worker is not None:
                await worker.parent.all_drained(max(0.1, grace_s - (time.monotonic() - started)))
            await host.close(max(0.1, grace_s - (time.monotonic() - started)))


@contextlib.asynccontextmanager
async def _node(config: Config, kafka: KafkaCluster, gateway: Gateway, worker: Worker | None) -> AsyncIterator[Node]:
    """This process of a cluster, not a member yet, and the way to the others."""
    from kafka_gateway.cluster.faults import faults
    from kafka_gateway.cluster.node import Node, process_of
    from kafka_gateway.workers.peers import open_peers

    number, workers, directory = 0, 1, ""
    if worker is not None:
        number, workers, directory = worker.part.number, worker.part.workers, worker.part.directory
        parent = worker.parent
        gateway.metrics.add(lambda: worker_states(parent.states))
    if found := faults(config, workers):
        raise ConfigError(found)
    process = process_of(config, number)
    async with open_peers(config, gateway, process, directory) as peers:
        node = Node(config, kafka, gateway, process, peers, workers)
        gateway.homes = node.homes
        yield node


@contextlib.asynccontextmanager
async def _counting(gateway: Gateway, kafka: Kafka) -> AsyncIterator[None]:
    """Counts the records that were fetched and are held, which happens on threads, in the memory budget."""
    claim = gateway.memory.claim()

    async def count() -> None:
        while True:
            claim.set_to(kafka.held_bytes)
            await asyncio.sleep(_COUNT_EVERY_S)

    task = asyncio.get_running_loop().create_task(count(), name="count fetched records")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        claim.release()


def _base_url(addresses: Iterable[str]) -> str:
    """The first address at which HTTP clients reach this gateway. ``advertised.listeners`` and ``host.name`` beat it
    where it is shown (kafka-rest-http.md §3.8)."""
    url = next((each for each in addresses if each.startswith("http")), "http://localhost")
    return url.replace("//0.0.0.0:", f"//{socket.gethostname()}:").replace("//[::]:", f"//{socket.gethostname()}:")


def _check_declared(routes: Sequence[Route]) -> None:
    """Where rights are judged, a route that says nothing of what it needs would be a way round them."""
    for route in routes:
        if not route.permission:
            raise PluginError(
                f"plugin {route.owner}: {route.method} {route.template} does not declare what it needs; "
                "give the route a permission, such as 'read topic:{topic}', or 'open' (docs/plugins.md)"
            )


async def _enter(
    stack: contextlib.AsyncExitStack, what: str, lifespan: Callable[[], contextlib.AbstractAsyncContextManager[None]]
) -> None:
    """Enters a plugin's lifespan; an error in it is told with the name of the plugin."""
    try:
        await stack.enter_async_context(lifespan())
    except (PluginError, ConfigError):
        raise
    except Exception as error:
        raise PluginError(f"{what} cannot start: {type(error).__name__}: {error}") from error


def _check_offers(config: Config, names: set[str]) -> None:
    faults = []
    for listener in config.listeners():
        for name in sorted(set(listener.transports) - names):
            key = f"listener.name.{listener.name}.transports"
            message = f"{listener} cannot offer {name!r}; there are {', '.join(sorted(names))}"
            faults.append(Fault(config.place(key) or config.place("transports"), key, message))
    if faults:
        raise ConfigError(faults)


def _check_extensions() -> None:
    if os.environ.get("AIOHTTP_NO_EXTENSIONS"):
        raise ConfigError(
            [
                Fault(
                    "environment AIOHTTP_NO_EXTENSIONS",
                    "",
                    "unset it: aiohttp's parser in Python has known holes (CVE-2023-47627), its parser in C has not",
                )
            ]
        )


def tell(app: App) -> None:
    """Logs what an operator should know at start."""
    log.info("Listening on %s", ", ".join(app.addresses))
    if "console" in app.transports and app.addresses[0].startswith("http"):
        log.info("The console page is at %s/console", app.addresses[0])
    config = app.gateway.config
    if not app.gateway.admission.authorization.is_on and config.asks_who:
        log.info("No authorization.file: whoever proves who they are may do everything (docs/security.md)")
    if config.flag("metrics.enable") and not any(each.name == "operation.metrics" for each in app.gateway.offered()):
        log.info("Metrics are not served anywhere: set admin.listeners=http://127.0.0.1:9644 (docs/metrics.md)")
    if app.kafka.embedded:
        log.warning(
            "No bootstrap.servers: using the EMBEDDED Kafka, in memory and for trying out only. "
            "Records are lost when the gateway stops."
        )


async def run_until(
    stop: asyncio.Event,
    config: Config,
    plugins: Plugins,
    ready: Callable[[App], None] = lambda app: None,
    worker: Worker | None = None,
) -> None:
    """Serves until ``stop`` is set; calls ``ready`` when it serves."""
    async with serve(config, plugins, worker) as app:
        if worker is None or worker.part.number == 0:  # the other workers would log the same
            tell(app)
        ready(app)
        if app.node is None:
            await stop.wait()
        else:
            try:
                await app.node.until(stop)
            except NodeReplaced:
                if worker is not None:  # all workers are to stop: the others have lost their places, too, or will
                    from kafka_gateway.workers.part import REPLACED

                    worker.parent.tell(REPLACED)
                raise
        log.info("stopping")
