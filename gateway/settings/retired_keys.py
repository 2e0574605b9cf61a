"""Keys of the Confluent REST Proxy that are refused here, with what to do instead, and those that have no effect."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

_INSTANCE_THREAD = "every consumer instance has a worker of its own"
_NO_JVM = "it belonged to the Java server"
_NO_JETTY = "there are no server threads; see connections.max and requests.max"


def _ignored(reason: str, *names: str) -> tuple[ConfigKey, ...]:
    return tuple(
        ConfigKey(name=name, doc="Accepted, no effect.", ignored=reason, per_listener=name.startswith("ssl."))
        for name in names
    )


REFUSED = section(
    "Not offered",
    ConfigKey(
        name="kafka.rest.resource.extension.class",
        doc="Java classes cannot be loaded.",
        refused="its classes may have guarded your resources; write a plugin in their place and remove the line",
    ),
    ConfigKey(
        name="csrf.prevention.enable",
        type="bool",
        default=False,
        doc="There are no CSRF tokens.",
        refused="the gateway uses no cookies, and access.control.allow.origin is for browsers; remove the line",
    ),
    ConfigKey(
        name="dos.filter.enabled",
        type="bool",
        default=False,
        doc="There is no such filter.",
        refused="use rate.limit.enable, connections.max and requests.max",
    ),
    ConfigKey(
        name="proxy.protocol.enabled",
        type="bool",
        default=False,
        doc="The PROXY protocol is switched on for single listeners.",
        refused="write listener.NAME.proxy.protocol=true for each listener, and name the proxies in forwarded.trust",
    ),
    ConfigKey(
        name="ssl.client.auth",
        type="bool",
        default=False,
        doc="Old form of ssl.client.authentication.",
        refused="write ssl.client.authentication=REQUIRED",
    ),
)

WITHOUT_EFFECT = section(
    "Accepted, no effect",
    ConfigKey(
        name="zookeeper.connect",
        doc="Accepted, no effect.",
        ignored="ZooKeeper is not used; set bootstrap.servers",
        example="localhost:2181",
    ),
    *_ignored("producers need no threads", "producer.threads"),
    *_ignored(_INSTANCE_THREAD, "consumer.threads", "consumer.iterator.timeout.ms", "consumer.iterator.backoff.ms"),
    *_ignored("direct reads need no pool", "simpleconsumer.pool.size.max", "simpleconsumer.pool.timeout.ms"),
    *_ignored(
        "it has none in Confluent's proxy either; see kafka.connect.timeout.ms",
        "client.init.timeout.ms",
        "client.timeout.ms",
    ),
    *_ignored(_NO_JETTY, "thread.pool.min", "thread.pool.max", "request.queue.capacity"),
    *_ignored("answers set few headers of bounded length", "max.response.header.size"),
    *_ignored("HTTP/2 is not spoken; clients fall back to HTTP/1.1", "http2.enabled"),
    *_ignored(
        _NO_JVM,
        "metrics.jmx.prefix",
        "metric.reporters",
        "metrics.num.samples",
        "metrics.sample.window.ms",
        "metrics.tag.map",
        "org.atmosphere.cpr.AtmosphereFramework.analytics",
    ),
    *_ignored("see access.log.enable", "request.logger.name", "use.custom.request.logging"),
    *_ignored("there is one implementation of the rate limit", "rate.limit.backend"),
    *_ignored(
        "the gateway serves one cluster; see rate.limit.permits.per.sec",
        "rate.limit.per.cluster.permits.per.sec",
        "rate.limit.per.cluster.cache.expiry.ms",
    ),
    *_ignored(
        "it belongs to Java's TLS",
        "ssl.protocol",
        "ssl.provider",
        "ssl.keymanager.algorithm",
        "ssl.trustmanager.algorithm",
        "ssl.endpoint.identification.algorithm",
    ),
    *_ignored("null keys and values are stored as null", "null.request.body.always.publishes.empty.record"),
    *_ignored(
        "v3 requests have no threads and no buckets of their own to expire",
        "api.v3.produce.response.thread.pool.size",
        "api.v3.produce.rate.limit.cache.expiry.ms",
    ),
)
