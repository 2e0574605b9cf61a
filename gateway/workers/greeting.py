"""The first frames of a connection between processes: who is there, and the proof that it is one of us (cluster.md §9).

Each end sends a `Hello` at once. Where there is a secret, each then sends a `Proof`: an HMAC-SHA256 of its role, the
hello of the end that asks and the hello of the end that answers. Both hellos have a nonce that is made for this one
connection, so a proof that somebody has recorded proves nothing a second time; and because the role is in it, what one
end proves cannot be sent back to it. No I/O here.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from kafka_gateway import jsonio
from kafka_gateway.cluster.ports import Process
from kafka_gateway.workers.frames import VERSION, FrameError, Head, Hello, Proof

SECRET_MIN: Final = 32
"""Bytes of a secret, at least: it must not be found by trying."""
_ASKS: Final = "asks"
_ANSWERS: Final = "answers"
_SHOWN_MAX: Final = 80


class Greeting:
    """One end's part of it.

    Args:
        me: whose end it is.
        asks: whether this end has opened the connection.
        secret: what all processes of the cluster know, or nothing; both ends have it or none.
        expected: the process that is wanted at the other end; "" for any.
        ping_s: this end gives a sign of life so often while a request is open that it has asked; 0: it promises none.
    """

    __slots__ = ("_asks", "_expected", "_me", "_nonces", "_secret", "done", "hello", "other")

    def __init__(self, me: Process, asks: bool, secret: bytes = b"", expected: str = "", ping_s: float = 0) -> None:
        self._me = me
        self._asks = asks
        self._secret = secret
        self._expected = expected
        nonce, ping_ms = secrets.token_urlsafe(24), round(ping_s * 1000)
        self.hello = Hello(VERSION, me.cluster, me.id, me.boot, nonce, ping_ms)
        """What this end sends first."""
        self.other: Hello | None = None
        """What the other end has said of itself; to be believed when ``done``."""
        self.done = False
        """Whether the other end is one of us."""

    def take(self, head: Head) -> Proof | None:
        """What is to be sent upon this frame of the other end. FrameError: it is none of us."""
        if self.other is None:
            if not isinstance(head, Hello):
                raise FrameError("no hello")
            self._judge(head)
            self.other = head
            if self._secret:
                return Proof(self._proof(self._asks))
            self.done = True
            return None
        if not isinstance(head, Proof):
            raise FrameError("no proof that it knows the secret")
        if not hmac.compare_digest(head.proof.encode(), self._proof(not self._asks).encode()):
            raise FrameError("a wrong proof: it does not have the secret of cluster.peer.secret.file")
        self.done = True
        return None

    def _judge(self, hello: Hello) -> None:
        if hello.version != VERSION:
            raise FrameError(f"version {hello.version} of the protocol between processes; this one has {VERSION}")
        if hello.cluster != self._me.cluster:
            raise FrameError(f"it belongs to cluster {hello.cluster[:_SHOWN_MAX]!r}")
        if self._expected and hello.process != self._expected:
            raise FrameError(f"it is process {hello.process[:_SHOWN_MAX]!r}, not {self._expected!r}")
        if hello.process == self._me.id:
            raise FrameError(f"it is process {hello.process!r} itself, or another of the same cluster.node.id")

    def _proof(self, of_asker: bool) -> str:
        assert self.other is not None
        asker, answerer = (self.hello, self.other) if self._asks else (self.other, self.hello)
        text = jsonio.encode([_ASKS if of_asker else _ANSWERS, asker, answerer])
        return hmac.digest(self._secret, text, "sha256").hex()
