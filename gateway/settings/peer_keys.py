"""The keys of the connections between nodes (cluster.md §3, §9)."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

PEERS = section(
    "Connections between nodes",
    ConfigKey(
        name="cluster.peer.listener",
        default="",
        doc="Where this node listens for the other nodes: tls://HOST:PORT or tcp://HOST:PORT; worker i on PORT + i.",
        example="tls://10.0.0.5:7885",
    ),
    ConfigKey(
        name="cluster.peer.advertised",
        default="",
        doc="What the other nodes are told of it, in the same form; empty: cluster.peer.listener.",
        example="tls://gw-1.example.org:7885",
    ),
    ConfigKey(
        name="cluster.peer.tls.cert",
        type="file",
        doc="PEM file with this node's certificate and those between it and the authority. It names the host of"
        " cluster.peer.advertised, and serves for both ends of a connection.",
    ),
    ConfigKey(name="cluster.peer.tls.key", type="file", doc="PEM file with its private key, without a password."),
    ConfigKey(
        name="cluster.peer.tls.ca",
        type="file",
        doc="PEM file with the authorities whose certificates are believed of other nodes.",
    ),
    ConfigKey(
        name="cluster.peer.secret.file",
        type="file",
        doc="File with at least 32 bytes that all nodes have, by which they know each other, mode 0600. Required by"
        " tcp://, allowed with tls://.",
    ),
    ConfigKey(
        name="cluster.peer.connect.timeout.ms",
        type="duration",
        default=1000,
        minimum=10,
        maximum=60_000,
        unit="ms",
        doc="How long a connection to another process may take to open. So long without a byte, and it is asked for a"
        " sign of life; twice that, and the connection to another node is given up.",
    ),
    ConfigKey(
        name="cluster.peer.max.requests",
        type="int",
        default=4096,
        minimum=1,
        maximum=1_000_000,
        doc="Open requests on one connection between processes; more wait at the one that asks.",
    ),
)
