"""The built-in configuration keys, section by section.

Names and defaults of the Confluent REST Proxy and of its Atmosphere fork are kept (kafka-rest-http.md section 9,
atmosphere-binding.md section 5.2); the rest is the gateway's own. ``etc/kafka-rest.properties`` and
``docs/configuration.md`` are generated from this table: ``python -m kafka_gateway.commands.reference``. What belongs to
one protocol stands in that protocol's folder and comes through its plugin.

Write the ``doc`` as one line without the unit and without the default, both are added to it.
"""

from __future__ import annotations

from kafka_gateway.addresses import read_servers
from kafka_gateway.config import ConfigKey, section
from kafka_gateway.registry.keys import REGISTRY_KEYS
from kafka_gateway.settings.api_keys import APIS, CONSUME, PRODUCE
from kafka_gateway.settings.authentication_keys import AUTHENTICATION, MTLS, OPENID
from kafka_gateway.settings.authorization_keys import AUDIT, AUTHORIZATION, QUOTAS
from kafka_gateway.settings.credential_keys import CREDENTIALS
from kafka_gateway.settings.page_keys import CORS
from kafka_gateway.settings.peer_keys import PEERS
from kafka_gateway.settings.retired_keys import REFUSED, WITHOUT_EFFECT
from kafka_gateway.settings.tls_keys import TLS
from kafka_gateway.settings.worker_keys import WORKERS

_MIB = 1024 * 1024


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _judge_level(logger: str, text: str) -> str:
    return "" if text.upper() in _LEVELS else f"{text[:40]!r} is not one of {', '.join(_LEVELS)}"


KAFKA = section(
    "Kafka",
    ConfigKey(
        name="bootstrap.servers",
        type="list",
        default=(),
        doc="Kafka brokers to begin with, HOST:PORT; none: the Kafka embedded in the gateway, for trying it out.",
        reads=read_servers,
        example="localhost:9092",
    ),
    ConfigKey(
        name="kafka.connect.timeout.ms",
        type="duration",
        default=5000,
        unit="ms",
        minimum=1,
        maximum=300000,
        doc="How long each step of --check waits for an answer of Kafka, and a readiness probe, 1500 at most.",
    ),
    ConfigKey(
        name="auto.create.topics.enable",
        type="bool",
        default=True,
        doc="Whether a produce to an unknown topic asks the broker to create it; otherwise the answer is 404.",
    ),
    ConfigKey(
        name="topics.internal.allow",
        type="bool",
        default=False,
        doc="Whether records of topics whose name begins with __ can be read and written.",
    ),
    ConfigKey(
        name="embedded.enable",
        type="enum",
        default="auto",
        choices=("auto", "true", "false"),
        doc="Whether the embedded Kafka serves without bootstrap.servers. auto: unless that is given, but empty, or"
        " there is authentication, TLS, SASL or a listener beyond this machine.",
    ),
    ConfigKey(
        name="embedded.topics",
        type="list",
        default=(),
        doc="Topics that the embedded Kafka has from the start, of 4 partitions; others appear when first used.",
    ),
    ConfigKey(
        name="client.",
        prefix=True,
        example="socket.keepalive.enable=true",
        doc="Passed without the prefix to every Kafka client: client.security.protocol=SASL_SSL.",
    ),
    ConfigKey(
        name="producer.",
        prefix=True,
        example="compression.type=lz4",
        doc="Passed to the producers; beats client. and the keys below Produce.",
    ),
    ConfigKey(
        name="consumer.",
        prefix=True,
        example="isolation.level=read_committed",
        doc="Passed to the consumers; beats client. and the keys below Consume.",
    ),
    ConfigKey(
        name="admin.", prefix=True, example="socket.timeout.ms=60000", doc="Passed to the admin client; beats client."
    ),
)

LISTENERS = section(
    "Listeners",
    ConfigKey(
        name="listeners",
        type="list",
        default=(),
        doc="Addresses to listen on: http://HOST:PORT, https://HOST:PORT, unix:/PATH; empty: http://127.0.0.1:<port>,"
        " with authentication http://0.0.0.0:<port>.",
        example="http://127.0.0.1:8082",
    ),
    ConfigKey(
        name="admin.listeners",
        type="list",
        default=(),
        doc="Addresses for operators, as in listeners: metrics, health, /admin/… answer there, and nowhere else. None: "
        "health answers on all listeners, the others where all of them are on this machine.",
        example="http://127.0.0.1:9082",
    ),
    ConfigKey(
        name="forwarded.trust",
        type="list",
        default=(),
        doc="Networks of proxies in front that are believed who their clients are: 10.0.0.0/8, ::1, unix "
        "(X-Forwarded-For, -Proto, -Host, Forwarded, PROXY protocol).",
    ),
    ConfigKey(
        name="listener.<name>.proxy.protocol",
        type="bool",
        default=False,
        doc="Whether the proxies of forwarded.trust begin each connection to that listener with the PROXY protocol, "
        "version 1 or 2; nobody else is let in, and X-Forwarded-… and Forwarded are not read there.",
    ),
    ConfigKey(
        name="listeners.insecure",
        type="bool",
        default=False,
        per_listener=True,
        doc="Allow a listener that other machines can reach although authentication.method is NONE.",
    ),
    ConfigKey(
        name="listener.protocol.map",
        type="list",
        default=(),
        doc="Listener names and what they speak: INTERNAL:http,PUBLIC:https.",
    ),
    ConfigKey(
        name="transports",
        type="list",
        default=(),
        per_listener=True,
        doc="Transports that the listeners offer, by name; empty: all but those that must be named.",
    ),
    ConfigKey(
        name="port", type="int", default=8082, minimum=0, maximum=65535, doc="Port where listeners is empty; 0: any."
    ),
    ConfigKey(name="host.name", doc="Host in the URLs of answers; empty: the host of the request."),
    ConfigKey(
        name="advertised.listeners",
        type="list",
        default=(),
        doc="Addresses in the URLs of answers, the first with the scheme of the request; they beat host.name.",
    ),
)

HTTP = section(
    "HTTP server",
    ConfigKey(
        name="memory.max.bytes",
        type="size",
        default=0,
        unit="bytes",
        doc="What clients may make the gateway hold together: unfinished heads, bodies and messages, replies and "
        "streams that are not read. 0: half of the container's or machine's, at most 2 GiB.",
    ),
    ConfigKey(
        name="request.max.bytes",
        type="size",
        default=16 * _MIB,
        unit="bytes",
        minimum=1,
        doc="Longest request body as sent.",
    ),
    ConfigKey(
        name="request.decompressed.max.bytes",
        type="size",
        default=16 * _MIB,
        unit="bytes",
        minimum=1,
        doc="Longest request body after decompression.",
    ),
    ConfigKey(
        name="max.request.header.size",
        type="int",
        default=8192,
        unit="bytes",
        minimum=1,
        maximum=_MIB,
        doc="Longest request line, and longest header field.",
    ),
    ConfigKey(
        name="request.head.max.bytes",
        type="size",
        default=0,
        unit="bytes",
        doc="Longest head of a request: its line and all its header fields. 0: eight times max.request.header.size.",
    ),
    ConfigKey(
        name="request.header.timeout.ms",
        type="duration",
        default=10000,
        unit="ms",
        minimum=1,
        doc="A connection must send the head of its request within this time.",
    ),
    ConfigKey(
        name="request.body.timeout.ms",
        type="duration",
        default=30000,
        unit="ms",
        minimum=1,
        doc="A request body must be complete within this time, or go on coming at request.body.min.rate.",
    ),
    ConfigKey(
        name="request.body.min.rate",
        type="size",
        default=1024,
        unit="bytes/s",
        doc="Rate of the last 10 s at which a request body may take longer than request.body.timeout.ms; 0: it "
        "never may. Silence ends it, however much came before.",
    ),
    ConfigKey(
        name="request.timeout.ms",
        type="duration",
        default=0,
        unit="ms",
        doc="Longest duration of a request that is no stream; 0: no limit.",
    ),
    ConfigKey(
        name="idle.timeout.ms",
        type="duration",
        default=30000,
        unit="ms",
        minimum=1,
        doc="A connection without a request is closed after this time.",
    ),
    ConfigKey(
        name="connections.max",
        type="int",
        default=10000,
        minimum=1,
        doc="Most connections at a time, those that have not begun TLS or the PROXY protocol included.",
    ),
    ConfigKey(
        name="requests.max",
        type="int",
        default=0,
        minimum=0,
        doc="Most requests at work at a time; more are answered 503. 0: no limit.",
    ),
    ConfigKey(name="compression.enable", type="bool", default=True, doc="Compress answers for clients that accept it."),
    ConfigKey(
        name="shutdown.graceful.ms",
        type="duration",
        default=5000,
        unit="ms",
        doc="Time for requests at work to end when the gateway stops.",
    ),
    ConfigKey(
        name="response.http.headers.config",
        doc="Headers to put on every answer: add X-Frame-Options: DENY, set Cache-Control: no-store.",
    ),
    ConfigKey(
        name="reject.options.request",
        type="bool",
        default=False,
        doc="Answer OPTIONS with 405, except in CORS.",
    ),
    ConfigKey(
        name="websocket.path.prefix",
        default="/ws",
        doc="Path below which resources are offered to sockets.",
    ),
)

RATE_LIMIT = section(
    "Rate limit",
    ConfigKey(
        name="rate.limit.enable",
        type="bool",
        default=False,
        doc="Limit the rate of requests; what exceeds it is answered 429.",
    ),
    ConfigKey(
        name="rate.limit.permits.per.sec",
        type="int",
        default=50,
        unit="permits/s",
        minimum=1,
        doc="Permits for all requests together.",
    ),
    ConfigKey(
        name="rate.limit.timeout.ms",
        type="duration",
        default=0,
        unit="ms",
        doc="How long a request waits for its permits before it is refused.",
    ),
    ConfigKey(name="rate.limit.default.cost", type="int", default=1, minimum=0, doc="Permits that a request costs."),
    ConfigKey(
        name="rate.limit.costs",
        type="list",
        default=(),
        doc="Costs of resources, by name: api.v2.produce-to-topic=2,api.v2.topics.*=1.",
    ),
    live=True,
)

TRANSPORTS = section(
    "Transports and plugins",
    ConfigKey(
        name="transport.<name>.enable",
        type="bool",
        default=True,
        doc="Offer the transport of this name.",
    ),
    ConfigKey(
        name="transport.websocket.requests.max",
        type="int",
        default=256,
        minimum=1,
        doc="Requests at work on one socket; when there are so many, no more are read from it.",
    ),
    ConfigKey(
        name="transport.websocket.sequences.max",
        type="int",
        default=64,
        minimum=1,
        doc="Requests on one socket that were begun with continue and are not complete.",
    ),
    ConfigKey(
        name="transport.websocket.sequence.timeout.ms",
        type="duration",
        default=300000,
        unit="ms",
        minimum=1,
        doc="A request that was begun with continue is given up when no further part comes for this time.",
    ),
    ConfigKey(
        name="transport.websocket.reply.max.size",
        type="int",
        default=65536,
        unit="characters",
        minimum=4096,
        doc="Longest message of the gateway; longer replies go in several messages.",
    ),
    ConfigKey(
        name="transport.websocket.ping.interval.ms",
        type="duration",
        default=60000,
        unit="ms",
        doc="Interval of pings; a client of which nothing is heard until the next one is cut off. 0: no pings.",
    ),
    ConfigKey(
        name="transport.websocket.compression.enable",
        type="bool",
        default=False,
        doc="Offer permessage-deflate to sockets; it takes 300 KiB of memory for each that uses it.",
    ),
    ConfigKey(
        name="transport.long-polling.queue.max.messages",
        type="int",
        default=1000,
        minimum=1,
        doc="Messages that may wait for the next poll of a client; with more to come its connection is ended.",
    ),
    ConfigKey(
        name="transport.long-polling.queue.max.bytes",
        type="int",
        default=16777216,
        unit="bytes",
        minimum=1,
        doc="Bytes of messages that may wait for the next poll of a client; with more to come its connection is ended.",
    ),
    ConfigKey(
        name="transport.long-polling.expiry.ms",
        type="duration",
        default=60000,
        unit="ms",
        minimum=1,
        doc="A client that does not poll again for this time is taken for gone.",
    ),
    ConfigKey(name="plugins.disable", type="list", default=(), doc="Plugins to leave out, by name."),
    ConfigKey(
        name="plugins.installed",
        type="bool",
        default=True,
        doc="Whether installed plugins of other distributions are loaded; false: the built-in ones only.",
    ),
)

OPERATION = section(
    "Operation",
    ConfigKey(
        name="console.enabled",
        type="enum",
        default="auto",
        choices=("auto", "true", "false"),
        doc="Whether the console page is served at /console; auto: with the embedded Kafka.",
    ),
    ConfigKey(
        name="console.admins",
        type="list",
        default=(),
        doc="Principals whom the console page shows all clients; to others it shows those of their own name.",
    ),
    ConfigKey(name="access.log.enable", live=True, type="bool", default=True, doc="Log one line for every request."),
    ConfigKey(
        name="log.level",
        live=True,
        type="enum",
        default="INFO",
        choices=_LEVELS,
        doc="Least severity that is logged.",
    ),
    ConfigKey(
        name="log.level.",
        live=True,
        prefix=True,
        judges=_judge_level,
        example="gateway.access=WARNING",
        doc="The same for one logger: log.level.gateway.kafka=DEBUG.",
    ),
    ConfigKey(name="log.format", type="enum", default="text", choices=("text", "json"), doc="Form of the log lines."),
    ConfigKey(
        name="log.file",
        doc="The file that the log goes to, opened again on SIGHUP; empty: standard error.",
    ),
    ConfigKey(
        name="errors.help",
        live=True,
        type="bool",
        default=True,
        doc="Whether errors of the REST API have the members help and request_id beside the two of Confluent's proxy.",
    ),
    ConfigKey(
        name="health.enable", type="bool", default=True, doc="Serve the liveness and readiness probes of orchestrators."
    ),
)

CORE_KEYS: tuple[ConfigKey, ...] = (
    *KAFKA,
    *APIS,
    *PRODUCE,
    *CONSUME,
    *LISTENERS,
    *WORKERS,
    *PEERS,
    *TLS,
    *HTTP,
    *CORS,
    *AUTHENTICATION,
    *MTLS,
    *OPENID,
    *CREDENTIALS,
    *AUTHORIZATION,
    *QUOTAS,
    *AUDIT,
    *REGISTRY_KEYS,
    *RATE_LIMIT,
    *TRANSPORTS,
    *OPERATION,
    *REFUSED,
    *WITHOUT_EFFECT,
)
"""The keys that belong to no single protocol."""
