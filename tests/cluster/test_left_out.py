"""Who gives its slots up where processes that live do not reach each other (cluster.md §7): all come to the same."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.cluster.left_out import ToldOfItself, is_left_out

Cut = tuple[int, int]


def left_out(count: int, cuts: Iterable[Cut], ages: Collection[int] = ()) -> list[int]:
    """Which of so many processes leave, each by what it knows itself and what the others have told. ``ages``: when they
    began, the one of the lowest number first if nothing is said."""
    apart = {(one, other) for cut in cuts for one, other in (cut, cut[::-1])}
    since = list(ages) or range(1, count + 1)
    live = {
        f"gw-{one}": ToldOfItself(
            since[one], frozenset(f"gw-{other}" for other in range(count) if (one, other) in apart)
        )
        for one in range(count)
    }
    return [one for one in range(count) if is_left_out(f"gw-{one}", live, live[f"gw-{one}"].unreached)]


def between(*groups: Collection[int]) -> list[Cut]:
    """Nobody reaches anybody of another group."""
    return [cut for one, other in itertools.combinations(groups, 2) for cut in itertools.product(one, other)]


@pytest.mark.parametrize(
    ("count", "cuts", "leave"),
    [
        (1, [], []),
        (3, [], []),
        (3, between([0], [1, 2]), [0]),
        (5, between([0, 1], [2, 3, 4]), [0, 1]),
        (3, between([0], [1], [2]), []),  # as where all certificates have ended: nobody has most of them
        (5, between([0, 1], [2, 3], [4]), []),
        (3, [(0, 1)], []),  # the third one reaches both
        (5, [(0, 1), (2, 3)], []),
        (2, between([0], [1]), [1]),  # the older one stays
        (4, between([0, 1], [2, 3]), [2, 3]),
        (4, between([0], [1], [2], [3]), []),
        (5, list(itertools.combinations(range(1, 5), 2)), [1, 2, 3, 4]),  # all reach the first one alone
    ],
)
def test_who_most_do_not_reach_leaves_if_somebody_is_left(count: int, cuts: list[Cut], leave: list[int]) -> None:
    assert left_out(count, cuts) == leave


def test_of_two_the_one_that_began_earlier_stays() -> None:
    assert left_out(2, [(0, 1)], [2000, 1000]) == [0]
    assert left_out(2, [(0, 1)], [2000, 0]) == [0], "one of before, which does not say when it began"
    assert left_out(2, [(0, 1)], [1000, 1000]) == [1], "then it goes by their names"


def test_what_others_say_of_this_process_counts_less_than_what_it_knows() -> None:
    """It has been answered by them since."""
    said = ToldOfItself(1, frozenset({"me"}))
    assert not is_left_out("me", {"me": ToldOfItself(9), "a": said, "b": said}, [])
    assert is_left_out("me", {"me": ToldOfItself(9), "a": said, "b": said}, ["a", "b"])


def test_those_that_do_not_live_are_not_counted() -> None:
    live = {"me": ToldOfItself(9), "a": ToldOfItself(1, frozenset({"me", "dead", "gone"}))}
    assert is_left_out("me", live, ["a", "dead"])
    assert not is_left_out("me", live, ["dead"])


@given(st.data())
def test_somebody_stays_always_and_with_most_of_them_all_of_those(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    pairs = list(itertools.combinations(range(count), 2))
    cuts = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    ages = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    leave = left_out(count, cuts, ages)
    assert len(leave) < count
    reached = {
        one: {other for other in range(count) if not {(one, other), (other, one)} & {*cuts}} for one in range(count)
    }
    for one in range(count):
        if 2 * len(reached[one]) > count:
            assert one not in leave
        elif 2 * len(reached[one]) < count and any(2 * len(each) > count for each in reached.values()):
            assert one in leave
