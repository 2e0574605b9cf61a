"""What every route needs, written down by hand: the table that the suite goes through (security.md §3, §8)."""

from __future__ import annotations

import re
from typing import NamedTuple

VALUES = {
    "topic": "orders", "topics": "orders,second", "topic_name": "orders", "group": "g", "consumer_group_id": "g",
    "instance": "c", "partition": "0", "partition_id": "0", "cluster_id": "none", "broker_id": "1", "name": "n",
    "consumer_id": "m", "id": "x",
}  # fmt: skip
"""What stands in place of the variables of paths."""

TABLE = """
-  GET    /socket/in                                                read nothing
-  GET    /socket/out                                               read nothing
websocket-proxy        GET    /healthcheck                          open
websocket-proxy        GET    /kafka/cluster/info                   describe cluster
websocket-proxy        GET    /schemas/avro/producer/record              open
websocket-proxy        GET    /schemas/avro/producer/result              open
websocket-proxy        GET    /schemas/avro/producer/commit              open
websocket-proxy        GET    /schemas/avro/consumer/record              open
websocket-proxy        GET    /schemas/avro/consumer/commit              open
websocket-proxy-admin  GET    /admin/kafka/info                     describe cluster
websocket-proxy-admin  GET    /metrics                              read gateway:metrics
websocket-proxy-metrics GET   /metrics                              read gateway:metrics
websocket-proxy-admin  GET    /admin/client/config                  read gateway:admin
websocket-proxy-admin  DELETE /admin/client/config                  alter gateway:admin
websocket-proxy-admin  POST   /admin/client/config/consumer         alter gateway:admin
websocket-proxy-admin  GET    /admin/client/config/consumer/{id}    read gateway:admin
websocket-proxy-admin  POST   /admin/client/config/consumer/{id}    alter gateway:admin
websocket-proxy-admin  PUT    /admin/client/config/consumer/{id}    alter gateway:admin
websocket-proxy-admin  DELETE /admin/client/config/consumer/{id}    alter gateway:admin
websocket-proxy-admin  POST   /admin/client/config/producer         alter gateway:admin
websocket-proxy-admin  GET    /admin/client/config/producer/{id}    read gateway:admin
websocket-proxy-admin  POST   /admin/client/config/producer/{id}    alter gateway:admin
websocket-proxy-admin  PUT    /admin/client/config/producer/{id}    alter gateway:admin
websocket-proxy-admin  DELETE /admin/client/config/producer/{id}    alter gateway:admin
websocket-proxy-admin  GET    /admin/consumer-group/all             list
websocket-proxy-admin  GET    /admin/consumer-group/{group}/describe  describe group:g
websocket-proxy-admin  GET    /admin/consumer-group/{group}/offsets   describe group:g
websocket-proxy-admin  PUT    /admin/consumer-group/{group}/offsets/alter/{topic}  read group:g; read topic:orders
websocket-proxy-admin  DELETE /admin/consumer-group/{group}/offsets/delete/{topic} delete group:g; read topic:orders
websocket-proxy-admin  DELETE /admin/consumer-group/{group}/offsets                delete group:g
-  GET    /topics/{topics}/stream                                   read topic:orders; read topic:second
-  GET    /admin/loggers                                            read gateway:admin
-  PUT    /admin/loggers/{name}                                     alter gateway:admin
-  GET    /metrics                                                  read gateway:metrics
-  GET    /health/live                                              open
-  GET    /health/ready                                             open
-  GET    /bridges                                                  read gateway:admin
-  GET    /bridges/metrics                                          read gateway:metrics
-  POST   /write                                                    open
-  GET    /write                                                    open
-  PUT    /write                                                    open
-  PATCH  /write                                                    open
-  DELETE /write                                                    open
-  OPTIONS /write                                                   open
-  TRACE  /write                                                    open
-  GET    /console/ends                                             read gateway:console
-  GET    /console/subjects                                         read gateway:console
-  GET    /console/schema                                           read gateway:console
-  GET    /healthz                                                  open
-  GET    /readyz                                                   open
-  POST   /flasfka/{topic}                                          write topic:orders
-  GET    /flasfka/{topic}                                          read topic:orders; read group:flasfka
-  HEAD   /flasfka/{topic}                                          open
-  POST   /flasfka/{topic}/{name}                                   write topic:orders
-  GET    /flasfka/{topic}/{name}                                   read topic:orders; read group:n
-  HEAD   /flasfka/{topic}/{name}                                   open
v1 GET    /                                                         open
v1 POST   /                                                         open
v1 GET    /brokers                                                  describe cluster
v1 GET    /topics                                                   list
v1 GET    /topics/{topic}                                           describe topic:orders
v1 POST   /topics/{topic}                                           write topic:orders
v1 GET    /topics/{topic}/partitions                                describe topic:orders
v1 GET    /topics/{topic}/partitions/{partition:int}                describe topic:orders
v1 POST   /topics/{topic}/partitions/{partition:int}                write topic:orders
v1 GET    /topics/{topic}/partitions/{partition:int}/messages       read topic:orders
v1 POST   /consumers/{group}                                        read group:g
v1 GET    /consumers/{group}/instances/{instance}/topics/{topic}    read topic:orders; read group:g
v1 POST   /consumers/{group}/instances/{instance}/offsets           read group:g
v1 DELETE /consumers/{group}/instances/{instance}                   read group:g
v1 GET    /ws/consumers/{group}/instances/{instance}/topics/{topic} read topic:orders; read group:g
v1 DELETE /ws/consumers/{group}/instances/{instance}/topics/{topic} read group:g
v2 GET    /                                                         open
v2 POST   /                                                         open
v2 GET    /brokers                                                  describe cluster
v2 GET    /topics                                                   list
v2 GET    /topics/{topic}                                           describe topic:orders
v2 POST   /topics/{topic}                                           write topic:orders
v2 GET    /topics/{topic}/partitions                                describe topic:orders
v2 GET    /topics/{topic}/partitions/{partition:int}                describe topic:orders
v2 GET    /topics/{topic}/partitions/{partition:int}/offsets        describe topic:orders
v2 POST   /topics/{topic}/partitions/{partition:int}                write topic:orders
v2 POST   /consumers/{group}                                        read group:g
v2 DELETE /consumers/{group}/instances/{instance}                   read group:g
v2 POST   /consumers/{group}/instances/{instance}/subscription      read group:g
v2 GET    /consumers/{group}/instances/{instance}/subscription      read group:g
v2 DELETE /consumers/{group}/instances/{instance}/subscription      read group:g
v2 POST   /consumers/{group}/instances/{instance}/assignments       read group:g
v2 GET    /consumers/{group}/instances/{instance}/assignments       read group:g
v2 POST   /consumers/{group}/instances/{instance}/positions         read group:g
v2 POST   /consumers/{group}/instances/{instance}/positions/beginning read group:g
v2 POST   /consumers/{group}/instances/{instance}/positions/end     read group:g
v2 POST   /consumers/{group}/instances/{instance}/offsets           read group:g
v2 GET    /consumers/{group}/instances/{instance}/offsets           read group:g
v2 GET    /consumers/{group}/instances/{instance}/records           read group:g
v2 GET    /ws/consumers/{group}/instances/{instance}/records        read group:g
v2 DELETE /ws/consumers/{group}/instances/{instance}/records        read group:g
v3 GET    /v3/clusters                                              describe cluster
v3 GET    /v3/clusters/{cluster_id}                                 describe cluster
v3 GET    /v3/clusters/{cluster_id}/brokers                         describe cluster
v3 GET    /v3/clusters/{cluster_id}/brokers/{broker_id:int}         describe cluster
v3 GET    /v3/clusters/{cluster_id}/brokers/{broker_id:int}/partition-replicas describe cluster
v3 GET    /v3/clusters/{cluster_id}/brokers/-/configs               describe-configs cluster
v3 GET    /v3/clusters/{cluster_id}/brokers/{broker_id:int}/configs describe-configs cluster
v3 GET    /v3/clusters/{cluster_id}/brokers/{broker_id:int}/configs/{name} describe-configs cluster
v3 PUT    /v3/clusters/{cluster_id}/brokers/{broker_id:int}/configs/{name} alter-configs cluster
v3 DELETE /v3/clusters/{cluster_id}/brokers/{broker_id:int}/configs/{name} alter-configs cluster
v3 POST   /v3/clusters/{cluster_id}/brokers/{broker_id:int}/configs:alter  alter-configs cluster
v3 GET    /v3/clusters/{cluster_id}/broker-configs                  describe-configs cluster
v3 GET    /v3/clusters/{cluster_id}/broker-configs/{name}           describe-configs cluster
v3 PUT    /v3/clusters/{cluster_id}/broker-configs/{name}           alter-configs cluster
v3 DELETE /v3/clusters/{cluster_id}/broker-configs/{name}           alter-configs cluster
v3 POST   /v3/clusters/{cluster_id}/broker-configs:alter            alter-configs cluster
v3 GET    /v3/clusters/{cluster_id}/topics                          list
v3 POST   /v3/clusters/{cluster_id}/topics                          read nothing
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}             describe topic:orders
v3 PATCH  /v3/clusters/{cluster_id}/topics/{topic_name}             alter topic:orders
v3 DELETE /v3/clusters/{cluster_id}/topics/{topic_name}             delete topic:orders
v3 GET    /v3/clusters/{cluster_id}/topics/-/configs                list
v3 POST   /v3/clusters/{cluster_id}/topics/-/configs:alter          read nothing
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/configs     describe-configs topic:orders
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/configs/{name} describe-configs topic:orders
v3 PUT    /v3/clusters/{cluster_id}/topics/{topic_name}/configs/{name} alter-configs topic:orders
v3 DELETE /v3/clusters/{cluster_id}/topics/{topic_name}/configs/{name} alter-configs topic:orders
v3 POST   /v3/clusters/{cluster_id}/topics/{topic_name}/configs:alter alter-configs topic:orders
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/partitions  describe topic:orders
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id:int} describe topic:orders
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id:int}/offset describe topic:orders
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id:int}/replicas describe topic:orders
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id:int}/replicas/{broker_id:int} describe topic:orders
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id:int}/reassignment describe cluster
v3 GET    /v3/clusters/{cluster_id}/topics/{topic_name}/partitions/-/reassignment describe cluster
v3 GET    /v3/clusters/{cluster_id}/topics/-/partitions/-/reassignment describe cluster
v3 GET    /v3/clusters/{cluster_id}/acls                            describe cluster
v3 POST   /v3/clusters/{cluster_id}/acls                            alter cluster
v3 DELETE /v3/clusters/{cluster_id}/acls                            alter cluster
v3 POST   /v3/clusters/{cluster_id}/acls:batch                      alter cluster
v3 GET    /v3/clusters/{cluster_id}/consumer-groups                 list
v3 GET    /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id} describe group:g
v3 GET    /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/consumers describe group:g
v3 GET    /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/consumers/{consumer_id} describe group:g
v3 GET    /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/consumers/{consumer_id}/assignments describe group:g
v3 GET    /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/consumers/{consumer_id}/assignments/{topic_name}/partitions/{partition_id:int} describe group:g; describe topic:orders
v3 GET    /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/lags describe group:g
v3 GET    /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/lags/{topic_name}/partitions/{partition_id:int} describe group:g; describe topic:orders
v3 GET    /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/lag-summary describe group:g
v3 POST   /v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/offsets:reset alter group:g
v3 POST   /v3/clusters/{cluster_id}/topics/{topic_name}/records     write topic:orders
v3 POST   /v3/clusters/{cluster_id}/topics/{topic_name}/records:batch write topic:orders
"""  # noqa: E501
"""Generation or area, method, template, and what a request needs that has no names in its body.

``open``: nothing. ``list``: nothing either, it shows what may be described. ``read nothing``: its names stand in the
query or the body, and tests of their own look at it.
"""

SERVED = {
    "console.page": "read gateway:console",
    "console.clients": "read gateway:console",
    "console.start": "open",
    "docs.page": "read gateway:docs",
    "docs.openapi": "read gateway:docs",
    "docs.asyncapi": "read gateway:docs",
    "tunnel.open": "read gateway:tunnel",
    "tunnel.brokers": "read gateway:tunnel",
    "socket.in.produce": "",  # the messages of a socket whose opening was judged
    "socket.out.commit": "",
}
"""What transports serve by themselves (`gateway.transport.Transport.resources`)."""


class Row(NamedTuple):
    kind: str
    """v1, v2, v3, an area, or ``-``."""
    method: str
    template: str
    needs: tuple[str, ...]
    """``OPERATION RESOURCE[:NAME]``"""
    word: str
    """Its last column."""

    @property
    def path(self) -> str:
        return re.sub(r"\{(\w+)(:int)?\}", lambda match: VALUES[match[1]], self.template)

    def __str__(self) -> str:
        return f"{self.kind} {self.method} {self.template}"


def _rows() -> list[Row]:
    found = []
    for line in TABLE.strip().splitlines():
        kind, method, template, word = line.split(None, 3)
        needs = () if word in ("open", "list", "read nothing") else tuple(word.split("; "))
        found.append(Row(kind, method, template, needs, word))
    return found


ROWS = _rows()
