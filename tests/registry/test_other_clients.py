"""Records with schemas between the gateway and clients that nobody here wrote, on a real Kafka and a real registry."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pool, json_format, message_factory

from kafka_gateway.codecs.proto_text import parse
from tests.cache import UnavailableError, unavailable
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.registry_server import SchemaRegistry, find_java, java_serde

PAGE = Path(__file__).parents[2] / "docs" / "schemas.md"
AVRO = json.dumps(
    {
        "type": "record", "name": "Order", "namespace": "shop",
        "fields": [
            {"name": "item", "type": "string"},
            {"name": "price", "type": ["null", "double"]},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "raw", "type": "bytes"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
)  # fmt: skip
JSON = json.dumps(
    {
        "$schema": "http://json-schema.org/draft-07/schema#", "title": "Order", "type": "object",
        "properties": {"item": {"type": "string"}, "count": {"type": "integer"}}, "required": ["item"],
    }
)  # fmt: skip
PROTO = 'syntax = "proto3"; package shop; message Order { string item = 1; int64 count = 2; repeated string tags = 3; }'


@pytest.fixture(scope="module")
def gateway(kafka: KafkaCluster, registry: SchemaRegistry) -> Iterator[GatewayProcess]:
    with GatewayProcess(f"schema.registry.url={registry.url}", bootstrap=kafka.bootstrap) as process:
        yield process


def ask(gateway: GatewayProcess, method: str, path: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(gateway.url + path, data, named, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def produce(gateway: GatewayProcess, topic: str, format: str, schema: str, *values: Any) -> Any:
    body = {"value_schema": schema, "records": [{"value": value} for value in values]}
    return ask(gateway, "POST", f"/topics/{topic}", body, Content_Type=f"application/vnd.kafka.{format}.v2+json")


def stream(gateway: GatewayProcess, topic: str, **query: str) -> list[Any]:
    text = "&".join(f"{name}={value}" for name, value in {"offset": "earliest", "until": "end", **query}.items())
    with urllib.request.urlopen(f"{gateway.url}/topics/{topic}/stream?{text}", timeout=30) as answer:
        return [json.loads(line) for line in answer.read().splitlines() if b'"value"' in line]


def take(kafka: KafkaCluster, topic: str) -> bytes:
    """The value of the topic's first record."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        for _ in range(30):
            record = consumer.poll(1.0)
            if record is not None and record.error() is None:
                return bytes(record.value() or b"")
        pytest.fail("nothing was stored")
    finally:
        consumer.close()


def put(kafka: KafkaCluster, topic: str, *values: bytes | None) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(10) == 0


@pytest.fixture
def client(registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as found:
        yield found


def context(topic: str) -> SerializationContext:
    return SerializationContext(topic, MessageField.VALUE)


def test_avro_both_ways(
    gateway: GatewayProcess, kafka: KafkaCluster, client: SchemaRegistryClient, create_topic: Callable[..., str]
) -> None:
    topic = create_topic()
    shown = {"item": "tea", "price": {"double": 4.5}, "tags": ["a"], "raw": "ÿ", "at": 1700000000000}
    produce(gateway, topic, "avro", AVRO, shown)
    theirs = AvroDeserializer(client)(take(kafka, topic), context(topic))
    assert (theirs["item"], theirs["price"], theirs["raw"], theirs["at"].timestamp()) == ("tea", 4.5, b"\xff", 1.7e9)
    serialize = AvroSerializer(client, AVRO, conf={"auto.register.schemas": False, "use.latest.version": True})
    put(kafka, topic, serialize(theirs | {"item": "milk"}, context(topic)))
    assert [row["value"] for row in stream(gateway, topic, format="avro")] == [shown, shown | {"item": "milk"}]


@pytest.mark.slow
@pytest.mark.fetches(what=java_serde)
@pytest.mark.timeout(120)
def test_avro_both_ways_in_java(
    gateway: GatewayProcess, kafka: KafkaCluster, registry: SchemaRegistry, create_topic: Callable[..., str]
) -> None:
    """Kafka's own client, Apache's Avro, and the (de)serialisers of Apicurio."""
    topic = create_topic()
    shown = {"item": "té", "price": {"double": 4.5}, "tags": ["a", "b"], "raw": "ÿ\0", "at": 1700000000000}
    produce(gateway, topic, "avro", AVRO, shown)
    arguments = [kafka.bootstrap, f"{registry.base}/apis/registry/v3", topic]
    try:
        jars = java_serde()
    except UnavailableError as error:
        unavailable(str(error))
    command = [find_java(), "-cp", f"{jars}/*", str(Path(__file__).parent / "AvroClient.java"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {**shown, "price": 4.5}
    assert [row["value"] for row in stream(gateway, topic, format="avro")] == [shown, shown | {"item": "milk"}]


def test_json_schema_both_ways(
    gateway: GatewayProcess, kafka: KafkaCluster, client: SchemaRegistryClient, create_topic: Callable[..., str]
) -> None:
    topic = create_topic()
    produce(gateway, topic, "jsonschema", JSON, {"item": "tea", "count": 1})
    assert JSONDeserializer(JSON)(take(kafka, topic), context(topic)) == {"item": "tea", "count": 1}
    put(kafka, topic, JSONSerializer(JSON, client)({"item": "milk"}, context(topic)))
    rows = stream(gateway, topic, format="jsonschema")
    assert [row["value"] for row in rows] == [{"item": "tea", "count": 1}, {"item": "milk"}]


def test_protobuf_both_ways(
    gateway: GatewayProcess, kafka: KafkaCluster, client: SchemaRegistryClient, create_topic: Callable[..., str]
) -> None:
    topic = create_topic()
    produce(gateway, topic, "protobuf", PROTO, {"item": "tea", "count": "7"})
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(parse(PROTO, "order.proto").SerializeToString())
    message_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))
    stored = take(kafka, topic)
    assert json_format.MessageToDict(message_class.FromString(stored[6:])) == {"item": "tea", "count": "7"}
    # Their serialiser registers the descriptor in base64, under a subject of its own.
    serialize = ProtobufSerializer(message_class, client)
    put(kafka, topic, serialize(message_class(item="milk", count=8), context(f"{topic}-b")))
    rows = stream(gateway, topic, format="protobuf")
    assert [row["value"] for row in rows] == [
        {"item": "tea", "count": "7", "tags": []},
        {"item": "milk", "count": "8", "tags": []},
    ]


def test_auto(
    gateway: GatewayProcess, kafka: KafkaCluster, registry: SchemaRegistry, create_topic: Callable[..., str]
) -> None:
    topic = create_topic()
    produce(gateway, topic, "avro", '{"type":"record","name":"n.A","fields":[{"name":"a","type":"int"}]}', {"a": 1})
    number = registry.register(f"{topic}-other", PROTO, "PROTOBUF")
    framed = b"\0" + number.to_bytes(4, "big") + b"\0\x0a\3tea"
    put(kafka, topic, framed, b'{"plain": [1]}', b"\xff\xfe", b"\0\x7f\xff\xff\xffunknown", b"", None)
    rows = stream(gateway, topic, format="auto")
    assert [(row["value"], row.get("value_format")) for row in rows] == [
        ({"a": 1}, "avro"),
        ({"item": "tea", "count": "0", "tags": []}, "protobuf"),
        ({"plain": [1]}, "json"),
        ("//4=", "binary"),
        ("AH////91bmtub3du", "binary"),
        ("", "binary"),
        (None, None),
    ]
    first, second = rows[0]["value_schema"], rows[1]["value_schema"]
    assert (first["name"], first["subject"], first["version"]) == ("n.A", f"{topic}-value", 1)
    assert (second["name"], second["subject"]) == ("shop.Order", f"{topic}-other")
    strict = stream(gateway, topic, format="avro")
    assert [row["value"] for row in strict] == [{"a": 1}, None, None, None, None, None, None]
    assert [row.get("error", {}).get("error_code") for row in strict] == [None, *[42208] * 5, None]


def test_v1(gateway: GatewayProcess, create_topic: Callable[..., str]) -> None:
    topic = create_topic()
    body = {"value_schema": '"int"', "records": [{"value": 1}]}
    v1 = "application/vnd.kafka.avro.v1+json"
    assert ask(gateway, "POST", f"/topics/{topic}", body, Content_Type=v1)["value_schema_id"] > 0
    for wrong, code in (({"value": "x"}, 42203), ({"value": None}, 42203)):
        with pytest.raises(urllib.request.HTTPError) as caught:
            ask(gateway, "POST", f"/topics/{topic}", body | {"records": [wrong]}, Content_Type=v1)
        assert json.loads(caught.value.read())["error_code"] == code
    with pytest.raises(urllib.request.HTTPError) as caught:
        ask(gateway, "POST", f"/topics/{topic}", {"value_schema_id": 10**6, "records": [{"value": 1}]}, Content_Type=v1)
    assert (caught.value.code, json.loads(caught.value.read())["error_code"]) == (408, 40801)
    read = ask(gateway, "GET", f"/topics/{topic}/partitions/0/messages?offset=0&count=1", Accept=v1)
    assert [row["value"] for row in read] == [1]


def test_a_dry_run_registers_and_stores_nothing(
    gateway: GatewayProcess, registry: SchemaRegistry, create_topic: Callable[..., str]
) -> None:
    topic = create_topic()
    answer = produce(gateway, f"{topic}?dry_run=true", "avro", '"int"', 1)
    assert answer == {
        "offsets": [{"partition": None, "offset": None, "error_code": None, "error": None}],
        "key_schema_id": None, "value_schema_id": None,
    }  # fmt: skip
    assert f"{topic}-value" not in registry.ask("GET", "/subjects")
    produce(gateway, topic, "avro", '{"type":"record","name":"R","fields":[]}', {})
    field = '{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}'
    with pytest.raises(urllib.request.HTTPError) as caught:
        produce(gateway, f"{topic}?dry_run=true", "avro", field, {"a": 1})
    assert json.loads(caught.value.read())["error_code"] == 42207
    assert len(stream(gateway, topic, format="avro")) == 1
    # What is just too large for the gateway's producer is so for both.
    for path in (f"{topic}-none?dry_run=true", f"{topic}-large"):
        answer = produce(
            gateway, path, "avro", '"string"', "x" * (1_000_000 - 36 - 5 - 3), "x" * (1_000_000 - 36 - 5 - 2)
        )
        assert [row["error_code"] for row in answer["offsets"]] == [None, 50002], answer


def test_the_examples_of_the_page(gateway: GatewayProcess, tmp_path: Path) -> None:
    (command,) = [code for code in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if "curl" in code]
    run = subprocess.run(
        ["bash", "-c", command.replace("http://localhost:8082", gateway.url)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout)["offsets"][0]["error_code"] is None
    (row,) = re.findall(r"```json\n(\{.*?)\n```", PAGE.read_text())
    # Another test of this Kafka may have written to the topic before.
    place = {name: json.loads(run.stdout)["offsets"][0][name] for name in ("partition", "offset")}
    (shown,) = [record for record in stream(gateway, "orders", format="auto") if place.items() <= record.items()]
    printed = json.loads(row)
    for each in (shown, printed):
        del each["timestamp"]
        del each["partition"]
        del each["offset"]
        del each["value_schema"]["id"]
    assert shown == printed


def test_the_example_of_the_v3_page(gateway: GatewayProcess) -> None:
    page = PAGE.with_name("rest-v3.md").read_text()
    (command,) = [code for code in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if '"schema' in code]
    (report,) = re.findall(r'```json\n(\{[^`]*"schema_version"[^`]*)\n```', page)
    run = subprocess.run(
        ["bash", "-c", command.replace("http://127.0.0.1:8082", gateway.url).replace("$CLUSTER", "-")],
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(report)["value"]
    shown = [json.loads(line) for line in run.stdout.replace("}{", "}\n{").splitlines() if line]
    assert [each["error_code"] for each in shown] == [200] * 3, shown
    for each in shown:
        assert {**each["value"], "schema_id": printed["schema_id"]} == printed
    assert sorted(row["value"]["total"] for row in stream(gateway, "invoices", format="avro")) == [3, 4, 5]
