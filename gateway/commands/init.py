"""``kafka-gateway init DIRECTORY``: a configuration to begin with, every property commented out at its default."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kafka_gateway.assembly.plugins import PluginError, find_plugins
from kafka_gateway.commands.reference import properties_file

FILE = "kafka-gateway.properties"
_MODE = 0o640
"""Passwords will stand in it: others than the owner and the group need not read them."""


def subcommand(words: Sequence[str]) -> int:
    """The exit code: 0, or 1 if the file is there already or cannot be written."""
    parser = argparse.ArgumentParser(
        prog="kafka-gateway init",
        description=f"Writes DIRECTORY/{FILE} with every property, those of installed plugins too, and a line about "
        "each; nearly all are commented out. The directory is made if need be; a file that is there is left alone.",
    )
    parser.add_argument("directory", metavar="DIRECTORY", type=Path)
    directory: Path = parser.parse_args(words[1:]).directory
    file = directory / FILE
    try:
        text = properties_file(find_plugins(None, (), os.environ).config_keys())
        directory.mkdir(parents=True, exist_ok=True)
        # Written whole or not at all, and never over another: "x" fails where the name is taken.
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w", encoding="utf-8") as out:
            out.write(text.replace("kafka-rest.properties", FILE))
    except FileExistsError:
        print(f"kafka-gateway init: {file} is there already; it was left as it is", file=sys.stderr)
        return 1
    except (OSError, PluginError) as error:
        print(f"kafka-gateway init: {error}", file=sys.stderr)
        return 1
    print(f"{file}\nJudge it with: kafka-gateway --check {file}\nServe with it: kafka-gateway {file}")
    return 0
