"""The log of a process that serves: its form, and where it goes."""

from __future__ import annotations

import logging
import sys
import threading
import types
from typing import Any

from kafka_gateway.door.access_log import AccessLog
from kafka_gateway.host_names import is_of_host_name
from kafka_gateway.logs.destination import Destination, DestinationHandler
from kafka_gateway.logs.formatters import JsonFormatter, TextFormatter

log = logging.getLogger("gateway")


class Logs:
    """Sends everything that is logged to ``path``, a file, or to standard error where it is "".

    ``form`` is ``text`` or ``json``. ``shared``: other processes write there, too. ``worker``: the number of this one,
    which stands in each line.
    """

    def __init__(self, form: str = "text", path: str = "", shared: bool = False, worker: int | None = None) -> None:
        """OSError: the file cannot be had."""
        self.form = form
        self._worker = worker
        self._destination = Destination(path, shared)
        self._destination.open()
        handler = DestinationHandler(self._destination)
        handler.setFormatter(JsonFormatter(worker) if form == "json" else TextFormatter(worker))
        logging.getLogger().handlers[:] = [handler]
        logging.captureWarnings(True)

    def catch_all(self) -> None:
        """Has what ends the process or a thread, and what can be raised to nobody, logged like everything else: Python
        would write a traceback on standard error."""
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_on_thread
        sys.unraisablehook = _unraisable

    def take_over(self, access: AccessLog) -> None:
        """Has the lines of an access log written round the handlers, which take longer than the rest of a request."""
        access.write_to(self._destination.write, self.form, self._worker)

    def reopen(self) -> None:
        """The file was moved away: lines go into a new one of its name."""
        self._destination.reopen()


def a_line(form: str, logger: str, text: str) -> str:
    """A line of the log at INFO, without its end, for what does not go where the log goes."""
    record = logging.LogRecord(logger, logging.INFO, "", 0, text, None, None)
    return (JsonFormatter() if form == "json" else TextFormatter()).format(record)


def _uncaught(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    log.critical("the process ends", exc_info=(kind, error, trace))


def _uncaught_on_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None:
        name = told.thread.name if told.thread is not None else "?"
        log.error("thread %s has ended", name, exc_info=(told.exc_type, told.exc_value, told.exc_traceback))


def _unraisable(told: Any) -> None:
    if told.exc_value is not None and not is_of_host_name(told):
        what = f"{told.err_msg or 'an error that nobody can be told of, in'} {told.object!r:.200}"
        log.error("%s", what, exc_info=(told.exc_type, told.exc_value, told.exc_traceback))
