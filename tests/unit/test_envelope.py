"""The envelope, byte for byte: atmosphere-binding.md §1 and rows 1 to 24 of its checklist."""

from __future__ import annotations

import json

import pytest

from kafka_gateway.errors import BadRequest
from kafka_gateway.transports.envelope import codec as envelope
from kafka_gateway.transports.envelope import replying
from kafka_gateway.transports.envelope.codec import Envelope, EnvelopeReader, Form, InvalidMessage, read
from kafka_gateway.transports.envelope.replying import reply

V1 = "application/vnd.kafka.v1+json"
BINARY = "application/vnd.kafka.binary.v1+json"


def part(message: bytes | str) -> Envelope:
    found = read(message if isinstance(message, bytes) else message.encode())
    assert found is not None
    found.drop_blank()
    return found


# --- what a request is ----------------------------------------------------------------------------------------------


def test_all_members() -> None:
    found = part(
        b'{"id":"124","method":"POST","path":"/topics/test","type":"application/json","accept":"text/plain",'
        b'"headers":{"X-Language":"es"},"other":[{}]}{"records":[]}'
    )
    assert found.id == b'"124"'
    assert found.method == "POST"
    assert found.target == ("/topics/test", "")
    assert found.type == "application/json"
    assert found.accept == "text/plain"
    assert found.headers == {"x-language": "es"}
    assert found.content == b'{"records":[]}'
    assert found.form is None
    assert not found.more


def test_defaults() -> None:
    found = part(b"{}")
    assert (found.id, found.method, found.target, found.type, found.accept) == (None, "GET", ("/", ""), None, None)
    assert part(b'{"id":null,"method":null,"path":null,"type":null,"accept":null,"headers":null}').headers is None


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/topics", ("/topics", "")),
        ("topics", ("/topics", "")),
        ("", ("/", "")),
        ("?a=b", ("/", "a=b")),
        ("/a%7D/b?x=%20&y=?#f", ("/a%7D/b", "x=%20&y=?")),
        ("/a#b?c", ("/a", "")),
        ("/t opics/é", ("/t opics/é", "")),
        ("/topics/a://b", ("/topics/a://b", "")),
    ],
)
def test_targets(path: str, target: tuple[str, str]) -> None:
    assert part(json.dumps({"path": path})).target == target
    assert part(json.dumps({"path": path}, ensure_ascii=False)).target == target


@pytest.mark.parametrize("path", ["http://host/topics", "HTTPS://host/"])
def test_a_path_is_no_url(path: str) -> None:
    with pytest.raises(BadRequest, match="URL"):
        _ = part(json.dumps({"path": path})).target


@pytest.mark.parametrize(
    ("source", "id"),
    [
        (b'"123"', b'"123"'),
        (b'""', b'""'),
        (b"7", b'"7"'),
        (b"1.10", b'"1.10"'),
        (b"-12345678901234567890123", b'"-12345678901234567890123"'),
        (b"1e400", b'"1e400"'),
        (b'"a\\"b\\\\c\\n"', b'"a\\"b\\\\c\\n"'),
        ('"\\u00e9€😀"'.encode(), '"é€😀"'.encode()),
        (b'"\\ud83d\\ude00"', '"😀"'.encode()),
        (b'"\\/"', b'"/"'),
        (b"null", None),
    ],
)
def test_ids(source: bytes, id: bytes | None) -> None:
    assert part(b'{"id":' + source + b"}").id == id


@pytest.mark.parametrize("source", ["true", "[]", "{}", "[1]", "false"])
def test_ids_of_another_type(source: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        part('{"id":' + source + "}")
    assert caught.value.id is None
    assert caught.value.error_code == 400


def test_long_ids_are_refused() -> None:
    longest = "x" * (envelope.ID_MAX - 2)
    assert part(json.dumps({"id": longest})).id == b'"' + longest.encode() + b'"'
    with pytest.raises(InvalidMessage, match="longer"):
        part(json.dumps({"id": longest + "x"}))


def test_the_last_of_duplicate_members_wins() -> None:
    found = part(b'{"id":"1","path":"/a","id":"2","path":"/b","data":1,"data":2}')
    assert (found.id, found.path, found.content) == (b'"2"', "/b", b"2")


def test_method_is_upper_cased() -> None:
    assert part(b'{"method":"delete"}').method == "DELETE"


@pytest.mark.parametrize("blank", [b" ", b"\t\r\n ", b"\n\n"])
def test_leading_white_space(blank: bytes) -> None:
    assert part(blank + b'{\n  "id" : "1",\n  "path" : "/x"\n}{}').content == b"{}"


# --- where it ends, and what the content is (§1.3) --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (b'{"id":"1"}', b""),
        (b'{"id":"1"}{"a":"}{\\"\\\\"}', b'{"a":"}{\\"\\\\"}'),
        (b'{"path":"/a}","id":"}{\\"\\\\}"}x}', b"x}"),
        (b'{"headers":{"a":"}"},"x":{"y":{"z":["}"]}}}rest', b"rest"),
        (b'{"id":"1","type":"text/plain"}\n Hi', b"\n Hi"),
        (b'{"id":"1","type":"text/plain"}  ', b"  "),
        (b'{"id":"1"} \r\n', b""),
        (b'{"id":"1","type":"application/json; charset=utf-8"}\n', b""),
        (b'{"id":"1","type":"Application/vnd.kafka.v2+JSON"}\n', b""),
        (b'{"id":"1"}\n{"a":1}', b'\n{"a":1}'),
        # detached
        (b'{"id":"1","detached":true}\nHello', b"Hello"),
        (b'{"id":"1","detached":true} \t\r\nHello', b"Hello"),
        (b'{"id":"1","detached":true}\n\nHello', b"\nHello"),
        (b'{"id":"1","detached":true}Hello', b"Hello"),
        (b'{"id":"1","detached":true}  Hello\n', b"  Hello\n"),
        (b'{"id":"1","detached":"true"}\nHello', b"Hello"),
        (b'{"id":"1","detached":false,"type":"text/plain"}\nHello', b"\nHello"),
        # data
        (b'{"data":{"a":1.10},"id":"1"}', b'{"a":1.10}'),
        (b'{"id":"1","data":{"a":1.10},"path":"/"}', b'{"a":1.10}'),
        (b'{"id":"1","path":"/","data": {"a" : 12345678901234567890.0} }\n ', b'{"a" : 12345678901234567890.0}'),
        (b'{"id":"1","data":null}', b"null"),
        (b'{"id":"1","data":"Hello\\n\\u00e9"}', b'"Hello\\n\\u00e9"'),
        (b'{"id":"1","data":"Hello\\n\\u00e9","type":"text/plain"}', "Hello\né".encode()),
        (b'{"id":"1","data":"Hello","type":"application/json"}', b'"Hello"'),
        (b'{"id":"1","data":42,"type":"text/plain"}', b"42"),
        ('{"id":"é","data":{"é":"€😀"}}'.encode(), '{"é":"€😀"}'.encode()),
        ('{"id":"é😀","type":"text/plain"}😀'.encode(), "😀".encode()),
    ],
)
def test_content(message: bytes, content: bytes) -> None:
    assert part(message).content == content


def test_binary_content_is_taken_as_it_is() -> None:
    assert part(b'{"id":"1","type":"x/y"}\xff\x00}{').content == b"\xff\x00}{"
    assert part('{"id":"é","type":"x/y"}'.encode() + b"\xff").id == '"é"'.encode()


def test_the_form_that_a_request_suggests() -> None:
    assert part(b'{"id":"1","data":1}').form is Form.EMBEDDED
    assert part(b'{"id":"1","detached":true}\n1').form is Form.DETACHED_LF
    assert part(b'{"id":"1"}1').form is None


# --- what is refused (§1.11) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"not json", "Invalid message: expected '{' at position 0"),
        (b"[]", "Invalid message: expected '{' at position 0"),
        (b"  7", "Invalid message: expected '{' at position 2"),
        (b"@@/x", "Invalid message: expected '{' at position 0"),
        (b"@@/x@@7", "Invalid message: expected '{' at position 6"),
    ],
)
def test_what_is_no_object(message: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        read(message)
    assert caught.value.message == reason
    assert caught.value.id is None


@pytest.mark.parametrize(
    "message",
    [
        b"{",
        b'{"id":"1"',
        b'{"id":"1","path":"/a',
        b'{"id":"1",}',
        b"{id:1}",
        b"{'id':'1'}",
        b'{"id":"1" "path":"/"}',
        b'{"id":}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b'{"a":"\n"}',
        b'{"a":"\\x"}',
        b'{"id":"\\ud800"}',
        b'{"id":"1","path":"/\\udc00\\ud800"}',
        b'{"id":"\xff"}',
        b'{"id":"1","x":"\xc3"}',
        b'{"a":' + b"[" * 60000,
        b'{"a":' * 10000,
        b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}",
    ],
)
def test_malformed_heads(message: bytes) -> None:
    with pytest.raises(InvalidMessage) as caught:
        read(message)
    assert caught.value.id is None
    assert caught.value.message.startswith("Invalid message: ")


@pytest.mark.parametrize(
    "members",
    [
        '"method":1',
        '"path":[]',
        '"type":{}',
        '"accept":true',
        '"continue":1',
        '"continue":"yes"',
        '"detached":"no"',
        '"headers":[]',
        '"headers":{"a":{}}',
        '"headers":{"a":["b",1,null]}',
        '"headers":{"":"b"}',
        '"headers":{"a":"b\\r\\nc: d"}',
        '"headers":{"a\\n":"b"}',
        '"type":"text/plain\\r\\nX: y"',
        '"accept":"\\u0000"',
        '"type":7,"accept":"text/plain"',
    ],
)
def test_members_of_another_type_are_answered_with_the_id(members: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        read(f'{{"id":"9",{members}}}'.encode())
    assert caught.value.id == b'"9"'
    assert caught.value.status == 400


def test_data_and_content_exclude_each_other() -> None:
    with pytest.raises(InvalidMessage) as caught:
        read(b'{"id":"1","data":{}}{}')
    assert caught.value.id == b'"1"'
    assert caught.value.form is Form.EMBEDDED


def test_continue_needs_an_id() -> None:
    with pytest.raises(InvalidMessage, match="id"):
        read(b'{"continue":true}x')


# --- headers ----------------------------------------------------------------------------------------------------------


def test_headers() -> None:
    source = (
        '{"headers":{"Authorization":"Basic dTpw","A":1.10,"B":true,"C":["x","y"],"D":null,"Host":"h","TE":"x",'
        '"Proxy-X":"p","Sec-WebSocket-Key":"k","Content-Length":"5","upgrade":"u"}}'
    )
    assert part(source).headers == {"authorization": "Basic dTpw", "a": "1.10", "b": "true", "c": "x, y"}


# --- control messages (§1.12) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [b"", b"X", b" ", b"\r\n\t ", b"...ACK...", b'{"heartbeat": "x", "time": 1}', b"@@/x@@X", b"@@/@@"],
)
def test_control_messages(message: bytes) -> None:
    assert read(message) is None


def test_heartbeat_of_another_letter() -> None:
    assert read(b"Y", b"Y") is None
    with pytest.raises(InvalidMessage):
        read(b"X", b"Y")


def test_a_request_may_have_a_member_heartbeat() -> None:
    assert part(b'{"heartbeat":1,"path":"/"}').target == ("/", "")


def test_dispatch_prefix_is_dropped() -> None:
    assert part(b'@@/some/where@@{"id":"1","type":"text/plain"}x@@').content == b"x@@"


# --- continue ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "more"), [("true", True), ("false", False), ('"true"', True), ('"false"', False), ("null", False)]
)
def test_continue(source: str, more: bool) -> None:
    assert part(f'{{"id":"1","continue":{source}}}').more is more


# --- replies (§1.4) ---------------------------------------------------------------------------------------------------

TOPICS = b'["test","jsontest"]'
NOT_FOUND = b'{"error_code":40401,"message":"Topic not found."}'


@pytest.mark.parametrize(
    ("form", "id", "status", "media_type", "payload", "message"),
    [
        (Form.DETACHED, b'"123"', 200, V1, TOPICS, b'{"code":200,"id":"123","type":"' + V1.encode() + b'"}' + TOPICS),
        (
            Form.DETACHED,
            b'"127"',
            404,
            V1,
            NOT_FOUND,
            b'{"code":404,"id":"127","type":"%b"}%b' % (V1.encode(), NOT_FOUND),
        ),
        (Form.DETACHED, b'"4"', 204, "", b"", b'{"code":204,"id":"4"}'),
        (Form.DETACHED, b'"4"', 200, "", b"x", b'{"code":200,"id":"4"}x'),
        (Form.EMBEDDED, b'"1"', 200, V1, TOPICS, b'{"id": "1", "data": ["test","jsontest"]}'),
        (Form.EMBEDDED, b'"3"', 404, V1, NOT_FOUND, b'{"id": "3", "code": 404, "data": ' + NOT_FOUND + b"}"),
        (Form.EMBEDDED, b'"4"', 204, "", b"", b'{"id": "4", "code": 204}'),
        (Form.EMBEDDED, b'"4"', 200, "text/plain", b'a "\\\n', b'{"id": "4", "data": "a \\"\\\\\\n"}'),
        (Form.EMBEDDED, b'"4"', 200, V1, b"42", b'{"id": "4", "data": 42}'),
        (Form.EMBEDDED, b'"4"', 200, V1, b"{} {}", b'{"id": "4", "data": "{} {}"}'),
        (Form.EMBEDDED, b'"4"', 200, "text/plain", b"{}", b'{"id": "4", "data": "{}"}'),
        (Form.EMBEDDED, b'"4"', 200, V1, b'"\xff"', b'{"id": "4", "encoding": "base64", "data": "Iv8i"}'),
        (Form.DETACHED_LF, b'"1"', 200, V1, TOPICS, b'{"id": "1", "detached": true}\n["test","jsontest"]'),
        (Form.DETACHED_LF, b'"3"', 404, V1, b"{}", b'{"id": "3", "code": 404, "detached": true}\n{}'),
        (Form.DETACHED_LF, b'"4"', 204, "", b"", b'{"id": "4", "code": 204}'),
        (Form.DETACHED, '"é\\""'.encode(), 200, "a/b", b"1", '{"code":200,"id":"é\\"","type":"a/b"}1'.encode()),
        (Form.DETACHED, None, 404, V1, NOT_FOUND, NOT_FOUND),
    ],
)
def test_replies(form: Form, id: bytes | None, status: int, media_type: str, payload: bytes, message: bytes) -> None:
    assert reply(form, id, status, media_type, payload) == ([message], False)


def test_a_bare_empty_reply_is_none() -> None:
    assert reply(Form.DETACHED, None, 204, "", b"") == ([], False)


def test_a_payload_that_is_no_text_makes_a_binary_message() -> None:
    assert reply(Form.DETACHED, b'"1"', 200, "", b"\xff") == ([b'{"code":200,"id":"1"}\xff'], True)
    assert reply(Form.DETACHED_LF, b'"1"', 200, "", b"\xff") == ([b'{"id": "1", "detached": true}\n\xff'], True)
    assert reply(Form.DETACHED, None, 200, "", b"\xff") == ([b"\xff"], True)


def test_headers_of_replies() -> None:
    headers = (("Retry-After", "1"),)
    assert reply(Form.DETACHED, b'"1"', 429, V1, b"{}", headers=headers)[0] == [
        b'{"code":429,"headers":{"Retry-After":"1"},"id":"1","type":"' + V1.encode() + b'"}{}'
    ]
    assert reply(Form.EMBEDDED, b'"1"', 429, V1, b"{}", headers=headers)[0] == [
        b'{"id": "1", "code": 429, "headers": {"Retry-After":"1"}, "data": {}}'
    ]


def test_chunked_replies() -> None:
    """The three examples of §1.14. The limits are chosen so that the cuts fall where they fall there."""
    text = b"part-one part-two part-three"
    head = b'{"code":200,"continue":true,"id":"2","type":"text/plain"}'
    assert pieces(reply(Form.DETACHED, b'"2"', 200, "text/plain", text * 3, len(head) + 16)[0], head) == text * 3
    assert replying._cut((b"L", b"M"), b"abcdefghijklmnopqrstuvwxyz", True, 17) == [
        b"Mabcdefghijklmnop",
        b"Lqrstuvwxyz",
    ]
    heads = replying._heads(Form.EMBEDDED, b'"2"', 200, "text/plain", (), True)
    assert heads[1] + b', "data": "part-one "}' == b'{"id": "2", "continue":true, "data": "part-one "}'
    assert heads[0] + b', "data": "part-three"}' == b'{"id": "2", "data": "part-three"}'
    heads = replying._heads(Form.DETACHED_LF, b'"2"', 200, "text/plain", (), True)
    assert heads[1] + b"part-one " == b'{"id": "2", "continue":true, "detached": true}\npart-one '
    assert heads[0] + b"part-three" == b'{"id": "2", "detached": true}\npart-three'


def pieces(messages: list[bytes], head: bytes) -> bytes:
    """The content of a chunked detached reply, whose heads are checked."""
    last = head.replace(b'"continue":true,', b"")
    assert all(message.startswith(head) for message in messages[:-1])
    assert messages[-1].startswith(last)
    return b"".join(message.removeprefix(head).removeprefix(last) for message in messages)


def test_a_reply_of_exactly_the_limit_is_one_message() -> None:
    head = b'{"code":200,"id":"1","type":"text/plain"}'
    for text in ("x", "é", "😀"):
        count = (envelope.REPLY_MAX - len(head)) // (2 if text == "😀" else 1)
        assert len(reply(Form.DETACHED, b'"1"', 200, "text/plain", (text * count).encode())[0]) == 1
        assert len(reply(Form.DETACHED, b'"1"', 200, "text/plain", (text * (count + 1)).encode())[0]) == 2


# --- the reader that remembers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [b'{"id":"1","path":"/a"}x', b'{"id":"2","path":"/a"}y', b'{"id":"3","path":"/b"}z'],
        [
            b'{"id":"1","path":"/a"}',
            b'{"id":"","path":"/a"}',
            b'{"id":"\\"","path":"/a"}',
            b'{"id":"\xc3\xa9","path":"/a"}',
        ],
        [b'{"id": "1", "path": "/a"}x', b'{"id": "2", "path": "/a"}y', b'{"id":"3", "path": "/a"}z', b'{"id": "4"}'],
        [b'{"id":"1","path":"/a","id":"1"}', b'{"id":"2","path":"/a","id":"1"}'],
        [b'{"id":"1","\\u0069d":"1"}', b'{"id":"2","\\u0069d":"1"}'],
        [b'{"id":"1","data":1}', b'{"id":"2","data":1}', b'{"id":"3","data":1}2'],
        [b'{"id":"1","detached":true}\n1', b'{"id":"2","detached":true}\n1'],
        [b'{"id":"1"} ', b'{"id":"2"} ', b'{"id":"3"}x'],
        [b'{"id":"1","continue":true}a', b'{"id":"1","continue":true}b', b'{"id":"1"}c', b'{"id":"1"}d'],
        [b'{"id":"1","type":"a/b"}\xff', b'{"id":"2","type":"a/b"}\xff', b'{"id":"\xff","type":"a/b"}\xff'],
        [
            b'{"id":"1"}',
            b'{"id":"\x01"}',
            b'{"id":"\x7f"}',
            b'{"id":"' + b"x" * 2000 + b'"}',
            b'{"id":"2"}',
            b'{"id":"2"',
        ],
    ],
)
def test_a_remembered_head_means_the_same(messages: list[bytes]) -> None:
    reader = EnvelopeReader()
    for message in messages:
        assert outcome(reader.read, message) == outcome(read, message)


def outcome(how: object, message: bytes) -> object:
    try:
        found = how(message)  # type: ignore[operator]
    except InvalidMessage as error:
        return error.message
    return found and [getattr(found, name) for name in Envelope.__struct_fields__]
