"""The stack of uncommitted records (websocket-proxy.md §3.6, checklist 45), and the evenness of rates (§2.7)."""

from __future__ import annotations

from kafka_gateway.services.websocket_proxy.commit_stack import CommitStack
from kafka_gateway.services.websocket_proxy.even_rate import EvenRate
from kafka_gateway.services.websocket_proxy.ports import MessageId


class Record:
    def __init__(self, partition: int, offset: int) -> None:
        self._place = (partition, offset)

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000 + self._place[1]

    def key(self) -> None:
        return None

    value = headers = key


def place(partition: int, offset: int) -> MessageId:
    return MessageId("t", partition, offset, 1000 + offset)


def test_all_that_was_sent_can_be_committed_and_a_full_stack_says_so() -> None:
    stack = CommitStack(3)
    assert not stack.full
    stack.add([Record(number % 3, number // 3) for number in range(20)], 0.0)
    assert len(stack) == 20
    assert stack.full
    assert [stack.take(place(0, offset)) for offset in (0, 1, 6)] == [True, True, True]
    assert stack.full, "another partition is"
    assert stack.take(place(1, 4))
    assert stack.take(place(2, 3))
    assert not stack.full
    assert not stack.half_empty, "two of three"
    assert stack.take(place(1, 5))
    assert stack.take(place(2, 4))
    assert stack.half_empty
    assert len(stack) == 2


def test_a_commit_removes_what_is_older_in_its_partition_only() -> None:
    stack = CommitStack(100)
    stack.add([Record(partition, offset) for offset in range(4) for partition in (0, 1)], 0.0)
    assert stack.take(place(0, 2))
    assert len(stack) == 5
    assert not stack.take(place(0, 1))
    assert not stack.take(place(0, 2))
    assert stack.take(place(1, 0))


def test_unknown_places_change_nothing() -> None:
    stack = CommitStack(100)
    stack.add([Record(0, 0)], 0.0)
    for bogus in (MessageId("t", 0, 0, 1), MessageId("u", 0, 0, 1000), MessageId("t", 1, 0, 1000), place(0, 1)):
        assert not stack.take(bogus)
    assert len(stack) == 1


def test_a_revoked_partition_cannot_be_committed_any_more() -> None:
    stack = CommitStack(100)
    stack.add([Record(0, 0), Record(1, 0)], 0.0)
    stack.drop([("t", 0)])
    assert not stack.take(place(0, 0))
    assert stack.take(place(1, 0))


def test_what_is_old_is_taken_up_to_the_newest_of_it() -> None:
    stack = CommitStack(100)
    stack.add([Record(0, 0), Record(1, 5)], 10.0)
    stack.add([Record(0, 1)], 20.0)
    stack.add([Record(0, 2)], 30.0)
    assert stack.take_older(25.0) == [place(0, 1), place(1, 5)]
    assert stack.take_older(25.0) == []
    assert len(stack) == 1


def test_one_a_second() -> None:
    rate = EvenRate(1, 100.0)
    assert rate.available(100.0) == 1
    rate.spend(1)
    assert rate.available(100.5) == 0
    assert rate.wait_s() == 0.5
    assert rate.available(101.0) == 1
    assert rate.available(110.0) == 1  # and no more, however long nobody asked


def test_a_hundred_a_second_may_come_by_tens() -> None:
    rate = EvenRate(100, 0.0)
    sent, now = 0, 0.0
    while now < 1.0:
        count = rate.available(now)
        rate.spend(count)
        sent += count
        now += 0.005
    assert 105 <= sent <= 110
