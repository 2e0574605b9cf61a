"""Signals that come before the gateway can serve them. Without a handler they would kill it.

A script that rotates logs, or a service manager, does not know how far a start has come. So each process of a gateway
keeps such signals from its first lines on, before it imports anything large, and serves them when it has handlers.
"""

from __future__ import annotations

import signal

HARMLESS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)  # which Windows has not
KEPT: tuple[signal.Signals, ...] = (*HARMLESS, signal.SIGTERM)
"""SIGINT is not among them: who presses Ctrl-C sits before a terminal, and wants it back. It ends the process, as it
ends any program; Python's own way would be a traceback."""

_came: list[int] = []


def keep(kept: tuple[signal.Signals, ...] = KEPT) -> None:
    """Keeps these signals from now on, has SIGINT end the process without output until there is a handler for it (a
    shell sees 130), and lets those in that the parent of a worker held back. Main thread only.

    A worker keeps those that are `HARMLESS`: SIGTERM ends it as before, nobody waits for it, and its parent knows why
    it ended. A command of a terminal keeps SIGTERM alone, which has it stop in order.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # ignored in the background, it stays ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in kept:
        signal.signal(number, _note)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*KEPT, signal.SIGINT))


def _note(number: int, _: object) -> None:
    if number not in _came:
        _came.append(number)


def serve() -> None:
    """Sends this process what has come, once: it has its handlers now."""
    while _came:
        signal.raise_signal(_came.pop(0))


def let_go() -> None:
    """SIGTERM ends this process again, and at once if it has come: it is no gateway, but a command that answers."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.SIGTERM in _came:
        signal.raise_signal(signal.SIGTERM)
