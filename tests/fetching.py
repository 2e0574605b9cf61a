"""What tests fetch from outside comes while others run, and no test's time limit counts it.

A process of its own fetches what the chosen tests need, in the order in which they need it. A test that comes before
its own waits for that, which the folder of the cache sees to (tests/cache.py), and then its time begins. On a new
machine all of it takes three minutes, most of them waits and compilers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests import registry_server
from tests.cache import UnavailableError
from tests.kafka_cluster import fetch_jars, find_java, prepared
from tests.registry_server import RegistryUnavailableError

_Fetch = Callable[[], object]

_there: set[_Fetch] = set()
"""What this process need not ask for any more."""


def begin(items: Iterable[pytest.Item]) -> None:
    """Has what these tests need fetched by another process. Of several workers of pytest-xdist the first sees to it."""
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
        return
    needed = list(dict.fromkeys(fetch for item in items for fetch in _needs(item)))
    if needed:
        # Not forked: whatever threads pytest's process has would be missing in it.
        multiprocessing.get_context("spawn").Process(target=_fetch_all, args=(needed,), daemon=True).start()


def wait_for(item: pytest.Item) -> None:
    """Returns when what the test needs is there, or cannot be had; the test itself says so then."""
    needed = [fetch for fetch in _needs(item) if fetch not in _there]
    _fetch_all(needed)
    _there.update(needed)


def _needs(item: pytest.Item) -> Iterator[_Fetch]:
    if item.get_closest_marker("broker"):
        yield _fetch_kafka
    if "registry" in getattr(item, "fixturenames", ()):
        yield _fetch_registry
    for mark in item.iter_markers("fetches"):
        yield mark.kwargs["what"]


def _fetch_all(needed: Iterable[_Fetch]) -> None:
    for fetch in needed:
        with contextlib.suppress(
            UnavailableError, RegistryUnavailableError, pytest.skip.Exception, pytest.fail.Exception
        ):
            fetch()


def _fetch_kafka() -> None:
    prepared(find_java(), fetch_jars())


def _fetch_registry() -> None:
    registry_server.find_java()
    registry_server.fetch_registry()
