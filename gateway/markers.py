"""The mark of hook implementations. Apart from the specifications, so that these can name what the hooks return."""

from __future__ import annotations

import pluggy

NAME = "kafka_gateway"
"""The project name of the hooks, and the entry point group of plugins."""

hookspec = pluggy.HookspecMarker(NAME)
hookimpl = pluggy.HookimplMarker(NAME)
