"""A run that is silent says what it waits for."""

import threading

from lapwing.training.clock import Clock
from lapwing.training.heartbeat import Activity, Heartbeat


def test_silence_is_broken_by_a_line_that_names_what_is_waited_for():
    # Fails when the thread asks once and for all, or says nothing.
    activity, said, second = Activity(), [], threading.Event()

    def say(text):
        said.append(text)
        if len(said) == 2:
            second.set()

    with Heartbeat(say, lambda: f"main: {activity} (2 of 3 matches)", every_seconds=0.05):
        activity.enter("play")
        assert second.wait(30)
    assert said[-1].startswith("main: play for 0 s (2 of 3 matches); no other word since 0 s")
    count = len(said)
    assert not threading.Event().wait(0.2)
    assert len(said) == count


def test_a_run_that_speaks_is_not_interrupted():
    # Fails when a beat does not count.
    said, pulse = [], threading.Event()
    with Heartbeat(said.append, str, every_seconds=30.0) as heartbeat:
        heartbeat.beat()
        pulse.wait(0.1)
    assert said == []


def test_phases_are_told_as_they_begin():
    activity = Activity()
    assert str(activity).startswith("set-up for 0 s")
    clock = Clock(activity.enter)
    with clock("update"):
        assert str(activity).startswith("update for 0 s")
    assert set(clock.seconds) == {"time/update"}
