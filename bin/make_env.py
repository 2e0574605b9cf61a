"""Make a virtual environment from pinned versions, with the gateway in it: `make_env.py DIRECTORY LOCK_FILE ROOT`.

Standard library only: runs before anything is installed. The file `.complete` says that the environment may be used.
Several starts at the same time make it once: one works, the others wait.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

SOURCE = ("pyproject.toml", "README.md", "LICENSE", "share", "gateway", "services", "transports")
"""What the distribution is built from."""


def install(directory: Path, lock_file: Path, root: Path) -> None:
    venv.create(directory, clear=True, with_pip=True)
    # Settings meant for another environment must not lead pip out of this one.
    elsewhere = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH"}
    settings = {key: value for key, value in os.environ.items() if key not in elsewhere}
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(lock_file)], check=True, stdout=sys.stderr, env=settings)
    # Editable, from links to the source: what the build writes stays in the environment, and the source may be
    # read-only. No index is asked: another distribution could have our name there.
    source = directory / "source"
    source.mkdir()
    for name in SOURCE:
        (source / name).symlink_to(root / name)
    ours = [*pip, "--no-index", "--no-deps", "--no-build-isolation", "--editable", str(source)]
    subprocess.run(ours, check=True, stdout=sys.stderr, env=settings)


def main() -> int:
    directory, lock_file, root = (Path(argument) for argument in sys.argv[1:])
    complete = directory / ".complete"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            return 0
        print(f"Installing what {lock_file.name} names into {directory} (once)", file=sys.stderr, flush=True)
        try:
            install(directory, lock_file, root)
        except (subprocess.CalledProcessError, OSError) as error:
            shutil.rmtree(directory, ignore_errors=True)
            print(f"Could not make the Python environment: {error}", file=sys.stderr)
            print("It needs pip, the module venv (Debian: python3-venv) and a package index.", file=sys.stderr)
            return 1
        complete.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
