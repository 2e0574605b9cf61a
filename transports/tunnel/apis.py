"""What the tunnel knows of Kafka's APIs: which it relays, up to which version, and where a reply's body begins.

Numbers: Kafka's protocol guide, "API Keys" (4.1). Rules: bridges.md C-16, C5.3, C5.4.
"""

from __future__ import annotations

PRODUCE, FETCH, METADATA, FIND_COORDINATOR = 0, 1, 3, 10
SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 17, 18, 36
DESCRIBE_QUORUM, DESCRIBE_CLUSTER, SHARE_FETCH, SHARE_ACKNOWLEDGE = 55, 60, 78, 79

KNOWN = frozenset(range(93))
"""API keys that this table knows. Others are hidden by default: their replies may carry addresses."""

INTERNAL = frozenset({4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82, 83, 84, 85, 86, 87})
"""What brokers and controllers say among themselves (C-16): never relayed."""

CAPS = {
    PRODUCE: 13,
    FETCH: 18,
    METADATA: 13,
    FIND_COORDINATOR: 6,
    DESCRIBE_CLUSTER: 2,
    SHARE_FETCH: 2,
    SHARE_ACKNOWLEDGE: 2,
    DESCRIBE_QUORUM: 1,
}
"""The newest version of each API with addresses in its replies that the tunnel can rewrite (C-21)."""

FETCH_WITHOUT_ADDRESSES = 15
"""Replies of Fetch carry no addresses up to this version, so they need not be looked into (C5.4)."""

_FIRST_WITH_ADDRESSES = {
    PRODUCE: 10,
    FETCH: 16,
    METADATA: 0,
    FIND_COORDINATOR: 0,
    DESCRIBE_CLUSTER: 0,
    SHARE_FETCH: 0,
    SHARE_ACKNOWLEDGE: 0,
}


def carries_addresses(key: int, version: int) -> bool:
    """Whether the reply may hold addresses of brokers."""
    first = _FIRST_WITH_ADDRESSES.get(key)
    return first is not None and version >= first
