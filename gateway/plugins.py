"""The plugin manager: built-ins first, then whatever is installed and announces the entry point ``kafka_gateway``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pluggy

from gateway import hookspecs
from gateway.auth import Authenticator
from gateway.codec import Codec
from gateway.config import Config, ConfigKey
from gateway.kafka.ports import Kafka
from gateway.router import Route
from gateway.transport import Transport

BUILT_IN = ("gateway.builtin", "services.routes", "transports.http")
"""The built-in plugins: modules, by dotted name."""


class PluginError(Exception):
    """A plugin cannot be used; the text names it and says what to change."""


class Plugins:
    """One gateway's plugins. There is no global manager: two gateways in a process have their own."""

    def __init__(self, disabled: Iterable[str] = (), extra: Sequence[object] = ()) -> None:
        self._manager = pluggy.PluginManager(hookspecs.NAME)
        self._manager.add_hookspecs(hookspecs)
        for name in disabled:
            self._manager.set_blocked(name)
        order = ("transports.http", *(name for name in BUILT_IN if name != "transports.http"))
        for name in order:
            self._manager.register(importlib.import_module(name), name)
        try:
            self._manager.load_setuptools_entrypoints(hookspecs.NAME)
        except Exception as error:
            raise PluginError(f"an installed plugin cannot be imported: {type(error).__name__}: {error}") from error
        for plugin in extra:
            self._manager.register(plugin)
        self._check_names()

    def _check_names(self) -> None:
        known = {name for name in vars(hookspecs) if name.startswith("gateway_")}
        for plugin in self._manager.get_plugins():
            name = self._manager.get_name(plugin)
            for attribute in dir(plugin):
                marked = hasattr(getattr(plugin, attribute, None), f"{hookspecs.NAME}_impl")
                if marked and attribute not in known:
                    raise PluginError(
                        f"plugin {name}: there is no hook {attribute}; the hooks are {', '.join(sorted(known))}"
                    )
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"plugin {self._manager.get_name(error.plugin)}: {error}") from error

    def names(self) -> list[str]:
        return sorted(name for name, plugin in self._manager.list_name_plugin() if plugin is not None)

    def config_keys(self) -> list[ConfigKey]:
        return [key for _, keys in self._call("gateway_config_keys") for key in keys]

    def codecs(self, config: Config) -> dict[str, Codec]:
        return self._unique("gateway_codecs", "codec", config=config)

    def authenticators(self, config: Config) -> dict[str, Authenticator]:
        found: dict[str, Authenticator] = self._unique("gateway_authenticators", "authenticator", config=config)
        return {name.upper(): authenticator for name, authenticator in found.items()}

    def routes(self, config: Config, kafka: Kafka, codecs: Mapping[str, Codec]) -> list[Route]:
        """All routes, each marked with its plugin's name."""
        return [
            replace(route, owner=owner)
            for owner, routes in self._call("gateway_routes", config=config, kafka=kafka, codecs=codecs)
            for route in routes
        ]

    def transports(self, config: Config) -> list[Transport]:
        """All transports that are not switched off, in the order in which they are asked."""
        found = self._unique("gateway_transports", "transport", config=config)
        return [each for each in found.values() if config.flag(f"transport.{each.name}.enable")]

    def _unique(self, hook: str, what: str, **arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        owners: dict[str, str] = {}
        for owner, items in self._call(hook, **arguments):
            for item in items:
                if not item.name:
                    raise PluginError(f"plugin {owner}: its {what} {type(item).__name__} has no name")
                if item.name in found:
                    raise PluginError(f"plugin {owner}: the {what} {item.name} exists already, in {owners[item.name]}")
                found[item.name], owners[item.name] = item, owner
        return found

    def _call(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """(plugin, answer) of every implementation, the newest first; a failure names its plugin."""
        answers = []
        for implementation in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            name = implementation.plugin_name
            try:
                answers.append((name, implementation.function(*[arguments[each] for each in implementation.argnames])))
            except Exception as error:
                raise PluginError(f"plugin {name}: {hook} failed: {type(error).__name__}: {error}") from error
            if inspect.isawaitable(answers[-1][1]) or answers[-1][1] is None:
                raise PluginError(f"plugin {name}: {hook} must be a plain function that returns a list")
        return answers
