"""One line an event, as text or JSON; no text of a client can break out of its line."""

from __future__ import annotations

import json
import logging
import time
import traceback

from kafka_gateway.door.access_log import escape, worker_in_text
from kafka_gateway.request_ids import CURRENT


class TextFormatter(logging.Formatter):
    """``2026-11-21 10:00:00,123 INFO gateway.host: text [request-id]``; a traceback follows on the same line, escaped.

    The id is that of the request at work, if there is one. ``worker``: stands behind the logger as `` worker=1``.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._by = worker_in_text(worker)

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        line = f"{seconds},{int(record.msecs):03d} {record.levelname} {record.name}{self._by}: "
        line += _one_line(record.getMessage())
        if (id_ := CURRENT.get()[1]) and record.name != "gateway.access":
            line += f" [{_one_line(id_)}]"
        if record.exc_info:
            line += " | " + _one_line(_trace(record))
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, worker where there are several, request_id, and the
    traceback if there is one."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        milliseconds = int(record.msecs)
        event: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{milliseconds:03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._worker is not None:
            event["worker"] = self._worker
        if id_ := CURRENT.get()[1]:
            event["request_id"] = id_
        if record.exc_info:
            event["exception"] = _trace(record)
        return json.dumps(event, separators=(",", ":"))  # as lines of the access log have it


def _one_line(text: str) -> str:
    return text if text.isprintable() else escape(text)


def _trace(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
