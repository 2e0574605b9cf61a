"""What is installed: the wheel, the source distribution, and the names that both take (docs/architecture.md)."""

from __future__ import annotations

import grp
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache import tool_environment
from tests.gateway_process import NO_OTHERS, ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "share/description.md", "gateway", "services", "transports")
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, f'build_{sys.argv[1]}')(sys.argv[2]))"
CHECKED = re.compile(r"Programming Language :: Python :: (3\.\d+)")


def build(kind: str, source: Path, target: Path) -> Path:
    """A distribution, made without any index."""
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-c", BUILD, kind, str(target)]
    environment = {**os.environ, "PIP_NO_INDEX": "1"}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and source distribution."""
    work = tmp_path_factory.mktemp("built")
    source = work / "source"
    for name in SOURCE:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    return build("wheel", source, work / "dist"), build("sdist", source, work / "dist")


@pytest.fixture(scope="module")
def site(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, and nothing of the source tree."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(folder)
    return folder


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.mark.slow
def test_the_source_distribution_makes_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    again = build("wheel", unpacked, tmp_path / "again")
    assert contents(again) == contents(wheel)


@pytest.mark.slow
def test_the_wheel_takes_one_name_and_has_what_is_served(built: tuple[Path, Path]) -> None:
    names = contents(built[0]).keys()
    assert {name.partition("/")[0] for name in names} == {"kafka_gateway", f"kafka_gateway-{version()}.dist-info"}
    static = "kafka_gateway/transports/"
    for name in ("index.html", "kafka-gateway.mjs", "kafka-gateway-stream.mjs"):
        assert f"{static}console/static/{name}" in names
    for name in ("docs.html", "docs.js", "docs.css"):
        assert f"{static}docs/static/{name}" in names
    assert "kafka_gateway/py.typed" in names
    assert sum(name.endswith("LICENSE") for name in names) == 1
    for room in ("gateway", "services", "transports"):
        for path in (ROOT / room).rglob("*.py"):
            inside = path.relative_to(ROOT).as_posix()
            assert (f"kafka_{inside}" if room == "gateway" else f"kafka_gateway/{inside}") in names


def version() -> str:
    return re.search(r'VERSION = "(.+)"', (ROOT / "gateway/version.py").read_text())[1]  # type: ignore[index]


def run(site: Path, cwd: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **NO_OTHERS, "PYTHONPATH": str(site), **more}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)


WHERE = "import kafka_gateway.services.rest.routes as m, services; print(m.__file__, services.__file__)"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["environment", "working directory"])
def test_somebody_elses_packages_of_our_folders_names(site: Path, tmp_path: Path, place: str) -> None:
    """`services`, `transports` and `gateway` of another distribution, or of the project that the user stands in."""
    others = tmp_path / "others"
    for name in ("services", "transports", "gateway"):
        (others / name).mkdir(parents=True)
        (others / name / "__init__.py").write_text("MINE = True\n")
    if place == "environment":
        done = run(site, tmp_path, "-c", WHERE, PYTHONPATH=f"{others}{os.pathsep}{site}")
    else:
        done = run(site, others, "-c", WHERE)  # without -P the working directory stands first
    assert done.returncode == 0, done.stderr
    ours, theirs = done.stdout.split()
    assert ours.startswith(str(site))
    assert theirs.startswith(str(others))
    path = f"{others}{os.pathsep}{site}" if place == "environment" else str(site)
    shown = run(site, others, "-m", "kafka_gateway", "--version", PYTHONPATH=path)
    assert shown.stdout == f"kafka-gateway {version()}\n", shown.stderr


@pytest.mark.slow
def test_init_writes_a_configuration_that_check_takes(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    made = run(site, tmp_path, "-P", "-m", "kafka_gateway", "init", str(folder))
    assert made.returncode == 0, made.stderr
    beside = {"kafka-gateway.service", "alerts.yaml", "grafana-board.json"}
    assert {each.name for each in folder.iterdir()} == {"kafka-gateway.properties", *beside}
    for name, original in (
        ("kafka-gateway.service", "systemd/kafka-gateway.service"),
        ("alerts.yaml", "prometheus/alerts.yaml"),
        ("grafana-board.json", "grafana/kafka-gateway.json"),
    ):
        assert (folder / name).read_bytes() == (ROOT / "share" / original).read_bytes()
    file = folder / "kafka-gateway.properties"
    assert file.stat().st_mode & 0o007 == 0
    text = file.read_text()
    assert "#bootstrap.servers=" in text
    assert all(not line or line.startswith("#") or "=" in line for line in text.splitlines())
    checked = run(site, tmp_path, "-P", "-m", "kafka_gateway", "--check", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    again = run(site, tmp_path, "-P", "-m", "kafka_gateway", "init", str(folder))
    assert (again.returncode, file.read_text()) == (1, text)
    assert "already" in again.stderr


@pytest.mark.slow
def test_the_group_of_the_service_may_read_what_init_writes(site: Path, tmp_path: Path) -> None:
    """Whatever the umask; and nobody else."""
    own = max([os.getgid(), *os.getgroups()] if os.geteuid() else [each.gr_gid for each in grp.getgrall()])
    folder, name = tmp_path / "made" / "etc", grp.getgrgid(own).gr_name
    words = (
        "-P",
        "-c",
        "import os; os.umask(0o077); from kafka_gateway.commands.main import main; raise SystemExit(main())",
    )
    made = run(site, tmp_path, *words, "init", "--group", name, str(folder))
    assert made.returncode == 0, made.stderr
    for each in (folder, *folder.iterdir()):
        assert each.stat().st_gid == own
        assert each.stat().st_mode & 0o040
    assert [each.stat().st_mode & 0o777 for each in (folder, folder / "kafka-gateway.properties")] == [0o750, 0o640]
    refused = run(site, tmp_path, *words, "init", "--group", "no-such-group", str(tmp_path / "other"))
    assert (refused.returncode, (tmp_path / "other").exists()) == (1, False)
    assert "useradd --system --user-group no-such-group" in refused.stderr


@pytest.mark.slow
def test_help_names_what_is_there(site: Path, tmp_path: Path) -> None:
    shown = run(site, tmp_path, "-P", "-m", "kafka_gateway", "--help").stdout
    for word in re.findall(r"^kafka-gateway ([a-z-]+)", shown, re.MULTILINE):
        done = run(site, tmp_path, "-P", "-m", "kafka_gateway", word, "--help")
        assert done.returncode == 0, (word, done.stderr)
    assert "etc/" not in shown  # a file of the repository, not of the wheel
    assert "docs/" not in shown


def test_the_description_has_no_link_that_only_works_in_the_repository() -> None:
    text = (ROOT / PYPROJECT["project"]["readme"]["file"]).read_text()
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def pythons() -> Iterator[tuple[str, str]]:
    """(version, path) of the other Pythons of this machine that the classifiers name."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for wanted in CHECKED.findall("\n".join(PYPROJECT["project"]["classifiers"])):
        found = shutil.which(f"python{wanted}")
        places = [Path(found)] if found else []
        places += sorted(Path.home().glob(f".pyenv/versions/{wanted}.*/bin/python"), reverse=True)
        for each in places if wanted != own else ():
            if subprocess.run([each, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0:
                yield wanted, str(each)
                break


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("wanted", "python"), list(pythons()) or [pytest.param("", "", marks=pytest.mark.skip("none"))]
)
def test_other_pythons(built: tuple[Path, Path], tmp_path: Path, wanted: str, python: str) -> None:
    """It installs from wheels alone, serves, stores a record, and stops in order."""
    environment = tmp_path / "environment"
    subprocess.run([python, "-m", "venv", "--without-pip", str(environment)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install", "--quiet"]
    options = ["--no-compile", "--only-binary", ":all:"]
    subprocess.run([*pip, *options, str(built[0])], check=True, timeout=250, env=tool_environment())
    script = tmp_path / "serve.py"
    script.write_text(SERVE)
    done = subprocess.run(
        [str(environment / "bin/python"), "-W", "error::DeprecationWarning:kafka_gateway", str(script)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"error_code":null' in done.stdout


SERVE = """
import asyncio, json, sys, urllib.request
from kafka_gateway.assembly.app import serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load

def ask(url):
    body = json.dumps({"records": [{"value": 1}]}).encode()
    kind = {"Content-Type": "application/vnd.kafka.json.v2+json"}
    with urllib.request.urlopen(urllib.request.Request(url + "/topics/orders", body, kind)) as reply:
        print(reply.read().decode())
    with urllib.request.urlopen(url + "/openapi.json") as reply:
        assert reply.status == 200

async def main():
    plugins = Plugins(installed=False)
    config = load(plugins.config_keys()).with_values({"port": 0, "embedded.enable": True})
    async with serve(config, plugins) as app:
        await asyncio.to_thread(ask, app.addresses[0])

asyncio.run(main())
"""
