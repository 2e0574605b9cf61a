"""Errors of another worker: what its client would have been told, told by this one."""

from __future__ import annotations

import functools

from kafka_gateway.errors import ServiceError
from kafka_gateway.workers.frames import Failure


class RelayedError(ServiceError):
    """Made by ``error_of`` with the status and the code of the original."""

    _headers: tuple[tuple[str, str], ...] = ()

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return self._headers


def failure_of(error: ServiceError) -> Failure:
    """The error, to be sent."""
    return Failure(error.status, error.error_code, error.message, error.retriable, error.help, error.headers)


def error_of(failure: Failure) -> ServiceError:
    """The error, to be raised."""
    error = _kind(failure.status, failure.code, failure.retriable)(failure.message)
    error.help = failure.help
    error._headers = failure.headers
    return error


@functools.lru_cache(maxsize=256)
def _kind(status: int, code: int, retriable: bool) -> type[RelayedError]:
    return type("RelayedError", (RelayedError,), {"status": status, "error_code": code, "retriable": retriable})
