"""Every property of the librdkafka in use, as the library itself describes them."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import NamedTuple

import confluent_kafka
import pytest


class Known(NamedTuple):
    """A property as librdkafka describes it."""

    name: str
    clients: str
    range: str


def library() -> ctypes.CDLL:
    """The librdkafka that the binding uses; without one of a wheel the test is skipped."""
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    path = next(iter(folder.glob("librdkafka-*.so*")), folder)
    if sys.platform != "linux" or not path.is_file():
        pytest.skip("no librdkafka of the wheel")
    return ctypes.CDLL(str(path))


def known_properties(folder: Path) -> list[Known]:
    """All of them: the library prints its CONFIGURATION.md (rd_kafka_conf_properties_show) into the folder."""
    librdkafka, libc = library(), ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    path = folder / "CONFIGURATION.md"
    file = ctypes.c_void_p(libc.fopen(str(path).encode(), b"w"))
    librdkafka.rd_kafka_conf_properties_show(file)
    libc.fclose(file)
    rows = ([cell.strip() for cell in line.split(" | ")] for line in path.read_text().splitlines())
    found = [Known(*row[:3]) for row in rows if len(row) > 4 and row[1] in ("*", "C", "P")]
    assert len(found) > 150
    return found
