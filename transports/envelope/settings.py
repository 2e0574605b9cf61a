"""What the configuration says about envelopes."""

from __future__ import annotations

from dataclasses import dataclass

from kafka_gateway.config import Config
from kafka_gateway.transports.envelope.codec import Form

_FORMS = {"true": Form.DETACHED, "false": Form.EMBEDDED, "lf": Form.DETACHED_LF}


@dataclass(frozen=True, slots=True)
class EnvelopeSettings:
    """What the configuration says about envelopes."""

    requests_max: int
    sequences_max: int
    sequence_idle_s: float
    body_max: int
    reply_max: int
    form: Form | None
    binary: bool
    heartbeat: bytes
    generation: str
    write_timeout_s: float
    renewal_path: str
    """Where a client puts a newer proof."""

    @classmethod
    def of(cls, config: Config) -> EnvelopeSettings:
        detached = "atmosphere.simple-rest.protocol.detached"
        own_generation = config.given("api.default.generation") or not config.flag("api.v1.enable")
        return cls(
            requests_max=config.integer("transport.websocket.requests.max"),
            sequences_max=config.integer("transport.websocket.sequences.max"),
            sequence_idle_s=config.seconds("transport.websocket.sequence.timeout.ms"),
            body_max=min(config.integer("request.max.bytes"), config.integer("request.decompressed.max.bytes")),
            reply_max=config.integer("transport.websocket.reply.max.size"),
            form=_FORMS[config.text(detached)] if config.given(detached) else None,
            binary=config.flag("org.atmosphere.websocket.binaryWrite"),
            heartbeat=config.text("org.atmosphere.interceptor.HeartbeatInterceptor.paddingChar").encode(),
            # The binding was made for v1: to its clients a request without media types is one of v1
            # (atmosphere-binding.md §1.14).
            generation="" if own_generation else "v1",
            write_timeout_s=config.seconds("org.atmosphere.websocket.writeTimeout"),
            renewal_path=f"/{config.text('websocket.path.prefix').strip('/')}/session",
        )
