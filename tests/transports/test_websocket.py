"""REST over WebSocket: atmosphere-binding.md §1 and rows 1 to 26 of its checklist, through a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import resource
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.auth import Authenticator
from kafka_gateway.errors import Unauthorized
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from kafka_gateway.transports.websocket.closing import reason_bytes
from tests.logged import logged
from tests.transports.conftest import gateway
from tests.transports.peer import BINARY, CLOSE, PING, PONG, TEXT, Frame, Peer, Refused, frame
from tests.transports.stub_service import StubService
from tests.transports.wire import Wire
from tests.waiting import PATIENCE_S, until

V1 = "application/vnd.kafka.v1+json"
V1_BINARY = "application/vnd.kafka.binary.v1+json"
ON = {"transport.websocket.enable": True}


@pytest.fixture
def service() -> StubService:
    return StubService()


@pytest.fixture
async def app(settings: dict[str, Any], service: StubService) -> AsyncIterator[App]:
    async with gateway(service, **{**ON, **settings}) as running:
        yield running


@pytest.fixture
async def peer(app: App) -> AsyncIterator[Peer]:
    async with await Peer.open(app.addresses[0]) as opened:
        yield opened


def set_(**values: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [{name.replace("__", "."): value for name, value in values.items()}])


# --- the sequences of §1.14, byte for byte --------------------------------------------------------------------------


HEAD = '{{"code":{},"id":"{}","type":"application/vnd.kafka.v1+json"}}'
OFFSET = '{"partition":0,"offset":0,"error_code":null,"error":null}'
TAIL = '"key_schema_id":null,"value_schema_id":null}'


def without_numbers(answer: str) -> str:
    """Where Kafka put a record is its own affair."""
    return re.sub(r'"partition":\d+,"offset":\d+', '"partition":0,"offset":0', answer)


async def test_the_documented_dialogue(peer: Peer) -> None:
    assert (
        without_numbers(
            await peer.ask(
                '{"id":"124","method":"POST","path":"/topics/test","type":"application/vnd.kafka.binary.v1+json"}'
                '{"records":[{"value":"S2Fma2E="}]}'
            )
        )
        == HEAD.format(200, 124) + f'{{"offsets":[{OFFSET}],{TAIL}'
    )
    assert (
        without_numbers(
            await peer.ask(
                '{"id":"125","method":"POST","path":"/topics/jsontest","type":"application/vnd.kafka.json.v1+json"}'
                '{"records":[{"value":"foo"},{"value":{"greeting":"bye"}}]}'
            )
        )
        == HEAD.format(200, 125) + f'{{"offsets":[{OFFSET},{OFFSET}],{TAIL}'
    )
    topics = (await peer.ask('{"id": "123", "method": "GET", "path": "/topics"}')).removeprefix(HEAD.format(200, 123))
    assert {"test", "jsontest"} <= set(json.loads(topics))
    assert await peer.ask('{"id":"127","method":"GET","path":"/topics/nope"}') == (
        HEAD.format(404, 127) + '{"error_code":40401,"message":"Topic not found."}'
    )
    headers = '"headers":{"Authorization":"Basic dTpw","X-Language":"es"}'
    answer = await peer.ask(f'{{"id":"129","method":"GET","path":"/topics",{headers}}}')
    assert answer.startswith(HEAD.format(200, 129) + '["')
    assert (await peer.ask('{"method":"GET","path":"/topics"}')).startswith('["')
    assert await peer.ask("not json") == JUNK


JUNK = """{"error_code":400,"message":"Invalid message: expected '{' at position 0"}"""


async def test_the_documented_read(peer: Peer, topic: str) -> None:
    await peer.ask(
        f'{{"id":"1","method":"POST","path":"/topics/{topic}/partitions/0","type":"{V1_BINARY}"}}'
        '{"records":[{"value":"S2Fma2E="}]}'
    )
    answer = await peer.ask(
        f'{{"id":"126","path":"/topics/{topic}/partitions/0/messages?offset=0&count=1",'
        '"accept":"application/vnd.kafka.binary.v1+json"}'
    )
    assert answer == (
        '{"code":200,"id":"126","type":"application/vnd.kafka.binary.v1+json"}'
        '[{"key":null,"value":"S2Fma2E=","partition":0,"offset":0}]'
    )


async def test_the_documented_consumer(peer: Peer) -> None:
    created = await peer.ask(
        '{"id":"126","method":"POST","path":"/consumers/my_consumer_group","type":"application/vnd.kafka.binary.v1+json"}'
        '{"id":"my_instance","format":"binary","auto.offset.reset":"smallest"}'
    )
    assert created == HEAD.format(200, 126) + (
        '{"instance_id":"my_instance","base_uri":"http://localhost/consumers/my_consumer_group/instances/my_instance"}'
    )
    deleted = await peer.ask(
        '{"id":"128","method":"DELETE","path":"/consumers/my_consumer_group/instances/my_instance"}'
    )
    assert deleted == '{"code":204,"id":"128"}'


async def test_the_documented_parts(peer: Peer) -> None:
    peer.write(
        '{"id":"a","method":"POST","path":"/topics/test","type":"application/vnd.kafka.binary.v1+json","continue":true}'
        '{"recor'
    )
    peer.write('{"id":"b","method":"GET","path":"/topics"}')
    peer.write('{"id":"a","continue":true}ds":[{"va')
    assert (await peer.text()).startswith(HEAD.format(200, "b"))
    answer = await peer.ask('{"id":"a"}lue":"S2Fma2E="}]}')
    assert without_numbers(answer) == HEAD.format(200, "a") + f'{{"offsets":[{OFFSET}],{TAIL}'


async def test_the_embedded_dialogue(app: App) -> None:
    async with await Peer.open(app.addresses[0], "/?X-Atmosphere-SimpleRestProtocolDetached=false") as peer:
        assert (await peer.ask('{"id":"0","method":"GET","path":"/topics"}')).startswith('{"id": "0", "data": [')
        produce = '{{"id":"{}","method":"POST","path":"/topics/test","type":"application/vnd.kafka.binary.v1+json",{}'
        records = '{"records":[{"value":"S2Fma2E="}]}'
        produced = '{"id": "ID", "data": {"offsets":[' + OFFSET + "]," + TAIL + "}"
        answer = without_numbers(await peer.ask(produce.format("1", f'"data":{records}}}')))
        assert answer == produced.replace("ID", "1")
        assert (
            await peer.ask('{"id":"2","method":"GET","path":"/topics/nope"}')
            == '{"id": "2", "code": 404, "data": {"error_code":40401,"message":"Topic not found."}}'
        )
        answer = without_numbers(await peer.ask(produce.format("3", f'"detached":true}}\n{records}')))
        assert answer == produced.replace("ID", "3")
        assert (await peer.ask('{"id":7,"method":"GET","path":"/topics"}')).startswith('{"id": "7", "data": [')
        assert await peer.ask("[]") == JUNK


# --- requests -------------------------------------------------------------------------------------------------------


async def echo(peer: Peer, message: str) -> Any:
    answer = await peer.ask(message)
    assert answer.startswith('{"code":200,'), answer
    return json.loads(answer[answer.index("}") + 1 :])


async def test_what_reaches_a_service(app: App, service: StubService) -> None:
    headers = {
        "Accept": "text/x-no", "Content_Type": "text/x-no", "Authorization": "Basic eDp5", "Cookie": "a=b",
        "X_Forwarded_For": "10.0.0.1", "X_Foo": "no", "Accept_Language": "es", "User_Agent": "u",
    }  # fmt: skip
    async with await Peer.open(app.addresses[0], "/?X-Atmosphere-Transport=websocket&x=y", **headers) as peer:
        message = (
            '{"id":"1","method":"post","path":"stub/echo?a=%20b&a=c#f","type":"text/plain",'
            '"headers":{"X-Y":[1,"é"],"TE":"x"}}\n Hi'
        )
        found = await echo(peer, message)
        assert found["method"] == "POST"
        assert found["path"] == "/stub/echo"
        assert found["query"] == {"a": " b"}
        assert found["body"] == "\n Hi"
        assert found["base_url"] == "http://localhost"
        inherited = {
            "accept-language": "es", "authorization": "Basic eDp5", "cookie": "a=b", "host": "localhost",
            "user-agent": "u", "x-forwarded-for": "10.0.0.1",
        }  # fmt: skip
        assert found["headers"] == {**inherited, "content-type": "text/plain", "x-y": "1, é"}
        found = await echo(peer, '{"id":"2","path":"/stub/echo","accept":"application/json"}')
        assert found["headers"] == {**inherited, "accept": "application/json"}
        assert service.requests[0].session.transport == "websocket"


def error(status: int, media_type: str, message: str) -> str:
    head = f'{{"code":{status},"id":"1","type":"{media_type}"}}'
    return head + f'{{"error_code":{status},"message":"{message}"}}'


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ('{"id":"1","method":"DELETE","path":"/stub/nothing"}', '{"code":204,"id":"1"}'),
        ('{"id":"1","method":"HEAD","path":"/stub/echo"}', '{"code":200,"id":"1","type":"application/json"}'),
        ('{"id":"1","path":"/nope"}', error(404, V1, "HTTP 404 Not Found")),
        ('{"id":"1","method":"PUT","path":"/topics"}', error(405, V1, "HTTP 405 Method Not Allowed")),
        ('{"id":"1","path":"/stub/fail"}', error(500, "application/json", "Internal Server Error")),
        ('{"id":"1","path":"http://x/y"}', error(400, V1, "Bad Request: path must not be a URL")),
        ('{"id":"1","type":7}', error(400, V1, "Invalid message: type is not a string")),
        ('{"id":"1","path":"/stub/redirect"}', '{"code":303,"id":"1","type":"application/json"}{}'),
        ('{"path":"/stub/redirect"}', "{}"),
        ('{"id":"","path":"/stub/redirect"}', '{"code":303,"id":"","type":"application/json"}{}'),
        ('{"id":"1","path":"/stub/redirect","detached":true}', '{"id": "1", "code": 303, "detached": true}\n{}'),
        ('{"id":"1","path":"/stub/redirect","data":1}', '{"id": "1", "code": 303, "data": {}}'),
        (
            '{"id":"1","data":{}}{}',
            '{"id": "1", "code": 400, "data": {"error_code":400,'
            '"message":"Invalid message: content behind the envelope as well as data"}}',
        ),
    ],
)
async def test_replies(peer: Peer, message: str, answer: str) -> None:
    assert await peer.ask(message) == answer


async def test_415_and_406(peer: Peer) -> None:
    answer = await peer.ask('{"id":"1","method":"POST","path":"/topics/t","type":"text/plain"}x')
    assert answer.startswith('{"code":415,"id":"1","type":')
    assert '{"error_code":415,' in answer
    answer = await peer.ask('{"id":"1","path":"/topics","accept":"image/png"}')
    assert answer.startswith('{"code":406,"id":"1"')
    assert '{"error_code":406,' in answer


async def test_both_generations(peer: Peer) -> None:
    answer = await peer.ask('{"id":"1","path":"/topics","accept":"application/vnd.kafka.v2+json"}')
    assert answer.startswith('{"code":200,"id":"1","type":"application/vnd.kafka.v2+json"}[')


@set_(api__default__generation="v2")
async def test_the_generation_that_the_operator_chose(peer: Peer) -> None:
    answer = await peer.ask('{"id":"1","path":"/topics"}')
    assert answer.startswith('{"code":200,"id":"1","type":"application/vnd.kafka.v2+json"}[')


# --- reply forms (§1.5) ---------------------------------------------------------------------------------------------

REQUEST = '{"id":"1","method":"POST","path":"/stub/back","type":"application/json"}[1]'
FORMS = {
    "true": '{"code":200,"id":"1","type":"application/json"}[1]',
    "false": '{"id": "1", "data": [1]}',
    "lf": '{"id": "1", "detached": true}\n[1]',
}


@pytest.mark.parametrize("settings", [{}, *({"atmosphere.simple-rest.protocol.detached": form} for form in FORMS)])
@pytest.mark.parametrize("parameter", ["", "true", "FALSE", "lf", "nonsense"])
async def test_forms_of_replies(app: App, settings: dict[str, str], parameter: str) -> None:
    target = f"/?x-atmosphere-simplerestprotocoldetached={parameter}" if parameter else "/"
    expected = parameter.lower() or settings.get("atmosphere.simple-rest.protocol.detached", "true")
    async with await Peer.open(app.addresses[0], target) as peer:
        assert await peer.ask(REQUEST) == FORMS.get(expected, FORMS["false"])
        data = '{"id":"1","method":"POST","path":"/stub/back","type":"application/json","data":[1]}'
        if parameter or settings:
            assert await peer.ask(data) == FORMS.get(expected, FORMS["false"])
        else:
            assert await peer.ask(data) == FORMS["false"]
            assert await peer.ask(REQUEST.replace("}[1]", ',"detached":true}\n[1]')) == FORMS["lf"]
            assert await peer.ask(REQUEST) == FORMS["true"]


async def test_the_parameter_may_be_a_header(app: App) -> None:
    async with await Peer.open(app.addresses[0], X_Atmosphere_SimpleRestProtocolDetached="lf") as peer:
        assert await peer.ask(REQUEST) == FORMS["lf"]


async def test_headers_of_replies_on_demand(app: App) -> None:
    async with await Peer.open(app.addresses[0], "/?X-Atmosphere-SimpleRestHeaders=true") as peer:
        reply = await peer.ask('{"id":"1","path":"/stub/redirect"}')
        without_id = re.sub(r',"x-request-id":"[^"]+"', "", reply)
        assert without_id == '{"code":303,"headers":{"Location":"/elsewhere"},"id":"1","type":"application/json"}{}'
        assert without_id != reply


# --- text and binary (§1.6), parts (§1.8) ---------------------------------------------------------------------------


async def test_a_binary_request_gets_a_text(peer: Peer) -> None:
    await peer.send(REQUEST, BINARY)
    assert await peer.text() == FORMS["true"]


@pytest.mark.parametrize(
    ("target", "settings"),
    [("/?X-Atmosphere-Binary=true", {}), ("/", {"org.atmosphere.websocket.binaryWrite": True})],
)
async def test_a_client_that_wants_binary_replies(app: App, target: str) -> None:
    async with await Peer.open(app.addresses[0], target) as peer:
        await peer.send(REQUEST)
        assert await peer.frame() == Frame(BINARY, FORMS["true"].encode())


async def test_a_payload_that_is_no_text_comes_in_a_binary_message(peer: Peer) -> None:
    await peer.send(b'{"id":"1","method":"POST","path":"/stub/back","type":"x/y"}\xff\xfe', BINARY)
    assert await peer.frame() == Frame(BINARY, b'{"code":200,"id":"1","type":"x/y"}\xff\xfe')


async def test_a_character_split_across_binary_parts(peer: Peer) -> None:
    await peer.send(b'{"id":"1","method":"POST","path":"/stub/back","type":"text/plain","continue":true}\xc3', BINARY)
    await peer.send(b'{"id":"1"}\xa9', BINARY)
    assert await peer.text() == '{"code":200,"id":"1","type":"text/plain"}é'


@pytest.mark.parametrize("size", [65000, 65600, 200_000])
async def test_long_replies_come_in_parts(peer: Peer, size: int) -> None:
    await peer.send(f'{{"id":"1","path":"/stub/text/{size}"}}')
    content, more = "", True
    while more:
        message = await peer.text()
        assert len(message.encode("utf-16-le")) // 2 <= 65536
        head, end = json.JSONDecoder().raw_decode(message)
        more = head.pop("continue", False)
        assert head == {"code": 200, "id": "1", "type": "text/plain"}
        content += message[end:]
    assert content == ("é€😀x" * size)[:size]


async def test_fragmented_messages(peer: Peer) -> None:
    message = REQUEST.encode()
    peer.write(message[:5], final=False)
    peer.write(b"", opcode=0, final=False)
    peer.write(b"ping", PING)
    await peer.send(message[5:], opcode=0)
    assert await peer.frame() == Frame(PONG, b"ping")
    assert await peer.text() == FORMS["true"]


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_replies_come_as_requests_finish(peer: Peer, service: StubService) -> None:
    for name in "abc":
        await peer.send(f'{{"id":"{name}","path":"/stub/gate/{name}"}}')
        assert await service.waiting.get() == name
    assert await peer.ask(REQUEST) == FORMS["true"]
    for name in "cab":
        service.gates[name].set()
        assert await peer.text() == f'{{"code":200,"id":"{name}","type":"application/json"}}{{"gate":"{name}"}}'


async def test_an_id_that_is_used_again_while_it_is_outstanding(peer: Peer, service: StubService) -> None:
    await peer.send('{"id":"1","path":"/stub/gate/a"}')
    await service.waiting.get()
    assert await peer.ask(REQUEST) == FORMS["true"]
    service.gates["a"].set()
    assert (await peer.text()).endswith('{"gate":"a"}')


async def test_pipelined_records_keep_their_order(peer: Peer, topic: str) -> None:
    """1000 produce requests of one record each in one go: their offsets are those of their places (§1.1, M-order)."""
    head = f'"method":"POST","path":"/topics/{topic}","type":"{V1_BINARY}"}}'
    first = await peer.ask(f'{{"id":"first",{head}{{"records":[{{"value":"AA=="}}]}}')
    assert '"offset":0' in first
    frames = [
        frame(f'{{"id":"{n}",{head}{{"records":[{{"value":"AA==","partition":0}}]}}'.encode()) for n in range(1000)
    ]
    await peer.wire.send(b"".join(frames))
    offsets = {}
    for _ in range(1000):
        answer = await peer.text()
        head_, end = json.JSONDecoder().raw_decode(answer)
        offsets[int(head_["id"])] = json.loads(answer[end:])["offsets"][0]["offset"]
    base = offsets[0]
    assert [offsets[n] for n in range(1000)] == list(range(base, base + 1000))


async def test_replies_of_one_turn_leave_in_one_write(app: App, peer: Peer, service: StubService) -> None:
    for n in range(20):
        await peer.send(f'{{"id":"{n}","path":"/stub/gate/all"}}')
        await service.waiting.get()
    service.gates["all"].set()
    data = await peer.wire.reader.read(1 << 16)
    assert data.count(b'"gate":"all"') == 20


@set_(transport__websocket__requests__max=3)
async def test_requests_in_flight_are_bounded(peer: Peer, service: StubService) -> None:
    for n in range(10):
        await peer.send(f'{{"id":"{n}","path":"/stub/gate/g"}}')
    for _ in range(3):
        await service.waiting.get()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await service.waiting.get()
    service.gates["g"].set()
    answers = {json.JSONDecoder().raw_decode(await peer.text())[0]["id"] for _ in range(10)}
    assert answers == {str(n) for n in range(10)}


@set_(transport__websocket__requests__max=3)
async def test_subscriptions_take_no_place(peer: Peer, service: StubService) -> None:
    for n in range(8):
        await peer.send(f'{{"id":"{n}","path":"/stub/stream/{n}"}}')
        await service.waiting.get()
    assert await peer.ask(REQUEST) == FORMS["true"]


# --- parts of requests (§1.7) ---------------------------------------------------------------------------------------


@set_(transport__websocket__sequence__timeout__ms=50)
async def test_a_sequence_that_is_never_finished(peer: Peer) -> None:
    head = '{"id":"a","method":"POST","path":"/stub/back","type":"application/json"'
    answer = await peer.ask(head + ',"continue":true}[')
    assert (
        answer == f'{{"code":408,"id":"a","type":"{V1}"}}{{"error_code":408,"message":"Incomplete message sequence"}}'
    )
    assert await peer.ask(head + "}[1]") == '{"code":200,"id":"a","type":"application/json"}[1]'


@set_(transport__websocket__sequences__max=2)
async def test_too_many_sequences(peer: Peer) -> None:
    for id in "ab":
        await peer.send(f'{{"id":"{id}","continue":true,"method":"POST","path":"/stub/back"}}x')
    assert (await peer.ask('{"id":"c","continue":true}')).startswith('{"code":429,"id":"c",')
    assert (await peer.ask('{"id":"a"}y')) == '{"code":200,"id":"a","type":"application/json"}xy'


@set_(request__max__bytes=100_000)
async def test_a_body_that_is_too_long(peer: Peer) -> None:
    await peer.send('{"id":"a","continue":true,"method":"POST","path":"/stub/back"}' + "x" * 60_000)
    assert (await peer.ask('{"id":"a","continue":true}' + "x" * 60_000)).startswith('{"code":413,"id":"a",')
    await peer.send('{"id":"a"}ignored')
    assert await peer.ask(REQUEST) == FORMS["true"]


async def test_sequences_belong_to_their_socket(app: App, peer: Peer) -> None:
    async with await Peer.open(app.addresses[0]) as other:
        for each, content in ((peer, "1"), (other, "2")):
            await each.send('{"id":"a","method":"POST","path":"/stub/back","continue":true}' + content)
        for each, content in ((other, "2"), (peer, "1")):
            assert (
                await each.ask('{"id":"a"}' + content)
                == f'{{"code":200,"id":"a","type":"application/json"}}{content * 2}'
            )


# --- control messages, heartbeats, idle sockets (§1.12, §3.5) -------------------------------------------------------


async def test_control_messages_get_no_reply(peer: Peer) -> None:
    for message in ("", "X", " \n", "...ACK...", '{"heartbeat": "a", "time": 1}'):
        await peer.send(message)
    assert await peer.ask(REQUEST) == FORMS["true"]


async def test_a_socket_survives_junk(peer: Peer) -> None:
    for message in ("not json", "[]", '{"id":"1"', '{"id":{"id":1}}', '{"id":"1","continue":{}}', "{" * 60000, "\\"):
        assert '"error_code":400' in await peer.ask(message)
    assert await peer.ask(REQUEST) == FORMS["true"]


@set_(
    org__atmosphere__interceptor__HeartbeatInterceptor__heartbeatFrequencyInSeconds=1,
    transport__websocket__ping__interval__ms=0,
)
async def test_heartbeat(peer: Peer) -> None:
    first, second = await peer.text(), await peer.text()
    found = json.loads(first)
    assert first == f'{{"heartbeat": "{found["heartbeat"]}", "time": {found["time"]}}}'
    assert json.loads(second)["heartbeat"] == found["heartbeat"]
    assert json.loads(second)["time"] >= found["time"] + 900


@set_(org__atmosphere__websocket__maxIdleTime=100, transport__websocket__ping__interval__ms=0)
async def test_an_idle_socket_is_closed(peer: Peer) -> None:
    assert await peer.ask(REQUEST) == FORMS["true"]
    assert await peer.closed() == 1001


@set_(transport__websocket__ping__interval__ms=50)
async def test_a_client_without_pongs_is_cut_off(app: App, peer: Peer) -> None:
    assert await peer.frame() == Frame(PING, b"")
    await peer.send(b"", PONG)
    assert await peer.frame() == Frame(PING, b"")
    with pytest.raises(ConnectionError):
        await peer.frame()
    await until(lambda: not app.gateway.sessions)


# --- limits and broken frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 65536),
        (
            {"org.atmosphere.websocket.maxTextMessageSize": 200, "org.atmosphere.websocket.maxBinaryMessageSize": 200},
            200,
        ),
    ],
)
async def test_the_longest_message(peer: Peer, opcode: int, size: int) -> None:
    head = b'{"id":"1","method":"DELETE","path":"/stub/nothing","type":"text/plain"}'
    await peer.send(head + b"x" * (size - len(head)), opcode)
    assert await peer.text() == '{"code":204,"id":"1"}'
    await peer.send(head + b"x" * (size - len(head) + 1), opcode)
    assert await peer.closed() == 1009


async def test_text_and_binary_have_limits_of_their_own(service: StubService) -> None:
    settings = {"org.atmosphere.websocket.maxTextMessageSize": 200}
    async with gateway(service, **ON, **settings) as app, await Peer.open(app.addresses[0]) as peer:
        await peer.send(REQUEST.ljust(300), BINARY)
        assert (await peer.text()).startswith('{"code":200')
        await peer.send(REQUEST.ljust(201))
        assert await peer.closed() == 1009


@set_(org__atmosphere__websocket__maxTextMessageSize=-1, request__max__bytes=200_000)
async def test_without_a_limit_the_body_has_one(peer: Peer) -> None:
    head = '{"id":"1","method":"POST","path":"/stub/echo"}'
    await peer.send(head + "x" * 200_000)
    while '"continue":true' in await peer.text():
        pass
    assert (await peer.ask(head + "x" * 200_001)).startswith('{"code":413')


NEVER_SENT = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b'{"id":"\xff"}'), 1007),
        (frame(b'{"id":"1","type":"text/plain"}\xc3'), 1007),
        (frame(b"x", 3), 1002),
        (frame(b"x", 11), 1002),
        (frame(b"x", rsv=1), 1002),
        (frame(b"x", 0), 1002),
        (frame(b"x", PING, final=False), 1002),
        (frame(b"x" * 126, PING), 1002),
        (frame(b"x", TEXT, final=False) + frame(b"y", TEXT), 1002),
        (frame(b"x", CLOSE), 1002),
        (frame(b"\x03\xe8\xff", CLOSE), 1007),
        *((frame(code.to_bytes(2, "big"), CLOSE), 1002) for code in NEVER_SENT),
        *((frame(code.to_bytes(2, "big"), CLOSE), code) for code in (1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999)),
        (frame(b"\x03\xe8bye", CLOSE), 1000),
    ],
)  # fmt: skip
async def test_close_codes(peer: Peer, data: bytes, code: int) -> None:
    await peer.wire.send(data)
    assert await peer.closed() == code


UNMASKED = b'\x81\x1e{"id":"1","path":"/stub/echo"}'


@pytest.mark.parametrize("cut", [0, 1, 2, 10, len(UNMASKED)])
async def test_a_client_that_does_not_mask_is_refused(peer: Peer, service: StubService, cut: int) -> None:
    await peer.wire.send(UNMASKED[:cut])
    await asyncio.sleep(0.01)  # time itself: so that it is read in two pieces
    await peer.wire.send(UNMASKED[cut:] + frame(b'{"id":"2","path":"/stub/echo"}'))
    assert await peer.closed() == 1002
    assert not service.requests


async def test_a_client_that_broke_the_protocol_and_left_is_gone(
    app: App, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends no close frame any more, so nobody waits for one."""
    monkeypatch.setattr("kafka_gateway.transports.websocket.socket._CLOSE_TIMEOUT_S", 3600.0)
    await peer.wire.send(UNMASKED)
    assert await peer.closed() == 1002
    peer.kill()
    await until(lambda: app.host.connection_count == 0, 20)


@pytest.mark.parametrize("masked", [True, False])
async def test_the_first_frame_may_come_with_the_handshake(app: App, service: StubService, masked: bool) -> None:
    first = frame(UNMASKED[2:]) if masked else UNMASKED
    async with await Peer.open(app.addresses[0], behind=first) as peer:
        if masked:
            assert '"id":"1"' in await peer.text()
        else:
            assert await peer.closed() == 1002
    assert len(service.requests) == masked


async def test_a_close_frame_without_a_code(peer: Peer) -> None:
    await peer.send(b"", CLOSE)
    assert await peer.frame() == Frame(CLOSE, b"")


async def test_what_comes_behind_a_close_frame_is_not_run(peer: Peer, service: StubService) -> None:
    await peer.wire.send(frame(b"\x03\xe8", CLOSE) + frame(b'{"id":"1","path":"/stub/echo"}'))
    assert await peer.closed() == 1000
    assert not service.requests


@pytest.mark.parametrize(("data", "code"), [(frame(b"\xff"), 1007), (frame(b"x", rsv=1), 1002)])
async def test_what_was_asked_for_before_a_broken_frame_is_answered(peer: Peer, data: bytes, code: int) -> None:
    asked = b'{"id":"%d","method":"POST","path":"/stub/back","type":"application/octet-stream"}x'
    await peer.wire.send(b"".join(frame(asked % number) for number in range(20)) + data)
    for number in range(20):
        assert f'"id":"{number}"' in await peer.text()
    assert await peer.closed() == code


async def test_nothing_follows_the_close_frame(
    app: App, peer: Peer, service: StubService, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault: a reply that came behind it was written to a connection whose end had been told, with a traceback."""
    await peer.send('{"id":"1","path":"/stub/gate/late"}')
    await service.waiting.get()
    await peer.wire.send(frame(b"x", 11))
    assert await peer.closed() == 1002
    service.gates["late"].set()
    await until(lambda: app.gateway.running == 0)
    peer.wire.writer.close()
    await until(lambda: app.host.connection_count == 0)
    assert logged(caplog) == []


# --- who may open a socket ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin", "listed", "granted"),
    [
        ("localhost", "", "", True),
        ("localhost:8082", "http://localhost:8082", "", True),
        ("localhost", "http://LOCALHOST", "", True),
        ("localhost", "http://localhost:80", "", True),
        ("localhost:80", "http://localhost", "", True),
        ("localhost:8082", "http://localhost:8083", "", False),
        ("localhost:8082", "https://localhost:8082", "", False),
        ("localhost", "null", "", False),
        ("localhost", "https://good.evil.com", "https://good", False),
        ("good", "https://good.evil.com", "", False),
        ("localhost", "https://good.example", "https://good.example", True),
        ("localhost", "HTTPS://Good.example", "https://good.example", True),
        ("localhost", "https://good.example.evil.com", "https://good.example", False),
        ("localhost", "https://goоd.example", "https://good.example", False),  # a Cyrillic letter
        ("goоd.example", "http://goоd.example", "", False),
        ("localhost", "https://any.example", "*", True),
        ("localhost", "http://[", "", False),
        ("localhost", "http://localhost:x", "", False),
    ],
)  # fmt: skip
async def test_origins(service: StubService, host: str, origin: str, listed: str, granted: bool) -> None:
    """Cross-site WebSocket hijacking (reliability.md S11): a foreign page gets 403 before the upgrade."""
    settings = {"access.control.allow.origin": listed}
    async with gateway(service, **ON, **settings) as app:
        opening = Peer.open(app.addresses[0], Host=_raw(host), Origin=_raw(origin))
        if granted:
            async with await opening as peer:
                assert await peer.ask(REQUEST) == FORMS["true"]
        else:
            with pytest.raises(Refused) as refused:
                await opening
            status = 403 if host.isascii() else 400  # a Host that is none
            assert refused.value.reply.status == status
            assert refused.value.reply.json["error_code"] == status


def _raw(text: str) -> str:
    """UTF-8 bytes as the test's client writes them."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Length": "5"}, 400),
        ({"Transfer_Encoding": "chunked"}, 400),
        ({"Sec_WebSocket_Version": "12"}, 400),
        ({"Sec_WebSocket_Version": ""}, 400),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Sec_WebSocket_Key": ""}, 400),
        ({"Connection": "close"}, 400),
    ],
)
async def test_handshakes_that_are_refused(app: App, headers: dict[str, str], status: int) -> None:
    with pytest.raises(Refused) as refused:
        await Peer.open(app.addresses[0], **headers)
    assert refused.value.reply.status == status
    assert refused.value.reply.closes


@set_(org__atmosphere__useWebSocket=False)
async def test_sockets_can_be_switched_off(app: App) -> None:
    with pytest.raises(Refused) as refused:
        await Peer.open(app.addresses[0])
    assert refused.value.reply.status == 501
    assert refused.value.reply.headers["x-atmosphere-error"] == "Websocket protocol not supported"


@set_(de__elakito__kafka__atmosphere__disabled=True)
async def test_the_whole_binding_can_be_switched_off(app: App) -> None:
    with pytest.raises(Refused) as refused:
        await Peer.open(app.addresses[0], "/topics")
    assert refused.value.reply.status == 200


async def test_a_socket_may_be_opened_at_any_path(app: App) -> None:
    async with await Peer.open(app.addresses[0], "/some/where") as peer:
        assert await peer.ask(REQUEST) == FORMS["true"]


async def test_subprotocols_are_not_taken(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async with await Peer.open(app.addresses[0], Sec_WebSocket_Protocol="a, b") as peer:
        assert "sec-websocket-protocol" not in peer.headers
        assert "server" not in peer.headers or "aiohttp" not in peer.headers["server"]
    assert logged(caplog, logging.NOTSET) == []


class _Passwords(Authenticator):
    """``Authorization: NAME``; "bad" has none. What has expired is looked up again."""

    name = "TEST"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.revoked: set[str] = set()
        self.until = float("inf")

    async def authenticate(self, headers: Any, peer: str) -> Principal:
        name = headers.get("authorization") or ""
        self.asked.append(name)
        if not name or name in self.revoked:
            raise Unauthorized("Who are you?")
        return Principal(name, frozenset(), self.until)

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


@contextlib.asynccontextmanager
async def guarded(service: StubService, passwords: _Passwords, **more: Any) -> AsyncIterator[str]:
    """The address of a gateway that asks for names."""
    async with gateway(service, passwords, **ON, **more, authentication_method="TEST") as app:
        yield app.addresses[0]


async def test_who_is_nobody_gets_no_socket(service: StubService) -> None:
    passwords = _Passwords()
    settings = {"authentication.skip.paths": "/stub/echo"}
    async with guarded(service, passwords, **settings) as address:
        for target in ("/", "/stub/echo"):  # an open path must not open all that a socket can ask for
            with pytest.raises(Refused) as refused:
                await Peer.open(address, target)
            assert refused.value.reply.status == 401
        async with await Peer.open(address, "/stub/echo", Authorization="ann") as peer:
            assert await peer.ask(REQUEST) == FORMS["true"]


async def test_an_envelope_may_have_an_identity_of_its_own(service: StubService) -> None:
    passwords = _Passwords()
    async with guarded(service, passwords) as address, await Peer.open(address, Authorization="ann") as peer:
        request = '{{"id":"1","path":"/stub/echo","headers":{{"Authorization":"{}"}}}}'
        for name in ("bob", "ann", "bob"):
            assert (await peer.ask(request.format(name))).startswith('{"code":200')
        assert [each.session.principal.name for each in service.requests] == ["bob", "ann", "bob"]
        assert passwords.asked == ["ann", "bob"]
        passwords.revoked.add("eve")
        assert (await peer.ask(request.format("eve"))).startswith('{"code":401,"id":"1",')
        assert await peer.ask(REQUEST) == FORMS["true"]
        for n in range(15):
            assert (await peer.ask(request.format(f"n{n}"))).startswith('{"code":200')
        assert (await peer.ask(request.format("one more"))).startswith('{"code":429')


async def test_a_revoked_proof_ends_the_socket(service: StubService) -> None:
    passwords = _Passwords()
    passwords.until = 0.0
    async with guarded(service, passwords) as address, await Peer.open(address, Authorization="ann") as peer:
        assert await peer.ask(REQUEST) == FORMS["true"]
        passwords.revoked.add("ann")
        await peer.send(REQUEST)
        first = await peer.frame()
        if first.opcode == TEXT:
            assert b'{"code":401' in first.payload
            assert await peer.closed() == 1008
        else:
            assert first.close_code == 1008


# --- pushes ---------------------------------------------------------------------------------------------------------


async def test_a_stream_is_pushed_under_the_id_of_its_request(peer: Peer, service: StubService) -> None:
    await peer.send('{"id":"s","path":"/stub/stream/a"}')
    await service.waiting.get()
    stream = service.streams["a"]
    stream.put(b"[]")
    stream.put(b'[{"value":"\xc3\xa9"}]')
    head = '{"code":200,"id":"s","type":"application/json"}'
    assert await peer.text() == head + "[]"
    assert await peer.text() == head + '[{"value":"é"}]'
    assert await peer.ask(REQUEST) == FORMS["true"]
    service.end("a")
    assert await peer.text() == (
        '{"code":500,"id":"s","type":"application/json"}{"error_code":50002,"message":"Kafka error: it ended"}'
    )


async def test_a_stream_ends_silently(peer: Peer, service: StubService) -> None:
    await peer.send('{"id":"s","path":"/stub/stream/a","data":null}')
    await service.waiting.get()
    service.streams["a"].put(b"[1]")
    assert await peer.text() == '{"id": "s", "data": [1]}'
    service.streams["a"].end()
    assert await service.waiting.get() == "a closed"
    assert await peer.ask(REQUEST) == FORMS["true"]


@pytest.mark.parametrize("how", ["kill", "close"])
async def test_a_client_that_leaves_ends_what_it_had_begun(
    app: App, peer: Peer, service: StubService, how: str
) -> None:
    await peer.send('{"id":"s","path":"/stub/stream/a"}')
    await service.waiting.get()
    await peer.send('{"id":"g","path":"/stub/gate/g"}')
    await service.waiting.get()
    for _ in range(100):
        service.streams["a"].put(b"x" * 10_000)
    await peer.frame()
    if how == "kill":
        peer.kill()
    else:
        await peer.send(b"\x03\xe8", CLOSE)
    async with asyncio.timeout(PATIENCE_S):
        assert await service.waiting.get() == "a closed"
    await until(lambda: service.cancelled == ["g"])
    await until(lambda: not app.gateway.sessions)


async def test_a_slow_reader_holds_back_its_own_stream_only(app: App, peer: Peer, service: StubService) -> None:
    """The reader of "a" never reads: its stream is paused after some MiB at most, and the other socket is served."""
    _small_buffers(peer)
    async with await Peer.open(app.addresses[0]) as slow:
        _small_buffers(slow)
        await slow.send('{"id":"s","path":"/stub/stream/a"}')
        await service.waiting.get()
        slow.wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        stream = service.streams["a"]
        for _ in range(300):
            stream.put(b'"' + b"x" * 50_000 + b'"')
            assert await peer.ask(REQUEST) == FORMS["true"]
            if service.paused:
                break
        assert service.paused, "nothing holds the stream back"
        session = next(each for each in app.gateway.sessions if each.streams)
        assert session.on_close is not None
        held = session.on_close.__self__  # type: ignore[attr-defined]
        assert held._transport.get_write_buffer_size() < 1 << 20


def _small_buffers(peer: Peer) -> None:
    raw = peer.wire.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)


@set_(org__atmosphere__websocket__writeTimeout=200, transport__websocket__ping__interval__ms=0)
async def test_a_client_that_takes_nothing_is_cut_off(app: App, service: StubService) -> None:
    async with await Peer.open(app.addresses[0]) as slow:
        slow.wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await slow.send('{"id":"s","path":"/stub/stream/a"}')
        await service.waiting.get()
        for _ in range(200):
            service.streams["a"].put(b"x" * 50_000)
        async with asyncio.timeout(PATIENCE_S):
            assert await service.waiting.get() == "a closed"
        await until(lambda: not app.gateway.sessions)
        assert app.gateway.memory.slow_clients == {"websocket": 1}


async def test_ten_thousand_requests_without_reading_a_reply(app: App, loop_watch: Any) -> None:
    """Memory stays bounded: the gateway stops to read from who does not read."""
    loop_watch.limit_s = 1.0  # the test's own writing of 10 MB
    async with await Peer.open(app.addresses[0]) as peer, await Peer.open(app.addresses[0]) as other:
        peer.wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        head = b'{"id":"1","method":"POST","path":"/stub/back","type":"text/plain"}'
        block = b"".join(frame(head + b"x" * 1000) for _ in range(100))
        sent = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(100):
                async with asyncio.timeout(0.3):
                    await peer.wire.send(block)
                sent += 100
        assert await other.ask(REQUEST) == FORMS["true"]
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 40 * 1024, f"{grown} KiB"
        peer.wire.reader._transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(sent):
            await peer.text()


# --- permessage-deflate ---------------------------------------------------------------------------------------------


@set_(transport__websocket__compression__enable=True)
async def test_compression(app: App) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(app.addresses[0], compress=15) as opened:
        assert opened.compress
        for size in (10, 5000, 20_000):
            await opened.send_str(f'{{"id":"1","path":"/stub/text/{size}"}}')
            answer = await opened.receive_str(timeout=PATIENCE_S)
            assert answer.partition("}")[2] == ("é€😀x" * size)[:size]


@set_(transport__websocket__compression__enable=True)
async def test_a_bomb_is_refused(app: App) -> None:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = await asyncio.to_thread(squeezer.compress, bytes(50_000_000)) + squeezer.flush(zlib.Z_SYNC_FLUSH)[:-4]
    async with await Peer.open(app.addresses[0], Sec_WebSocket_Extensions="permessage-deflate") as peer:
        assert peer.headers["sec-websocket-extensions"] == "permessage-deflate"
        await peer.send(bomb[:60_000], rsv=4)
        assert await peer.closed() == 1009


async def test_compression_is_off_by_itself(app: App) -> None:
    async with await Peer.open(app.addresses[0], Sec_WebSocket_Extensions="permessage-deflate") as peer:
        assert "sec-websocket-extensions" not in peer.headers


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.timing
async def test_shutdown(service: StubService) -> None:
    """Requests at work are answered, sockets get 1001 (§1.11), and stopping does not wait for idle ones."""
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(gateway(service, **ON))
        busy = await stack.enter_async_context(await Peer.open(app.addresses[0]))
        idle = await stack.enter_async_context(await Peer.open(app.addresses[0]))
        await busy.send('{"id":"g","path":"/stub/gate/g"}')
        await service.waiting.get()
        begun = asyncio.get_running_loop().time()
        closing = asyncio.get_running_loop().create_task(_close(app))
        await until(lambda: app.gateway.stopping)
        assert (await busy.ask('{"id":"n","path":"/stub/echo"}')).startswith('{"code":503,"id":"n"')
        service.gates["g"].set()
        assert (await busy.text()).endswith('{"gate":"g"}')
        assert await busy.closed() == 1001
        assert await idle.closed() == 1001
        await closing
        assert asyncio.get_running_loop().time() - begun < 3.0


async def _close(app: App) -> None:
    await app.gateway.drain(5.0)
    await app.host.close(5.0)


# --- Atmosphere clients (§3.3 to §3.6) ------------------------------------------------------------------------------

TRACKING_ID = "6fb26239-bfec-4099-b42e-1b2339af6c2d"
PROTOCOL = "X-Atmosphere-Transport=websocket&X-atmo-protocol=true"


async def test_handshake(app: App) -> None:
    target = f"/?X-Atmosphere-tracking-id=0&X-Atmosphere-Framework=3.1.3-javascript&{PROTOCOL}"
    async with await Peer.open(app.addresses[0], target) as peer:
        id = peer.headers["x-atmosphere-tracking-id"]
        assert peer.headers["x-atmosphere-first-request"] == "true"
        assert await peer.text() == f"{id}|0|X|"
        assert await peer.ask(REQUEST) == FORMS["true"]


@pytest.mark.parametrize(
    ("version", "first"),
    [("2.3.1-javascript", "X"), ("4.0.1", "X"), ("", "X"), ("5.0.7", f"{TRACKING_ID}|0|X|")],
)
async def test_reconnecting(app: App, version: str, first: str) -> None:
    target = f"/?X-Atmosphere-tracking-id={TRACKING_ID}&X-Atmosphere-Framework={version}&{PROTOCOL}"
    async with await Peer.open(app.addresses[0], target) as peer:
        assert peer.headers["x-atmosphere-tracking-id"] == TRACKING_ID
        assert "x-atmosphere-first-request" not in peer.headers
        assert await peer.text() == first


async def test_no_handshake_without_the_protocol(app: App) -> None:
    target = "/?X-Atmosphere-tracking-id=0&X-Atmosphere-Framework=5.0.7&X-Atmosphere-Transport=websocket"
    async with await Peer.open(app.addresses[0], target) as peer:
        assert await peer.ask(REQUEST) == FORMS["true"]


async def test_tracked_lengths(app: App) -> None:
    async with await Peer.open(app.addresses[0], f"/?X-Atmosphere-TrackMessageSize=true&{PROTOCOL}") as peer:
        id = peer.headers["x-atmosphere-tracking-id"]
        assert await peer.text() == f"41|{id}|0|X|"
        head = '{"code":200,"id":"1","type":"application/json"}'
        for content, length in (("[1]", 3), ("a|b", 3), ("😀", 2), ("é", 1)):
            answer = await peer.ask('{"id":"1","method":"POST","path":"/stub/back"}' + content)
            assert answer == f"{len(head) + length}|{head}{content}"


@set_(
    org__atmosphere__interceptor__HeartbeatInterceptor__heartbeatFrequencyInSeconds=1,
    org__atmosphere__interceptor__HeartbeatInterceptor__clientHeartbeatFrequencyInSeconds=7,
)
async def test_client_heartbeats_are_announced(app: App) -> None:
    async with await Peer.open(app.addresses[0], f"/?X-Heartbeat-Server=0&{PROTOCOL}") as peer:
        assert (await peer.text()).endswith("|7000|X|")
        assert (await peer.text()).startswith('{"heartbeat": ')


async def test_a_tracking_id_has_one_socket(app: App) -> None:
    target = f"/?X-Atmosphere-tracking-id={TRACKING_ID}&X-Atmosphere-Transport=websocket"
    async with await Peer.open(app.addresses[0], target) as old, await Peer.open(app.addresses[0], target) as new:
        assert await old.closed() == 1000
        assert await new.ask(REQUEST) == FORMS["true"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_close_request(app: App, method: str) -> None:
    target = f"/?X-Atmosphere-tracking-id={TRACKING_ID}&X-Atmosphere-Transport={{}}"
    async with (
        await Peer.open(app.addresses[0], target.format("websocket")) as peer,
        await Wire.open(app.addresses[0]) as wire,
    ):
        for _ in range(2):
            reply = await wire.ask(method, target.format("close"))
            assert (reply.status, reply.body) == (200, b"")
        assert await peer.closed() == 1000


def test_a_reason_is_cut_between_characters() -> None:
    assert reason_bytes("a" * 200) == b"a" * 123
    assert reason_bytes("é" * 100) == "é".encode() * 61
