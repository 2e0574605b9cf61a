"""A sink that is nothing but a socket: it notes the requests it gets and answers with any bytes, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Got:
    """One request as it came."""

    def __init__(self, head: bytes, body: bytes, connection: int, at: float) -> None:
        first, *lines = head.decode("utf-8").split("\r\n")[:-2]
        self.method, self.target, _ = first.split(" ")
        self.lines = [tuple(line.split(": ", 1)) for line in lines]
        self.body = body
        self.connection = connection
        self.at = at

    def all(self, name: str) -> list[str]:
        return [line[1] for line in self.lines if line[0].lower() == name.lower()]


Answering = Callable[[Got, int], bytes | asyncio.Event | None]


class RawSink:
    """``answer(request, number)`` gives the bytes to write; None closes the connection, b"" says nothing for ever, an
    event says ``OK`` when it is set.

    Answers may end with ``CUT``: the connection is reset behind them.
    """

    CUT = b"<<cut>>"

    def __init__(
        self, answer: Callable[[Got, int], bytes | asyncio.Event | None] = lambda got, number: OK, port: int = 0
    ) -> None:
        self.answer = answer
        self.got: list[Got] = []
        self.connections = 0
        self._port = port
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> RawSink:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/push"

    @property
    def bodies(self) -> list[bytes]:
        return [got.body for got in self.got]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
                self.got.append(Got(head, body, number, asyncio.get_running_loop().time()))
                answer = self.answer(self.got[-1], len(self.got))
                if isinstance(answer, asyncio.Event):
                    await answer.wait()
                    answer = OK
                if answer is None:
                    break
                writer.write(answer.removesuffix(self.CUT))
                await writer.drain()
                if answer.endswith(self.CUT):
                    writer.transport.abort()
                if not answer:
                    await asyncio.sleep(3600)  # time itself: it never answers
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
