"""``kafka-gateway init DIRECTORY``: a configuration to begin with, every property commented out at its default, and the
files that an operator wants beside it: a systemd unit, alert rules, a Grafana board."""

from __future__ import annotations

import argparse
import contextlib
import grp
import os
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from kafka_gateway.assembly.plugins import PluginError, find_plugins
from kafka_gateway.commands.reference import properties_file

FILE: Final = "kafka-gateway.properties"
_MODE: Final = 0o640
"""Passwords will stand in it: others than the owner and the group need not read them."""
_BESIDE: Final = ("kafka-gateway.service", "alerts.yaml", "grafana-board.json")
_MODE_BESIDE: Final = 0o644


def subcommand(words: Sequence[str]) -> int:
    """The exit code: 0, or 1 if the properties file is there already or cannot be written."""
    parser = argparse.ArgumentParser(
        prog="kafka-gateway init",
        description=f"Writes DIRECTORY/{FILE} with every property, those of installed plugins too, and a line about "
        f"each; nearly all are commented out. Beside it: {', '.join(_BESIDE)} for systemd, Prometheus and Grafana. "
        "The directory is made if need be; files that are there are left alone.",
    )
    parser.add_argument("directory", metavar="DIRECTORY", type=Path)
    parser.add_argument(
        "--group", help="the group of the user that the gateway will run as: it may read the files, others may not"
    )
    options = parser.parse_args(words[1:])
    directory: Path = options.directory
    file = directory / FILE
    try:
        group = _number_of(options.group) if options.group is not None else None
        text = properties_file(find_plugins(None, (), os.environ).config_keys()).replace("kafka-rest.properties", FILE)
        _make(directory, group)
        _write(file, text, _MODE, group)
    except FileExistsError:
        print(f"kafka-gateway init: {file} is there already; it was left as it is", file=sys.stderr)
        return 1
    except (OSError, LookupError, PluginError) as error:
        print(f"kafka-gateway init: {error}", file=sys.stderr)
        return 1
    written = [file]
    for name in _BESIDE:
        content = (resources.files("kafka_gateway.commands") / "static" / name).read_text(encoding="utf-8")
        try:
            _write(directory / name, content, _MODE_BESIDE, group)
        except FileExistsError:
            print(f"kafka-gateway init: {directory / name} is there already; it was left as it is", file=sys.stderr)
        else:
            written.append(directory / name)
    print(*written, sep="\n")
    print(f"Judge it with: kafka-gateway --check {file}\nServe with it: kafka-gateway {file}")
    return 0


def _number_of(group: str) -> int:
    """LookupError: there is no such group."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise LookupError(
            f"there is no group {group}; make it with its user: useradd --system --user-group {group}"
        ) from None


def _make(directory: Path, group: int | None) -> None:
    """Makes the directory, open to the group. One that is there keeps owner and mode: others may use it, too."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        return
    if group is not None:
        os.chown(directory, -1, group)
        directory.chmod(0o750)


def _write(path: Path, text: str, mode: int, group: int | None) -> None:
    """Writes the file whole or not at all, and never over another: FileExistsError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o600), "w", encoding="utf-8") as out:
        try:
            if group is not None:
                os.fchown(out.fileno(), -1, group)
                os.fchmod(out.fileno(), mode)  # whatever umask the operator has
            else:
                os.fchmod(out.fileno(), mode & ~_umask())
            out.write(text)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
