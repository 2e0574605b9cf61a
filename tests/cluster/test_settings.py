"""What a node of a cluster must not be told, and what it is told about before it starts (cluster.md §3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_gateway.cluster.faults import faults as cluster_faults
from kafka_gateway.commands.inherited import peer_directory_faults
from kafka_gateway.commands.main import main
from kafka_gateway.config import ConfigError, load
from kafka_gateway.settings.keys import CORE_KEYS
from kafka_gateway.workers.part import count_of
from kafka_gateway.workers.peer_settings import peer_faults
from tests.gateway_process import NO_OTHERS
from tests.transports.authority import Authority, Certificate

CLUSTER = ("cluster.enable=true", "bootstrap.servers=127.0.0.1:9", "port=0")
LISTENER = "cluster.peer.listener=tls://0.0.0.0:7885"
SECRET = "cluster.peer.secret.file"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_OTHERS.items():
        monkeypatch.setenv(name, value)


def faults(*overrides: str) -> str:
    """By the judges that ``--check`` has."""
    judges = (lambda config: cluster_faults(config, count_of(config)), peer_faults, peer_directory_faults)
    try:
        load(CORE_KEYS, None, [*CLUSTER, *overrides], {}, judges)
    except ConfigError as error:
        return "\n".join(map(str, error.faults))
    return ""


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        (["cluster.node.id=../x"], "cluster.node.id: 1 to 80 of A-Z, a-z, 0-9"),
        (["cluster.node.id=.x"], "the first one no '.'"),
        (["cluster.node.id=a b"], "cluster.node.id: 1 to 80"),
        (["cluster.node.id=a\nb"], "cluster.node.id: 1 to 80"),
        ([f"cluster.node.id={'x' * 81}"], "cluster.node.id: 1 to 80"),
        (["cluster.slots=2"], "cluster.slots: 2 is outside 4 to 10000"),
        (["cluster.slots=7", "workers=2"], "cluster.slots: must be at least 4 for each process of the cluster: 8"),
        (["cluster.hold.ms=500"], "cluster.peer.connect.timeout.ms: must be 500 at most"),
        (["cluster.peer.dir=/run/a\0b"], "cluster.peer.dir: a path has no control characters"),
        (["cluster.peer.dir=/run/" + "x" * 90], "has at most 107 bytes"),
        (["cluster.peer.listener=tcp://10.0.0.256:1"], "10.0.0.256 is no IP address"),
        (["cluster.peer.listener=tcp://[::g]:1"], "is not tls://HOST:PORT"),
        (["cluster.peer.listener=tcp://[:::1]:1"], ":::1 is no IP address"),
        (["cluster.peer.listener=tcp://a b:1"], "is not tls://HOST:PORT"),
        (["cluster.peer.listener=tcp://h:٣"], "is not tls://HOST:PORT"),
    ],
)
def test_what_contradicts_itself_or_can_be_no_name_is_refused(properties: list[str], told: str) -> None:
    assert told in faults(*properties)


def test_what_is_allowed() -> None:
    for properties in (
        [],
        ["cluster.node.id=Gw_1.example-org", "cluster.slots=8", "workers=2"],
        ["cluster.hold.ms=0"],
        [f"cluster.node.id={'x' * 80}"],
    ):
        assert faults(*properties) == ""


def test_a_host_name_that_can_be_no_name_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my host")
    assert "cluster.node.id: must be set, for the host name 'my host'" in faults()
    assert faults("cluster.node.id=gw-1") == ""


# --- the certificate -----------------------------------------------------------------------------------------------


def tls(certificate: Certificate, authority: Authority, folder: Path) -> list[str]:
    file = certificate.write(folder / "peer.pem")
    return [
        LISTENER, f"cluster.peer.tls.cert={file}", f"cluster.peer.tls.key={file}",
        f"cluster.peer.tls.ca={authority.path}",
    ]  # fmt: skip


def test_a_certificate_that_other_nodes_would_refuse(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    advertised = "cluster.peer.advertised=tls://gw-1.example.org:7885"
    for certificate, told in (
        (ours.server("gw-1.example.org", "10.0.0.5"), ""),
        (ours.server("*.example.org"), ""),
        (ours.server("gw-2.example.org", "10.0.0.5"), "names DNS:gw-2.example.org, IP Address:10.0.0.5 and not gw-1"),
        (ours.sign("CN=gw-1.example.org"), "names no host and not gw-1.example.org"),
        (theirs.server("gw-1.example.org"), "is not signed by an authority of cluster.peer.tls.ca"),
        (ours.sign("CN=x", hosts=["gw-1.example.org"], ends_s=-60), "has expired"),
    ):
        found = faults(advertised, *tls(certificate, ours, tmp_path))
        assert told in found, told
        assert bool(found) is bool(told), found
    by_address = tls(ours.server("10.0.0.5"), ours, tmp_path)
    assert faults("cluster.peer.advertised=tls://10.0.0.5:7885", *by_address) == ""
    assert "and not 10.0.0.6" in faults("cluster.peer.advertised=tls://10.0.0.6:7885", *by_address)
    # One that only connects is reached by nobody, so its certificate need not name a host.
    assert faults(*by_address[1:]) == ""


# --- what --check says ---------------------------------------------------------------------------------------------


def test_a_node_that_others_cannot_reach_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x" * 32)
    secret.chmod(0o600)
    warning = "warn other nodes of the cluster cannot reach this one"
    directory = f"cluster.peer.dir={tmp_path / 'peers'}"
    for properties, told in (
        ([], f"{warning}: set cluster.peer.listener, or cluster.peer.dir"),
        ([directory], ""),
        (["cluster.peer.listener=tcp://127.0.0.1:7885"], "cluster.peer.listener is tcp://127.0.0.1:7885"),
        (
            ["cluster.peer.listener=tcp://0.0.0.0:7885", "cluster.peer.advertised=tcp://localhost:7885"],
            "unless they are on this machine: cluster.peer.advertised is tcp://localhost:7885",
        ),
        (["cluster.peer.listener=tcp://0.0.0.0:7885", "cluster.peer.advertised=tcp://gw-1:7885"], ""),
    ):
        assert main(["--check", *CLUSTER, f"{SECRET}={secret}", "kafka.connect.timeout.ms=100", *properties]) == 4
        out = capsys.readouterr().out
        assert (warning in out) is bool(told), out
        assert told in out
