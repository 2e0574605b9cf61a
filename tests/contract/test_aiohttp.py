"""What is used of aiohttp that aiohttp keeps to itself: all of it is named here, and looked for in this version.

aiohttp is capped below its next minor version (pyproject.toml). Whoever raises the cap runs this first: a name that is
gone fails here, and not on a Sunday.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.web_protocol import RequestHandler

ROOT = Path(__file__).parents[2]
MODULES = [
    path
    for room in ("gateway", "services", "transports")
    for path in sorted((ROOT / room).rglob("*.py"))
    if re.search(r"^(from|import) aiohttp", path.read_text(), re.MULTILINE)
]

USED: dict[str, dict[str, type]] = {
    "gateway/door/body.py": {"_message": web.BaseRequest},  # Content-Encoding, while auto_decompress is off
    "gateway/door/head.py": {"_cache": web.BaseRequest},  # the version of the reply to another version
    "gateway/door/connection.py": {  # one client's connection: its stop, its hand-over, its backpressure
        "_close": RequestHandler,
        "_current_request": RequestHandler,
        "_drain_waiter": RequestHandler,
        "_force_close": RequestHandler,
        "_handler_waiter": RequestHandler,
        "_keepalive_handle": RequestHandler,
        "_keepalive_timeout": RequestHandler,
        "_loop": RequestHandler,
        "_message": web.BaseRequest,
        "_messages": RequestHandler,
        "_next_keepalive_close_time": RequestHandler,
        "_parser": RequestHandler,
        "_process_keepalive": RequestHandler,
        "_read_bufsize": RequestHandler,
        "_reading_paused": RequestHandler,
        "_request_count": RequestHandler,
        "_request_factory": RequestHandler,
        "_request_in_progress": RequestHandler,
        "_task_handler": RequestHandler,
        "_waiter": RequestHandler,
    },
    "gateway/door/host.py": {"_loop": web.Server},  # that of the requests which it makes
    "gateway/door/request.py": {
        "_loop": web.BaseRequest,  # the writer of responses is made when one is wanted
        "_payload_writer": web.BaseRequest,
        "_transport_sslcontext": web.BaseRequest,  # whether it came over TLS, at no cost
        "_protocol": web.BaseRequest,
        "_prepare_hook": web.BaseRequest,  # CORS headers of the responses that aiohttp writes
        "_read_bytes": web.BaseRequest,  # a body is read once
    },
    "transports/http/transport.py": {"_message": web.BaseRequest},  # kept for a head that comes again
    "transports/tunnel/direct_reader.py": {  # the client's end of a tunnel reads past the queue of messages
        "_conn": aiohttp.ClientWebSocketResponse,
        "_payload_parser": ResponseHandler,
        "_reader": aiohttp.ClientWebSocketResponse,
    },
    "transports/websocket/handshake.py": {  # taking over an open WebSocket
        "_headers": web.WebSocketResponse,
        "_message_tail": RequestHandler,
        "_parser": web.WebSocketResponse,
        "_payload_parser": RequestHandler,
        "_post_start": web.WebSocketResponse,
        "_prepare_headers": web.WebSocketResponse,
        "_reader": web.WebSocketResponse,
        "_writer": web.WebSocketResponse,
    },
}
"""Module → private name → the class of aiohttp that has it."""

CLASSES: tuple[type, ...] = (
    RequestHandler,
    BaseProtocol,
    ResponseHandler,
    web.Server,
    web.BaseRequest,
    web.StreamResponse,
    web.WebSocketResponse,
    aiohttp.ClientWebSocketResponse,
    WebSocketDataQueue,
    WebSocketReader,
    aiohttp.StreamReader,
)


@functools.cache
def private_names(cls: type) -> frozenset[str]:
    """The private names of a class: in its body, its slots, and what its methods set."""
    names: set[str] = set()
    for each in cls.__mro__[:-1]:
        names |= {name for name in vars(each) if name.startswith("_")}
        names |= set(getattr(each, "__slots__", ()))
        module = inspect.getsourcefile(each)
        if module is not None and "aiohttp" in module:
            names |= set(re.findall(r"self\.(_[a-z]\w*)\b.*=", inspect.getsource(each)))
    return frozenset(name for name in names if name.startswith("_") and not name.startswith("__"))


ALL = frozenset[str]().union(*(private_names(each) for each in CLASSES))
BASES = {"RequestHandler", "Server", "BaseRequest", "StreamResponse", "WebSocketResponse", "ClientWebSocketResponse"}


def used_in(path: Path) -> set[str]:
    """Private names of aiohttp's that the module reads or writes, of objects or in subclasses of aiohttp's classes."""
    found: set[str] = set()

    def visit(node: ast.AST, inherited: bool, own: frozenset[str]) -> None:
        if isinstance(node, ast.ClassDef):
            names = {base.attr if isinstance(base, ast.Attribute) else ast.unparse(base) for base in node.bases}
            inherited = any(name.split("[")[0].split(".")[-1] in BASES for name in names)
            own = frozenset(_own_names(node))
            if inherited:
                found.update(name for name in _methods(node) if name in ALL)
        if isinstance(node, ast.Attribute) and node.attr in ALL:
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not of_self or (inherited and node.attr not in own):
                found.add(node.attr)
        for child in ast.iter_child_nodes(node):
            visit(child, inherited, own)

    visit(ast.parse(path.read_text()), False, frozenset())
    return found


def _own_names(node: ast.ClassDef) -> set[str]:
    """What its ``__slots__`` and annotations name."""
    own: set[str] = set()
    for each in node.body:
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__slots__":
            own |= set(ast.literal_eval(each.value))
    return own


def _methods(node: ast.ClassDef) -> set[str]:
    return {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_private_name_stands_here() -> None:
    found = {str(path.relative_to(ROOT)): used_in(path) for path in MODULES}
    assert {path: names for path, names in found.items() if names} == {path: set(names) for path, names in USED.items()}


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in USED.items() for name in names])
def test_aiohttp_has_it(path: str, name: str) -> None:
    assert name in private_names(USED[path][name])


def test_aiohttp_is_capped_below_the_next_minor_version() -> None:
    """These names may go with any minor version."""
    cap = re.search(r'"aiohttp>=3\.14\.\d+,<3\.15"', (ROOT / "pyproject.toml").read_text())
    assert cap is not None
    assert aiohttp.__version__.startswith("3.14.")
