"""Reading the configuration: types, bounds, sources, faults with their places, and that no secret gets out."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.commands import reference
from kafka_gateway.commands.check import EXIT_CONFIGURATION, check
from kafka_gateway.config import Config, ConfigError, ConfigKey, Fault, environment_name, load, redact
from kafka_gateway.kafka.clients import properties as kafka_properties
from kafka_gateway.settings.listeners import Listener, clashes, parse_listener
from tests.keys import BUILTIN_KEYS

ROOT = Path(__file__).parents[2]
NUMBERS = [key for key in BUILTIN_KEYS if key.type in ("int", "long", "duration", "size", "float") and not key.ignored]


def read(*overrides: str, env: Mapping[str, str] | None = None) -> Config:
    return load(BUILTIN_KEYS, overrides=overrides, env=env)


def faults_of(
    *overrides: str, file: Path | None = None, env: Mapping[str, str] | None = None, kafka: bool = False
) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        load(BUILTIN_KEYS, file, overrides, env, checks=(kafka_properties.faults,) if kafka else ())
    return list(caught.value.faults)


# --- values -----------------------------------------------------------------------------------------------------------


def test_defaults_load_without_a_warning() -> None:
    config = load(BUILTIN_KEYS, checks=(kafka_properties.faults,))
    assert config.warnings == ()
    assert config.integer("port") == 8082
    assert config.items("listeners") == ()
    assert config.flag("listeners.insecure") is False
    assert config.seconds("consumer.request.timeout.ms") == 1.0
    assert config.seconds("producer.linger.ms") == 0.002
    assert config["consumer.request.max.bytes"] == 64 * 1024 * 1024
    assert not config.given("port")


def test_values_are_trimmed_and_typed() -> None:
    config = read("port= 1 ", "debug=TRUE", "api.default.generation=V1", "embedded.topics= a, b ,,c ")
    assert config.integer("port") == 1
    assert config.flag("debug") is True
    assert config.text("api.default.generation") == "v1"
    assert config.items("embedded.topics") == ("a", "b", "c")
    assert config.place("port") == "argument"


def test_the_calling_code_must_know_names_and_types() -> None:
    config = read()
    with pytest.raises(KeyError):
        config.integer("prot")
    with pytest.raises(KeyError):
        config.text("client.")
    with pytest.raises(TypeError):
        config.text("port")
    with pytest.raises(TypeError):
        config.seconds("port")


NOT_REPLACED = (
    "is a placeholder that nobody has replaced: the gateway has no config.providers, and reads the environment itself"
    " (KAFKA_GATEWAY_ and the name in capitals, with _ for every dot)"
)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("port=x", "'x' is not a whole number"),
        ("port=1_000", "'1_000' is not a whole number"),
        ("port=٣", "'٣' is not a whole number"),
        ("port=", "'' is not a whole number"),
        ("port=65536", "65536 is outside 0 to 65535"),
        ("idle.timeout.ms=30s", "'30s' is not a whole number of ms"),
        ("idle.timeout.ms=0", "0 is outside 1 to 3153600000000"),
        ("request.max.bytes=64MiB", "'64MiB' is not a whole number of bytes"),
        ("producer.linger.ms=nan", "'nan' is not a number"),
        ("producer.linger.ms=1e3", "'1e3' is not a number"),
        ("debug=yes", "'yes' is not true or false"),
        ("log.format=xml", "'xml' is not one of text, json"),
        ("ssl.keystore.location=/no/such.pem", "/no/such.pem cannot be read: No such file or directory"),
        ("org.atmosphere.websocket.maxIdleTime=5 minutes", "'5 minutes' is not a whole number of ms"),
        ("bootstrap.servers=a:1,PLAINTEXT://", "'PLAINTEXT://' is not of the form HOST:PORT"),
        ("bootstrap.servers=a:b:c", "'a:b:c' is not of the form HOST:PORT"),
        ("bootstrap.servers=me:secret@a:1", "'…@a:1' is not of the form HOST:PORT"),
        ("bootstrap.servers=${NOPE}:9092", "'${NOPE}:9092' is not of the form HOST:PORT"),
        ("bootstrap.servers=${env:NOPE}", NOT_REPLACED),
        ("client.sasl.password=${file:/run/secret:password}", NOT_REPLACED),
    ],
)
def test_faulty_values(override: str, message: str) -> None:
    name = override.partition("=")[0]
    assert faults_of(override) == [Fault("argument", name, message)]


def test_an_empty_atmosphere_setting_is_not_set() -> None:
    config = read("org.atmosphere.websocket.maxTextMessageSize=", "org.atmosphere.websocket.maxIdleTime=")
    assert config.integer("org.atmosphere.websocket.maxTextMessageSize") == 65536
    assert config.seconds("org.atmosphere.websocket.maxIdleTime") == 300
    assert read("org.atmosphere.websocket.maxTextMessageSize=-1")["org.atmosphere.websocket.maxTextMessageSize"] == -1


@pytest.mark.parametrize("key", NUMBERS, ids=lambda key: key.name)
def test_every_number_loads_at_its_bounds_and_not_beyond(key: ConfigKey) -> None:
    low, high = key.bounds()
    assert low is not None
    assert high is not None
    name = key.name.replace("<name>", "one")
    step = 0.001 if key.type == "float" and high < 10**6 else 1
    for bound in (low, high):
        text = str(int(bound))
        assert read(f"{name}={text}")[name] == bound
        # What is allowed for us must also be allowed for the clients that it reaches.
        kafka_properties.client_properties(read(f"{name}={text}"), "producer")
    for beyond in (low - step, high + step):
        text = f"{beyond:.3f}" if key.type == "float" else str(int(beyond))
        assert [fault.key for fault in faults_of(f"{name}={text}")] == [name]


# --- sources ----------------------------------------------------------------------------------------------------------


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "kafka-rest.properties"
    file.write_text("port=1\nid=file\nconnections.max=1\nrequests.max=1\n")
    env = {
        "KAFKAREST_OPTS": "-Dport=2 -Did=java -Dconnections.max=2",
        "KAFKA_GATEWAY_PORT": "3",
        "KAFKA_GATEWAY_ID": "environment",
    }
    config = load(BUILTIN_KEYS, file, ["port=4"], env)
    assert [config["port"], config["id"], config["connections.max"], config["requests.max"]] == [4, "environment", 2, 1]
    places = [config.place(name) for name in ("port", "id", "connections.max", "requests.max")]
    assert places == ["argument", "environment KAFKA_GATEWAY_ID", "environment KAFKAREST_OPTS", f"{file}:4"]


def test_environment_names() -> None:
    assert environment_name("consumer.request.timeout.ms") == "KAFKA_GATEWAY_CONSUMER_REQUEST_TIMEOUT_MS"
    env = {
        environment_name("atmosphere.simple-rest.protocol.detached"): "true",
        environment_name("org.atmosphere.websocket.maxIdleTime"): "7",
        "KAFKA_GATEWAY_CLIENT_SASL_MECHANISM": "PLAIN",
        "KAFKA_GATEWAY_LISTENER_NAME_INTERNAL_SSL_CLIENT_AUTHENTICATION": "REQUIRED",
        "KAFKA_HOME": "/ours/is/another/prefix",
    }
    config = read(env=env)
    assert config.text("atmosphere.simple-rest.protocol.detached") == "true"
    assert config.integer("org.atmosphere.websocket.maxIdleTime") == 7
    assert config.passthrough("admin") == {"sasl.mechanism": "PLAIN"}
    assert config.for_listener("INTERNAL").text("ssl.client.authentication") == "REQUIRED"
    assert config.for_listener("PUBLIC").text("ssl.client.authentication") == "NONE"


def test_every_key_has_an_environment_variable_of_its_own() -> None:
    names = [environment_name(key.name) for key in BUILTIN_KEYS]
    assert len(set(names)) == len(names)


def test_an_unknown_environment_variable_is_a_fault() -> None:
    fault = Fault(
        "environment KAFKA_GATEWAY_PROT", "", "no property has this environment variable", "KAFKA_GATEWAY_PORT"
    )
    assert faults_of(env={"KAFKA_GATEWAY_PROT": "1"}) == [fault]


def test_what_kubernetes_puts_into_the_environment_is_no_fault() -> None:
    config = read(
        env={
            "KAFKA_GATEWAY_SERVICE_HOST": "10.0.0.1",
            "KAFKA_GATEWAY_SERVICE_PORT": "8082",
            "KAFKA_GATEWAY_SERVICE_PORT_HTTP": "8082",
            "KAFKA_GATEWAY_PORT": "tcp://10.0.0.1:8082",
            "KAFKA_GATEWAY_PORT_8082_TCP": "tcp://10.0.0.1:8082",
            "KAFKA_GATEWAY_PORT_8082_TCP_ADDR": "10.0.0.1",
        }
    )
    assert config.integer("port") == 8082
    assert not config.given("port")
    assert len(config.warnings) == 6


def test_java_options_without_meaning_are_told() -> None:
    config = read(env={"KAFKAREST_OPTS": "-Xmx1G -Dde.elakito.kafka.atmosphere.disabled=true -Djavax.password=CANARY"})
    assert config.flag("de.elakito.kafka.atmosphere.disabled")
    assert len(config.warnings) == 2
    assert "CANARY" not in "".join(config.warnings)
    assert read(env={"KAFKAREST_OPTS": "'"}).warnings


def test_duplicates_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("port=1\nport=2\n")
    config = load(BUILTIN_KEYS, file)
    assert config.integer("port") == 2
    assert config.warnings == (f"{file}:2: port stands also at {file}:1; this later line counts",)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in str(faults_of(file=tmp_path)[0])
    assert "cannot be read: No such file" in str(faults_of(file=tmp_path / "absent")[0])


def test_argument_without_equals_sign_is_not_repeated() -> None:
    assert faults_of("port=1", "CANARY", "=CANARY") == [
        Fault("argument 2", "", "is not of the form KEY=VALUE"),
        Fault("argument 3", "", "is not of the form KEY=VALUE"),
    ]


# --- unknown and foreign keys -----------------------------------------------------------------------------------------


def test_unknown_keys_are_faults_with_the_name_that_was_meant() -> None:
    faults = faults_of("idle.timout.ms=1", "org.atmosphere.websocket.maxidletime=1", "something.else=1")
    assert [fault.suggestion for fault in faults] == [
        "idle.timeout.ms",
        "org.atmosphere.websocket.maxIdleTime",
        "",
    ]


@pytest.mark.parametrize(
    ("name", "prefixed"),
    [
        ("max.request.size", "producer.max.request.size"),
        ("fetch.message.max.bytes", "consumer.fetch.message.max.bytes"),
        ("auto.offset.reset", "consumer.auto.offset.reset"),
        ("security.protocol", "client.security.protocol"),
    ],
)
def test_client_properties_without_prefix(name: str, prefixed: str) -> None:
    assert f"write {prefixed} " in faults_of(f"{name}=1")[0].message


def test_foreign_keys_are_accepted_and_told_once() -> None:
    config = read("zookeeper.connect=h:2181", "producer.threads=lots", "http2.enabled=true")
    assert [warning.split(" has no effect")[0] for warning in config.warnings] == [
        "argument: zookeeper.connect",
        "argument: producer.threads",
        "argument: http2.enabled",
    ]


def test_foreign_keys_that_protect_are_refused_unless_off() -> None:
    assert read("csrf.prevention.enable=false").warnings == ()
    assert "not offered" in faults_of("csrf.prevention.enable=true")[0].message
    assert "not offered" in faults_of("kafka.rest.resource.extension.class=com.example.Guard")[0].message


def test_keys_of_a_prefix_and_of_a_family() -> None:
    config = read("client.a=1", "producer.a=2", "producer.threads=3", "transport.sse.enable=false")
    assert config.passthrough("producer") == {"a": "2"}
    assert config.passthrough("consumer") == {"a": "1"}
    assert config.flag("transport.sse.enable") is False
    assert config.flag("transport.websocket.enable") is True
    assert faults_of("transport.sse.enabel=1")[0].key == "transport.sse.enabel"
    assert faults_of("transport.a.b.enable=true")
    assert faults_of("client.=1")


# --- keys of plugins --------------------------------------------------------------------------------------------------


def plugin_faults(*keys: ConfigKey) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        load([*BUILTIN_KEYS, *keys])
    return list(caught.value.faults)


def test_keys_of_plugins() -> None:
    key = ConfigKey(name="transport.carrier.speed", type="int", default=3, doc="Speed.", owner="carrier")
    assert load([*BUILTIN_KEYS, key], overrides=["transport.carrier.speed=4"]).integer("transport.carrier.speed") == 4


def test_clash_of_plugins_names_both() -> None:
    key = ConfigKey(name="x.y", doc="", owner="carrier")
    (fault,) = plugin_faults(key, replace(key, owner="pigeon"))
    assert "carrier" in fault.message
    assert "pigeon" in fault.message
    (fault,) = plugin_faults(ConfigKey(name="idle-timeout.ms", doc="", owner="carrier"))
    assert "the gateway" in fault.message
    assert "environment variable" in fault.message


@pytest.mark.parametrize(
    "key",
    [
        ConfigKey(name="x", type="int", default="3", doc=""),
        ConfigKey(name="x", type="int", default=True, doc=""),
        ConfigKey(name="x", type="int", default=0, minimum=1, doc=""),
        ConfigKey(name="x", type="list", default="a", doc=""),
        ConfigKey(name="x", type="enum", default="c", choices=("a", "b"), doc=""),
        ConfigKey(name="x", prefix=True, doc=""),
    ],
)
def test_keys_that_contradict_themselves(key: ConfigKey) -> None:
    assert "declared by" in plugin_faults(key)[0].message


# --- listeners --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8082", Listener("http", "http", "127.0.0.1", 8082)),
        ("http://[::1]:8082/", Listener("http", "http", "::1", 8082)),
        ("https://gateway.example:443", Listener("https", "https", "gateway.example", 443)),
        ("http://:8082", Listener("http", "http", "0.0.0.0", 8082)),
        ("INTERNAL://h:0", Listener("INTERNAL", "https", "h", 0)),
        ("unix:/run/gateway.sock", Listener("unix", "unix", path="/run/gateway.sock")),
    ],
)
def test_listeners(text: str, expected: Listener) -> None:
    assert parse_listener(text, {"internal": "https"}) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("8082", "http://h", "http://h:x", "http://h:99999", "ftp://h:1"),
        *("unix:relative", "http://u:p@h:1", "http://h:1/path", "http://::1:80", "http://h :1"),
    ],
)
def test_faulty_listeners(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text[:10])):
        parse_listener(text)


def test_socket_paths_are_short() -> None:
    assert parse_listener("unix:/" + "x" * 106).path
    with pytest.raises(ValueError, match="107 bytes"):
        parse_listener("unix:/" + "x" * 107)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        *((address, True) for address in ("127.0.0.1", "127.9.9.9", "[::1]", "localhost")),
        *((address, False) for address in ("0.0.0.0", "[::]", "10.0.0.1", "host", "127.0.0.1.example.com")),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert parse_listener(f"http://{address}:1").loopback is loopback


def test_clashing_listeners() -> None:
    def count(*texts: str) -> int:
        return len(clashes(parse_listener(text) for text in texts))

    assert count("http://127.0.0.1:1", "http://0.0.0.0:1") == 1
    assert count("http://127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1:1") == 3
    assert count("http://127.0.0.1:0", "http://127.0.0.1:0") == 0
    assert count("http://127.0.0.1:1", "http://127.0.0.2:1") == 0
    assert count("unix:/a", "unix:/a", "unix:/b", "http://127.0.0.1:1") == 1


def test_an_open_listener_needs_authentication_or_the_word() -> None:
    (fault,) = faults_of("listeners=http://0.0.0.0:8082")
    assert "authentication.method" in fault.message
    assert "listeners.insecure=true" in fault.message
    for more in ("authentication.method=BASIC", "listeners.insecure=true"):
        config = read("listeners=http://0.0.0.0:8082", more)
        assert [str(one) for one in config.listeners()] == ["http://0.0.0.0:8082"]
        assert ("DANGER" in "".join(config.warnings)) is (more == "listeners.insecure=true")
    assert read("listeners=http://127.0.0.1:1,unix:/a").listeners()[1].path == "/a"


def test_default_listener() -> None:
    assert str(read("port=7").listeners()[0]) == "http://127.0.0.1:7"
    assert str(read("port=7", "authentication.method=BEARER").listeners()[0]) == "http://0.0.0.0:7"


def test_https_needs_a_certificate(tmp_path: Path) -> None:
    (fault,) = faults_of("listeners=https://127.0.0.1:1")
    assert "ssl.keystore.location" in fault.message
    pem = tmp_path / "server.pem"
    pem.write_text("-")
    config = read("listeners=https://127.0.0.1:1", f"listener.name.https.ssl.keystore.location={pem}")
    assert config.for_listener("https").text("ssl.keystore.location") == str(pem)
    assert config.text("ssl.keystore.location") == ""


# --- all faults at once, and no secret --------------------------------------------------------------------------------


def test_seven_faults_are_seven(tmp_path: Path) -> None:
    """Ecosystem section 6 no. 2: unknown key, typo, bad int, missing file, unreadable key, clashing ports, variable."""
    file = tmp_path / "kafka-rest.properties"
    file.write_text(
        "no.such.property=1\n"
        "idel.timeout.ms=5\n"
        "port=eighty\n"
        "ssl.truststore.location=/no/such/file.pem\n"
        f"ssl.keystore.location={tmp_path}\n"
        "listeners=http://127.0.0.1:8082,http://127.0.0.1:8082\n"
        "producer.linger.ms=1\n"
    )
    faults = faults_of(file=file, env={"KAFKA_GATEWAY_LOG_LEVLE": "INFO"}, kafka=True)
    assert {(fault.place, fault.key) for fault in faults} == {
        (f"{file}:1", "no.such.property"),
        (f"{file}:2", "idel.timeout.ms"),
        (f"{file}:3", "port"),
        (f"{file}:4", "ssl.truststore.location"),
        (f"{file}:5", "ssl.keystore.location"),
        (f"{file}:6", "listeners"),
        ("environment KAFKA_GATEWAY_LOG_LEVLE", ""),
    }
    assert len(faults) == 7


SECRETS = (
    "ssl.keystore.password=CANARY",
    "ssl.key.password=CANARY",
    "listener.name.x.ssl.key.password=CANARY",
    "client.sasl.password=CANARY",
    'client.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required password="CANARY";',
    "client.ssl.key.pem=CANARY",
    "client.ssl.keystore.key=CANARY",
    "client.ssl.truststore.password=CANARY",
    "client.sasl.oauthbearer.config=CANARY",
    "client.sasl.oauthbearer.client.secret=CANARY",
    "client.sasl.oauthbearer.assertion.private.key.passphrase=CANARY",
    "schema.registry.basic.auth.user.info=CANARY:CANARY",
    "schema.registry.url=http://user:CANARY@registry:8081",
)


def test_no_secret_is_printed(tmp_path: Path) -> None:
    config = read(*SECRETS, "client.sasl.username=shown")
    assert config.secret("ssl.key.password") == "CANARY"
    printed = repr(config) + str(config.dump()) + "".join(config.warnings) + f"{config.with_values(port=1)}"
    assert "CANARY" not in printed
    assert config.dump()["client.sasl.username"] == "shown"


@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_in_any_fault(as_json: bool, tmp_path: Path) -> None:
    file = tmp_path / "f.properties"
    file.write_text("\n".join([*SECRETS, "pasword=CANARY", "client.sasl.pasword=CANARY", "port=x"]))
    out = io.StringIO()
    env = {"KAFKA_GATEWAY_PASSWORD": "CANARY"}
    overrides = [
        "ssl.keystore.location=-----BEGIN PRIVATE KEY----- CANARY",
        "CANARY",
        "listeners=http://u:CANARY@h:1",
        "client.security.protocol=SASL_SSL",
    ]
    assert check(file, overrides, out, as_json, BUILTIN_KEYS, env) == EXIT_CONFIGURATION
    assert "pasword" in out.getvalue()
    assert "CANARY" not in out.getvalue()
    if as_json:
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        assert lines[-1] == {"exit_code": EXIT_CONFIGURATION}


def test_redact() -> None:
    assert redact("client.ssl.key.location", "/etc/key.pem") == "/etc/key.pem"
    assert redact("client.sasl.oauthbearer.token.endpoint.url", "https://u:p@idp/token") == "https://[hidden]@idp/token"
    assert redact("x.api.key", "v") == "[hidden]"
    assert redact("x.password", "") == ""


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.sampled_from([key.name for key in BUILTIN_KEYS]) | TEXTS


@given(st.dictionaries(NAMES, TEXTS, max_size=8))
def test_any_configuration_loads_or_says_why(properties: dict[str, str]) -> None:
    overrides = [f"{name}={value}" for name, value in properties.items()]
    with contextlib.suppress(ConfigError):
        config = load(BUILTIN_KEYS, overrides=overrides, checks=(kafka_properties.faults,))
        kafka_properties.client_notes(config)
        repr(config)


@given(st.binary())
def test_any_file_loads_or_says_why(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.properties"
    file.write_bytes(content)
    with contextlib.suppress(ConfigError):
        load(BUILTIN_KEYS, file)


# --- changed copies ---------------------------------------------------------------------------------------------------


def test_with_values() -> None:
    config = read("port=1", "client.client.rack=r")
    other = config.with_values({"api.v1.enable": False, "embedded.topics": ["a", "b"]}, idle_timeout_ms=5)
    assert (other.flag("api.v1.enable"), other.items("embedded.topics")) == (False, ("a", "b"))
    assert (other.integer("port"), other.seconds("idle.timeout.ms")) == (1, 0.005)
    assert other.passthrough("admin") == {"client.rack": "r"}
    assert config.flag("api.v1.enable") is True
    with pytest.raises(ConfigError):
        config.with_values(port="x")


# --- the code that reads it -------------------------------------------------------------------------------------------

ACCESS = re.compile(r"config\.(text|integer|number|seconds|flag|items|secret)\(\s*\"([a-zA-Z0-9.<>_-]+)\"\s*\)")


def test_the_code_asks_for_keys_that_exist() -> None:
    config = read()
    asked = set()
    for room in ("gateway", "services", "transports"):
        for path in (ROOT / room).rglob("*.py"):
            asked |= set(ACCESS.findall(path.read_text(encoding="utf-8")))
    for method, name in asked:
        getattr(config, method)(name)
        assert not any(key.name == name and key.ignored for key in BUILTIN_KEYS), f"{name} is said to have no effect"


# --- generated files --------------------------------------------------------------------------------------------------


def test_committed_files_are_what_the_tables_say() -> None:
    for path, text in (
        (reference.PROPERTIES_PATH, reference.properties_file(BUILTIN_KEYS)),
        (reference.PAGE_PATH, reference.configuration_page(BUILTIN_KEYS)),
    ):
        assert (ROOT / path).read_text(encoding="utf-8") == text, "run python -m kafka_gateway.commands.reference"


def test_shipped_file_loads(tmp_path: Path) -> None:
    config = load(BUILTIN_KEYS, ROOT / reference.PROPERTIES_PATH, checks=(kafka_properties.faults,))
    assert config.dump() == {"atmosphere.simple-rest.protocol.detached": "true"}


def sample_keys() -> Iterable[ConfigKey]:
    return (key for key in BUILTIN_KEYS if not key.ignored)


def test_every_line_of_the_shipped_file_can_be_put_in_force(tmp_path: Path) -> None:
    text = (ROOT / reference.PROPERTIES_PATH).read_text(encoding="utf-8")
    file = tmp_path / "all.properties"
    file.write_text(re.sub(r"^#(?=\S+=)", "", text, flags=re.MULTILINE), encoding="utf-8")
    faults = faults_of(file=file, kafka=True)
    assert [fault.key for fault in faults] == ["max.request.size", "message.max.bytes", "fetch.message.max.bytes"]
    kept = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in {f.key for f in faults}]
    file.write_text("\n".join(kept), encoding="utf-8")
    config = load(BUILTIN_KEYS, file, checks=(kafka_properties.faults,))
    for key in sample_keys():
        if not key.prefix and "<name>" not in key.name:
            assert config.given(key.name), key.name
            assert key.example or key.shipped or config[key.name] == key.default, key.name


def test_every_key_is_described() -> None:
    for key in BUILTIN_KEYS:
        assert key.doc.endswith("."), key.name
        assert key.section, key.name
        assert len(key.doc) <= 200, key.name
        assert key.unit or key.type not in ("duration", "size"), key.name
        assert not key.name.endswith(".ms") or key.unit == "ms" or key.ignored, key.name
