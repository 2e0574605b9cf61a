"""What is asked of a registry, how often, and what happens when it does not answer (gateway/registry/)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from typing import Any

import pytest
from aiohttp import web

from kafka_gateway.codecs import proto_text, proto_tokens, protobuf
from kafka_gateway.codecs.avro import AvroCodec
from kafka_gateway.codecs.json_schema import JsonSchemaCodec
from kafka_gateway.codecs.protobuf import ProtobufCodec
from kafka_gateway.config import ConfigError, load
from kafka_gateway.errors import BadRequest, InvalidSchema, SchemasUnavailable, SerializationError
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.registry.settings import registry_settings
from kafka_gateway.schemas import LATEST, Schema, SchemaChoice, SchemaPending, SchemaUnreachable
from tests.keys import BUILTIN_KEYS
from tests.registry.fake_registry import FakeRegistry, half_body, html, never, redirect, server_error, serving
from tests.services.fake_kafka import FakeRecord
from tests.waiting import until

RECORD = json.dumps({"type": "record", "name": "a.R", "fields": [{"name": "x", "type": "int"}]})


def framed(id: int, payload: bytes, headers: Any = None) -> FakeRecord:
    value = b"\0" + id.to_bytes(4, "big") + payload
    return FakeRecord("t", 0, 0, OutgoingRecord(None, value, headers=headers))


async def on_thread(catalogue: Any, record: FakeRecord, format: str = "avro") -> Any:
    return await asyncio.to_thread(catalogue.load, format, "value", record)


# --- how often it is asked --------------------------------------------------------------------------------------------


async def test_text_is_registered_once_and_known_then(fake: FakeRegistry, catalogue: Any) -> None:
    schemas = await catalogue()
    choice = SchemaChoice("t", "value", "avro", text=RECORD)
    assert schemas.known(choice) is None
    writers = await asyncio.gather(*(schemas.resolve(choice) for _ in range(50)))
    assert {writer.schema_id for writer in writers} == {1}
    assert [path for _, path, _ in fake.asked] == ["/base/v7/subjects/t-value", "/base/v7/subjects/t-value/versions"]
    writer = schemas.known(choice)
    assert writer is not None
    assert writer.store(b'{"x": 1}') == b"\0\0\0\0\1\2"
    assert len(fake.asked) == 2


async def test_text_that_is_there_takes_one_round_trip(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", RECORD)
    writer = await (await catalogue()).resolve(SchemaChoice("t", "value", "avro", text=RECORD))
    assert (writer.schema_id, writer.version, len(fake.asked)) == (1, 1, 1)


async def test_id_takes_one_round_trip(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", RECORD)
    writer = await (await catalogue()).resolve(SchemaChoice("t", "value", "avro", id=1))
    assert (writer.schema_id, writer.subject, writer.version) == (1, "t-value", 1)
    assert sorted(path for _, path, _ in fake.asked) == ["/base/v7/schemas/ids/1", "/base/v7/schemas/ids/1/versions"]


@pytest.mark.parametrize("id", [2**31 - 1, 2**31, 2**32 - 1])
async def test_ids_have_no_sign(fake: FakeRegistry, catalogue: Any, id: int) -> None:
    fake.add("t-value", RECORD, id=id)
    schemas = await catalogue()
    assert await on_thread(schemas, framed(id, b"\2")) == {"x": 1}
    for choice in (SchemaChoice("t", "value", "avro", text=RECORD), SchemaChoice("t", "value", version=LATEST)):
        writer = await schemas.resolve(choice)
        assert (writer.schema_id, writer.store(b'{"x": 1}')) == (id, framed(id, b"\2").value())
    assert {path for _, path, _ in fake.asked if "/ids/" in path} == {
        f"/base/v7/schemas/ids/{id}", f"/base/v7/schemas/ids/{id}/versions"
    }  # fmt: skip


async def test_ids_that_no_record_can_have_are_not_asked_for(fake: FakeRegistry, catalogue: Any) -> None:
    with pytest.raises(SerializationError, match="schemaId = -1\nids are 0 to 4294967295"):
        await (await catalogue()).resolve(SchemaChoice("t", "value", "avro", id=-1))
    assert fake.asked == []
    fake.add("t-value", RECORD, id=-5)
    with pytest.raises(SerializationError, match="without 'id'"):
        await (await catalogue()).resolve(SchemaChoice("t", "value", "avro", text=RECORD))


async def test_latest_is_a_second_old_at_most(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", '"int"')
    schemas = await catalogue()
    choice = SchemaChoice("t", "value", version=LATEST)
    assert (await schemas.resolve(choice)).version == 1
    fake.add("t-value", '"long"')
    assert schemas.known(choice).version == 1
    await asyncio.sleep(1.05)  # time itself: a second
    assert schemas.known(choice) is None
    assert (await schemas.resolve(choice)).version == 2


@pytest.mark.parametrize(
    ("strategy", "subject"), [("TOPIC_NAME", "t-value"), ("RECORD_NAME", "a.R"), ("TOPIC_RECORD_NAME", "t-a.R")]
)
async def test_subject_strategies(fake: FakeRegistry, catalogue: Any, strategy: str, subject: str) -> None:
    schemas = await catalogue(schema_subject_strategy=strategy)
    assert (await schemas.resolve(SchemaChoice("t", "value", "avro", text=RECORD))).subject == subject
    assert list(fake.subjects) == [subject]


async def test_not_there_is_believed_for_a_second(fake: FakeRegistry, catalogue: Any) -> None:
    schemas = await catalogue()
    for _ in range(5):
        with pytest.raises(ValueError, match=r"^Schema 7 not found$"):  # without a full stop: more is said behind it
            await on_thread(schemas, framed(7, b""))
    assert len(fake.asked) == 2  # the schema, and where it is registered
    await asyncio.sleep(1.05)  # time itself: a second
    fake.add("t-value", '"int"', id=7)
    assert await on_thread(schemas, framed(7, b"\2")) == 1


async def test_threads_that_miss_one_schema_ask_once(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", '"int"')
    schemas = await catalogue()
    assert await asyncio.gather(*(on_thread(schemas, framed(1, b"\2")) for _ in range(4))) == [1] * 4
    assert len(fake.asked) == 2
    named = schemas.name("value", framed(1, b"\2"))
    assert named is not None
    assert (named.format, named.subjects) == ("avro", (("t-value", 1),))


async def test_the_name_is_that_of_the_message(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", 'syntax = "proto3"; message A { message B {} } message C {}', "PROTOBUF")
    schemas = await catalogue()
    for path, name in ((b"\0", "A"), (b"\2\2", "C"), (b"\4\0\0", "A.B")):
        await on_thread(schemas, framed(1, path), "protobuf")
        assert schemas.name("value", framed(1, path)).name == name


async def test_on_the_event_loop_nobody_waits(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", '"int"')
    schemas = await catalogue()
    with pytest.raises(SchemaPending) as pending:
        schemas.load("avro", "value", framed(1, b"\2"))
    await pending.value.wait()
    assert schemas.load("avro", "value", framed(1, b"\2")) == 1


async def test_on_the_event_loop_it_is_asked_for_again(fake: FakeRegistry, catalogue: Any) -> None:
    schemas = await catalogue()
    with pytest.raises(SchemaPending) as pending:
        schemas.load("avro", "value", framed(1, b"\2"))
    await pending.value.wait()
    fake.add("t-value", '"int"')
    for _ in range(3):  # what was told counts for a second, and once more when it is over
        with pytest.raises(ValueError, match="not found"):
            schemas.load("avro", "value", framed(1, b"\2"))
        asked = len(fake.asked)
        await asyncio.sleep(0.6)  # time itself: more than half a second, twice more than one
    assert asked == 2
    await until(lambda: schemas.name("value", framed(1, b"\2")))
    assert schemas.load("avro", "value", framed(1, b"\2")) == 1


async def test_the_cache_is_bounded(fake: FakeRegistry, catalogue: Any) -> None:
    for i in range(30):
        fake.add(f"s{i}", '"int"')
    schemas = await catalogue(schema_cache_max=10)
    for i in range(1, 31):
        assert await on_thread(schemas, framed(i, b"\2")) == 1
        assert await on_thread(schemas, framed(1, b"\2")) == 1  # what is used stays
    assert len(schemas) == 10
    assert sum(path.endswith("/ids/1") for _, path, _ in fake.asked) == 1


# --- references -------------------------------------------------------------------------------------------------------


async def test_references_of_references(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("inner", json.dumps({"type": "enum", "name": "a.E", "symbols": ["X", "Y"]}))
    middle = {"type": "record", "name": "a.M", "fields": [{"name": "e", "type": "a.E"}]}
    fake.add("middle", json.dumps(middle), references=[{"name": "a.E", "subject": "inner", "version": 1}])
    outer = {"type": "record", "name": "a.O", "fields": [{"name": "m", "type": "a.M"}]}
    fake.add("t-value", json.dumps(outer), references=[{"name": "a.M", "subject": "middle", "version": 1}])
    assert await on_thread(await catalogue(), framed(3, b"\2")) == {"m": {"e": "Y"}}


async def test_references_in_a_circle(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", '"int"', references=[{"name": "a", "subject": "t-value", "version": 1}])
    with pytest.raises(ValueError, match="circle"):
        await on_thread(await catalogue(), framed(1, b"\2"))


async def test_a_hundred_references(fake: FakeRegistry, catalogue: Any) -> None:
    fields, references = [], []
    for i in range(100):
        fake.add(f"s{i}", json.dumps({"type": "fixed", "name": f"F{i}", "size": 1}))
        fields.append({"name": f"f{i}", "type": f"F{i}"})
        references.append({"name": f"F{i}", "subject": f"s{i}", "version": 1})
    outer = {"type": "record", "name": "O", "fields": fields}
    id = fake.add("t-value", json.dumps(outer), references=references)
    decoded = await on_thread(await catalogue(**{"schema_registry_request_timeout_ms": 10_000}), framed(id, b"a" * 100))
    assert decoded == {f"f{i}": "a" for i in range(100)}


# --- schemas that are large or wrong ----------------------------------------------------------------------------------


async def test_a_schema_of_a_megabyte_with_ten_thousand_fields(fake: FakeRegistry, catalogue: Any) -> None:
    fields = [{"name": f"field_{i}", "type": "int", "doc": "x" * 60} for i in range(10_000)]
    text = json.dumps({"type": "record", "name": "Big", "fields": fields})
    assert len(text) > 1_000_000
    schemas = await catalogue(schema_registry_request_timeout_ms=30_000)
    writer = await schemas.resolve(SchemaChoice("t", "value", "avro", text=text))
    stored = writer.store(json.dumps({field["name"]: 1 for field in fields}).encode())
    assert len(stored) == 5 + 10_000


RANGES = 'syntax = "proto3"; message A { reserved %s; int32 f = 1; }'
TOO_LARGE = [
    ("avro", json.dumps({"type": "enum", "name": "E", "symbols": ["A"], "doc": "x" * 2_100_000}), "characters"),
    ("avro", json.dumps({"type": "enum", "name": "E", "symbols": [f"S{i}" for i in range(60_010)]}), "commas"),
    ("jsonschema", json.dumps({"allOf": [{"type": "string"}] * 20_001}), "braces"),
    ("jsonschema", json.dumps({"enum": list(range(60_010))}), "commas"),
    ("protobuf", RANGES % ",".join(f"{3 * i} to {3 * i + 1}" for i in range(1, 60_010)), "commas"),
    ("protobuf", "message A {" + "".join(f"message Q{i}{{int32 f=1;}}" for i in range(20_000)) + "}", "braces"),
    ("protobuf", "Cg" * 100_001, "characters in base64"),
]


@pytest.mark.parametrize(("format", "text", "said"), TOO_LARGE, ids=[f"{each[0]}-{each[2]}" for each in TOO_LARGE])
async def test_a_schema_that_is_too_large_is_compiled_by_nobody(
    fake: FakeRegistry, catalogue: Any, monkeypatch: pytest.MonkeyPatch, format: str, text: str, said: str
) -> None:
    compiled: list[str] = []
    for codec in (AvroCodec, JsonSchemaCodec, ProtobufCodec):
        monkeypatch.setattr(codec, "compile", lambda self, schema: compiled.append(schema.text))
    schemas = await catalogue()
    with pytest.raises(InvalidSchema, match=f"it is too large: it has [0-9]+ {said}"):
        await schemas.draft(SchemaChoice("t", "value", format, text=text, registers=False))
    type_ = {"avro": "AVRO", "jsonschema": "JSON", "protobuf": "PROTOBUF"}[format]
    fake.add("t-value", text, type_)
    with pytest.raises(SerializationError, match=f"it is too large: it has [0-9]+ {said}"):
        await schemas.resolve(SchemaChoice("t", "value", format, id=1))
    assert compiled == []


async def test_no_long_text_is_read_on_the_event_loop(
    fake: FakeRegistry, catalogue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop: list[int] = []
    tokens = proto_tokens.tokens

    def watched(text: str) -> Any:
        if threading.current_thread() is threading.main_thread():
            on_loop.append(len(text))
        return tokens(text)

    monkeypatch.setattr(proto_text, "tokens", watched)
    monkeypatch.setattr(protobuf, "tokens", watched)
    schemas = await catalogue()
    for count in (1, 500):
        text = RANGES % ",".join(f"{3 * i} to {3 * i + 1}" for i in range(1, count + 1))
        writer = await schemas.resolve(SchemaChoice("t", "value", "protobuf", text=text))
        assert writer.store(b'{"f": 1}') is not None
    # The short one is: read, read again for the numbers of its fields, and set anew.
    assert len(on_loop) == 3
    assert max(on_loop) < 200


async def test_a_text_is_compiled_once_for_all_who_give_it(
    fake: FakeRegistry, catalogue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    compile = AvroCodec.compile

    def counting(self: AvroCodec, schema: Schema) -> Any:
        compiled.append(schema.text)
        return compile(self, schema)

    monkeypatch.setattr(AvroCodec, "compile", counting)
    schemas = await catalogue()
    fields = [{"name": f"field_{i}", "type": "int"} for i in range(200)]
    for text in (json.dumps({"type": "record", "name": "Long", "fields": fields}), RECORD):
        choice = SchemaChoice("t", "value", "avro", text=text)
        drafts = await asyncio.gather(*(schemas.draft(choice) for _ in range(20)))
        assert {draft.schema_id for draft in drafts} == {0}
        assert (await schemas.resolve(choice)).compiled is drafts[0].compiled
        assert compiled == [text]
        compiled.clear()
    for _ in range(3):
        with pytest.raises(InvalidSchema):
            await schemas.draft(dataclasses.replace(choice, text="{"))
    assert len(compiled) <= 1


@pytest.mark.parametrize("format", ["avro", "jsonschema", "protobuf"])
async def test_a_text_that_is_no_schema_is_not_registered(fake: FakeRegistry, catalogue: Any, format: str) -> None:
    with pytest.raises(InvalidSchema, match="Invalid schema"):
        await (await catalogue()).resolve(SchemaChoice("t", "value", format, text="{"))
    assert fake.asked == []


async def test_a_json_schema_that_cannot_judge_reads(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", json.dumps({"pattern": "(?>a)"}), "JSON")
    fake.add("t-value", json.dumps({"$ref": "elsewhere.json"}), "JSON")
    schemas = await catalogue()
    for id, said in ((1, "the pattern '\\(\\?>a\\)' cannot be judged"), (2, "elsewhere.json")):
        assert bytes(await on_thread(schemas, framed(id, b'"x"'), "jsonschema")) == b'"x"'
        with pytest.raises(SerializationError, match=said):
            await schemas.resolve(SchemaChoice("t", "value", "jsonschema", id=id))


async def test_what_does_not_exist(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("other-value", '"int"')
    schemas = await catalogue()
    with pytest.raises(SerializationError, match=r"schemaId = 9"):
        await schemas.resolve(SchemaChoice("t", "value", "avro", id=9))
    with pytest.raises(SerializationError, match="not registered under this subject"):
        await schemas.resolve(SchemaChoice("t", "value", "avro", id=1))
    with pytest.raises(SerializationError, match="of the format avro"):
        await schemas.resolve(SchemaChoice("other", "value", "protobuf", id=1))
    with pytest.raises(BadRequest, match="does not exist for subject: other-value, version: 5"):
        await schemas.resolve(SchemaChoice("other", "value", version=5))
    with pytest.raises(SerializationError, match="latest"):
        await schemas.resolve(SchemaChoice("t", "value", version=LATEST))


async def test_a_guid_that_the_registry_does_not_know(fake: FakeRegistry, catalogue: Any) -> None:
    async def nothing(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404)

    fake.misbehave = nothing
    record = framed(1, b"", [("__value_schema_id", b"\1" + bytes(16))])
    with pytest.raises(ValueError, match=r"knows no schema with the GUID 00000000-0000-0000-0000-000000000000$"):
        await on_thread(await catalogue(), record)


@pytest.mark.parametrize("subject", ["", ".", "..", "../../config", "a/../b", "a\\.", "a/."])
async def test_a_subject_that_no_path_can_name_is_refused(fake: FakeRegistry, catalogue: Any, subject: str) -> None:
    schemas = await catalogue()
    for choice in (
        SchemaChoice("t", "value", "avro", text=RECORD, subject=subject),
        SchemaChoice("t", "value", subject=subject, version=LATEST),
    ):
        with pytest.raises(SerializationError, match="a subject is not empty, and no part"):
            await schemas.resolve(choice)
    titled = json.dumps({"title": subject or ".", "type": "object"})
    with pytest.raises(SerializationError, match="a subject is not empty, and no part"):
        await schemas.resolve(SchemaChoice("t", "value", "jsonschema", text=titled, strategy="RECORD_NAME"))
    assert fake.asked == []
    # As a reference of a schema that somebody has registered.
    fake.add("t-value", RECORD, references=[{"name": "x", "subject": subject, "version": 1}], id=7)
    with pytest.raises(ValueError, match="cannot be the name of a subject"):
        await on_thread(schemas, framed(7, b"\2"))
    assert {path for _, path, _ in fake.asked} == {"/base/v7/schemas/ids/7", "/base/v7/schemas/ids/7/versions"}


@pytest.mark.parametrize("subject", ["google/type/date.proto", "a.b", "...", "%2e%2e", "a..b", ".a/b."])
async def test_any_other_subject_is_asked_for_as_it_is(fake: FakeRegistry, catalogue: Any, subject: str) -> None:
    await (await catalogue()).resolve(SchemaChoice("t", "value", "avro", text=RECORD, subject=subject))
    assert list(fake.subjects) == [subject]


async def test_incompatible_schemas_are_told(fake: FakeRegistry, catalogue: Any) -> None:
    async def conflict(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("versions"):
            return web.json_response({"error_code": 409, "message": "incompatible"}, status=409)
        return web.json_response({"error_code": 40401, "message": "Subject not found"}, status=404)

    fake.misbehave = conflict
    with pytest.raises(SerializationError, match="incompatible"):
        await (await catalogue()).resolve(SchemaChoice("t", "value", "avro", text=RECORD))


# --- a registry that does not answer ----------------------------------------------------------------------------------


@pytest.mark.timing
@pytest.mark.parametrize("fault", [never, html, server_error, redirect, half_body])
async def test_a_registry_that_misbehaves(fake: FakeRegistry, catalogue: Any, fault: Any) -> None:
    fake.add("t-value", RECORD)
    schemas = await catalogue()
    known = SchemaChoice("t", "value", "avro", text=RECORD)
    await schemas.resolve(known)
    assert await on_thread(schemas, framed(1, b"\2")) == {"x": 1}
    fake.misbehave = fault
    began = time.monotonic()
    with pytest.raises(SerializationError) as caught:
        await schemas.resolve(SchemaChoice("t", "value", "avro", text='"int"'))
    assert caught.value.help.startswith("Send the same request again when the schema registry answers")
    with pytest.raises(ValueError, match=r"schema registry|HTTP 500"):
        await on_thread(schemas, framed(2, b"\2"))
    assert time.monotonic() - began < 6
    # What is known goes on without it.
    writer = schemas.known(known)
    assert writer is not None
    assert writer.store(b'{"x": 1}') == b"\0\0\0\0\1\2"
    assert await on_thread(schemas, framed(1, b"\2")) == {"x": 1}
    # And so does everything once it is back.
    fake.misbehave = None
    back = SchemaChoice("t", "value", "avro", text='"int"')
    assert (await until(lambda: schemas.resolve(back), but=SerializationError)).schema_id == 2


async def test_a_bad_answer_is_that_of_one_question(fake: FakeRegistry, catalogue: Any) -> None:
    for _ in range(3):
        fake.add("t-value", '"int"')
    fault: Any = html

    async def for_one(request: web.Request) -> web.StreamResponse:
        bad = request.path.startswith("/base/v7/schemas/ids/1")
        return await (fault(request) if bad else fake.answer_well(request))

    fake.misbehave = for_one
    schemas = await catalogue(schema_registry_request_timeout_ms=600)
    with pytest.raises(SchemaUnreachable):
        await on_thread(schemas, framed(1, b"\2"))
    assert await on_thread(schemas, framed(2, b"\2")) == 1
    # It waits for one in vain, and answers others meanwhile: then it is not away.
    fault, schemas = never, await catalogue(schema_registry_request_timeout_ms=600)
    asked = len(fake.asked)
    waiting = asyncio.create_task(on_thread(schemas, framed(1, b"\2")))
    await until(lambda: len(fake.asked) > asked)
    assert await on_thread(schemas, framed(2, b"\2")) == 1
    with pytest.raises(SchemaUnreachable):
        await waiting
    assert await on_thread(schemas, framed(3, b"\2")) == 1


@pytest.mark.timing  # half of what it takes without an answer
async def test_a_registry_that_is_back_is_asked_at_once(fake: FakeRegistry, catalogue: Any) -> None:
    for _ in range(2):
        fake.add("t-value", '"int"')
    schemas = await catalogue(schema_registry_request_timeout_ms=5000, schema_registry_url=(fake.url,) * 2)
    fake.misbehave = never
    began = time.monotonic()
    with pytest.raises(SchemaUnreachable):
        await on_thread(schemas, framed(1, b"\2"))
    waited_s = time.monotonic() - began
    fake.misbehave = None
    began = time.monotonic()
    # As long nobody is kept waiting, if it stays away.
    assert await until(lambda: on_thread(schemas, framed(2, b"\2")), waited_s, but=SchemaUnreachable) == 1
    assert time.monotonic() - began < waited_s / 2


@pytest.mark.timing  # one budget for twelve questions
async def test_a_long_chain_of_references_comes_in_pieces(fake: FakeRegistry, catalogue: Any) -> None:
    references: list[Any] = []
    for i in range(12):
        fields = [{"name": "x", "type": f"F{i - 1}" if i else "int"}]
        id = fake.add(f"s{i}", json.dumps({"type": "record", "name": f"F{i}", "fields": fields}), references=references)
        references = [{"name": f"F{i}", "subject": f"s{i}", "version": 1}]

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.1)  # time itself: it is slow
        return await fake.answer_well(request)

    fake.misbehave = slow
    schemas = await catalogue(schema_registry_request_timeout_ms=700)
    began = time.monotonic()
    with pytest.raises(SchemaUnreachable, match="no answer within"):
        await on_thread(schemas, framed(id, b"\2"))
    assert time.monotonic() - began < 2  # the budget is for all of them
    assert await until(lambda: on_thread(schemas, framed(id, b"\2")), but=SchemaUnreachable)


async def test_what_one_way_has_asked_for_serves_the_others(fake: FakeRegistry, catalogue: Any) -> None:
    schemas = await catalogue()
    choice = SchemaChoice("t", "value", "avro", text=RECORD)
    await schemas.resolve(choice)
    fake.misbehave = server_error
    # v3 wants the version, too; somebody only wants to be judged; and records with the schema are read.
    by_id: Any = {"text": None, "id": 1}
    for more in ({"versioned": True}, {"registers": False}, {"versioned": True, "registers": False}, by_id):
        assert (await schemas.resolve(dataclasses.replace(choice, **more))).schema_id == 1
    assert await on_thread(schemas, framed(1, b"\2")) == {"x": 1}


async def test_stored_although_it_says_500(fake: FakeRegistry, catalogue: Any) -> None:
    failed = 0

    async def once(request: web.Request) -> web.StreamResponse:
        nonlocal failed
        fake.misbehave = None
        answer = await fake.answer(request)
        if request.path.endswith("versions") and not failed:
            failed += 1
            answer = web.json_response({"error_code": 50002, "message": "Register operation timed out"}, status=500)
        fake.misbehave = once
        return answer

    fake.misbehave = once
    assert (await (await catalogue()).resolve(SchemaChoice("t", "value", "avro", text=RECORD))).schema_id == 1
    assert fake.subjects["t-value"] == [1]


async def test_the_next_address_is_asked(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", RECORD)
    async with serving(FakeRegistry()) as broken:
        broken.misbehave = server_error
        schemas = await catalogue(schema_registry_url=("http://127.0.0.1:1/none", broken.url, fake.url + "/"))
        assert (await schemas.resolve(SchemaChoice("t", "value", "avro", text=RECORD))).schema_id == 1
        asked = len(broken.asked)
        fake.add("u-value", RECORD)
        assert (await schemas.resolve(SchemaChoice("u", "value", "avro", text=RECORD))).schema_id == 2
        assert len(broken.asked) == asked  # the one that answered is asked first


async def test_without_a_registry(catalogue: Any) -> None:
    schemas = await catalogue(schema_registry_url=())
    with pytest.raises(SchemasUnavailable):
        await schemas.resolve(SchemaChoice("t", "value", "avro", text=RECORD))
    with pytest.raises(ValueError, match="must be configured"):
        await on_thread(schemas, framed(1, b""))


async def test_credentials(fake: FakeRegistry, catalogue: Any) -> None:
    fake.add("t-value", RECORD)
    schemas = await catalogue(schema_registry_url=(fake.url.replace("http://", "http://alice:s%20t@"),))
    await schemas.resolve(SchemaChoice("t", "value", "avro", text=RECORD))
    assert {proof for *_, proof in fake.asked} == {"Basic YWxpY2U6cyB0"}


# --- settings ---------------------------------------------------------------------------------------------------------


def settings(*overrides: str) -> Any:
    return registry_settings(load(BUILTIN_KEYS, overrides=overrides))


def test_settings() -> None:
    assert settings("schema.registry.url=") is None
    found = settings("schema.registry.url=http://a:8081/x/,http://[::1]:1", "schema.registry.bearer.auth.token=CANARY")
    assert found.urls == ("http://a:8081/x", "http://[::1]:1")
    assert found.authorization == ("Bearer CANARY", "Bearer CANARY")
    assert "CANARY" not in repr(found)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("schema.registry.url=ftp://a", "schema.registry.url"),
        ("schema.registry.basic.auth.credentials.source=SASL_INHERIT", "is not URL or USER_INFO"),
        ("schema.registry.basic.auth.credentials.source=USER_INFO", "user:password"),
        ("schema.registry.auto.register.schemas=true", "is always false"),
        ("schema.registry.http.read.timeout.ms=x", "milliseconds"),
        ("schema.registry.nonsense=1", "unknown"),
    ],
)
def test_faulty_settings(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(override)
