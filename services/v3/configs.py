"""Settings of topics, of brokers, and of all brokers (kafka-rest-http.md §7.5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.errors import BadRequest, NotFound, PayloadError, ServiceError
from kafka_gateway.jsonio import Raw
from kafka_gateway.kafka.ports.administration import (
    CLUSTER_WIDE,
    Administration,
    ConfigChange,
    ConfigOf,
    ConfigSynonym,
    Setting,
)
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.services.common.json_members import (
    NULL,
    check_names,
    read_document,
    read_list,
    read_object,
    read_text,
    shown,
)
from kafka_gateway.services.v3.bodies import read_flag, required
from kafka_gateway.services.v3.links import ClusterLinks, Links, Metadata, segment

_NULL_INPUT = "Payload error. Null input provided. Data is required."
_OPERATIONS = ("SET", "DELETE")


class Synonym(jsonio.Struct, gc=False):
    name: str
    value: str | None
    source: str


class _Config(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    name: str
    value: str | None
    is_default: bool
    is_read_only: bool
    is_sensitive: bool
    source: str
    synonyms: Sequence[ConfigSynonym | Synonym]


class TopicConfig(_Config, gc=False):
    topic_name: str


class BrokerConfig(_Config, gc=False):
    broker_id: int


class ClusterConfig(_Config, gc=False):
    config_type: str


@dataclasses.dataclass(frozen=True, slots=True)
class AlterRequest:
    """The body of ``configs:alter``."""

    changes: Sequence[ConfigChange]
    validate_only: bool


@dataclasses.dataclass(frozen=True, slots=True)
class AlterManyRequest:
    """The body of ``topics/-/configs:alter``: changes by topic, in the order given."""

    changes: dict[str, list[ConfigChange]]
    validate_only: bool


class Failure(jsonio.Struct):
    topic_name: str
    error_code: int
    message: str


class Failures(jsonio.Struct):
    failures: list[Failure]


class ConfigsService:
    """The handlers of ``…/configs``, ``…/broker-configs`` and ``…:alter``."""

    def __init__(self, administration: Administration, links: ClusterLinks) -> None:
        self._administration = administration
        self._links = links

    # --- reading ----------------------------------------------------------------------------------------------------

    async def list(self, call: Call) -> Response:
        """``GET …/topics/{topic_name}/configs``, ``…/brokers/{broker_id}/configs`` and ``…/broker-configs``."""
        links = await self._links.of(call, "")
        of = _of(call)
        settings = await self._settings(of)
        return Response(
            links.listing(_KINDS[_family(of)], _path(of), [_resource(of, each, links) for each in settings])
        )

    async def get(self, call: Call) -> Response:
        """``GET …/configs/{name}``"""
        links = await self._links.of(call, "")
        of, name = _of(call), str(call.params["name"])
        for setting in await self._settings(of):
            if setting.name == name:
                return Response(_resource(of, setting, links))
        raise NotFound().with_help(_LISTED)

    async def of_all_topics(self, call: Call) -> Response:
        """``GET …/topics/-/configs``: by topic and name; topics that are being deleted are left out."""
        links = await self._links.of(call)
        topics = [each.name for each in await self._administration.topics() if not each.internal]
        shown = call.session.rights.filter("describe-configs", "topic", topics)
        return await self._of_all([ConfigOf("TOPIC", name) for name in shown], "/topics/-/configs", links)

    async def of_all_brokers(self, call: Call) -> Response:
        """``GET …/brokers/-/configs``: by broker and name."""
        links = await self._links.of(call)
        nodes = (await self._administration.cluster()).nodes
        return await self._of_all([ConfigOf("BROKER", str(node.id)) for node in nodes], "/brokers/-/configs", links)

    async def _of_all(self, of: Sequence[ConfigOf], path: str, links: Links) -> Response:
        found = await self._administration.configs(of)
        settings: dict[ConfigOf, Sequence[Setting]] = {}
        for each in of:
            answer = found.pop(each, ())
            if isinstance(answer, NotFound):
                continue
            if isinstance(answer, ServiceError):
                raise answer
            settings[each] = answer
        kind = _KINDS["topic" if path.startswith("/topics") else "broker"]
        # Freeing thousands of settings would hold the event loop, too: each is dropped when its element is made.
        elements = (_resource(each, one, links) for each in list(settings) for one in settings.pop(each))
        return await links.listed(kind, path, sum(map(len, settings.values())), elements)

    async def _settings(self, of: ConfigOf) -> Sequence[Setting]:
        answer = (await self._administration.configs([of]))[of]
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    # --- changing ---------------------------------------------------------------------------------------------------

    async def put(self, call: Call) -> Response:
        """``PUT …/configs/{name}``. A cluster-wide default may be one that is not set yet."""
        await self._links.of(call, "")
        of, name = _of(call), str(call.params["name"])
        if of != CLUSTER_WIDE:
            await self._check_known(call, of, [name])
        return await self._alter(of, [ConfigChange(name, call.body[0])])

    async def reset(self, call: Call) -> Response:
        """``DELETE …/configs/{name}``: back to the default."""
        await self._links.of(call, "")
        of, name = _of(call), str(call.params["name"])
        await self._check_known(call, of, [name])
        return await self._alter(of, [ConfigChange(name, None, "DELETE")])

    async def alter(self, call: Call) -> Response:
        """``POST …/configs:alter``: all of it or nothing."""
        await self._links.of(call, "")
        of, request = _of(call), call.body
        if of != CLUSTER_WIDE:
            await self._check_known(call, of, [each.name for each in request.changes])
        return await self._alter(of, request.changes, request.validate_only)

    async def alter_topics(self, call: Call) -> Response:
        """``POST …/topics/-/configs:alter``: each topic as a whole or not at all, 207 if some were refused."""
        request: AlterManyRequest = call.body
        call.require("alter-configs", "topic", *request.changes)
        await self._links.of(call)
        changes = {ConfigOf("TOPIC", topic): listed_ for topic, listed_ in request.changes.items()}
        known = await self._administration.configs(list(changes))
        for of, wanted in changes.items():
            answer = known[of]
            if isinstance(answer, ServiceError):
                raise answer
            _check_names(str(call.params["cluster_id"]), of, answer, [each.name for each in wanted])
        outcomes = await self._administration.alter_configs(changes, request.validate_only)
        failures = [
            Failure(of.name, error.error_code, error.message) for of, error in outcomes.items() if error is not None
        ]
        return Response(Failures(failures), 207) if failures else NO_CONTENT

    async def _check_known(self, call: Call, of: ConfigOf, names: Sequence[str]) -> None:
        _check_names(str(call.params["cluster_id"]), of, await self._settings(of), names)

    async def _alter(self, of: ConfigOf, changes: Sequence[ConfigChange], validate_only: bool = False) -> Response:
        outcome = (await self._administration.alter_configs({of: changes}, validate_only))[of]
        if outcome is not None:
            raise outcome
        return NO_CONTENT


def _of(call: Call) -> ConfigOf:
    """What a request is about: the resource whose settings it reads or changes."""
    if "topic_name" in call.params:
        return ConfigOf("TOPIC", str(call.params["topic_name"]))
    if "broker_id" in call.params:
        return ConfigOf("BROKER", str(call.params["broker_id"]))
    return CLUSTER_WIDE


def _check_names(cluster: str, of: ConfigOf, known: Sequence[Setting], names: Sequence[str]) -> None:
    found = {setting.name for setting in known}
    for name in names:
        if name not in found:
            raise NotFound(
                f"Config {shown(name)} cannot be found for {of.kind} {of.name or 'default'} in cluster {cluster}."
            ).with_help(_LISTED)


# --- replies ---------------------------------------------------------------------------------------------------------

_LISTED = "GET …/configs, without a name behind it, lists the settings that there are."
_KINDS = {"topic": "KafkaTopicConfig", "broker": "KafkaBrokerConfig", "cluster": "KafkaClusterConfig"}


def _family(of: ConfigOf) -> str:
    return "topic" if of.kind == "TOPIC" else "broker" if of.name else "cluster"


def _path(of: ConfigOf) -> str:
    family = _family(of)
    if family == "topic":
        return f"/topics/{of.name}/configs"
    return f"/brokers/{of.name}/configs" if family == "broker" else "/broker-configs"


def _resource(of: ConfigOf, setting: Setting, links: Links) -> object:
    family = _family(of)
    name = f"/{family}={of.name}/config={setting.name}" if of.name else f"/broker-config={setting.name}"
    shared = (
        _KINDS[family],
        links.metadata(f"{_path(of)}/{segment(setting.name)}", name),
        links.cluster,
        setting.name,
        setting.value,
        setting.is_default,
        setting.read_only,
        setting.sensitive,
        setting.source,
        [Synonym(*each) for each in setting.synonyms],
    )
    if family == "topic":
        return TopicConfig(*shared, of.name)
    return BrokerConfig(*shared, int(of.name)) if family == "broker" else ClusterConfig(*shared, "BROKER")


# --- bodies ----------------------------------------------------------------------------------------------------------


def read_value(body: bytes, codec: Codec | None) -> tuple[str | None]:
    """The body of ``PUT …/configs/{name}``: the value alone."""
    members = read_document(body)
    if members is None:
        raise PayloadError(_NULL_INPUT)
    check_names(members, ("value",))
    return (read_text(members.get("value", NULL), "value"),)


def read_alter(body: bytes, codec: Codec | None) -> AlterRequest:
    """The body of ``configs:alter``."""
    members = read_document(body)
    if members is None:
        raise PayloadError(_NULL_INPUT)
    check_names(members, ("data", "validate_only"))
    changes = _changes(members.get("data", NULL), "data")
    return AlterRequest(changes, read_flag(members.get("validate_only", NULL), "validate_only") or False)


def read_alter_many(body: bytes, codec: Codec | None) -> AlterManyRequest:
    """The body of ``topics/-/configs:alter``."""
    members = read_document(body)
    if members is None:
        raise PayloadError(_NULL_INPUT)
    check_names(members, ("data", "validate_only"))
    changes: dict[str, list[ConfigChange]] = {}
    for i, element in enumerate(required(read_list(members.get("data", NULL), "data"), "data")):
        place = f"data[{i}]"
        entry = required(read_object(element, place), place)
        check_names(entry, ("topic_name", "configs"), place)
        topic = required(read_text(entry.get("topic_name", NULL), f"{place}.topic_name"), f"{place}.topic_name")
        changes.setdefault(topic, []).extend(_changes(entry.get("configs", NULL), f"{place}.configs"))
    return AlterManyRequest(changes, read_flag(members.get("validate_only", NULL), "validate_only") or False)


def _changes(raw: Raw, place: str) -> list[ConfigChange]:
    changes = []
    for i, element in enumerate(required(read_list(raw, place), place)):
        where = f"{place}[{i}]"
        members = required(read_object(element, where), where)
        check_names(members, ("name", "value", "operation"), where)
        name = required(read_text(members.get("name", NULL), f"{where}.name"), f"{where}.name")
        operation = read_text(members.get("operation", NULL), f"{where}.operation") or "SET"
        if operation not in _OPERATIONS:
            raise BadRequest(f"{where}.operation must be SET or DELETE, not {shown(repr(operation))}.")
        changes.append(ConfigChange(name, read_text(members.get("value", NULL), f"{where}.value"), operation))
    return changes
