"""The microbenchmarks still run; how fast is no test's business."""

from __future__ import annotations

from tests.bench import identity
from tests.bench.formats import measure
from tests.bench.stages import microseconds, stages


def test_every_stage_runs() -> None:
    names = []
    for name, operations, call in stages():
        names.append(name)
        assert microseconds(operations, call, rounds=1, seconds=0) > 0
    assert len(set(names)) == len(names) >= 9


def test_every_format_is_measured() -> None:
    found = list(measure())
    assert [name for name, *_ in found] == ["json", "avro", "jsonschema", "protobuf"]
    assert all(produce > 0 and read > 0 for _, produce, read in found)


def test_every_way_to_prove_who_one_is_is_measured() -> None:
    assert list(identity.measure(rounds=1)) == ["NONE", "BASIC", "OPENID", "MTLS"]
