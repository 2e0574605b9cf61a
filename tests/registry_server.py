"""A real schema registry on this machine for the tests: Apicurio Registry, which speaks Confluent's API.

It comes from Maven into the cache that Kafka is in, once, and keeps its schemas in its own memory: a test that wants an
empty one uses subjects of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests import cache
from tests.kafka_cluster import HOST, POM, WATCHDOG, free_ports
from tests.waiting import wait_until

VERSION = "3.3.3"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
SERDE_VERSION = "3.1.7"
"""The newest on Maven Central; the registry's own numbers go further."""
JAVA_LEAST = 21
"""Its class files are of version 65."""
JVM_OPTIONS = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
START_S = 60.0


class RegistryUnavailableError(Exception):
    """The registry cannot run on this machine, or did not start; the text says why."""


def find_java() -> str:
    """Path of a Java that can run the registry: that of JAVA_HOME or PATH, or one installed beside it."""
    candidates = []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin" / "java")
    if default := shutil.which("java"):
        candidates.append(Path(default))
        installed = Path(default).resolve().parent.parent.parent
        candidates += sorted(installed.glob("*/bin/java"))
    for java in candidates:
        if java.is_file() and _java_version(java) >= JAVA_LEAST:
            return str(java)
    raise RegistryUnavailableError(
        f"The schema registry of the tests needs Java {JAVA_LEAST} or newer: there is none in JAVA_HOME, in PATH or "
        "beside them"
    )


def _java_version(java: Path) -> int:
    release = java.resolve().parent.parent / "release"
    text = release.read_text() if release.is_file() else ""
    if not text:
        text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'(?:JAVA_VERSION=|version )"(\d+)', text)
    return int(found[1]) if found else 0


def fetch_registry() -> Path:
    """The unpacked registry. The first call on a machine downloads 151 MiB with Maven, others wait for it."""
    try:
        return cache.once(f"apicurio-{VERSION}", _download)
    except cache.UnavailableError as error:
        raise RegistryUnavailableError(
            f"The schema registry is fetched with Maven once, which failed: {error}"
        ) from None


def _download(folder: Path) -> None:
    print(
        f"Fetching Apicurio Registry {VERSION} with Maven into {cache.cache_dir()} (once)", file=sys.stderr, flush=True
    )
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        command = ["mvn", "-q", "-B", cache.maven_repository(), COPY_GOAL, f"-Dartifact={ARTIFACT}"]
        cache.run_tool([*command, f"-DoutputDirectory={work}"], work)
        with tarfile.open(next(work.glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")


def java_serde() -> Path:
    """The folder with the jars of Apicurio's Avro (de)serialisers for Kafka's Java client: 32 MiB, once."""
    return cache.once(f"apicurio-serde-{SERDE_VERSION}", _download_serde)


def _download_serde(folder: Path) -> None:
    group, artifact, version = "io.apicurio", "apicurio-registry-avro-serde-kafka", SERDE_VERSION
    dependency = f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "pom.xml").write_text(POM.format(dependencies=f"<dependency>{dependency}</dependency>"))
        command = ["mvn", "-q", "-B", cache.maven_repository(), f"{COPY_GOAL}-dependencies", "-DincludeScope=runtime"]
        cache.run_tool([*command, f"-DoutputDirectory={folder}"], Path(work))


class SchemaRegistry:
    """A running registry, empty at first. ``url`` is what clients of Confluent's API are told.

    Raises RegistryUnavailableError: no Java, no Maven on the first use, or it ends at its start.
    """

    def __init__(self, *, options: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._options = options
        self._environment = environment or {}
        self._directory = Path(tempfile.mkdtemp(prefix="kafka-gateway-registry-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[str] | None = None
        self.port, self._management_port = free_ports(2)
        self.base = f"http://{HOST}:{self.port}"
        self.url = f"{self.base}/apis/ccompat/v7"

    def start(self) -> Self:
        """Returns when it answers: 4 to 7 seconds on an idle machine."""
        java, home = find_java(), fetch_registry()
        environment = {
            "QUARKUS_HTTP_HOST": HOST,
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_MANAGEMENT_HOST": HOST,
            "QUARKUS_MANAGEMENT_PORT": str(self._management_port),
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
            "APICURIO_RULES_GLOBAL_COMPATIBILITY": "BACKWARD",
        }
        command = [java, *JVM_OPTIONS, *self._options, "-jar", str(home / "quarkus-run.jar")]
        self._watchdog = subprocess.Popen(
            [sys.executable, "-c", WATCHDOG, str(self._directory)], stdin=subprocess.PIPE, text=True
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=os.environ | environment | self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._tell_watchdog(f"+{self._process.pid}")
        process = self._process
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: self._is_ready() or process.poll() is not None, START_S)
        if not self._is_ready():
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            self.stop()
            raise RegistryUnavailableError(f"The schema registry did not start; the end of its log:\n{tail}")
        return self

    def stop(self) -> None:
        """Ends it; safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._tell_watchdog(f"-{process.pid}")
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None and watchdog.stdin is not None:
            watchdog.stdin.close()
            watchdog.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The registry's answer, for what a test prepares; an error answer raises urllib's HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def register(self, subject: str, schema: str, type: str = "AVRO", references: Sequence[object] = ()) -> int:
        """The id of the schema under this subject."""
        body = {"schema": schema, "schemaType": type, "references": list(references)}
        path = f"/subjects/{urllib.parse.quote(subject, safe='')}/versions"
        number: int = self.ask("POST", path, body)["id"]
        return number

    @property
    def _log(self) -> Path:
        return self._directory / "registry.log"

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            self.ask("GET", "/subjects")
            return True
        return False

    def _tell_watchdog(self, line: str) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with contextlib.suppress(OSError):
                print(line, file=self._watchdog.stdin, flush=True)
