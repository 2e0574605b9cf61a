"""Fuzzes the envelope codec, guided by coverage: ``python -m tests.fuzz.envelope --seconds 30``.

Needs atheris, which has wheels for CPython 3.12 and 3.13, and msgspec. New inputs go to ``--found``, a finding to a
file that the last lines name; ``python -m tests.fuzz.envelope --replay FILE`` shows it again, with any Python.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus" / "envelope"
INSTRUMENTED = [
    "kafka_gateway.transports.envelope.codec",
    "kafka_gateway.transports.envelope.sequences",
    "kafka_gateway.jsonio",
    "tests.fuzz.envelope_target",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--found", type=Path, help="directory for inputs that reach something new (default: none)")
    parser.add_argument("--replay", type=Path, help="an input to run once")
    options = parser.parse_args()
    if options.replay is not None:
        from tests.fuzz.envelope_target import one_input

        one_input(options.replay.read_bytes())
        return
    with contextlib.ExitStack() as stack:
        found = options.found or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found.mkdir(parents=True, exist_ok=True)
        fuzz(options.seconds, found)


def fuzz(seconds: float, found: Path) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    # Only what is imported in here is instrumented.
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.envelope_target import one_input

    limits = [f"-max_total_time={max(1, round(seconds))}", "-max_len=8192", "-timeout=60", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(found), str(CORPUS), *limits], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
