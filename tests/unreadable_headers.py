"""A record that the binding cannot produce, and whose headers it cannot read."""

from __future__ import annotations

import ctypes

from tests.librdkafka_properties import library


def produce_with_a_name_that_is_no_utf8(bootstrap: str, topic: str) -> None:
    """By librdkafka itself, past the binding, which encodes names. The numbers are those of rd_kafka_vtype_t."""
    rd = library()
    rd.rd_kafka_conf_new.restype = rd.rd_kafka_new.restype = rd.rd_kafka_headers_new.restype = ctypes.c_void_p
    pointer, size, error = ctypes.c_void_p, ctypes.c_size_t, ctypes.create_string_buffer(512)
    conf = pointer(rd.rd_kafka_conf_new())
    rd.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), error, size(512))
    client = pointer(rd.rd_kafka_new(0, conf, error, size(512)))
    headers = pointer(rd.rd_kafka_headers_new(size(1)))
    rd.rd_kafka_header_add(headers, b"X-\xff\xfe", ctypes.c_ssize_t(4), b"v", ctypes.c_ssize_t(1))
    value = b"evil"
    assert rd.rd_kafka_producev(client, 1, topic.encode(), 4, value, size(4), 7, 2, 10, headers, 0) == 0
    assert rd.rd_kafka_flush(client, 10_000) == 0
    rd.rd_kafka_destroy(client)
