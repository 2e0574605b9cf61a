"""Which lines of librdkafka reach the log."""

from __future__ import annotations

import logging

import pytest

from kafka_gateway.kafka.clients.client_log import ClientLog

FORMAT = "%s [%s] %s"
CLIENT = "kafka-gateway#producer-1"
REPEATS = [
    ("FAIL", "[thrd:h:9092/1]: h:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms …)"),
    ("FAIL", "[thrd:h:9092/bootstrap]: h:9092/bootstrap: Failed to resolve 'h:9092': Name or service not known"),
    ("FAIL", "[thrd:h:9092/1]: h:9092/1: Disconnected (after 7002ms in state UP)"),
    ("FAIL", "[thrd:h:9092/1]: h:9092/1: 3 request(s) timed out: disconnect (after 60030ms in state UP)"),
    ("ERROR", "[thrd:app]: kafka-gateway#producer-1: 3/3 brokers are down"),
]
TELLS_MORE = [
    ("FAIL", "[thrd:sasl_plaintext://h:9092/1]: h:9092/1: SASL authentication error: Authentication failed"),
    ("FAIL", "[thrd:ssl://h:9092/1]: h:9092/1: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker?"),
    ("FAIL", "[thrd:h:9092/1]: h:9092/1: Disconnected while requesting ApiVersion: incorrect security.protocol?"),
    ("MAXPOLL", "[thrd:main]: Application maximum poll interval (300000ms) exceeded by 200ms"),
]


@pytest.mark.parametrize("away", [False, True])
def test_while_kafka_is_away(caplog: pytest.LogCaptureFixture, away: bool) -> None:
    """What says the same of each connection is at DEBUG; what may be the reason keeps its level."""
    caplog.set_level(logging.DEBUG, "gateway.test_client_log")
    for facility, text in [*REPEATS, *TELLS_MORE]:
        log = ClientLog(logging.getLogger("gateway.test_client_log"))
        log.kafka_is_away = away
        log.log(logging.ERROR, FORMAT, facility, CLIENT, text)
    first = logging.DEBUG if away else logging.ERROR
    assert [each.levelno for each in caplog.records] == [first] * len(REPEATS) + [logging.ERROR] * len(TELLS_MORE)


def test_repetitions_are_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    """They neither use up the lines of the period nor make a line about lines that were left out."""
    caplog.set_level(logging.INFO, "gateway.test_client_log")
    log = ClientLog(logging.getLogger("gateway.test_client_log"))
    log.kafka_is_away = True
    for _ in range(2 * ClientLog.LINES):
        log.log(logging.ERROR, FORMAT, REPEATS[0][0], CLIENT, REPEATS[0][1])
    log.log(logging.ERROR, FORMAT, TELLS_MORE[0][0], CLIENT, TELLS_MORE[0][1])
    log.PERIOD_S = log._period_end = 0.0
    log.log(logging.ERROR, FORMAT, TELLS_MORE[1][0], CLIENT, TELLS_MORE[1][1])
    assert [each.getMessage().split()[0] for each in caplog.records] == ["FAIL", "FAIL"]


@pytest.mark.parametrize(("away", "told"), [(True, []), (False, [2 * ClientLog.LINES])])
def test_repetitions_that_came_before_it_was_known_are_not_told_of_later(
    caplog: pytest.LogCaptureFixture, away: bool, told: list[int]
) -> None:
    caplog.set_level(logging.INFO, "gateway.test_client_log")
    log = ClientLog(logging.getLogger("gateway.test_client_log"))
    for _ in range(3 * ClientLog.LINES):
        log.log(logging.ERROR, FORMAT, REPEATS[0][0], CLIENT, REPEATS[0][1])
    log.kafka_is_away = away
    log._period_end = 0.0
    log.log(logging.ERROR, FORMAT, TELLS_MORE[0][0], CLIENT, TELLS_MORE[0][1])
    assert [each.args[0] for each in caplog.records if "left out" in each.msg] == told  # type: ignore[index]
