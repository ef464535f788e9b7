"""Bounded queues: what happens when one is full, and that closing wakes who waits."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from edge.queues import Backlog, Newest


@given(st.integers(1, 4), st.lists(st.one_of(st.integers(0, 100), st.none()), max_size=60))
def test_newest_is_bounded_and_hands_back_what_it_displaces(depth, actions):
    queue = Newest[int](depth)
    model: list[int] = []
    displaced: list[int] = []
    for action in actions:
        if action is None:
            assert queue.get(0) == (model.pop(0) if model else None)
            continue
        gone = queue.put(action)
        model.append(action)
        if len(model) > depth:
            displaced.append(model.pop(0))
            assert gone == displaced[-1]
        else:
            assert gone is None
        assert len(queue) == len(model) <= depth


def test_closing_wakes_who_waits():
    queue = Newest[int](1)
    got = []
    waiting = threading.Thread(target=lambda: got.append(queue.get(30)))
    waiting.start()
    queue.close()
    waiting.join(5)
    assert got == [None]
    queue.put(1)
    assert queue.get(30) == 1


def test_backlog_waits_for_room_and_says_when_there_was_none():
    queue = Backlog[int](2)
    assert queue.put(1, 0)
    assert queue.put(2, 0)
    assert not queue.put(3, 0.01)
    waiting = threading.Thread(target=lambda: queue.put(4, 5))
    waiting.start()
    assert queue.take(1, 1) == [1]
    waiting.join(5)
    assert queue.take(10, 1) == [2, 4]
    assert queue.take(10, 0) == []
