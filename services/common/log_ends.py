"""``GET /console/ends?topics=a,b``: the ends of many topics' logs in one answer, for pages that show rates.

A page that asked for each partition would cost thousands of questions a second with some topics of many partitions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.common.names import is_topic

TOPICS_MAX = 200
"""In one question; those beyond are left out, as are unknown ones."""

_FRESH_S = 1.0
"""How long an answer counts: many pages that show one topic cost what one does."""


class LogEnds:
    """The handler. Belongs to the event loop."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._known: dict[str, tuple[float, Mapping[int, int]]] = {}
        self._lock = asyncio.Lock()

    async def ends(self, call: Call) -> Response:
        """By topic, the end offset of each partition: ``{"orders": {"0": 42, "1": 7}}``. Topics that the caller may not
        describe are left out."""
        asked = [name for name in dict.fromkeys(call.query.get("topics", "").split(",")) if is_topic(name)]
        names = call.session.rights.filter("describe", "topic", asked[:TOPICS_MAX])
        async with self._lock:
            now = time.monotonic()
            known = {name: each for name, each in self._known.items() if each[0] > now}
            missing = [name for name in names if name not in known]
            if missing:
                until = time.monotonic() + _FRESH_S
                found = await self._admin.log_ends(missing)
                known |= {name: (until, found.get(name, {})) for name in missing}
            self._known = known
        return Response({name: known[name][1] for name in names if known[name][1]})
