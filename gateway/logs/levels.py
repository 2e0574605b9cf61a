"""How much each logger says: by configuration, and while the gateway runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from kafka_gateway.config import Config
from kafka_gateway.door.access_log import refresh_all

NAMES: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
PREFIX: Final = "log.level."
"""What stands before the name of a logger in the configuration."""

_QUIET: Final[Mapping[str, int]] = {"asyncio": logging.WARNING}
"""Loggers whose lower levels tell nothing about the gateway."""

log = logging.getLogger("gateway")


class LogLevels:
    """The levels of one process. What was set while it runs stays until the configuration is read again."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._root = "INFO"
        self._before: str | None = None

    def configure(self, config: Config) -> None:
        """Sets what ``log.level`` and ``log.level.<logger>`` say, and everything else back."""
        self.set_all(config.text("log.level"), config.under(PREFIX))

    def set_all(self, root: str, given: Mapping[str, str]) -> None:
        """Sets the level of everything, and those of single loggers."""
        for name in self._given.keys() - given.keys():
            logging.getLogger(name).setLevel(_QUIET.get(name) or logging.NOTSET)
        self._root, self._given, self._before = root, {name: level.upper() for name, level in given.items()}, None
        logging.getLogger().setLevel(root)
        for quiet, least in _QUIET.items():
            logging.getLogger(quiet).setLevel(least)
        for name, level in self._given.items():
            logging.getLogger(name).setLevel(level)
        refresh_all()

    def set(self, name: str, level: str) -> None:
        """Sets the level of one logger, ``root`` for all that have none of their own. ValueError for no level."""
        level = level.upper()
        if level not in NAMES:
            raise ValueError(f"a level is one of {', '.join(NAMES)}")
        logger = logging.getLogger() if name == "root" else logging.getLogger(name)
        logger.setLevel(level)
        if name != "root":
            self._given[name] = level
        refresh_all()

    def shown(self) -> dict[str, str]:
        """Every logger of the gateway, and ``root``, with the level that counts for it."""
        names = sorted(name for name in logging.root.manager.loggerDict if name.startswith("gateway"))
        found = {"root": logging.getLogger().getEffectiveLevel()}
        found |= {name: logging.getLogger(name).getEffectiveLevel() for name in {*names, "gateway", *self._given}}
        return {name: logging.getLevelName(level) for name, level in sorted(found.items())}

    def toggle(self) -> None:
        """Everything at DEBUG, or back again (SIGUSR1)."""
        root = logging.getLogger()
        if self._before is None:
            self._before = logging.getLevelName(root.level)
            root.setLevel(logging.DEBUG)
            log.warning("log.level is DEBUG now; another SIGUSR1 sets it back to %s", self._before)
        else:
            before, self._before = self._before, None
            root.setLevel(before)
            log.warning("log.level is %s again", before)
        refresh_all()


LEVELS = LogLevels()
"""Those of this process: Python's logging is one for all gateways in it."""
