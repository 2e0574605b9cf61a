"""The hooks carry: the distribution in tests/plugin does all that a plugin can do, and faulty plugins are told so."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from textwrap import dedent
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly import app as assembly
from kafka_gateway.assembly import plugins as plugin_manager
from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.built_in import BUILT_IN
from kafka_gateway.assembly.plugins import PluginError, Plugins
from kafka_gateway.auth import Authenticator
from kafka_gateway.codec import Codec
from kafka_gateway.commands.main import main
from kafka_gateway.config import Config, ConfigKey, load
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.router import Route
from kafka_gateway.transport import Transport
from tests.services.fake_kafka import FakeKafka

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "plugin"
TEXT = "application/vnd.kafka.text.v2+json"
V2 = "application/vnd.kafka.v2+json"
NO_KAFKA: Any = FakeKafka()


# --- the plugin, installed -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the plugin in it as pip installs it, for the import path."""
    copy, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(SOURCE, copy)  # building leaves traces beside the source
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(target)]
    done = subprocess.run([*pip, *options, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def on_path(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin is installed, and no other: what this machine has besides changes nothing."""
    monkeypatch.syspath_prepend(str(installed))

    def entry_points(group: str) -> list[EntryPoint]:
        found = (each.entry_points.select(group=group) for each in distributions(path=[str(installed)]))
        return list(itertools.chain.from_iterable(found))

    monkeypatch.setattr(plugin_manager, "entry_points", entry_points)
    yield
    for name in [name for name in sys.modules if name.startswith("kafka_gateway_lines")]:
        del sys.modules[name]


Running = Callable[..., contextlib.AbstractAsyncContextManager[App]]


@pytest.fixture
def fake() -> FakeKafka:
    return FakeKafka(t=1)


@pytest.fixture
def running(on_path: None, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> Running:
    """A gateway with the plugin: ``async with running(**settings)``; ``_`` in their names stands for a dot."""

    @contextlib.asynccontextmanager
    async def open_fake(config: Config) -> AsyncIterator[FakeKafka]:
        yield fake

    @contextlib.asynccontextmanager
    async def run(**settings: object) -> AsyncIterator[App]:
        monkeypatch.setattr(assembly, "open_kafka", open_fake)
        plugins = Plugins()
        values: dict[str, object] = {"port": 0, "transport.lines.port": 0}
        values |= {name.replace("_", "."): value for name, value in settings.items()}
        config = load(plugins.config_keys()).with_values(values)
        async with serve(config, plugins) as started:
            yield started

    return run


class Lines:
    """A client of the transport ``lines``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, app: App) -> Lines:
        return cls(*await asyncio.open_connection("127.0.0.1", app.ports["lines"]))

    async def send(self, **fields: Any) -> None:
        self.writer.write(json.dumps(fields).encode() + b"\n")
        await self.writer.drain()

    async def receive(self) -> Any:
        return json.loads(await self.reader.readline())

    async def ask(self, **fields: Any) -> Any:
        await self.send(**fields)
        return await self.receive()

    async def close(self) -> None:
        """Returns when the gateway has closed its side."""
        self.writer.write_eof()
        assert await self.reader.read() == b""
        self.writer.close()
        await self.writer.wait_closed()


def test_the_plugin_is_found_by_its_entry_point(on_path: None) -> None:
    assert Plugins().names() == sorted([*BUILT_IN, "lines"])


async def test_its_route_answers_on_every_transport(running: Running) -> None:
    async with running() as app, aiohttp.ClientSession() as http:
        async with http.get(f"{app.addresses[0]}/plugin/echo?a=1") as response:
            assert response.content_type == "application/json"
            assert await response.json() == {"transport": "http", "principal": "anonymous", "query": {"a": "1"}}
        client = await Lines.connect(app)
        assert await client.ask(id=7, path="/plugin/echo?a=1&a=2") == {
            "id": 7,
            "status": 200,
            "body": {"transport": "lines", "principal": "anonymous", "query": {"a": "1"}},
        }
        await client.close()


async def test_its_stream_is_delivered_on_every_transport(running: Running) -> None:
    async with running() as app, aiohttp.ClientSession() as http:
        async with http.get(f"{app.addresses[0]}/plugin/ticks?count=3&ms=1") as response:
            assert response.content_type == "application/x-ndjson"
            assert [json.loads(line) async for line in response.content] == [{"tick": n} for n in (1, 2, 3)]
        client = await Lines.connect(app)
        assert await client.ask(id="s", path="/plugin/ticks?count=2&ms=1") == {"id": "s", "status": 200, "stream": True}
        assert await client.receive() == {"id": "s", "payload": '{"tick":1}\n'}
        assert await client.receive() == {"id": "s", "payload": '{"tick":2}\n'}
        assert await client.receive() == {"id": "s", "end": True}
        await client.close()
        assert not any(session.streams for session in app.gateway.sessions)


async def test_its_transport_serves_the_built_in_resources_too(running: Running) -> None:
    async with running() as app:
        client = await Lines.connect(app)
        assert (await client.ask(path="/topics"))["body"] == ["t"]
        assert (await client.ask(path="/nothing"))["body"]["error_code"] == 404
        produced = await client.ask(
            method="POST", path="/topics/t", headers={"Content-Type": TEXT}, body={"records": [{"value": "x"}]}
        )
        assert produced["status"] == 200
        await client.close()


async def test_requests_are_answered_while_a_stream_runs_and_leaving_ends_it(running: Running) -> None:
    async with running() as app:
        client = await Lines.connect(app)
        assert (await client.ask(id=1, path="/plugin/ticks?count=9&ms=999999"))["stream"]
        assert (await client.ask(id=2, path="/plugin/echo"))["id"] == 2
        (session,) = app.gateway.sessions
        (stream,) = session.streams
        await client.close()
        assert app.gateway.sessions == set()
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()


async def test_a_line_that_is_no_request_is_answered_and_ends_the_connection(running: Running) -> None:
    async with running(**{"request.max.bytes": 1000}) as app:
        for line, status in ((b"{\n", 400), (b'{"paht": "/"}\n', 400), (b'"x"\n', 400), (b"x" * 3000 + b"\n", 413)):
            client = await Lines.connect(app)
            client.writer.write(line)
            assert (await client.receive())["status"] == status
            assert await client.reader.read() == b""
            client.writer.close()


async def test_stopping_ends_its_connections(running: Running) -> None:
    async with running() as app:
        client = await Lines.connect(app)
        assert (await client.ask(id=1, path="/plugin/ticks?count=9&ms=999999"))["stream"]
    await client.reader.read()
    assert client.reader.at_eof()
    client.writer.close()


async def test_its_codec_is_an_embedded_format(running: Running, fake: FakeKafka) -> None:
    async with running() as app, aiohttp.ClientSession(app.addresses[0], headers={"Content-Type": V2}) as http:
        body = json.dumps({"records": [{"key": "Schlüssel", "value": ""}, {"value": None}]})
        async with http.post("/topics/t", data=body, headers={"Content-Type": TEXT}) as response:
            assert response.status == 200, await response.text()
        assert [(each.key(), each.value()) for each in fake.logs["t"][0]] == [
            ("Schlüssel".encode(), b""),
            (None, None),
        ]
        settings = {"name": "c", "format": "text", "auto.offset.reset": "earliest"}
        async with http.post("/consumers/g", data=json.dumps(settings)) as response:
            assert response.status == 200, await response.text()
        async with http.post("/consumers/g/instances/c/subscription", data='{"topics": ["t"]}') as response:
            assert response.status == 204, await response.text()
        async with http.get("/consumers/g/instances/c/records", headers={"Accept": TEXT}) as response:
            assert response.content_type == TEXT
            assert [(each["key"], each["value"]) for each in await response.json()] == [("Schlüssel", ""), (None, None)]


async def test_its_authenticator_guards_every_transport(running: Running) -> None:
    keys = {"authentication.method": "apikey", "authentication.apikey.keys": "ada:k1,bob:k2"}
    async with running(**keys) as app:
        # One connection for all: a proxy in front sends the requests of many clients over it.
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(app.addresses[0], connector=connector) as http:
            seen = []
            for headers in ({"X-Api-Key": "k1"}, {"X-Api-Key": "k2"}, {}, {"X-Api-Key": "k"}, {"X-Api-Key": "k1"}):
                async with http.get("/plugin/echo", headers=headers) as response:
                    answer = await response.json()
                    seen.append(answer.get("principal", response.status))
            assert seen == ["ada", "bob", 401, 401, "ada"]
        stranger = await Lines.connect(app)
        assert (await stranger.ask(path="/plugin/echo"))["status"] == 401
        assert await stranger.reader.read() == b""
        stranger.writer.close()
        client = await Lines.connect(app)
        answer = await client.ask(path="/plugin/echo", headers={"X-Api-Key": "k2"})
        assert answer["body"]["principal"] == "bob"
        await client.close()


# --- what is refused at start ----------------------------------------------------------------------------------------


def announce(site: Path, name: str, source: str, distribution: str = "some-plugin") -> None:
    """Puts a distribution with one module into ``site``, as if it had been installed."""
    module = f"module_{name}_{distribution.replace('-', '_')}".replace(".", "_")
    (site / f"{module}.py").write_text("from kafka_gateway.transport import hookimpl\n" + dedent(source))
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[kafka_gateway]\n{name} = {module}\n")


def start(*arguments: str, site: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command with plugins from ``site`` until it ends by itself."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA")} | (env or {})
    variables["PYTHONPATH"] = os.pathsep.join([str(site), str(ROOT)])
    command = [sys.executable, "-m", "kafka_gateway", "port=0", *arguments]
    return subprocess.run(command, env=variables, cwd=site, capture_output=True, text=True, timeout=30, check=False)


FAULTY = {
    "misspelt hook": (
        "@hookimpl\ndef gateway_route(): return []",
        "there is no hook gateway_route; did you mean gateway_routes?",
    ),
    "no such hook": ("@hookimpl\ndef on_start(): return []", "there is no hook on_start; the hooks are gateway_auth"),
    "misspelt argument": ("@hookimpl\ndef gateway_routes(kafak): return []", "kafak"),
    "hook without its mark": ("def gateway_routes(): return []", "gateway_routes is not marked with @hookimpl"),
    "no hook at all": ("", "it has none of the hooks"),
    "wrapper": ("@hookimpl(wrapper=True)\ndef gateway_codecs():\n    return (yield)", "cannot be wrapped"),
    "coroutine": ("@hookimpl\nasync def gateway_codecs(): return []", "gateway_codecs must be a plain function"),
    "no list": ("@hookimpl\ndef gateway_codecs(): pass", "gateway_codecs must be a plain function that returns a list"),
    "raises": (
        "@hookimpl\ndef gateway_codecs():\n    raise KeyError('two\\nlines')",
        "gateway_codecs failed: KeyError",
    ),
    "raises for keys": ("@hookimpl\ndef gateway_config_keys():\n    raise KeyError", "gateway_config_keys failed"),
    "raises while read": ("@hookimpl\ndef gateway_codecs():\n    yield 1 / 0", "gateway_codecs failed: ZeroDivision"),
    "class for object": (
        "from kafka_gateway.codec import Codec\n@hookimpl\ndef gateway_codecs(): return [Codec]",
        "gateway_codecs must return Codec objects, not Codec",
    ),
    "wrong object": ("@hookimpl\ndef gateway_transports(): return ['x']", "must return Transport objects, not a str"),
    "no name": (
        "from kafka_gateway.codec import Codec\n@hookimpl\ndef gateway_codecs(): return [Codec()]",
        "the name of its codec Codec, '', is not",
    ),
    "name of two words": (
        "from kafka_gateway.transport import Transport\nclass T(Transport): name = 'a.b'\n"
        "@hookimpl\ndef gateway_transports(): return [T()]",
        "the name of its transport T, 'a.b', is not",
    ),
    "clashing codec": (
        "from kafka_gateway.codec import Codec\nclass C(Codec): name = 'json'\n"
        "@hookimpl\ndef gateway_codecs(): return [C()]",
        "the codec json exists already, in core",
    ),
    "clashing transport": (
        "from kafka_gateway.transport import Transport\nclass T(Transport): name = 'HTTP'\n"
        "@hookimpl\ndef gateway_transports(): return [T()]",
        "the transport HTTP exists already, in http",
    ),
    "clashing authenticator": (
        "from kafka_gateway.auth import Authenticator\nclass A(Authenticator): name = 'basic'\n"
        "@hookimpl\ndef gateway_authenticators(): return [A()]",
        "the authenticator basic exists already, in core",
    ),
    "clashing route": (
        "from kafka_gateway.router import Route\n"
        "@hookimpl\ndef gateway_routes(): return [Route('GET', '/topics/{name}', None, generation='v2')]",
        "GET /topics/{name} of 'odd' clashes with GET /topics/{topic} of 'rest'",
    ),
    "no template": (
        "from kafka_gateway.router import Route\n@hookimpl\ndef gateway_routes(): return [Route('GET', 'x', None)]",
        "GET x of 'odd' is not a template",
    ),
    "transport that cannot start": (
        "from kafka_gateway.transport import Transport\n"
        "class T(Transport):\n    name = 'odd'\n    def lifespan(self, gateway): raise RuntimeError('no')\n"
        "@hookimpl\ndef gateway_transports(): return [T()]",
        "transport odd cannot start: RuntimeError: no",
    ),
    "syntax error": ("def", "cannot be imported: SyntaxError"),
    "missing module": ("import not_there_at_all", "cannot be imported: ModuleNotFoundError: No module named"),
    "import that exits": ("raise SystemExit(0)", "cannot be imported: SystemExit"),
}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """The command in this process, with plugins from ``tmp_path``; undoes what it does to the process."""

    async def start_and_stop(stop: asyncio.Event, config: Config, plugins: Plugins, ready: object) -> None:
        async with serve(config, plugins):
            print("listening")

    monkeypatch.setattr(assembly, "run_until", start_and_stop)
    monkeypatch.syspath_prepend(str(tmp_path))
    root, interval = logging.getLogger(), sys.getswitchinterval()
    handlers, level = root.handlers[:], root.level
    deepest, collects, thresholds = sys.getrecursionlimit(), gc.isenabled(), gc.get_threshold()
    yield lambda *arguments: main(["port=0", *arguments])
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    sys.setswitchinterval(interval)
    sys.setrecursionlimit(deepest)
    gc.set_threshold(*thresholds)
    gc.enable() if collects else gc.disable()
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize("case", FAULTY)
def test_a_faulty_plugin_is_refused_by_name(
    case: str, tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source, message = FAULTY[case]
    announce(tmp_path, "odd", source)
    assert command() == 1
    out, err = capsys.readouterr()
    told = [line for line in err.splitlines() if "odd" in line]
    assert len(told) == 1, err
    assert message in told[0]
    assert "Traceback" not in err
    assert "listening" not in out


@pytest.mark.parametrize("case", ["misspelt hook", "raises"])
@pytest.mark.slow
def test_a_faulty_plugin_ends_the_program(case: str, tmp_path: Path) -> None:
    announce(tmp_path, "odd", FAULTY[case][0])
    done = start(site=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "plugin odd" in line
    assert FAULTY[case][1] in line


@pytest.mark.slow
def test_two_distributions_with_one_name_are_refused(tmp_path: Path) -> None:
    for distribution in ("first-plugin", "second-plugin"):
        announce(tmp_path, "odd", "@hookimpl\ndef gateway_codecs(): return []", distribution)
    done = start(site=tmp_path)
    assert done.returncode == 1
    assert "plugin odd is in first-plugin 1.0 and in second-plugin 1.0" in done.stderr


@pytest.mark.slow
def test_the_name_of_a_built_in_is_refused(tmp_path: Path) -> None:
    announce(tmp_path, "rest", "@hookimpl\ndef gateway_codecs(): return []")
    done = start(site=tmp_path)
    assert done.returncode == 1
    assert "plugin rest of some-plugin 1.0: a built-in plugin has that name" in done.stderr


@pytest.mark.slow
def test_a_key_that_exists_is_refused_with_the_plugins_name(tmp_path: Path) -> None:
    source = "from kafka_gateway.config import ConfigKey\n@hookimpl\ndef gateway_config_keys():\n"
    announce(tmp_path, "odd", source + "    return [ConfigKey(name='port', type='int', default=1, doc='Mine.')]")
    done = start(site=tmp_path)
    assert done.returncode == 2
    assert "port: declared twice, by the gateway and by plugin odd" in done.stderr


@pytest.mark.slow
def test_an_authenticator_that_nobody_has_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "gateway.properties"
    file.write_text("\nauthentication.method=BEARER\n")
    for arguments in ([], ["--check"]):
        done = start(*arguments, str(file), site=tmp_path)
        assert done.returncode == 2
        told = done.stderr + done.stdout
        assert f"{file}:2: authentication.method: no authenticator is called 'BEARER'; there are BASIC, NONE" in told


# --- switching off ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["argument", "file", "environment", "all of them"])
@pytest.mark.slow
def test_a_plugin_that_is_switched_off_is_not_even_imported(place: str, tmp_path: Path) -> None:
    announce(tmp_path, "odd", "raise SystemExit('imported')")
    file = tmp_path / "gateway.properties"
    file.write_text("plugins.disable=odd\n" if place == "file" else "")
    arguments = ["plugins.disable=odd"] if place == "argument" else []
    env = {"KAFKA_GATEWAY_PLUGINS_DISABLE": "odd"} if place == "environment" else {}
    if place == "all of them":
        arguments = ["plugins.installed=false"]
    done = start("--check", str(file), *arguments, site=tmp_path, env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_switching_off_what_is_not_there_is_told(tmp_path: Path) -> None:
    done = start("plugins.disable=lnes", site=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "kafka-gateway: plugins.disable: there is no plugin lnes; there are atmosphere, bridges, console, core"
    )


def test_a_built_in_can_be_switched_off() -> None:
    plugins = Plugins(disabled=[name for name in BUILT_IN if name != "core"], installed=False)
    config = load(plugins.config_keys())
    assert plugins.transports(config) == []
    assert plugins.routes(config, NO_KAFKA, plugins.codecs(config), Catalogue(config, {})) == []
    with pytest.raises(PluginError, match=r"core"):
        Plugins(disabled=["core"])


def test_a_transport_can_be_switched_off(on_path: None) -> None:
    plugins = Plugins()
    config = load(plugins.config_keys())
    assert "lines" in [each.name for each in plugins.transports(config)]
    off = config.with_values({"transport.lines.enable": False})
    assert "lines" not in [each.name for each in plugins.transports(off)]


# --- managers --------------------------------------------------------------------------------------------------------


class Extra:
    """A plugin that is an object: pluggy must not look at its properties."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def gateway_surprise(self) -> None:
        raise AssertionError("was looked at")

    @hookimpl
    def gateway_transports(self) -> list[Transport]:
        self.asked += 1

        class Second(Transport):
            name = "second"

        return [Second()]

    @hookimpl(optionalhook=True)
    def gateway_of_a_later_version(self) -> list[object]:
        return []


def test_two_gateways_have_their_own_plugins() -> None:
    extra = Extra()
    one, other = Plugins(extra=[extra], installed=False), Plugins(installed=False)
    config = load(one.config_keys())
    names = [each.name for each in other.transports(config)]
    assert "second" not in names
    assert [each.name for each in one.transports(config)] == ["second", *names]
    assert extra.asked == 1
    assert one.codecs(config)["json"] is not other.codecs(config)["json"]


def test_http_is_asked_last(on_path: None) -> None:
    plugins = Plugins(extra=[Extra()])
    names = [each.name for each in plugins.transports(load(plugins.config_keys()))]
    assert names[:2] == ["second", "lines"]
    assert names[-1] == "http"


def test_nothing_comes_in_but_through_the_hooks() -> None:
    plugins = Plugins(installed=False)
    config = load(plugins.config_keys())
    routes = plugins.routes(config, NO_KAFKA, plugins.codecs(config), Catalogue(config, {}))
    assert {route.owner for route in routes} <= set(BUILT_IN)
    assert {type(each).__mro__[-2] for each in plugins.codecs(config).values()} == {Codec}
    assert isinstance(plugins.authenticator(config), Authenticator)
    assert {type(key) for key in plugins.config_keys()} == {ConfigKey}
    assert {type(route) for route in routes} == {Route}
    # The rest of the program knows the built-ins by these names only; test_arrows.py sees to the imports.
    for name in BUILT_IN:
        module = sys.modules[BUILT_IN[name]]
        assert [each for each in vars(module) if hasattr(getattr(module, each), "kafka_gateway_impl")]
