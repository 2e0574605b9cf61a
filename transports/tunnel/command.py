"""``kafka-gateway tunnel``: the local TCP side as a program. Flags as of ``kafka-websocket-proxy`` (bridges.md C3)."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import signal
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kafka_gateway import early_signals
from kafka_gateway.commands.output import LineHandler
from kafka_gateway.event_loop import new_loop
from kafka_gateway.transports.tunnel.local import LocalSettings, LocalTunnel, LocalTunnelError
from kafka_gateway.wire.frames import FRAME_MAX

_DESCRIPTION = """\
Opens local ports that any Kafka client can use as if they were the brokers, and takes what they say to a Kafka Gateway
through WebSockets: one outgoing HTTP(S) port is enough."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def main(arguments: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT; the exit code: 0 stopped as asked, 1 cannot listen, 2 faulty command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = LocalSettings(
            broker=options.broker.address,
            port=options.port,
            bind=options.bind,
            tls=options.tls or options.broker.tls,
            path=options.path,
            single=options.single,
            advertise_host=options.advertise_host,
            base=options.broker_port_base,
            node_ports=dict(options.node_port),
            refresh_s=options.refresh,
            headers=dict(options.header),
            token_file=options.token_file,
            ssl=_context(options) if options.tls or options.broker.tls else None,
            frame_max=options.max_frame_bytes,
            drain_s=options.drain_timeout,
        )
    except OSError as error:
        parser.error(f"the files for TLS cannot be used: {error.strerror or error}")
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[LineHandler()])
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_serve(settings))
    except (OSError, LocalTunnelError) as error:
        print(f"kafka-gateway tunnel: {error}", file=sys.stderr)
        return 1
    return 0


def subcommand(words: Sequence[str]) -> int:
    """``kafka-gateway tunnel``, and ``tunnel-proxy``, as Kafka WebSocket Shim calls its own."""
    return main(words[1:])


async def _serve(settings: LocalSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    early_signals.serve()
    try:
        async with LocalTunnel(settings):
            await stop.wait()
    finally:  # the loop closes: one more Ctrl-C changes nothing
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kafka-gateway tunnel",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def add(name: str, **more: object) -> None:
        parser.add_argument(f"-{name}", f"--{name}", **more)  # type: ignore[arg-type]

    add("port", type=_port, default=8080, help="port for the first contact (8080)")
    add(
        "broker", type=_broker, default="localhost:8787", metavar="HOST:PORT",
        help="the gateway (localhost:8787), or its http or https address",
    )  # fmt: skip
    add("tls", type=_flag, nargs="?", const=True, default=False, help="speak TLS with the gateway")
    add("bind", default="127.0.0.1", help="address to listen on (127.0.0.1; 0.0.0.0 in containers)")
    add("path", default="/kafka", help="path of the tunnel, tunnel.path of the gateway (/kafka)")
    add("single", type=_flag, nargs="?", const=True, default=False, help="one broker: path /, no ports of brokers")
    add("advertise-host", default="", help="host that Kafka clients are told (the address of -bind)")
    add("broker-port-base", type=_port, default=0, help="broker N listens on this + N (port + 1)")
    add("node-port", type=_node_port, action="append", default=[], metavar="ID=PORT", help="port of one broker")
    add("refresh", type=_duration, default=30.0, help="how often the gateway is asked for its brokers (30s)")
    add("header", type=_header, action="append", default=[], metavar="NAME:VALUE", help="header of every handshake")
    add("token-file", default="", help="file with a bearer token")
    add("ca-file", default=None, help="PEM file of the authorities to trust")
    add("cert-file", default="", help="PEM file with a client certificate")
    add("key-file", default=None, help="PEM file with its key, if that is not in -cert-file")
    add("insecure", type=_flag, nargs="?", const=True, default=False, help="trust any certificate; for trying out only")
    add("max-frame-bytes", type=int, default=FRAME_MAX, help=f"largest request and reply ({FRAME_MAX})")
    add("drain-timeout", type=_duration, default=10.0, help="how long open requests are waited for at the stop (10s)")
    return parser


@dataclass(frozen=True, slots=True)
class _Gateway:
    address: str
    """HOST:PORT"""
    tls: bool


_SCHEMES = {"http": (80, False), "ws": (80, False), "https": (443, True), "wss": (443, True)}


def _broker(text: str) -> _Gateway:
    """HOST:PORT, or the address of the gateway as one writes it for HTTP; https turns -tls on."""
    scheme, found, rest = text.rpartition("://")
    if found and scheme.lower() not in _SCHEMES:
        raise argparse.ArgumentTypeError(f"{scheme}:// is neither http:// nor https://")
    if found:
        rest, _, path = rest.partition("/")
        if path:
            raise argparse.ArgumentTypeError(f"give the path apart: -path=/{path}")
    port, tls = _SCHEMES[scheme.lower()] if found else (0, False)
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/?#@\s]+)(?::([0-9]{1,5}))?", rest)
    if match is None or not (match[2] or port):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, http://HOST:PORT or https://HOST:PORT")
    return _Gateway(f"{match[1]}:{_port(match[2] or str(port))}", tls)


def _context(options: argparse.Namespace) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.ca_file)
    if options.cert_file:
        # A function, so that OpenSSL never asks on the terminal.
        context.load_cert_chain(options.cert_file, options.key_file, password=lambda: "")
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
    return text.lower() == "true"


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _node_port(text: str) -> tuple[int, int]:
    node, _, port = text.partition("=")
    if not re.fullmatch(r"[0-9]{1,9}", node):
        raise argparse.ArgumentTypeError(f"{text!r} is not ID=PORT")
    return int(node), _port(port)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("a header is NAME:VALUE")
    return name.strip(), value.strip()


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 500ms, 30s or 2m")
    return float(match[1]) * _UNITS[match[2]]
