"""The files of share/docker, share/systemd and share/helm, as far as that goes without an engine or a cluster."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load
from kafka_gateway.kafka.clients.properties import faults
from tests.cache import find_program
from tests.gateway_process import ROOT
from tests.processes import killed_at_the_end

DOCKER = ROOT / "share/docker"
CHART = ROOT / "share/helm/kafka-gateway"
NOBODY = 65534


def check_properties(*pairs: str) -> None:
    """ConfigError for one that does not exist, or has a faulty value."""
    load(Plugins(installed=False).config_keys(), None, pairs, {}, checks=(faults,))


def test_the_image_copies_what_its_build_needs() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for word in line.split()}
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert "USER 65534" in text
    assert "HEALTHCHECK" in text
    assert not re.search(r"latest|chmod 777|sudo|ADD http", text)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_the_steps_of_the_image_and_its_user(tmp_path: Path) -> None:
    """build.sh in a fresh folder; then the gateway as nobody, in a tree that it cannot write."""
    setpriv = find_program("setpriv", package="util-linux")
    source, target = tmp_path / "source", tmp_path / "kafka-gateway"
    for name in (ROOT / ".dockerignore").read_text().splitlines():
        if name.startswith("!"):
            (source / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name[1:]).is_dir() else shutil.copy
            copy(ROOT / name[1:], source / name[1:])
    subprocess.run([DOCKER / "build.sh", sys.executable, source, target], check=True, timeout=350)
    shutil.rmtree(source)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    home = tmp_path / "tmp"
    home.mkdir()
    home.chmod(0o777)
    socket = home / "gateway.sock"
    command = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    command += [str(target / "bin/kafka-gateway"), f"listeners=http://127.0.0.1:0,unix:{socket}"]
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(home)}
    started = subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with killed_at_the_end(started) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Server started"):
                break
        found = re.search(r"Listening on (http://[^\s,]+)", "".join(lines))
        assert found, lines
        assert f"\nUid:\t{NOBODY}\t" in Path(f"/proc/{process.pid}/status").read_text()
        with urllib.request.urlopen(f"{found[1]}/health/ready") as reply:
            assert reply.status == 200
        began = time.monotonic()
        process.terminate()
        process.stdout.read()
        assert process.wait(20) == 0
        assert time.monotonic() - began < 15  # compose.yaml's stop_grace_period
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_compose_names_files_and_properties_that_exist() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert services.keys() == {"kafka", "registry", "gateway", "prometheus", "grafana"}
    gateway = services["gateway"]
    check_properties(*gateway["command"])
    assert gateway["read_only"]
    assert gateway["cap_drop"] == ["ALL"]
    assert (DOCKER / gateway["build"]["context"] / gateway["build"]["dockerfile"]).exists()
    for service in services.values():
        assert not service.get("image", ":1").endswith(":latest")
        for volume in service.get("volumes", ()):
            source = DOCKER / volume.partition(":")[0]
            assert not volume.startswith(".") or source.is_file(), volume
            assert not source.is_symlink(), volume  # it would point to nothing in the container
    assert yaml.safe_load((DOCKER / "prometheus.yaml").read_text())["scrape_configs"]


def test_systemd_understands_its_unit(tmp_path: Path) -> None:
    text = (ROOT / "share/systemd/kafka-gateway.service").read_text()
    assert "Type=notify" in text
    assert "WatchdogSec=" in text
    # A user that is there before the service: its group may read what `init` writes.
    assert "DynamicUser" not in text
    assert re.search(r"^Group=(\S+)$", text, re.MULTILINE)[1] == re.search(r"init --group (\S+)", text)[1]  # type: ignore[index]
    assert "Documentation=file:" not in text  # nothing is installed there
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd-analyze in PATH")
    unit = tmp_path / "kafka-gateway.service"
    unit.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_logrotate_is_told_of_the_unit_and_of_every_file() -> None:
    unit = (ROOT / "share/systemd/kafka-gateway.service").read_text()
    snippet = re.search(r"```\n(/var/log/.+?)\n```", (ROOT / "docs/logging.md").read_text(), re.DOTALL)
    audit = re.search(r"`audit\.log=(/\S+)`", (ROOT / "docs/security.md").read_text())
    assert snippet
    assert audit
    globs, _, rest = snippet[1].partition(" {")
    for file in ("/var/log/kafka-gateway/gateway.log", audit[1]):
        assert any(fnmatch.fnmatchcase(file, glob) for glob in globs.split()), file
    assert "ExecReload=/bin/kill -HUP $MAINPID" in unit
    assert "systemctl reload kafka-gateway\n" in rest


def test_the_chart_names_the_version_of_the_gateway() -> None:
    version = re.search(r'VERSION = "(.+)"', (ROOT / "gateway/version.py").read_text())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert version
    assert chart["version"] == chart["appVersion"] == version[1]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"insecure": True, "serviceMonitor": {"enabled": True}},
        {"secretName": "proofs", "config": {"authentication.method": "BASIC",
                                            "authentication.basic.file": "/etc/kafka-gateway/secrets/users"}},
        {"configSecretName": "all-of-it", "podDisruptionBudget": {"enabled": False}},
    ],
    ids=["defaults", "monitored", "secrets", "own configuration"],
)  # fmt: skip
def test_what_helm_makes_of_the_chart(values: dict[str, object], tmp_path: Path) -> None:
    if (helm := shutil.which("helm")) is None:
        pytest.skip("no helm in PATH")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    command = [helm, "template", "one", str(CHART), "--values", str(tmp_path / "values.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout) if each}
    kinds = [kind for kind, _ in made]
    assert ("ServiceMonitor" in kinds) == ("serviceMonitor" in values)
    assert ("PodDisruptionBudget" in kinds) == ("podDisruptionBudget" not in values)
    assert ("ConfigMap" in kinds) == ("configSecretName" not in values)
    pod = made["Deployment", "one"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == NOBODY
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    if ("ConfigMap", "one") in made and values:
        text = made["ConfigMap", "one"]["data"]["kafka-gateway.properties"]
        pairs = [line for line in text.splitlines() if line and "basic" not in line.lower()]
        check_properties(*pairs, "listeners.insecure=true")
