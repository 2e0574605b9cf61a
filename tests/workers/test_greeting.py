"""Who is at the other end of a connection between processes, without a network (cluster.md §9, §14)."""

from __future__ import annotations

import pytest

from kafka_gateway.cluster.ports import Process
from kafka_gateway.workers.addresses import PeerAddress, parse_address, unix_name, usable
from kafka_gateway.workers.certificate_names import names_host
from kafka_gateway.workers.frames import HELLO_MAX, Cancel, FrameError, FrameReader, Head, Ping, Proof, frame
from kafka_gateway.workers.greeting import Greeting

SECRET = b"a secret of thirty-two bytes, or more"
ONE, TWO = Process("c", "gw-1/0", "b1"), Process("c", "gw-2/0", "b2")


def ends(secret: bytes = SECRET, other: bytes = SECRET) -> tuple[Greeting, Greeting]:
    return Greeting(ONE, asks=True, secret=secret, expected="gw-2/0"), Greeting(TWO, asks=False, secret=other)


def meet(asks: Greeting, answers: Greeting) -> None:
    proofs = answers.take(asks.hello), asks.take(answers.hello)
    if proofs[0] is not None:
        asks.take(proofs[0])
    if proofs[1] is not None:
        answers.take(proofs[1])


def test_two_of_a_cluster_know_each_other() -> None:
    for secret in (SECRET, b""):
        asks, answers = ends(secret, secret)
        meet(asks, answers)
        assert asks.done
        assert answers.done
        assert asks.other is not None
        assert (asks.other.process, asks.other.boot) == ("gw-2/0", "b2")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (Greeting(TWO, asks=False, secret=b"another secret of at least 32 bytes"), "wrong proof"),
        (Greeting(TWO, asks=False), "no proof"),
        (Greeting(Process("d", "gw-2/0", ""), asks=False, secret=SECRET), "cluster 'd'"),
        (Greeting(Process("c", "gw-3/0", ""), asks=False, secret=SECRET), "not 'gw-2/0'"),
        # What the other end gets of this one is no proof of its own.
        (Greeting(TWO, asks=True, secret=SECRET), "wrong proof"),
    ],
    ids=["secret", "none", "cluster", "process", "role"],
)
def test_strangers_are_found_out(other: Greeting, reason: str) -> None:
    asks, _ = ends()

    def meet_asks() -> None:
        asks.take(other.hello)
        asks.take(other.take(asks.hello) or Ping())

    with pytest.raises(FrameError, match=reason):
        meet_asks()
    assert not asks.done


def test_what_was_recorded_proves_nothing() -> None:
    asks, answers = ends()
    proof = asks.take(answers.hello)
    answers.take(asks.hello)
    assert isinstance(proof, Proof)
    answers.take(proof)
    assert answers.done
    again = Greeting(TWO, asks=False, secret=SECRET)
    again.take(asks.hello)
    with pytest.raises(FrameError, match="wrong proof"):
        again.take(proof)


def test_a_process_does_not_meet_itself() -> None:
    with pytest.raises(FrameError, match="itself"):
        Greeting(ONE, asks=False).take(Greeting(ONE, asks=True).hello)


def test_frames_come_byte_by_byte() -> None:
    sent: list[tuple[Head, bytes]] = [(Greeting(ONE, asks=True).hello, b""), (Cancel(7), b"\0" * 300), (Ping(), b"")]
    data = b"".join(frame(*each) for each in sent)
    reader = FrameReader()
    assert [each for byte in data for each in reader.feed(bytes((byte,)))] == sent
    assert list(FrameReader().feed(data)) == sent


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",  # 4 GiB
        (HELLO_MAX).to_bytes(4),
        b"\0\0\0\1\0",
        b"\0\0\0\3\0\2{",  # a head that is longer than its frame
        b"\0\0\0\4\0\2{}",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a ClientHello of TLS
    ],
)
def test_what_is_no_frame_of_a_stranger_is_found_out_at_once(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(FrameReader(HELLO_MAX).feed(data))


def test_addresses() -> None:
    assert parse_address("unix:one/gw-1/3.sock") == PeerAddress("unix", name="one/gw-1/3.sock")
    for text in ("tls://gw-1.example:7885", "tcp://[::1]:7885", "unix:one/gw-1/0.sock"):
        assert str(parse_address(text)) == text
    assert str(parse_address("tls://h:65534").of_worker(1)) == "tls://h:65535"
    assert unix_name("one", "gw-1.example.org/3") == "one/gw-1.example.org/3.sock"
    assert unix_name("one", "../etc/0") == "one/_._etc/0.sock"
    wrong = (
        "unix:../x/0.sock",
        "unix:one/../0.sock",
        "unix:x/0.sock",
        "unix:/tmp/0.sock",
        "unix:..",
        "tls://h",
        "tls://h:0",
        "tls://h:99999",
        "http://h:1",
        "tls://-h:1",
    )
    for text in wrong:
        with pytest.raises(ValueError, match=r"a port is|is not tls"):
            parse_address(text)
    told = ("tcp://h:1", "quic://h:1", "tls://h:1", "unix:c/a/0.sock")
    assert [str(each) for each in usable(told, False)] == ["unix:c/a/0.sock", "tls://h:1", "tcp://h:1"]
    assert [str(each) for each in usable(told, True)] == ["unix:c/a/0.sock", "tls://h:1"]


def test_names_in_certificates() -> None:
    certificate = {"subjectAltName": (("DNS", "gw-1.Example.org"), ("DNS", "*.in.example"), ("IP Address", "10.0.0.5"))}
    for host in ("gw-1.example.org", "GW-1.example.ORG", "a.in.example", "10.0.0.5"):
        assert names_host(certificate, host), host
    for host in ("example.org", "in.example", "b.a.in.example", "10.0.0.6", ".in.example", ""):
        assert not names_host(certificate, host), host
    assert not names_host({"subject": ((("commonName", "gw-1"),),)}, "gw-1")
