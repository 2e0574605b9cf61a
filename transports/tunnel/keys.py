"""Configuration keys of the tunnel for native Kafka clients (docs/tunnel.md)."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

_FRAME_MAX = 104857600

TUNNEL: tuple[ConfigKey, ...] = section(
    "Tunnel",
    ConfigKey(
        name="tunnel.enable",
        type="bool",
        default=False,
        doc="Relay Kafka's own protocol through WebSockets. Its clients are subject to the brokers' ACLs, not to the"
        " limits and lists of the REST API.",
    ),
    ConfigKey(
        name="tunnel.path",
        default="/kafka",
        doc="Path of the tunnel; a single broker is at PATH/brokers/ID, the list of them at PATH/brokers.",
    ),
    ConfigKey(
        name="tunnel.advertise.mode",
        type="enum",
        default="none",
        choices=("none", "ports", "vhost", "listeners"),
        doc="Which address of a broker clients are told that do not ask for one, as kafka-gateway tunnel does:"
        " its real one; tunnel.advertise.host and a port for each; a host name for each; a port of this gateway.",
    ),
    ConfigKey(
        name="tunnel.advertise.host",
        doc="Host that clients are told; for vhost with {node} in it, where the broker's id is put.",
        example="b{node}.kafka.example.org",
    ),
    ConfigKey(
        name="tunnel.advertise.port",
        type="int",
        default=0,
        minimum=0,
        maximum=65535,
        doc="For ports and listeners the broker's id is added to it; for vhost it is the port of all.",
    ),
    ConfigKey(
        name="tunnel.advertise.map",
        type="list",
        default=(),
        doc="Ports of single brokers, ID:PORT, where the sum will not do.",
        example="70000:9100",
    ),
    ConfigKey(
        name="tunnel.static.brokers",
        type="list",
        default=(),
        doc="Brokers by id, ID=HOST:PORT, for a cluster that tells the gateway nothing without credentials.",
        example="1=kafka-1.internal:9092,2=kafka-2.internal:9092",
    ),
    ConfigKey(
        name="tunnel.refresh.ms",
        type="duration",
        default=30000,
        unit="ms",
        minimum=100,
        doc="How often Kafka is asked for its brokers.",
    ),
    ConfigKey(
        name="tunnel.upstream.auth",
        type="enum",
        default="passthrough",
        choices=("passthrough", "inject"),
        doc="Who logs in to the brokers: the client through the tunnel, or the gateway with client.sasl.* (PLAIN or"
        " SCRAM) for clients that authentication.method has let in.",
    ),
    ConfigKey(
        name="tunnel.denied.apis",
        type="list",
        default=(),
        doc="API keys that are not relayed, besides those of brokers and controllers among themselves.",
        example="20,21",
    ),
    ConfigKey(
        name="tunnel.unknown.apis",
        type="enum",
        default="hide",
        choices=("hide", "show"),
        doc="Whether clients are told of APIs newer than this gateway, whose replies may carry real addresses.",
    ),
    ConfigKey(
        name="tunnel.clamp.fetch",
        type="bool",
        default=False,
        doc="Offer Fetch up to version 15 only. Its replies then pass piece by piece and are never held in memory;"
        " without it clients learn of a new leader a moment sooner.",
    ),
    ConfigKey(
        name="tunnel.max.connections",
        type="int",
        default=1000,
        minimum=1,
        doc="Tunnels open at a time; further ones get status 503.",
    ),
    ConfigKey(
        name="tunnel.max.connections.per.ip",
        type="int",
        default=0,
        minimum=0,
        doc="Tunnels of one client address; 0: no limit of its own.",
    ),
    ConfigKey(
        name="tunnel.max.connections.per.principal",
        type="int",
        default=0,
        minimum=0,
        doc="Tunnels of one principal; 0: no limit of its own.",
    ),
    ConfigKey(
        name="tunnel.max.handshakes.per.sec",
        type="int",
        default=0,
        minimum=0,
        doc="New tunnels in a second; further ones get status 503. 0: no limit.",
    ),
    ConfigKey(
        name="tunnel.max.request.bytes",
        type="int",
        default=_FRAME_MAX,
        minimum=1024,
        unit="bytes",
        doc="Largest request of a client (Kafka's socket.request.max.bytes).",
    ),
    ConfigKey(
        name="tunnel.max.response.bytes",
        type="int",
        default=_FRAME_MAX,
        minimum=1024,
        unit="bytes",
        doc="Largest reply of a broker.",
    ),
    ConfigKey(
        name="tunnel.max.buffered.bytes",
        type="size",
        default=256 * 1024 * 1024,
        minimum=1024 * 1024,
        unit="bytes",
        doc="Frames of 64 KiB and more that are held in memory, of all tunnels together; further ones wait.",
    ),
    ConfigKey(
        name="tunnel.connect.timeout.ms",
        type="duration",
        default=10000,
        unit="ms",
        minimum=1,
        doc="How long a connection to a broker may take; then the client gets status 504.",
    ),
    ConfigKey(
        name="tunnel.ping.interval.ms",
        type="duration",
        default=30000,
        unit="ms",
        minimum=100,
        doc="How often a client is pinged; one from which nothing comes until the next ping is cut off.",
    ),
    ConfigKey(
        name="tunnel.write.timeout.ms",
        type="duration",
        default=120000,
        unit="ms",
        minimum=100,
        doc="A client that accepts nothing for this long is cut off.",
    ),
    ConfigKey(
        name="tunnel.idle.timeout.ms",
        type="duration",
        default=660000,
        unit="ms",
        minimum=1000,
        doc="A tunnel without traffic is closed after this time; brokers do so after 600000 by themselves.",
    ),
    ConfigKey(
        name="tunnel.drain.timeout.ms",
        type="duration",
        default=3000,
        unit="ms",
        doc="How long requests in tunnels may still be answered when the gateway stops, within shutdown.graceful.ms.",
    ),
)
