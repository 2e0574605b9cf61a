"""bin/start and bin/stop, on a copy of the scripts beside a gateway that only says what it was given."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_gateway.logs.logs import a_line

ROOT = Path(__file__).resolve().parents[2]
READY = "Server started, listening for requests...\n"

STUB = """
import os, signal, sys, time
from pathlib import Path
if "producer" in sys.argv:
    print(__spec__.name, sys.argv[1:])
    sys.exit(7)
if "faulty=1" in sys.argv:
    print("kafka-gateway: argument: faulty: no such property", file=sys.stderr)
    sys.exit(2)
def end(*_):
    if "slow=1" in sys.argv:  # one that drains
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(0))
        signal.alarm(7)
    else:
        sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn=1" in sys.argv else end)
print(sys.argv[1:])
print(os.environ.get("KAFKAREST_LOG4J_OPTS"))
print(os.environ.get("STUB_READY", "Server started, listening for requests..."), flush=True)
while True:
    time.sleep(0.2)  # not pause(): a signal that comes just before it would wake nobody up
"""

ENVIRONMENT_S = 200
"""How long making a virtual environment may take, on a machine that does other things, too."""

# Each test starts the program, and the first one makes an environment.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(ENVIRONMENT_S + 60)]


PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "kafka-gateway"
version = "0"

[tool.setuptools]
package-dir = { "kafka_gateway" = "gateway" }
packages = ["kafka_gateway", "kafka_gateway.commands"]
"""


class Copy:
    """The scripts under a path with a blank, called from a directory that has a `kafka_gateway` of its own."""

    def __init__(self, base: Path) -> None:
        self.root = base / "a copy"
        self.elsewhere = base / "elsewhere"
        self.pid_file = self.elsewhere / "gateway.pid"
        shutil.copytree(ROOT / "bin", self.root / "bin", symlinks=True)
        setuptools = re.search(r"^setuptools==(?:.*\\\n)*.*$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
        assert setuptools is not None
        (self.root / "requirements.lock").write_text(setuptools[0])
        (self.root / "pyproject.toml").write_text(PROJECT)
        wrong = "raise SystemExit('the wrong gateway')"
        for package, source in ((self.root / "gateway", STUB), (self.elsewhere / "kafka_gateway", wrong)):
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            (package / "__main__.py").write_text(source)
        told = "import sys; print(__spec__.name, sys.argv[1:]); sys.exit(7)"
        commands = self.root / "gateway" / "commands"
        commands.mkdir()
        for name in ("bytehoops", "flasfka"):
            (commands / f"{name}.py").write_text(told)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKAREST_", "JMX_", "PYTHON"))}
        self.running: list[subprocess.Popen[str]] = []

    def popen(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.root / "bin" / script, *arguments],
            cwd=self.elsewhere,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def run(self, script: str, *arguments: str, patience_s: float = 50, **environment: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a script that ends."""
        process = self.popen(script, *arguments, **environment)
        out, err = process.communicate(timeout=patience_s)
        return process.returncode, out, err

    def started(self, script: str, *arguments: str, **environment: str) -> tuple[subprocess.Popen[str], list[str]]:
        """A gateway that is ready, and what it said until then."""
        process = self.popen(script, *arguments, **environment)
        said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            if line == READY:
                return process, said
            said.append(line.rstrip("\n"))
        raise AssertionError(f"it ended: {said} {process.communicate()}")


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = Copy(tmp_path_factory.mktemp("scripts"))
    code, _, err = copy.run("env", patience_s=ENVIRONMENT_S)
    assert (code, "Installing" in err) == (0, True)
    return copy


@pytest.fixture
def copy(copied: Copy) -> Iterator[Copy]:
    yield copied
    copied.run("stop")
    copied.pid_file.unlink(missing_ok=True)
    for process in copied.running:
        process.communicate(timeout=10)
    copied.running.clear()


@pytest.fixture
def log(copy: Copy) -> Path:
    """What a daemon writes."""
    file = copy.elsewhere / "logs" / "gateway.log"
    file.unlink(missing_ok=True)
    file.parent.mkdir(exist_ok=True)
    return file


def test_the_environment_is_made_once(copy: Copy) -> None:
    _, first, err = copy.run("env")
    assert err == ""
    assert copy.run("env") == (0, first, "")


@pytest.mark.parametrize("arguments", [["-help"], ["some.properties", "-help"], ["-daemon", "-help"]])
@pytest.mark.parametrize("script", ["start", "kafka-rest-start", "kafka-rest-atmosphere-start"])
def test_help(copy: Copy, script: str, arguments: list[str]) -> None:
    usage = f"USAGE: {copy.root}/bin/{script} [-daemon] [opts] [-help]\n"
    assert copy.run(script, *arguments) == (0, usage, "")


@pytest.mark.parametrize("arguments", [["no.properties"], ["-daemon", "no.properties"], ["no.properties", "-daemon"]])
def test_a_file_that_cannot_be_read(copy: Copy, arguments: list[str]) -> None:
    assert copy.run("start", *arguments) == (1, "", "Cannot read the properties file no.properties\n")


@pytest.mark.parametrize("name", ["bytehoops", "flasfka-serve", "kafka-gateway"])
def test_commands(copy: Copy, name: str) -> None:
    """By their names alone, as README says."""
    modules = {"bytehoops": "commands.bytehoops", "flasfka-serve": "commands.flasfka"}
    path = f"{copy.root / 'bin'}:{os.environ['PATH']}"
    command = ["sh", "-c", f"PATH='{path}'; {name} producer 'a b'"]
    done = subprocess.run(
        command, cwd=copy.elsewhere, env=copy.environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.split(maxsplit=1) == [f"kafka_gateway.{modules.get(name, '__main__')}", "['producer', 'a b']\n"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_in_the_foreground_the_pid_is_the_gateways(copy: Copy, number: signal.Signals) -> None:
    process, _ = copy.started("start")
    process.send_signal(number)
    assert process.wait(10) == (0 if number is signal.SIGTERM else -number)


def test_arguments(copy: Copy) -> None:
    file = copy.elsewhere / "my=own file.properties"
    file.touch()
    options = "-Xmx1G -Da.b=1 -Da.b=2 -Dempty -Djava.awt.headless=true"
    process, said = copy.started(
        "start", "x=a b", str(file), "y=*", "--get", "/topics", KAFKAREST_OPTS=options, JMX_PORT="1"
    )
    assert said[0] == str([str(file), "a.b=1", "a.b=2", "empty=", "x=a b", "y=*", "--get", "/topics"])
    process.terminate()
    _, err = process.communicate(timeout=10)
    assert err.splitlines() == [
        "Ignored, it is for a Java virtual machine: -Djava.awt.headless=true",
        "JMX_PORT is ignored: there is no JMX here",
    ]


def test_the_log_configuration_beside_it_is_found(copy: Copy) -> None:
    file = copy.root / "etc" / "kafka-rest" / "log4j.properties"
    file.parent.mkdir(parents=True)
    file.touch()
    _, said = copy.started("start")
    assert said[1] == f"-Dlog4j.configuration=file:{file}"
    _, said = copy.started("start", KAFKAREST_LOG4J_OPTS="-Dlog4j.configuration=file:mine")
    assert said[1] == "-Dlog4j.configuration=file:mine"


def test_the_class_and_the_pattern_of_the_old_scripts_are_dropped(copy: Copy, log: Path) -> None:
    assert copy.run("kafka-rest-run-class", "de.elakito.kafka.atmosphere.Main", "-daemon", "a=1")[0] == 0
    assert log.read_text().startswith(f"['log.file={log}', 'a=1']")
    assert copy.run("kafka-rest-stop-service", r"(kafka\.atmosphere\.Main)") == (0, "", "")


def test_a_daemon_holds_nothing_of_its_caller_and_tells_when_it_serves(copy: Copy, log: Path) -> None:
    log.write_text("Server started, listening for requests... (of an earlier one)\n")
    code, out, err = copy.run("start", "-daemon", "a=1")  # waits for the end of both pipes
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"Server started with pid [0-9]+, output in {re.escape(str(log))}\n", out)
    assert f"['log.file={log}', 'a=1']" in log.read_text().splitlines()
    assert copy.run("stop") == (0, "", "")


def test_a_daemon_keeps_the_log_that_it_was_told_of(copy: Copy, log: Path, tmp_path: Path) -> None:
    """What it writes outside of its log still goes where ``-daemon`` says: beside the pid file, or to LOG_DIR."""
    file = tmp_path / "my.properties"
    file.write_text("port=1\n log.file = mine.log\n")
    named = {"KAFKAREST_PID_FILE": str(tmp_path / "run" / "pid")}
    (tmp_path / "run").mkdir()
    code, out, _ = copy.run("start", "-daemon", str(file), **named)
    assert code == 0
    assert (tmp_path / "run" / "logs" / "gateway.log").read_text().startswith(f"['{file}']\n")
    assert out.endswith(f"output in {tmp_path}/run/logs/gateway.log, log as log.file of {file} says\n")
    assert copy.run("stop", **named) == (0, "", "")
    own = copy.elsewhere / "own" / "gateway.log"
    code, out, _ = copy.run("start", "-daemon", LOG_DIR="own", KAFKA_GATEWAY_LOG_FILE="mine.log")
    assert (code, out.endswith(f"output in {own}, log in mine.log\n")) == (0, True)
    assert own.read_text().startswith("[]\n")
    assert own.stat().st_mode & 0o007 == 0
    file.write_text("port=1\n")
    code, out, _ = copy.run("start", "-daemon", str(file), "a=1", KAFKAREST_OPTS="-Dlog.file=mine.log")
    assert (code, out.endswith(f"output in {log}, log in mine.log\n")) == (0, True)
    assert f"['{file}', 'log.file={log}', 'log.file=mine.log', 'a=1']" in log.read_text()  # the last one counts
    assert copy.run("stop") == (0, "", "")


def test_a_daemon_that_logs_json_is_seen_to_serve(copy: Copy, log: Path) -> None:
    """As the gateway writes that line, ``STUB_READY``, which was once looked for with a blank that it has not."""
    code, out, err = copy.run(
        "start", "-daemon", "log.format=json", STUB_READY=a_line("json", "gateway", READY.strip())
    )
    assert (code, err) == (0, "")
    assert out.endswith(f"output in {log}\n")


def test_a_daemon_that_cannot_start_says_what_it_said(copy: Copy, log: Path) -> None:
    log.write_text("an earlier one\n")
    code, out, err = copy.run("start", "-daemon", "faulty=1", KAFKAREST_PID_FILE=str(copy.pid_file))
    assert (code, out, err) == (2, "", "kafka-gateway: argument: faulty: no such property\n")
    assert not copy.pid_file.exists()


def test_the_log_of_a_daemon_goes_home_where_it_may_not_write(copy: Copy, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    code, out, _ = copy.run("start", "-daemon", HOME=str(tmp_path), LOG_DIR=str(taken))
    assert code == 0
    assert out.endswith(f"output in {tmp_path}/logs/gateway.log\n")
    assert copy.run("stop") == (0, "", "")
    code, out, err = copy.run("start", "-daemon", HOME=str(taken), LOG_DIR=str(taken))
    assert (code, out) == (1, "")
    assert "set LOG_DIR" in err


def test_daemons_are_stopped_together(copy: Copy, log: Path) -> None:
    for _ in range(2):
        assert copy.run("start", "-daemon")[0] == 0
    assert copy.run("kafka-rest-atmosphere-stop") == (0, "", "")
    assert copy.run("stop") == (1, "", "No running instance found.\n")


@pytest.mark.parametrize("daemon", [["-daemon"], []])
def test_pid_file(copy: Copy, log: Path, daemon: list[str]) -> None:
    named = {"KAFKAREST_PID_FILE": str(copy.pid_file)}
    copy.run("start", *daemon, **named) if daemon else copy.started("start", **named)
    other, _ = copy.started("start")
    pid = copy.pid_file.read_text().strip()
    code, _, err = copy.run("start", **named)
    assert (code, err) == (1, f"Already running with pid {pid} (from {copy.pid_file})\n")
    assert copy.run("stop", **named) == (0, "", "")
    assert not copy.pid_file.exists()
    assert copy.run("stop", **named) == (1, "", "No running instance found.\n")
    assert other.poll() is None


def test_a_pid_file_that_names_another_process(copy: Copy, log: Path) -> None:
    copy.pid_file.write_text(str(os.getpid()))
    named = {"KAFKAREST_PID_FILE": str(copy.pid_file)}
    assert copy.run("stop", **named) == (1, "", "No running instance found.\n")
    copy.pid_file.write_text(str(os.getpid()))
    assert copy.run("start", "-daemon", **named)[0] == 0
    assert copy.run("stop", **named) == (0, "", "")


def test_a_gateway_that_does_not_end(copy: Copy) -> None:
    process, _ = copy.started("start", "stubborn=1")
    told = f"Tried to kill {process.pid} but never saw it die\n"
    assert copy.run("stop", KAFKAREST_STOP_WAIT_S="1") == (1, "", told)
    assert process.poll() is None
    assert copy.run("stop", KAFKAREST_STOP_WAIT_S="1m") == (1, "", "KAFKAREST_STOP_WAIT_S=1m is no number of seconds\n")
    process.kill()


def test_a_gateway_that_takes_its_time_is_waited_for(copy: Copy) -> None:
    """A node that drains: whoever starts it again behind ``bin/stop`` must not find it there."""
    process, _ = copy.started("start", "slow=1")
    assert copy.run("stop") == (0, "", f"Waiting up to 60 s for {process.pid} to end\n")
    assert process.wait(10) == 0


def test_an_interpreter_that_is_none(copy: Copy) -> None:
    code, _, err = copy.run("start", KAFKAREST_PYTHON="/nowhere/python")
    assert (code, err) == (1, "KAFKAREST_PYTHON=/nowhere/python is no Python 3.11 or newer\n")
