"""The metrics of several workers as one page: each series with a label ``worker``, each family described once.

Nothing is added up: Prometheus does that (``sum without(worker) (…)``), and some gauges of processes have no sum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from kafka_gateway.messages import Reply
from kafka_gateway.metrics.families import PREFIX, counter, gauge
from kafka_gateway.metrics.registry import Families

_WORKER_UP: Final = "worker_up"
_WORKER_RESTARTS: Final = "worker_restarts"
_OF_ALL: Final = tuple(f"{PREFIX}{name}".encode() for name in (_WORKER_UP, _WORKER_RESTARTS))
_SAMPLE: Final = re.compile(rb"([^\s{]+)(\{)?")
_EOF: Final = b"# EOF"


def worker_states(states: Sequence[tuple[bool, int]]) -> Families:
    """What every worker knows of all: for each, whether it serves and how often it was started again."""
    rows = [((str(worker),), *state) for worker, state in enumerate(states)]
    up = [(labels, float(serves)) for labels, serves, _ in rows]
    yield gauge(_WORKER_UP, "1: the worker serves; 0: it is being started again", ("worker",), up)
    again = [(labels, float(count)) for labels, _, count in rows]
    yield counter(_WORKER_RESTARTS, "How often the worker was started again", ("worker",), again)


def join_metrics(own: Reply, others: Mapping[int, Reply | None], number: int) -> Reply:
    """The reply with the series of all workers that have answered (`kafka_gateway.forwarding.Join`)."""
    pages = {number: own, **{worker: reply for worker, reply in others.items() if reply is not None}}
    texts = {
        worker: reply.body for worker, reply in pages.items() if reply.status == 200 and isinstance(reply.body, bytes)
    }
    return Reply(own.status, own.media_type, join(dict(sorted(texts.items())), number), own.headers, route=own.route)


def join(pages: Mapping[int, bytes], number: int) -> bytes:
    """One exposition (Prometheus' text 0.0.4, or OpenMetrics if the pages are) from those of several workers.

    What each worker tells of all (`worker_states`) is taken from the page of worker ``number``.
    """
    heads: dict[bytes, list[bytes]] = {}
    samples: dict[bytes, list[bytes]] = {}
    ends = False
    for worker, page in pages.items():
        label = b'worker="%d"' % worker
        family, is_of_all = b"", False
        for line in page.split(b"\n"):
            if line == _EOF:
                ends = True
            elif line.startswith(b"# "):
                family = line.split(b" ", 3)[2]
                is_of_all = family.startswith(_OF_ALL)
                kept = heads.setdefault(family, [])
                if line not in kept:
                    kept.append(line)
                samples.setdefault(family, [])
            elif line and not is_of_all:
                samples.setdefault(family, []).append(_labelled(line, label))
            elif line and worker == number:
                samples[family].append(line)
    lines = [line for family, found in samples.items() for line in (*heads.get(family, ()), *found)]
    return b"\n".join([*lines, *([_EOF] if ends else []), b""])


def _labelled(line: bytes, label: bytes) -> bytes:
    found = _SAMPLE.match(line)
    if found is None:
        return line
    if line[:1] == b"{":  # a name in quotes stands among the labels: UTF-8 names
        return b"{%b,%b" % (label, line[1:])
    if found[2]:
        rest = line[found.end() :]
        return b"%b{%b%b%b" % (found[1], label, b"" if rest[:1] == b"}" else b",", rest)
    return b"%b{%b}%b" % (found[1], label, line[found.end() :])
