"""Configuration keys of the Atmosphere binding (atmosphere-binding.md §5.2)."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

ATMOSPHERE: tuple[ConfigKey, ...] = section(
    "Atmosphere",
    ConfigKey(
        name="de.elakito.kafka.atmosphere.disabled",
        type="bool",
        default=False,
        doc="Switch the Atmosphere binding off; also KAFKAREST_OPTS=-Dde.elakito.kafka.atmosphere.disabled=true.",
    ),
    ConfigKey(
        name="atmosphere.simple-rest.protocol.detached",
        type="enum",
        default="false",
        choices=("true", "false", "lf"),
        doc="Form of replies in envelopes: content behind the head (true), as its member data (false), or behind a line"
        " feed (lf); when it is not set, the form of the request.",
        shipped="true",
    ),
    ConfigKey(
        name="org.atmosphere.useWebSocket", type="bool", default=True, doc="Whether WebSocket upgrades are accepted."
    ),
    ConfigKey(
        name="org.atmosphere.websocket.bufferSize",
        type="int",
        default=4096,
        unit="bytes",
        minimum=1,
        optional=True,
        doc="Accepted, no effect.",
        ignored="sockets are read in pieces as they come",
    ),
    ConfigKey(
        name="org.atmosphere.websocket.maxTextMessageSize",
        type="int",
        default=65536,
        unit="bytes",
        optional=True,
        doc="Longest text message of a client; negative: no limit.",
    ),
    ConfigKey(
        name="org.atmosphere.websocket.maxBinaryMessageSize",
        type="int",
        default=65536,
        unit="bytes",
        optional=True,
        doc="Longest binary message of a client; negative: no limit.",
    ),
    ConfigKey(
        name="org.atmosphere.websocket.maxIdleTime",
        type="duration",
        default=300000,
        unit="ms",
        minimum=1,
        optional=True,
        doc="A socket without traffic is closed after this time, with code 1001.",
    ),
    ConfigKey(
        name="org.atmosphere.websocket.writeTimeout",
        type="duration",
        default=60000,
        unit="ms",
        minimum=1,
        optional=True,
        doc="A socket whose client accepts nothing for this long is closed.",
    ),
    ConfigKey(
        name="org.atmosphere.websocket.binaryWrite",
        type="bool",
        default=False,
        doc="Send binary instead of text messages.",
    ),
    ConfigKey(
        name="org.atmosphere.interceptor.HeartbeatInterceptor.heartbeatFrequencyInSeconds",
        type="int",
        default=60,
        unit="s",
        doc="Interval of the heartbeats to clients; 0 or less: none.",
    ),
    ConfigKey(
        name="org.atmosphere.interceptor.HeartbeatInterceptor.clientHeartbeatFrequencyInSeconds",
        type="int",
        default=0,
        unit="s",
        doc="Interval of the heartbeats that clients are asked for; 0 or less: none.",
    ),
    ConfigKey(
        name="org.atmosphere.interceptor.HeartbeatInterceptor.paddingChar",
        default="X",
        doc="What a heartbeat consists of.",
    ),
    ConfigKey(
        name="org.atmosphere.client.TrackMessageSizeInterceptor.delimiter",
        default="|",
        doc="What stands between the length of a message and the message.",
    ),
)
