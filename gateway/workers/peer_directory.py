"""The directory of the Unix sockets between processes: whoever may enter it is believed (cluster.md §9)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

PEER_DIR: Final = "cluster.peer.dir"
_PATH_MAX: Final = 107
"""sun_path holds 108 bytes on Linux, the closing NUL among them (unix(7))."""


def socket_path(directory: str, name: str) -> Path:
    """The path of the socket of that name in the directory. ValueError: no socket can have it."""
    path = Path(directory) / name
    if len(str(path).encode()) > _PATH_MAX:
        raise ValueError(f"a socket has at most {_PATH_MAX} bytes of path, fewer than {path}: take a shorter one")
    return path


def trouble_with(path: str) -> str:
    """Makes the directory, if need be, of mode 0700; why it cannot be used, or nothing."""
    directory = Path(path)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            return f"{path} must belong to the user of the gateway alone: chown it to that user, and chmod 700"
        with tempfile.TemporaryFile(dir=path):
            return ""
    except OSError as error:
        return f"{path} cannot be used by the gateway's user: {error.strerror}; name a directory that it may write to"
