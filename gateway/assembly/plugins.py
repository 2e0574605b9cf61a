"""The plugin manager: built-ins first, then whatever is installed and announces the entry point ``kafka_gateway``.

What a plugin does wrong is told at start, in one line that begins with its name; docs/plugins.md is the contract.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pluggy

from kafka_gateway import hookspecs
from kafka_gateway.assembly.built_in import BUILT_IN, INDISPENSABLE, OLDER_NAMES, declared_keys
from kafka_gateway.auth import Authenticator
from kafka_gateway.authenticators.several import SeveralMethods, shadowed
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config, ConfigError, ConfigKey, Fault, peek
from kafka_gateway.following import Judge
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics.registry import Collects, Metrics
from kafka_gateway.rights import Authorizer
from kafka_gateway.router import Route
from kafka_gateway.schemas import Schemas
from kafka_gateway.settings.keys import TRANSPORTS
from kafka_gateway.transport import Transport

_WORD = re.compile(r"[A-Za-z0-9_-]+")
_CODEC_WORD = re.compile(r"[a-z0-9_-]+")
"""What can stand between the dots of a media type (kafka-rest-http.md §3.2), in lower case."""

_FUNCTIONS = (types.FunctionType, types.MethodType, staticmethod, classmethod)

Named = TypeVar("Named", Codec, Authenticator, Transport)


class PluginError(Exception):
    """A plugin cannot be used; the text, one line, names it and says what to change."""


class Plugins:
    """One gateway's plugins. There is no global manager: two gateways in a process have their own.

    Args:
        disabled: names of plugins to leave out; they are not even imported.
        installed: whether to load the plugins of other distributions. Tests say False: what happens to be installed on
            a developer's machine must not change what they find.
        extra: further plugins, modules or objects, as if they had been installed; for tests and for embedding.
    """

    def __init__(self, disabled: Iterable[str] = (), extra: Sequence[object] = (), *, installed: bool = True) -> None:
        self._manager = pluggy.PluginManager(hookspecs.NAME)
        self._manager.add_hookspecs(hookspecs)
        self._hooks = sorted(name for name in vars(hookspecs) if name.startswith("gateway_"))
        left_out = frozenset(OLDER_NAMES.get(name, name) for name in disabled)
        if INDISPENSABLE in left_out:
            raise PluginError(f"plugins.disable: nothing works without {INDISPENSABLE}")
        self._left_out = left_out & BUILT_IN.keys()
        others = _installed() if installed else {}
        added = {self._manager.get_canonical_name(plugin): plugin for plugin in extra}
        for name, module in BUILT_IN.items():
            if name not in left_out:
                self._register(name, importlib.import_module(module))
        for name, entry in others.items():
            if name not in left_out:
                self._register(name, _load(entry))
        for name, plugin in added.items():
            if name not in left_out:
                self._register(name, plugin)
        known = {*BUILT_IN, *others, *added}
        for name in sorted(left_out - known):
            raise PluginError(f"plugins.disable: there is no plugin {name}; there are {', '.join(sorted(known))}")

    def _register(self, name: str, plugin: object) -> None:
        try:
            self._manager.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"plugin {name}: {_one_line(error)}") from error
        hooks = self._manager.get_hookcallers(plugin) or []
        for hook in hooks:
            for implementation in hook.get_hookimpls():
                if implementation.plugin is plugin:
                    self._check(name, hook, implementation)
        marked = {hook.name for hook in hooks}
        for each in self._hooks:
            # Without its mark a hook is never called, and nobody is told.
            if each not in marked and isinstance(inspect.getattr_static(plugin, each, None), _FUNCTIONS):
                raise PluginError(f"plugin {name}: {each} is not marked with @hookimpl")
        if not hooks:
            raise PluginError(f"plugin {name}: it has none of the hooks {', '.join(self._hooks)}")

    def _check(self, name: str, hook: pluggy.HookCaller, implementation: pluggy.HookImpl) -> None:
        if not hook.has_spec():
            if implementation.optionalhook:  # its author has marked it as optional
                return
            near = difflib.get_close_matches(hook.name, self._hooks, 1)
            meant = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(self._hooks)}"
            raise PluginError(f"plugin {name}: there is no hook {hook.name}; {meant}")
        if implementation.wrapper or implementation.hookwrapper:
            raise PluginError(f"plugin {name}: {hook.name} cannot be wrapped")
        function = implementation.function
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise PluginError(f"plugin {name}: {hook.name} must be a plain function that returns a list")

    def names(self) -> list[str]:
        return sorted(name for name, plugin in self._manager.list_name_plugin() if plugin is not None)

    def config_keys(self) -> list[ConfigKey]:
        """All keys, those of plugins marked with the plugin's name.

        Those of built-in plugins that are left out, too: a file for several gateways names them all.
        """
        return [
            key if plugin in BUILT_IN else replace(key, owner=f"plugin {plugin}")
            for plugin, key in self._call("gateway_config_keys", ConfigKey)
        ] + [key for name in BUILT_IN if name in self._left_out for key in declared_keys(name)]

    def codecs(self, config: Config) -> dict[str, Codec]:
        """All embedded formats by name."""
        return {codec.name: codec for codec in self._named("gateway_codecs", Codec, _CODEC_WORD, config=config)}

    def authenticator(self, config: Config) -> Authenticator:
        """The one that ``authentication.method`` names, or several as one. ConfigError if one of them is unknown, would
        never be asked, or its settings are faulty."""
        found = self._named("gateway_authenticators", Authenticator, _WORD, config=config)
        by_name = {each.name.upper(): each for each in found}
        chosen, messages = [], []
        for method in config.items("authentication.method"):
            if (each := by_name.get(method.upper())) is not None:
                chosen.append(each)
            else:
                known = f"there are {', '.join(sorted(by_name))}, and a plugin may add others"
                messages.append(f"no authenticator is called {method!r}; {known}")
        if not (chosen or messages):
            messages.append("names none; NONE asks nobody")
        place = config.place("authentication.method")
        faults = [Fault(place, "authentication.method", message) for message in (*messages, *shadowed(chosen))]
        if faults := faults + [fault for each in chosen for fault in each.faults()]:
            raise ConfigError(faults)
        return chosen[0] if len(chosen) == 1 else SeveralMethods(chosen)

    def authorizers(self, config: Config) -> list[Authorizer]:
        """All authorizers in use. ConfigError if the settings of one are faulty."""
        found = [authorizer for _, authorizer in self._call("gateway_authorizers", Authorizer, config=config)]
        if faults := [fault for each in found for fault in each.faults()]:
            raise ConfigError(faults)
        return found

    def routes(
        self,
        config: Config,
        kafka: Kafka,
        codecs: Mapping[str, Codec],
        schemas: Schemas,
        metrics: Metrics | None = None,
        following: list[Judge] | None = None,
    ) -> list[Route]:
        """All routes, each marked with its plugin's name; what their services count, they give to ``metrics``."""
        arguments = {
            "config": config, "kafka": kafka, "codecs": codecs, "schemas": schemas,
            "metrics": metrics or Metrics(), "following": [] if following is None else following,
        }  # fmt: skip
        found = self._call("gateway_routes", Route, **arguments)
        return [replace(route, owner=plugin, name=route.name or plugin) for plugin, route in found]

    def transports(self, config: Config) -> list[Transport]:
        """All transports that are not switched off, in the order in which they are asked: the newest first."""
        found = self._named("gateway_transports", Transport, _WORD, config=config)
        return [each for each in reversed(found) if config.flag(f"transport.{each.name}.enable")]

    def add_metrics(self, config: Config, metrics: Metrics) -> None:
        """Has the metrics that plugins bring shown with all others."""
        for plugin, collector in self._call("gateway_metrics", Collects, config=config):
            try:
                metrics.add_collector(collector)
            except ValueError as error:
                raise PluginError(f"plugin {plugin}: gateway_metrics: {_one_line(error)}") from error

    def faults(self, config: Config) -> list[Fault]:
        """What is wrong with a configuration that only plugins can tell: one of the checks of gateway.config.load."""
        found: list[Fault] = []
        for judged in (self.authenticator, self.authorizers):
            try:
                judged(config)
            except ConfigError as error:
                found += error.faults
        return found

    def told(self, config: Config) -> str:
        """What the authenticators and authorizers in use have read, for ``--check``; "" for nothing. ConfigError."""
        judges: list[Authenticator | Authorizer] = [self.authenticator(config), *self.authorizers(config)]
        return "; ".join(filter(None, (each.told() for each in judges)))

    def _named(self, hook: str, kind: type[Named], word: re.Pattern[str], **arguments: Any) -> list[Named]:
        """What the plugins offer; no two have the same name, whatever its case."""
        found: dict[str, Named] = {}
        owners: dict[str, str] = {}
        for plugin, item in self._call(hook, kind, **arguments):
            name = item.name
            what = kind.__name__.lower()
            if not isinstance(name, str) or not word.fullmatch(name):
                raise PluginError(
                    f"plugin {plugin}: the name of its {what} {type(item).__name__}, {name!r}, is not {word.pattern}"
                )
            other = owners.setdefault(name.lower(), plugin)
            if name.lower() in found:
                raise PluginError(f"plugin {plugin}: the {what} {name} exists already, in {other}")
            found[name.lower()] = item
        return list(found.values())

    def _call(self, hook: str, kind: type[Any], **arguments: Any) -> Iterator[tuple[str, Any]]:
        """(plugin, item) for every item that the hook's implementations answer, those of the newest plugin last."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            try:
                answer = implementation.function(*[arguments[each] for each in implementation.argnames])
                items = list(answer) if isinstance(answer, Iterable) else None  # a generator may fail in here
            except ConfigError:
                raise
            except Exception as error:
                raise PluginError(f"plugin {plugin}: {hook} failed: {_located(error)}") from error
            if items is None:
                raise PluginError(f"plugin {plugin}: {hook} must be a plain function that returns a list")
            for item in items:
                if not isinstance(item, kind):
                    what = item.__name__ if isinstance(item, type) else f"a {type(item).__name__}"
                    raise PluginError(f"plugin {plugin}: {hook} must return {kind.__name__} objects, not {what}")
                yield plugin, item


def find_plugins(
    file: str | os.PathLike[str] | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    leave_out: Iterable[str] = (),
) -> Plugins:
    """The plugins that a configuration asks for. Their names are read before all else, for plugins that are switched
    off must not even be asked for their keys. PluginError."""
    found = {}
    for name in ("plugins.disable", "plugins.installed"):
        key = next(key for key in TRANSPORTS if key.name == name)
        found[name] = peek(key, file, overrides, environment)
    names = found["plugins.disable"]
    disabled = names if isinstance(names, tuple) else ()  # something else is a fault, which `load` tells
    return Plugins({*disabled, *leave_out}, installed=found["plugins.installed"] is not False)


def _installed() -> dict[str, EntryPoint]:
    """The plugins of other distributions, by name, in the order of their names: that of the path says nothing."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=hookspecs.NAME), key=lambda entry: entry.name):
        if entry.name in BUILT_IN or entry.name in OLDER_NAMES:
            raise PluginError(f"plugin {entry.name} of {_distribution(entry)}: a built-in plugin has that name")
        if entry.name in found:
            raise PluginError(
                f"plugin {entry.name} is in {_distribution(found[entry.name])} and in {_distribution(entry)};"
                " uninstall one of them"
            )
        found[entry.name] = entry
    return found


def _load(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        where = f"plugin {entry.name} of {_distribution(entry)}"
        raise PluginError(f"{where}: {entry.value} cannot be imported: {_located(error)}") from error


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _located(error: BaseException) -> str:
    """The error and the place that it comes from, for an author who gets no traceback."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    places = [f" ({frame.filename}:{frame.lineno})" for frame in frames if not frame.filename.startswith("<frozen")]
    return _one_line(error) + (places[-1] if places else "")
