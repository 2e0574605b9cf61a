"""What the tests fetch from outside: made once in one folder, complete or not at all, and found there by all tests.

The folder is ``kafka-gateway`` in ``XDG_CACHE_HOME`` (or ``~/.cache``). `.ci/run` gives it a new, empty one, so
every step must work there the first time. Nothing that is fetched goes anywhere else:

    suite = once("autobahn-1a2b", fill)            # fill(folder) puts everything into the empty folder that it gets
    node_packages(Path(__file__).parent)           # what package-lock.json pins, linked beside the folder's scripts
    run_tool([find_program("go"), "build", …], folder)  # npm, pip, go and Maven keep their downloads in there too
    find_program("kcat")                           # its path; without it the test is skipped, and fails in CI

The time limit of a test is not meant for a download: `@pytest.mark.fetches(what=function)` has the
function called while other tests run, and the test's time begin when it has returned (tests/fetching.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

INSTALL_S = 300
"""How long fetching one thing may take. The time limit of a test that may be the first must be longer."""


class UnavailableError(Exception):
    """Something from outside cannot be had on this machine; the text says why."""


def cache_dir() -> Path:
    """Where downloads are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kafka-gateway"


def once(name: str, fill: Callable[[Path], None]) -> Path:
    """The folder ``name`` of the cache; the first call makes it with ``fill``, callers at the same time wait for that.

    Args:
        name: must change with everything that the content depends on: versions, a hash of a lock file.
        fill: gets an empty folder, which gets its name when ``fill`` has returned. It raises UnavailableError for what
            cannot be had; then nothing is kept.
    """
    target = cache_dir() / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            work = Path(tempfile.mkdtemp(prefix=f"{name}.new-", dir=target.parent))
            try:
                fill(work)
                work.chmod(0o755)
                work.rename(target)  # only a complete folder gets the name
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return target


def tool_environment(**more: str) -> dict[str, str]:
    """The environment for a tool that downloads: what it keeps for the next time goes into the cache folder as well.

    Settings that would lead it out of the folder that it was told (``PIP_TARGET``, ``PYTHONPATH``) are left out.
    """
    cache = cache_dir()
    inherited = {name: value for name, value in os.environ.items() if not _leads_elsewhere(name)}
    return {
        **inherited,
        "PIP_CACHE_DIR": str(cache / "pip"),
        "npm_config_cache": str(cache / "npm"),
        "GOMODCACHE": str(cache / "go-modules"),
        "GOCACHE": str(cache / "go-build"),
        "GOFLAGS": "-modcacherw -buildvcs=false",  # so that the cache can be removed
        **more,
    }


def _leads_elsewhere(name: str) -> bool:
    pip = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV"}
    return name in pip or name.startswith("PYTHON")


def maven_repository() -> str:
    """The option of ``mvn`` for where it keeps what it fetched."""
    return f"-Dmaven.repo.local={cache_dir() / 'maven'}"


def run_tool(command: list[str], folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
    """Runs a tool that fetches something into ``folder``, its working directory. UnavailableError if it fails."""
    what = " ".join(command[:3])
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(environment or tool_environment()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except OSError as error:
        raise UnavailableError(f"{what}: {error}") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{what} was not done within {INSTALL_S} s") from None
    if done.returncode != 0:
        raise UnavailableError(f"{what}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-1500:]}")


def node_packages(folder: Path) -> Path:
    """``node_modules`` of the packages that ``folder/package-lock.json`` pins, linked into ``folder`` for its scripts.

    Skips the calling test without npm; fails in CI.
    """
    npm = find_program("npm")
    names = [name for name in ("package.json", "package-lock.json", ".npmrc") if (folder / name).exists()]
    content = b"".join((folder / name).read_bytes() for name in names)

    def fill(work: Path) -> None:
        for name in names:
            shutil.copy(folder / name, work)
        run_tool([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], work)

    try:
        made = once(f"npm-{hashlib.sha256(content).hexdigest()[:16]}", fill) / "node_modules"
    except UnavailableError as error:
        unavailable(str(error))
    _link(folder / "node_modules", made)
    return made


def _link(link: Path, target: Path) -> None:
    """Several processes of one run may do this at a time."""
    if link.is_symlink() and link.readlink() == target:
        return
    if link.is_dir() and not link.is_symlink():  # an `npm ci` by hand
        shutil.rmtree(link)
    new = link.with_name(f"{link.name}.{os.getpid()}")
    new.symlink_to(target, target_is_directory=True)
    new.replace(link)


def find_program(name: str, *, package: str | None = None) -> str:
    """Path of a program of this machine. Without it the calling test is skipped; in CI it fails."""
    found = shutil.which(name)
    return found or unavailable(f"no {name} in PATH (Debian: apt-get install {package or name})")


def unavailable(reason: str) -> NoReturn:
    """Skips the calling test for a reason that lies in the machine; in CI, where everything must be there, it fails."""
    import pytest  # not at the top: bin/kafka uses this module, and runs without the tests' packages

    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
