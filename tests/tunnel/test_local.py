"""The client's end: the dialer and the TCP ports (bridges.md C1 to C3; C8 1 to 5, 22).

The gateway's side is a fake here, made with aiohttp, so that it can do what no gateway should.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from kafka_gateway.commands import main as program
from kafka_gateway.transports.tunnel.dialer import (
    DialError,
    InvalidMessageTypeError,
    InvalidNetworkError,
    ReadError,
    TunnelDialer,
    WriteError,
)
from kafka_gateway.transports.tunnel.local import LocalSettings, LocalTunnel, LocalTunnelError
from kafka_gateway.wire.frames import frame
from tests.gateway_process import GatewayProcess
from tests.tunnel.fake_broker import request
from tests.tunnel.local_process import LocalProcess, free_range
from tests.waiting import PATIENCE_S, until

Handler = Callable[[web.WebSocketResponse], Awaitable[None]]
A, B = frame(b"a" * 100), frame(b"b" * 75)


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        await socket.send_bytes(message.data)


class Shim:
    """A server like the gateway's tunnel: ``handler`` for each socket, ``brokers`` for its list of them."""

    def __init__(self, handler: Handler = echo, brokers: Any = None, status: int = 101) -> None:
        self.handler, self.brokers, self.status = handler, brokers, status
        self.targets: list[str] = []
        self.headers: list[Any] = []
        self.times: list[float] = []
        self.closes: list[int | None] = []

    async def __aenter__(self) -> Shim:
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.address = f"127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if "Upgrade" not in request.headers:
            return web.json_response(self.brokers) if self.brokers is not None else web.Response(status=404)
        self.targets.append(request.raw_path)
        self.headers.append(request.headers)
        self.times.append(time.monotonic())
        if self.status != 101:
            return web.Response(status=self.status)
        socket = web.WebSocketResponse(max_msg_size=1 << 28, autoping=True)
        await socket.prepare(request)
        try:
            await self.handler(socket)
            if not socket.closed:
                await socket.close()
        finally:
            self.closes.append(socket.close_code)
        return socket


def brokers(*nodes: int) -> dict[str, Any]:
    rows = [{"node_id": node, "rack": None, "path": f"/kafka/brokers/{node}"} for node in nodes]
    return {"cluster_id": "c", "brokers": rows}


# --- dialer ----------------------------------------------------------------------------------------------------------


async def test_dialer() -> None:
    got: list[bytes] = []

    async def handler(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            got.append(message.data)
            await socket.send_bytes(message.data)

    async with Shim(handler) as shim, await TunnelDialer().dial("tcp", shim.address) as conn:
        assert shim.targets == ["/"]
        assert "Origin" not in shim.headers[0]
        assert "Sec-WebSocket-Protocol" not in shim.headers[0]
        assert conn.remote_addr[1] == shim.port
        assert conn.local_addr[0] == "127.0.0.1"
        writes = [A[0:2], A[2:4], A[4:], B[:30], B[30:]]
        assert [await conn.write(each) for each in writes] == [2, 2, 100, 30, 49]
        assert await conn.read(4) == A[:4]
        assert await conn.read(1000) == A[4:]
        assert await conn.read(1000) == B
        assert got == [A, B]
        assert await conn.write(A + B + A) == 3 * 100 + 12 - 25
        assert [await conn.read(200) for _ in range(3)] == [A, B, A]


async def test_dialer_errors() -> None:
    with pytest.raises(InvalidNetworkError, match=r"^shim: invalid network: expected tcp but got foo$"):
        await TunnelDialer().dial("foo", "127.0.0.1:1")
    with pytest.raises(DialError, match=r"^shim: dial websocket failed: "):
        await TunnelDialer().dial("tcp", "127.0.0.1:1")

    async def text(socket: web.WebSocketResponse) -> None:
        await socket.send_str("hello")
        await socket.receive()

    async with Shim(text) as shim, await TunnelDialer().dial("tcp", shim.address) as conn:
        with pytest.raises(
            InvalidMessageTypeError, match=r"^shim: invalid websocket message type: expected 2 but got 1$"
        ):
            await conn.read(10)

    async def refuse(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await socket.close(code=1008, message=b"no")

    async with Shim(refuse) as shim, await TunnelDialer().dial("tcp", shim.address) as conn:
        await conn.write(A)
        with pytest.raises(ReadError, match="1008"):
            await conn.read(10)
    async with Shim() as shim, await TunnelDialer(path="/kafka").dial("tcp", shim.address) as conn:
        assert shim.targets == ["/kafka"]
        with pytest.raises(WriteError) as caught:
            await conn.write(b"\xff\xff\xff\xff")
        assert caught.value.written == 0
    async with Shim(status=403) as shim:
        with pytest.raises(DialError) as refused:
            await TunnelDialer(headers={"Authorization": "x"}).dial("tcp", shim.address)
        assert refused.value.status == 403
        assert shim.headers[0]["Authorization"] == "x"


# --- TCP side --------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def local(shim: Shim | str, **settings: Any) -> AsyncIterator[LocalTunnel]:
    address = shim if isinstance(shim, str) else shim.address
    async with LocalTunnel(LocalSettings(address, free_range(8), drain_s=2, **settings)) as running:
        yield running


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def test_frames_cross_and_the_gateway_is_asked_to_advertise() -> None:
    async with Shim(brokers=brokers(1, 2)) as shim, local(shim) as tunnel:
        assert tunnel.ports == {1: tunnel.port + 2, 2: tunnel.port + 3}
        assert tunnel.bootstrap == f"127.0.0.1:{tunnel.port}"
        for port, path in ((tunnel.port, "/kafka"), (tunnel.port + 3, "/kafka/brokers/2")):
            reader, writer = await opened(port)
            for byte in A:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            writer.write(B + A)
            assert await reader.readexactly(len(A + B + A)) == A + B + A
            writer.close()
            assert shim.targets[-1] == f"{path}?advertise=127.0.0.1&base={tunnel.port + 1}"
        await until(lambda: shim.closes == [1000, 1000])


async def test_settings_of_the_tcp_side(tmp_path: Any) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    settings = {"path": "/t", "advertise_host": "10.1.2.3", "node_ports": {70000: free_range(1)}}
    async with Shim(brokers=brokers(70000)) as shim:
        async with local(shim, token_file=str(token), headers={"X-One": "1"}, **settings) as tunnel:
            assert tunnel.ports == settings["node_ports"]
            _, writer = await opened(tunnel.ports[70000])
            await until(lambda: shim.targets)
            port = settings["node_ports"][70000]
            assert shim.targets == [
                f"/t/brokers/70000?advertise=10.1.2.3&base={tunnel.port + 1}&map=70000:{port}",
            ]
            assert shim.headers[0]["Authorization"] == "Bearer abc"
            assert shim.headers[0]["X-One"] == "1"
            writer.close()
        with pytest.raises(LocalTunnelError, match="-node-port 70000=PORT"):
            async with local(shim):
                pass


async def test_a_broker_that_joins_gets_a_port() -> None:
    async with Shim(brokers=brokers(1)) as shim, local(shim, refresh_s=0.05) as tunnel:
        shim.brokers = brokers(1, 3)
        await until(lambda: 3 in tunnel.ports)


async def test_a_server_of_another_make() -> None:
    """Kafka WebSocket Shim's own server knows / and no list of brokers."""
    async with Shim() as shim, local(shim) as tunnel:
        assert tunnel.ports == {}
        reader, writer = await opened(tunnel.port)
        writer.write(A)
        assert await reader.readexactly(len(A)) == A
        assert shim.targets == ["/"]
        writer.close()


@pytest.mark.parametrize("size", [-1, -4, -5, 0x7FFFFFFF, 0x16030100, struct.unpack(">i", b"GET ")[0]])
async def test_what_is_no_kafka_ends_the_connection(size: int, caplog: Any) -> None:
    """C8 no. 3, and a hint for who speaks TLS or HTTP."""
    caplog.set_level("INFO")
    async with Shim(brokers=brokers()) as shim, local(shim) as tunnel:
        reader, writer = await opened(tunnel.port)
        writer.write(struct.pack(">i", size) + bytes(1000))
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        await until(lambda: shim.closes)
        assert shim.closes == [1007]
        writer.close()
    hints = {0x16030100: "speaks TLS", struct.unpack(">i", b"GET ")[0]: "speaks HTTP"}
    assert hints.get(size, "connection with") in caplog.text


@pytest.mark.timing  # the pauses between the attempts, to a quarter of a second
@pytest.mark.slow
async def test_dialling_is_tried_five_times(caplog: Any) -> None:
    """At 0, 0.2, 0.6, 1.4 and 3 s (C8 no. 4)."""
    async with Shim(brokers=brokers(), status=503) as shim, local(shim) as tunnel:
        reader, writer = await opened(tunnel.port)
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        waited = [at - shim.times[0] for at in shim.times]
        assert waited == pytest.approx([0, 0.2, 0.6, 1.4, 3.0], abs=0.25)
        writer.close()


@pytest.mark.slow
async def test_the_gateway_comes_up_while_it_is_dialled() -> None:
    async with Shim(brokers=brokers(), status=503) as shim, local(shim) as tunnel:
        reader, writer = await opened(tunnel.port)
        writer.write(A)
        await until(lambda: len(shim.times) == 2)
        shim.status = 101
        assert await reader.readexactly(len(A)) == A
        writer.close()


async def test_the_gateway_ends_the_tunnel(caplog: Any) -> None:
    async def refuse(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await socket.send_bytes(A)
        await socket.close(code=1008, message=b"this API is not relayed")

    async with Shim(refuse, brokers()) as shim, local(shim) as tunnel:
        reader, writer = await opened(tunnel.port)
        writer.write(B)
        assert await reader.read() == A
        writer.close()
    assert "1008 this API is not relayed" in caplog.text


@pytest.mark.parametrize("sent", ["text", "reserved", "large", "fragments"])
async def test_a_gateway_that_breaks_the_protocol(sent: str) -> None:
    async def handler(socket: web.WebSocketResponse) -> None:
        transport = socket._req.transport  # type: ignore[union-attr]
        assert transport is not None
        await socket.receive()
        match sent:
            case "text":
                await socket.send_str("hello")
            case "reserved":
                transport.write(b"\xf2\x01x")
            case "large":
                transport.write(b"\x82\x7f" + struct.pack(">Q", 1 << 40))
            case _:
                transport.write(b"\x80\x01x")
        await socket.receive()

    async with Shim(handler, brokers()) as shim, local(shim) as tunnel:
        reader, writer = await opened(tunnel.port)
        writer.write(A)
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        await until(lambda: shim.closes)
        assert shim.closes == [{"text": 1003, "large": 1009}.get(sent, 1002)]
        writer.close()


async def test_fragments_and_pings_between_them() -> None:
    """Cut everywhere, the client gets the bytes of the data frames in order; pings are answered."""

    async def handler(socket: web.WebSocketResponse) -> None:
        transport = socket._req.transport  # type: ignore[union-attr]
        assert transport is not None
        await socket.receive()
        stream = b"\x02\x03" + A[:3] + b"\x89\x02hi" + b"\x00\x00" + b"\x80\x7e\x00" + bytes([len(A) - 3]) + A[3:]
        for byte in stream + b"\x82\x7f" + struct.pack(">Q", len(B)) + B:
            transport.write(bytes([byte]))
            await asyncio.sleep(0.0005)  # time itself: so that the bytes come one by one
        await socket.receive()

    async with Shim(handler, brokers()) as shim, local(shim) as tunnel:
        reader, writer = await opened(tunnel.port)
        writer.write(A)
        assert await reader.readexactly(len(A + B)) == A + B
        writer.close()
        await until(lambda: shim.closes)


async def test_stopping_waits_for_open_requests() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def handler(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        asked.set()
        await release.wait()
        await socket.send_bytes(A)
        await socket.receive()

    async with Shim(handler, brokers()) as shim:
        async with contextlib.AsyncExitStack() as stack:
            tunnel = await stack.enter_async_context(local(shim))
            reader, writer = await opened(tunnel.port)
            writer.write(B)
            await asked.wait()
            stopping = asyncio.create_task(stack.aclose())
            await asyncio.sleep(0.1)  # time itself: it goes on waiting
            assert not stopping.done()
            release.set()
            assert await reader.read() == A
            await stopping
            writer.close()
        await until(lambda: shim.closes == [1001])


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_line(capsys: Any) -> None:
    for flags in (["-nonsense"], ["-port=x"], ["-node-port=1"], ["-refresh=soon"], ["-header=x"], ["-tls=maybe"]):
        with pytest.raises(SystemExit) as caught:
            program.main(["tunnel", *flags])
        assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        program.main(["tunnel", "--help"])
    assert caught.value.code == 0
    assert "-broker-port-base" in capsys.readouterr().out


@pytest.mark.slow
def test_the_program_from_start_to_stop() -> None:
    """Through a real gateway on the embedded Kafka; a port that is taken; SIGTERM, SIGINT."""
    with GatewayProcess("tunnel.enable=true") as gateway, LocalProcess(gateway.url, nodes=1) as proxy:
        with LocalProcess(gateway.url, "-single", nodes=0) as single:
            assert single.stop(signal.SIGINT) == 0
        taken = LocalProcess(gateway.url, port=proxy.port)
        with pytest.raises(AssertionError, match="address already in use"):
            taken.__enter__()
        assert taken.process.returncode == 1

        async def ask() -> bytes:
            reader, writer = await opened(proxy.port)
            writer.write(request(18, 0, 3))
            answer = await reader.readexactly(8)
            proxy.wait_for("opened websocket connection with")
            writer.close()
            return answer

        assert asyncio.run(ask())[4:] == struct.pack(">i", 3)
        proxy.wait_for("closed tcp connection with 127.0.0.1")
        assert proxy.stop() == 0
        gateway.wait_for("to bootstrap closed with 1000")
    assert proxy.output[0] == f"listening on port {proxy.port}"
