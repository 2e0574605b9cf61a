"""Protobuf (kafka-rest-http.md §4.7): the parser against protoc, the JSON mapping against protobuf's own."""

from __future__ import annotations

import base64
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.codecs.proto_text import parse
from kafka_gateway.codecs.proto_tokens import formatted, tokens
from kafka_gateway.codecs.protobuf import ProtobufCodec, ProtobufSchema
from kafka_gateway.schemas import Schema, UnusableSchema
from tests.examples import examples

PROTO3 = 'syntax = "proto3";\n'


def compiled(text: str, *imports: tuple[str, str]) -> ProtobufSchema:
    return ProtobufCodec().compile(Schema("PROTOBUF", text, (), imports))


def protoc(text: str, folder: Path) -> FileDescriptorProto:
    """What Google's compiler makes of a file."""
    from grpc_tools import protoc as compiler

    (folder / "schema.proto").write_text(text)
    include = str(Path(compiler.__file__).parent / "_proto")
    out = folder / "set"
    command = ["protoc", f"-I{folder}", f"-I{include}", f"--descriptor_set_out={out}", "schema.proto"]
    assert compiler.main(command) == 0
    return FileDescriptorSet.FromString(out.read_bytes()).file[0]


PROTOS = Path(__file__).parent / "protos"
FILES = {name: (PROTOS / f"{name}.proto").read_text() for name in ("proto3", "proto2", "without-syntax")}


def pool_of(*files: FileDescriptorProto) -> descriptor_pool.DescriptorPool:
    """These files, and before them some of Google's."""
    pool = descriptor_pool.DescriptorPool()
    for name in ("timestamp", "duration", "struct", "wrappers", "field_mask", "any"):
        module = importlib.import_module(f"google.protobuf.{name}_pb2")
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def resolved(file: FileDescriptorProto) -> list[str]:
    """The descriptor when its names are found, without what is passed over here: services and other options."""
    found = FileDescriptorProto()
    pool_of(file).FindFileByName("schema.proto").CopyToProto(found)
    found.ClearField("service")
    found.ClearField("options")

    def clean(message: DescriptorProto) -> None:
        for field in [*message.field, *message.extension]:
            camel = re.sub("_(.)", lambda match: match[1].upper(), field.name)
            if field.json_name == camel:  # protoc writes out what follows from the name
                field.ClearField("json_name")
            field.options.ClearField("deprecated")
            if not field.options.ByteSize():
                field.ClearField("options")
        for inner in message.nested_type:
            clean(inner)

    for message in found.message_type:
        clean(message)
    for field in found.extension:
        field.ClearField("json_name")
    return str(found).splitlines()


@pytest.mark.parametrize("name", FILES)
def test_descriptors_are_those_of_protoc(name: str, tmp_path: Path) -> None:
    text = re.sub(r"option \(custom\)[^;]*;|option x = 1;", "", FILES[name])  # protoc wants to know such options
    assert resolved(parse(FILES[name], "schema.proto")) == resolved(protoc(text, tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "message",
        "message M {",
        "message M",
        'syntax = "proto4"; message M {}',
        PROTO3 + "message M { int32 a = 1; int32 b = 1; }",
        PROTO3 + "message M { int32 a = 0; }",
        PROTO3 + "message M { Nothing a = 1; }",
        PROTO3 + "message M { map<float, int32> a = 1; }",
        PROTO3 + "enum E { A = 1; }",
        PROTO3 + "message M { string a = 1 [default = 'x']; }",
        PROTO3 + 'message M { int32 a = 1 "',
        "message M { int32 a = 1; }",
        PROTO3 + "message M { optional repeated int32 a = 1; }",
        PROTO3 + "message M {" * 200,
        '{"type":"record"}',
        "\x00",
        PROTO3 + "message M { reserved 5 to 1; }",
        PROTO3 + "extend",
    ],
)
def test_texts_that_are_no_schema(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        compiled(text)


def test_an_empty_text_cannot_be_used() -> None:
    with pytest.raises(UnusableSchema):
        compiled(" ")
    with pytest.raises(ValueError, match="no message"):
        compiled(PROTO3 + "enum E { A = 0; }").encode(b"{}")


@examples(200)
@given(st.text(alphabet='message enum{}[]();=<>,."0123456789\n', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        compiled(PROTO3 + text)
    except ValueError:
        return
    assert parse(formatted(tokens(PROTO3 + text)), "x") == parse(PROTO3 + text, "x")


@pytest.mark.parametrize("name", FILES)
def test_the_canonical_text_says_the_same(name: str) -> None:
    text = FILES[name]
    canonical = ProtobufCodec().canonical(text)
    assert parse(canonical, "x") == parse(text, "x")
    assert ProtobufCodec().canonical(canonical) == canonical
    assert "words" not in canonical


def test_a_descriptor_in_base64_is_a_schema_too() -> None:
    file = parse(PROTO3 + "package p; message M { int32 a = 1; }", "default")
    schema = compiled(base64.b64encode(file.SerializeToString()).decode())
    assert (schema.name, schema.encode(b'{"a": 1}')) == ("p.M", b"\0\x08\1")


def test_imports_by_reference() -> None:
    inner = PROTO3 + 'package p; import "deeper.proto"; message Inner { Deeper d = 1; }'
    deeper = PROTO3 + "package p; message Deeper { int32 x = 1; }"
    outer = PROTO3 + 'package q; import "inner.proto"; import "nobody/knows.proto"; message M { p.Inner i = 1; }'
    schema = compiled(outer, ("deeper.proto", deeper), ("inner.proto", inner))
    stored = schema.encode(b'{"i": {"d": {"x": 5}}}')
    assert stored == b"\0\x0a\4\x0a\2\x08\5"
    assert schema.decode(stored) == {"i": {"d": {"x": 5}}}


NESTED = (PROTOS / "nested.proto").read_text()


def test_reserved_numbers_are_read_and_not_registered() -> None:
    text = PROTO3 + "message M { message Inner { int32 a = 19999; } Inner i = 1; }"
    assert compiled(text).encode(b'{"i":{"a":1}}') is not None
    descriptor = base64.b64encode(parse(text, "x.proto").SerializeToString()).decode()
    for each in (text, descriptor):
        with pytest.raises(ValueError, match=r"Inner.a has the number 19999"):
            ProtobufCodec().canonical(each)


@pytest.mark.parametrize(
    "text",
    [
        "message A { enum E { " + "".join(f"V{i} = {i};" for i in range(6_999)) + "} }",
        "message A { " + "".join(f"message Q{i} {{}}" for i in range(7_000)) + "}",
        'syntax = "proto2"; message A { extensions 1 to max; } '
        + "extend A { "
        + "".join(f"optional int32 f{i} = {i + 1};" for i in range(7_000))
        + "}",
    ],
    ids=["values", "messages", "extensions"],
)
def test_a_file_with_very_many_names_never_reaches_the_pool(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # `_build` makes the pool before it adds anything; nothing may be added to this one.
    monkeypatch.setattr(descriptor_pool, "DescriptorPool", object)
    with pytest.raises(ValueError, match="a file has 7001 messages, enums, values of enums, and ext"):
        compiled(text)


def test_more_fields_than_a_message_can_hold_are_told() -> None:
    fields = [f"int64 f{i} = {i};" for i in (*range(1, 9001), *range(20_000, 20_999))]
    with pytest.raises(UnusableSchema, match=r"a message cannot be held.*about 8,000 int64"):
        compiled(PROTO3 + f"message M {{ {' '.join(fields)} }}")
    assert compiled(PROTO3 + f"message M {{ {' '.join(fields[:7500])} }}").encode(b'{"f7500":"1"}') is not None


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"\0", "A"), (b"\2\0", "A"), (b"\2\2", "D"), (b"\4\0\0", "A.B"), (b"\6\0\0\0", "A.B.C")],
)
def test_message_index_paths(path: bytes, name: str) -> None:
    schema, payload = compiled(NESTED), b"\x08\7"
    member = name[-1].lower()
    assert schema.decode(path + payload)[member] == 7
    assert schema.decode(payload, path)[member] == 7
    assert (schema.name_of(path + payload), schema.name_of(payload, path)) == (name, name)


@pytest.mark.parametrize(
    "path",
    [b"", b"\2", b"\2\4", b"\2\1", b"\1", b"\x08\0\0\0\0", b"\xfe\xff\xff\xff\x0f", b"\x80", b"\x80" * 20, b"\4\2\0"],
)
def test_paths_that_lead_nowhere(path: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        compiled(NESTED).decode(path)
    with pytest.raises(ValueError, match=r"\w"):
        compiled(NESTED).decode(b"", path)


ALL = (PROTOS / "all.proto").read_text()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"child": {"children": [{}, {"i32": 1.5}]}}, "child.children[1].i32: expected int32, not 1.5"),
        ({"byName": {"k": {"text": []}}}, "byName.k.text: expected string, not an array"),
        ({"many": [1, None]}, "many[1]: expected int64, not null"),
        ({"children": [None]}, "children[0]: null cannot be an element"),
        ({"nothing": 1}, "the message M has no field 'nothing'"),
        ({"i32": 1, "byFlag": {"yes": 1}}, "byFlag.yes: expected bool, not 'yes'"),
        ({"left_side": "a", "rightSide": {}}, "rightSide and left_side cannot both be given"),
        ({"by_name": {}, "byName": {}}, "the field by_name is given twice"),
        ({"i32": [1]}, "i32: expected int32, not an array"),
        ({"u32": -1}, "u32: expected uint32: -1 is out of range"),
        ({"i64": "9223372036854775808"}, "i64: expected int64: 9223372036854775808 is out of range"),
        ({"i64": "1e4000"}, "i64: expected int64, not '1e4000'"),
        ({"flag": 1}, "flag: expected bool, not 1"),
        ({"raw": "?"}, "raw: expected bytes (base64), not '?'"),
        ({"f": 1e39}, "f: expected float: 1e+39 is out of range"),
        ({"f": 10**400}, "f: expected float: a whole number of more than 308 digits is out of range"),
        ({"e": "one"}, "e: expected enum E, not 'one'"),
        ({"at": "2020-02-30T00:00:00Z"}, "at: expected a timestamp"),
        ({"thing": {"@type": "x"}}, "thing: a google.protobuf.Any can be empty only"),
        ([], "expected message M, not an array"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is looked at below)
        compiled(ALL).encode(json.dumps(value).encode())
    assert str(caught.value).startswith(said)


def messages() -> st.SearchStrategy[Any]:
    """JSON of messages in the shape that is written."""
    scalars: dict[str, st.SearchStrategy[Any]] = {
        "i32": st.integers(-(2**31), 2**31 - 1),
        "i64": st.integers(-(2**63), 2**63 - 1).map(str),
        "u32": st.integers(0, 2**32 - 1),
        "u64": st.integers(0, 2**64 - 1).map(str),
        "s32": st.integers(-(2**31), 2**31 - 1),
        "f64": st.integers(0, 2**64 - 1).map(str),
        "flag": st.booleans(),
        "text": st.text(),
        "raw": st.binary().map(lambda raw: base64.b64encode(raw).decode()),
        "d": st.floats(allow_nan=False, allow_infinity=False),
        "f": st.floats(allow_nan=False, allow_infinity=False, width=32),
        "e": st.sampled_from(["ZERO", "ONE", 7]),
        "many": st.lists(st.integers(-(2**63), 2**63 - 1).map(str)),
        "byFlag": st.dictionaries(st.sampled_from(["true", "false"]), st.integers(0, 9)),
        "leftSide": st.text(),
        "maybe": st.integers(0, 9),
        "at": st.datetimes().map(lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")),
        "took": st.integers(-(10**9), 10**9).map(lambda s: f"{s}.500s"),
        "free": st.dictionaries(st.text(max_size=3), st.none() | st.booleans() | st.text(max_size=3)),
        "wrapped": st.integers(-9, 9).map(str),
        "mask": st.just("a,fooBar"),
        "es": st.lists(st.sampled_from(["ZERO", "ONE"])),
        "anyValue": st.none() | st.booleans() | st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3),
        "blobs": st.dictionaries(st.integers(-9, 9).map(str), st.just("AP8="), max_size=3),
    }
    flat = st.fixed_dictionaries({}, optional=scalars)
    return st.recursive(
        flat,
        lambda inner: st.builds(
            lambda base, child, children, named: base | {"child": child, "children": children, "byName": named},
            flat,
            inner,
            st.lists(inner, max_size=2),
            st.dictionaries(st.text(max_size=3), inner, max_size=2),
        ),
        max_leaves=4,
    )


SCHEMA = compiled(ALL)
POOL = pool_of(parse(ALL, "theirs.proto"))
MESSAGE = message_factory.GetMessageClass(POOL.FindMessageTypeByName("M"))


@examples(300)
@given(messages())
def test_the_mapping_is_that_of_protobuf(value: Any) -> None:
    text = json.dumps(value)
    theirs = json_format.Parse(text, MESSAGE())
    stored = SCHEMA.encode(text.encode())
    assert stored is not None
    assert stored == b"\0" + theirs.SerializeToString(deterministic=True)
    shown = json_format.MessageToDict(theirs, always_print_fields_with_no_presence=True)
    assert json.loads(json.dumps(SCHEMA.decode(stored))) == shown


@examples(300)
@given(st.binary(max_size=40))
def test_any_bytes_are_decoded_or_refused(payload: bytes) -> None:
    try:
        json.dumps(SCHEMA.decode(payload))
    except ValueError:
        return


SCALARS = {
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "sint64": st.integers(-(2**63), 2**63 - 1),
    "fixed32": st.integers(0, 2**32 - 1),
    "bool": st.booleans(),
    "double": st.floats(allow_nan=False),
    "float": st.floats(allow_nan=False, width=32),
    "string": st.text(max_size=5),
    "bytes": st.binary(max_size=5),
}


@st.composite
def protos(draw: st.DrawFn) -> str:
    """A proto3 file of messages that hold each other, with fields of every shape."""
    count = draw(st.integers(1, 3))
    messages = []
    for i in range(count):
        kinds = [*SCALARS, "E", *(f"M{j}" for j in range(count))]
        fields = []
        for number in draw(st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True)):
            kind = draw(st.sampled_from(kinds))
            key = draw(st.sampled_from(["int32", "string", "bool"]))
            shape = draw(
                st.sampled_from(
                    ["{} {} = {};", "optional {} {} = {};", "repeated {} {} = {};", f"map<{key}, {{}}> {{}} = {{}};"]
                )
            )
            fields.append(shape.format(kind, f"some_field{number}", number))
        oneof = f"oneof choice {{ string left{i} = 50; M0 right{i} = 51; }}" if draw(st.booleans()) else ""
        messages.append(f"message M{i} {{ {' '.join(fields)} {oneof} }}")
    return PROTO3 + "enum E { ZERO = 0; ONE = 1; MINUS = -1; }\n" + "\n".join(messages)


def fill(data: st.DataObject, message: Any, depth: int = 0) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name) is not None:
            continue
        if not data.draw(st.booleans()) or (field.message_type is not None and depth > 2):
            continue
        entry = (
            field.message_type if field.message_type is not None and field.message_type.GetOptions().map_entry else None
        )
        target = getattr(message, field.name)
        if entry is not None:
            key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
            for name in data.draw(st.lists(scalar(key), max_size=2, unique=True)):
                if value.message_type is not None:
                    fill(data, target[name], depth + 1)
                else:
                    target[name] = data.draw(scalar(value))
        elif field.message_type is not None:
            for each in [target.add() for _ in range(2)] if field.is_repeated else [target]:
                each.SetInParent()
                fill(data, each, depth + 1)
        elif field.is_repeated:
            target.extend(data.draw(st.lists(scalar(field), max_size=3)))
        else:
            setattr(message, field.name, data.draw(scalar(field)))


def scalar(field: Any) -> Any:
    names = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}
    return st.sampled_from([0, 1, -1]) if field.enum_type is not None else SCALARS[names[field.type]]


@examples(60)
@given(protos(), st.data())
def test_any_schema_has_the_mapping_of_protobuf(text: str, data: st.DataObject) -> None:
    schema = compiled(text)
    theirs = message_factory.GetMessageClass(pool_of(parse(text, "theirs.proto")).FindMessageTypeByName("M0"))()
    fill(data, theirs)
    bytes_of = theirs.SerializeToString(deterministic=True)
    shown = json_format.MessageToDict(theirs, always_print_fields_with_no_presence=True)
    assert json.loads(json.dumps(schema.decode(b"\0" + bytes_of))) == shown
    assert schema.encode(json_format.MessageToJson(theirs).encode()) == b"\0" + bytes_of
