"""``flasfka-serve --test``: pushes and pulls on the Kafka that is configured, on topics that nobody else uses."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
import uuid
from typing import Any

from kafka_gateway.assembly.app import serve
from kafka_gateway.assembly.plugins import PluginError, Plugins
from kafka_gateway.config import Config, ConfigError

_TIMEOUT_S = 60.0


def try_out(config: Config, plugins: Plugins) -> int:
    """Starts on a port of its own, prints what works and what does not; the exit code, 0 if all does."""
    try:
        return asyncio.run(_try_out(config.with_values({"listeners": "http://127.0.0.1:0"}), plugins))
    except (ConfigError, PluginError, OSError) as error:
        print(f"cannot start: {error}")
        return 1


async def _try_out(config: Config, plugins: Plugins) -> int:
    prefix = config.text("push.pull.prefix").rstrip("/")
    async with serve(config, plugins) as app:
        attempt = _Attempt(app.addresses[0] + prefix, config.text("push.pull.group.default"))
        failures = await asyncio.to_thread(attempt.run)
    print("all well" if not failures else f"{failures} of the requests had another answer than expected")
    return 1 if failures else 0


class _Attempt:
    def __init__(self, url: str, group: str) -> None:
        self._url = f"{url}/flasfka-test-{uuid.uuid4().hex}/"
        self._group = group
        self._failures = 0

    def run(self) -> int:
        """How many requests had another answer than they should have."""
        messages = [f"message {number}" for number in range(40)]
        self._expect("push", 204, b"", "", {"messages": messages[:1]})
        self._expect("pull", 200, {"group": self._group, "messages": messages[:1]})
        self._expect("pull with a group", 200, {"group": "group_1", "messages": messages[:1]}, "group_1/")
        self._expect("pull again", 200, {"group": "group_1", "messages": []}, "group_1/")
        self._expect("push many", 204, b"", "", {"messages": messages[1:]})
        self._expect("pull some", 200, {"group": self._group, "messages": messages[1:11]}, "?limit=10")
        self._expect("push what is no list", 400, None, "", {"messages": "abc"})
        self._expect("push what is no text", 400, None, "", {"messages": [{"a": "dictionary"}]})
        return self._failures

    def _expect(self, what: str, status: int, body: Any, rest: str = "", push: object = None) -> None:
        data = None if push is None else json.dumps(push).encode()
        try:
            with urllib.request.urlopen(self._url + rest, data, _TIMEOUT_S) as response:
                got, raw = response.status, response.read()
        except urllib.error.HTTPError as error:
            got, raw = error.code, error.read()
        except OSError as error:
            got, raw = 0, str(error).encode()
        shown: Any = raw
        if got == status == 200:
            shown = json.loads(raw)
        good = got == status and (body is None or shown == body)
        self._failures += not good
        print(f"{'ok    ' if good else 'FAILED'} {what}" + ("" if good else f": {got} {raw[:300]!r}"), flush=True)
