"""Which key the request of a path is about, where what has that key has a home (`Route.home`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kafka_gateway.errors import ServiceError
from kafka_gateway.router import Router

_REMEMBERED_MAX: Final = 4096
_PATH_MAX: Final = 512


class HomeKeys:
    """What ``home`` says of the key of a path; remembered. Belongs to the event loop."""

    def __init__(self, router: Callable[[], Router], home: Callable[..., int]) -> None:
        """``router``: the present one. ``home`` is called with the parts of the key."""
        self._router = router
        self._home = home
        self.known: dict[tuple[str, str, str], int | None] = {}
        """What `find` remembers, for whoever asks for each request."""

    def find(self, method: str, path: str, area: str) -> int | None:
        """None: what the path is about has no home, or there is nothing of the kind."""
        asked = method, path, area
        try:
            return self.known[asked]
        except KeyError:
            found = self._find(method, path, area)
        if len(path) <= _PATH_MAX:
            if len(self.known) >= _REMEMBERED_MAX:
                self.known.clear()
            self.known[asked] = found
        return found

    def forget(self) -> None:
        """Forgets everything, because routes or homes have changed."""
        self.known.clear()

    def _find(self, method: str, path: str, area: str) -> int | None:
        try:
            match = self._router().match(method, path, area)
        except ServiceError:
            return None  # answered here like any request for a path that is not there
        for route in match.routes.values():
            if route.home:
                return self._home(*(_part(each, match.params) for each in route.home))
        return None


def _part(word: str, params: Mapping[str, Any]) -> str:
    return str(params[word[1:-1]]) if word[:1] == "{" else word
