"""Make a virtual environment from pinned versions: `make_env.py DIRECTORY LOCK_FILE`.

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


def install(directory: Path, lock_file: Path) -> None:
    venv.create(directory, clear=True, with_pip=True)
    # Settings meant for another environment must not lead pip out of this one.
    elsewhere = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH"}
    settings = {key: value for key, value in os.environ.items() if key not in elsewhere}
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(lock_file)], check=True, stdout=sys.stderr, env=settings)


def main() -> int:
    directory, lock_file = Path(sys.argv[1]), Path(sys.argv[2])
    complete = directory / ".complete"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            return 0
        print(f"Installing what {lock_file.name} names into {directory} (once)", file=sys.stderr, flush=True)
        try:
            install(directory, lock_file)
        except (subprocess.CalledProcessError, OSError) as error:
            shutil.rmtree(directory, ignore_errors=True)
            print(f"Could not make the Python environment: {error}", file=sys.stderr)
            print("It needs pip, the module venv (Debian: python3-venv) and a package index.", file=sys.stderr)
            return 1
        complete.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
