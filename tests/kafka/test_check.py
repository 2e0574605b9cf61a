"""``--check`` against the mock broker, a closed port and a broker behind TLS: which step fails, and its exit code."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_gateway.addresses import split_address
from kafka_gateway.commands.check import check
from kafka_gateway.kafka.clients.probe import join_address
from tests.cache import find_program
from tests.keys import BUILTIN_KEYS


def run(*overrides: str, as_json: bool = False, file: Path | None = None) -> tuple[int, str]:
    out = io.StringIO()
    code = check(file, ["kafka.connect.timeout.ms=3000", *overrides], out, as_json, BUILTIN_KEYS, env={})
    return code, out.getvalue()


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A PEM file with key and certificate of the host localhost, which is its own authority."""
    file = tmp_path / "server.pem"
    arguments = ["-newkey", "rsa:2048", "-noenc", "-days", "2", "-subj", "/CN=localhost", "-keyout", "-", "-out", "-"]
    arguments += ["-addext", "subjectAltName=DNS:localhost"]
    made = subprocess.run([find_program("openssl"), "req", "-x509", *arguments], capture_output=True, check=True)
    file.write_bytes(made.stdout)
    return file


@contextlib.contextmanager
def forwarding(bootstrap: str, context: ssl.SSLContext | None) -> Iterator[int]:
    """The port of a server on localhost that passes bytes on to the broker, with TLS in front if there is a context."""
    host, port = split_address(bootstrap)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                plain, _ = server.accept()
            except OSError:
                return
            try:
                client = context.wrap_socket(plain, server_side=True) if context else plain
            except OSError:
                plain.close()
                continue
            upstream = socket.create_connection((host, port))
            connections.extend((client, upstream))
            for pair in ((client, upstream), (upstream, client)):
                pumps.append(threading.Thread(target=pump, args=pair))
                pumps[-1].start()

    connections: list[socket.socket] = []
    pumps: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        acceptor = threading.Thread(target=serve)
        acceptor.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        acceptor.join()
    for one in connections:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    for thread in pumps:
        thread.join()
    for one in connections:
        one.close()


# --- configuration ----------------------------------------------------------------------------------------------------


def test_without_brokers_the_embedded_kafka_would_be_used() -> None:
    code, text = run()
    assert code == 0
    assert "embedded" in text.splitlines()[-1]


def test_every_fault_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "kafka-rest.properties"
    file.write_text("prot=1\nport=x\nclient.ssl.ca.location=/no/such\nbootstrap.servers=127.0.0.1:1\n")
    code, text = run("producer.compresion.type=gzip", file=file)
    assert code == 2
    assert text.splitlines() == [
        f"FAIL {file}:1: prot: no such property (did you mean port?)",
        f"FAIL {file}:2: port: 'x' is not a whole number",
        f"FAIL {file}:3: client.ssl.ca.location: /no/such cannot be read: No such file or directory",
        "FAIL argument: producer.compresion.type: neither librdkafka nor Java's Kafka client has this property"
        " (did you mean producer.compression.type?)",
    ]


def test_what_only_librdkafka_finds(tmp_path: Path) -> None:
    """A file that can be read, but holds no certificate."""
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    code, text = run(f"client.ssl.ca.location={file}", "client.security.protocol=ssl")
    assert code == 2
    assert "ssl.ca.location" in text


def test_json() -> None:
    code, text = run("port=x", as_json=True)
    finding, last = map(json.loads, text.splitlines())
    assert last == {"exit_code": code} == {"exit_code": 2}
    assert (finding["result"], finding["key"], finding["place"]) == ("fail", "port", "argument")


OPEN = ("listeners=http://0.0.0.0:8082", "listeners.insecure=true")


def test_warnings_are_lines() -> None:
    code, text = run("zookeeper.connect=h:2181", "consumer.max.poll.records=5", "embedded.enable=true", *OPEN)
    assert code == 0
    assert [line[:5] for line in text.splitlines()] == ["ok   ", "warn ", "warn ", "warn ", "ok   ", "ok   "]


# --- the way to Kafka -------------------------------------------------------------------------------------------------


def test_all_is_well(embedded: str) -> None:
    code, text = run(f"bootstrap.servers={embedded}")
    assert code == 0
    assert all(line.startswith("ok   ") for line in text.splitlines())
    lines = iter(text.splitlines())
    for part in (f"bootstrap {embedded} connects (", "1 broker", f"broker {embedded} is advertised and connects ("):
        assert any(part in line for line in lines), part


def test_closed_port(closed_port: str) -> None:
    code, text = run(f"bootstrap.servers={closed_port}")
    assert code == 4
    assert f"FAIL bootstrap {closed_port} does not connect: Connection refused (" in text


def test_names() -> None:
    code, text = run("bootstrap.servers=no-such-host.invalid:9092")
    assert code == 3
    assert "cannot be resolved" in text
    assert run("bootstrap.servers=a..b:1")[0] == 3


def test_one_server_of_several_is_enough(embedded: str, closed_port: str) -> None:
    code, text = run(f"bootstrap.servers={closed_port},{embedded}")
    assert code == 0
    assert text.count("FAIL") == 1


def test_something_that_is_no_kafka() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code, text = run(f"bootstrap.servers=127.0.0.1:{server.getsockname()[1]}", "kafka.connect.timeout.ms=300")
    assert code == 7
    assert "gives no metadata" in text


def test_plain_port_taken_for_tls(embedded: str) -> None:
    # Not the mock broker itself: it writes a complaint about the handshake for every attempt.
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        code, text = run(f"bootstrap.servers={address}", "client.security.protocol=SSL", "kafka.connect.timeout.ms=200")
    assert code == 5
    assert "TLS fails" in text


def test_certificate_of_an_unknown_authority(embedded: str, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with forwarding(embedded, context) as port:
        code, text = run(f"bootstrap.servers=localhost:{port}", "client.security.protocol=SSL")
    assert code == 5
    assert "the certificate is refused: self-signed certificate" in text


def test_certificate_of_another_host(embedded: str, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    overrides = ["client.security.protocol=SSL", f"client.ssl.truststore.location={certificate}"]
    with forwarding(embedded, context) as port:
        code, text = run(f"bootstrap.servers=127.0.0.1:{port}", *overrides)
    assert code == 5
    assert "IP address mismatch" in text


def test_advertised_address_is_checked_like_the_first(embedded: str, certificate: Path) -> None:
    """Bootstrap over TLS works; the broker advertises its own address, which speaks no TLS: the usual trap."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    overrides = ["client.security.protocol=SSL", f"client.ssl.truststore.location={certificate}"]
    with forwarding(embedded, context) as port:
        code, text = run(f"bootstrap.servers=localhost:{port}", *overrides)
    assert code == 8, text
    assert "speaks TLSv1.3" in text
    assert "advertised.listeners" in text.splitlines()[-1]


def test_refused_credentials(embedded: str) -> None:
    """The mock broker knows no SASL, and librdkafka reports that as an authentication failure."""
    jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="CANARY";'
    overrides = ["client.security.protocol=SASL_PLAINTEXT", f"client.sasl.jaas.config={jaas}"]
    code, text = run(f"bootstrap.servers={embedded}", *overrides)
    assert code == 6
    assert "CANARY" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h", ("h", 9092)),
        ("h:1", ("h", 1)),
        ("[::1]:1", ("::1", 1)),
        ("[::1]", ("::1", 9092)),
        ("PLAINTEXT://h:1", ("h", 1)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text) == expected
    assert split_address(join_address(*expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "h:0",
        "h:65536",
        "h:x",
        "::1",
        "[::1",
        "[::1]1",
        "h:١",
        "PLAINTEXT://",
        "PLAINTEXT://:1",
        "${env:NOPE}",
        "h/p:1",
        "u@h:1",
        "a b:1",
    ],
)
def test_faulty_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(text)
