"""Fixtures for all rings: a real Kafka, started at most once a run, and the mock broker inside librdkafka.

A test that uses `kafka`, `kafka3` or `own_kafka` gets the marker `broker` by itself.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from kafka_gateway.jsonio import RECURSION_LIMIT
from tests import fetching
from tests.cache import unavailable
from tests.documented_replies import _watch_replies, documented_replies
from tests.kafka_cluster import KafkaCluster, KafkaUnavailableError
from tests.mock_cluster import MockCluster
from tests.registry_server import RegistryUnavailableError, SchemaRegistry
from tests.scheduling import pytest_xdist_make_scheduler
from tests.second_try import pytest_collectreport, pytest_runtest_logreport, pytest_sessionfinish
from tests.time_limit import (
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
)

__all__ = [
    "_watch_replies",
    "documented_replies",
    "pytest_collectreport",
    "pytest_runtest_call",
    "pytest_runtest_logreport",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_sessionfinish",
    "pytest_timeout_cancel_timer",
    "pytest_timeout_set_timer",
    "pytest_xdist_make_scheduler",
]

# What a developer's shell sets for the gateway is not meant for the gateways of the tests.
for _name in [name for name in os.environ if name.startswith(("KAFKA_GATEWAY_", "KAFKAREST_"))]:
    del os.environ[_name]

# No deadline for an example: a busy machine is no fault of the gateway.
settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=15)
settings.register_profile("thorough", deadline=None, max_examples=1000)  # --hypothesis-profile=thorough
settings.load_profile("full")

# As in a gateway's process: how deep JSON may be nested depends on it.
sys.setrecursionlimit(RECURSION_LIMIT)


def _settings_of_the_process() -> tuple[object, ...]:
    """All of them are read in no time; gc.get_freeze_count, for one, walks whatever was frozen."""
    return sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold()


@pytest.fixture(autouse=True)
def _process_stays_as_it_is() -> Iterator[None]:
    """What a test leaves changed in its process is a fault of others, which nobody finds: it is its own."""
    before = _settings_of_the_process()
    yield
    assert _settings_of_the_process() == before, "the test left the process with other settings than it found"


REAL_KAFKA = {"kafka", "kafka3", "own_kafka", "secured_kafka"}

_TESTS = Path(__file__).parent
_FULL_ONLY = {
    "acceptance": "",
    "autobahn": "",
    "behaviour": "",
    "bench": "",
    "bridges": "consumer_mode producer_mode prometheus",
    "clients": "",
    "conformance": "",
    "console": "",
    "contract": "dependencies loggers plugin_resp plugins second_try time_limit v3_page",
    "credentials": "each_as_itself every_way page sets sockets",
    "docs": "asyncapi_parser docs_page documents generated_client nginx schemathesis",
    "door": (
        "certificates foreign_pages heads limits_everywhere nobody_can_tell one_proof plugins_pass_it "
        "proofs_end proxies several_methods users_change who_asks_first"
    ),
    "faults": "",
    "integration": "",
    "js": "",
    "kafka": (
        "administration check client_on_mock_brokers commit_without_topics compacted consumer embedded_times "
        "faulty_neighbours first_reads follow frozen_broker group_ends held_partitions lost_coordinator "
        "offsets_of_groups push_reads rebalanced record_sizes starts_stored tails take topic_directory "
        "topic_made_again topic_not_known_everywhere unreadable_headers"
    ),
    "operation": "board_and_alerts logs metrics no_broker reload traces",
    "push_pull": "page push_pull",
    "registry": "catalogue other_clients proxy_schemas registry_away",
    "rights": "authorization_file dry_run every_route every_transport open_work_ends polls_and_tunnels",
    "scripts": "",
    "services": "nasty_values push_kafka",
    "transports": (
        "admission atmosphere_clients atmosphere_http http_compression http_connection http_faults http_hostile "
        "http_limits http_listeners http_smuggling http_stop known_heads limits_at_their_ends openid push settle "
        "tls_files v3_in_envelopes v3_stream websocket"
    ),
    "tunnel": "clients costs endpoint sasl",
    "unit": "loop_watch",
    "websocket_proxy": "admin avro consume member_feed page_sockets produce transactions",
    "workers": "peers several_workers",
}
"""What `bin/test quick` leaves out, and does not even import: by folder the files (``test_NAME.py``) that need a Kafka
or another program, start a gateway for each of many cases, or wait for seconds; "" is all of the folder. In it remain
the parts that they go through (unit, codecs, services, rights)."""


def _is_for_full_only(path: Path) -> bool:
    place = path.relative_to(_TESTS).parts
    names = _FULL_ONLY.get(place[0])
    return names is not None and (not names or path.name[len("test_") : -len(".py")] in names.split())


SHORT = frozenset({"cluster", "codecs", "services", "unit"})
"""Folders of many short files without a Kafka. `bin/test` runs what needs a processor and nothing else in a process
beside the others, which wait most of their time; the rest comes last, where it keeps all workers busy to the end."""


@functools.cache
def _looks_at_a_clock(path: Path) -> bool:
    """What waits for time itself (tests/contract/test_sleeps.py) is not for a process that comes after all others."""
    text = path.read_text()
    return any(word in text for word in ("time itself", "monotonic", "perf_counter", "thread_time"))


_NOT_BESIDE = ("broker", "slow", "embedded", "timing", "alone", "cluster")


def _is_short(path: Path) -> bool:
    return not SHORT.isdisjoint(path.parts)


_NAMES_MORE = re.compile(rf"mark\.({'|'.join(_NOT_BESIDE)})\b|[\"\[]embedded\b|\b({'|'.join(REAL_KAFKA)})[:,)\"]")


@functools.cache
def _is_all_beside(path: Path) -> bool:
    """Whether every test of the file gets the marker `beside`, as far as its text tells."""
    if not _is_short(path) or _is_for_full_only(path) or _looks_at_a_clock(path) or not path.name.startswith("test_"):
        return False
    return _NAMES_MORE.search(path.read_text()) is None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of which no test would be chosen need not be read: a third to a half of what each process begins with."""
    if collection_path.suffix != ".py":
        return None
    chosen = config.option.markexpr
    if chosen == "beside":
        return _is_for_full_only(collection_path) or not _is_short(collection_path) or None
    if chosen.startswith("alone"):
        return (collection_path.name.startswith("test_") and "alone" not in collection_path.read_text()) or None
    if "not beside" in chosen and _is_all_beside(collection_path):
        return True
    return ("not slow" in chosen and _is_for_full_only(collection_path)) or None


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if REAL_KAFKA.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.broker)
        if "embedded" in getattr(getattr(item, "callspec", None), "params", {}).values():
            item.add_marker(pytest.mark.embedded)
        if _is_for_full_only(item.path):
            item.add_marker(pytest.mark.slow)
        short = _is_short(item.path)
        if short and not any(map(item.get_closest_marker, _NOT_BESIDE)) and not _looks_at_a_clock(item.path):
            item.add_marker(pytest.mark.beside)
    items.sort(key=lambda item: _is_short(item.path))


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """What is collected stays: to look meanwhile for what of it is garbage takes a second or two."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.option.collectonly:
        fetching.begin(session.items)
    # A collector that walks thousands of tests takes a third of a second each time, of whichever test is running.
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _cluster(nodes: int = 1, *, min_insync_replicas: int = 1) -> Iterator[KafkaCluster]:
    """A running cluster; without Java the test is skipped, in CI it fails."""
    try:
        cluster = KafkaCluster(nodes, min_insync_replicas=min_insync_replicas).start()
    except KafkaUnavailableError as error:
        unavailable(str(error))
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaCluster]:
    """One broker, shared by the whole run: use topics and groups of your own."""
    with _cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kafka3() -> Iterator[KafkaCluster]:
    """Three brokers, three replicas, two of them in sync to write. Who kills or pauses one brings it back.

    They end with the file: with nothing to do they take a tenth of a processor and more, a start takes 15 s of one.
    """
    with _cluster(3, min_insync_replicas=2) as cluster:
        yield cluster


@pytest.fixture
def own_kafka() -> Iterator[KafkaCluster]:
    """One broker for this test alone, to kill or pause (3 seconds to start)."""
    with _cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def registry() -> Iterator[SchemaRegistry]:
    """A real schema registry, shared by the whole run: use subjects of your own. Skipped without Java 21."""
    try:
        server = SchemaRegistry().start()
    except RegistryUnavailableError as error:
        unavailable(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def embedded() -> Iterator[str]:
    """`bootstrap.servers` of the mock broker inside librdkafka: no Java, topics appear when they are named."""
    cluster = MockCluster()
    cluster.form_groups_at_once()
    yield cluster.bootstrap
    del cluster  # the mock broker lives as long as this


@pytest.fixture
def unique() -> Callable[..., str]:
    """`unique("orders")`: a name that no other test uses, for a topic or a group."""

    def make(prefix: str = "name") -> str:
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    return make


@pytest.fixture
def topic(unique: Callable[..., str]) -> str:
    """Name of a topic that does not exist yet."""
    return unique("topic")


@pytest.fixture
def create_topic(kafka: KafkaCluster) -> Callable[..., str]:
    """`create_topic(name=None, partitions=1, config=None)`: makes a topic in `kafka` and returns its name."""
    return kafka.create_topic
