"""Mutations of bytes, for where no coverage-guided fuzzer can be installed."""

from __future__ import annotations

import random
from collections.abc import Sequence

TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u", b"\\ud800", b"\\u0000", b":", b",", b"\n", b"\r\n", b" ", b"\x00",
    b"\xff", b"\xc3", b"\xf0\x9f\x98\x80", b"null", b"true", b"false", b'"true"', b"1e999", b"-0", b"NaN", b"1.10",
    b'"id"', b'"id":"1",', b'"method"', b'"path"', b'"path":"/a?b#c",', b'"type":"text/plain",', b'"accept"',
    b'"headers":{"a":"b"},', b'"continue":true,', b'"data":', b'"detached":true,', b'"heartbeat":1,', b"X",
    b"...ACK...", b"@@/x@@", b"http://", b'{"id":"', b"[" * 300, b'{"a":' * 200,
]  # fmt: skip


def mutate(data: bytes, corpus: Sequence[bytes], rnd: random.Random) -> bytes:
    """The data with up to eight changes."""
    out = bytearray(data)
    for _ in range(rnd.randint(1, 8)):
        at = rnd.randint(0, len(out))
        end = min(len(out), at + rnd.choice((0, 1, 1, 2, 5, 30)))
        match rnd.randrange(6):
            case 0:
                out[at:at] = rnd.choice(TOKENS)
            case 1:
                out[at:end] = rnd.choice(TOKENS)
            case 2:
                del out[at:end]
            case 3:
                out[at:end] = rnd.randbytes(end - at)
            case 4:
                out[at:at] = out[end : end + rnd.randint(0, 60)]
            case _:
                other = rnd.choice(corpus)
                start = rnd.randint(0, len(other))
                out[at:end] = other[start : start + rnd.randint(0, 80)]
    return bytes(out)
