"""Every match that is given out ends in one way, and once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.rollout.ledger import Ledger


def test_by_hand():
    ledger = Ledger()
    first, second, third, fourth = (ledger.issue(n) for n in (4, 3, 2, 1))
    assert ledger.finish(first, matches=4, episodes=3, dropped=1)
    assert not ledger.finish(first, matches=4, episodes=4, dropped=0)
    ledger.fail(second)
    ledger.fail(first)  # it was answered
    assert ledger.discard(third, episodes=0) == 2
    assert ledger.discard(first, episodes=3) == 3
    assert ledger.is_open(fourth)
    ledger.audit()
    assert (ledger.issued, ledger.finished, ledger.failed, ledger.dropped, ledger.duplicates) == (10, 0, 3, 6, 4)
    ledger.fail_all()
    assert ledger.failed == 4
    ledger.audit()


# Fails when an answer is counted twice, or a discarded task stays open.
@given(st.lists(st.tuples(st.sampled_from(["issue", "finish", "fail", "discard"]), st.integers(0, 9)), max_size=60))
def test_it_balances_after_anything(events):
    ledger = Ledger()
    sizes, played = [], {}
    for event, number in events:
        if event == "issue":
            assert ledger.issue(number + 1) == len(sizes)
            sizes.append(number + 1)
        elif number < len(sizes):
            if event == "finish" and ledger.finish(number, matches=sizes[number], episodes=sizes[number], dropped=0):
                played[number] = sizes[number]
            elif event == "fail":
                ledger.fail(number)
            elif event == "discard":
                ledger.discard(number, episodes=played.pop(number, 0))
        ledger.audit()
    assert ledger.finished == sum(played.values())
    assert ledger.issued == sum(sizes)


def test_what_does_not_add_up_is_refused():
    ledger = Ledger()
    task = ledger.issue(3)
    with pytest.raises(LapwingError, match="Task 0 holds 3 matches, but 2 were played and 0 given up"):
        ledger.finish(task, matches=3, episodes=2, dropped=0)
    ledger.finished = 1
    with pytest.raises(LapwingError, match="3 matches were issued, 1 finished, 0 failed, 0 were dropped and 3 a"):
        ledger.audit()


# Fails when a match that failed is counted as given up, or a count is taken twice.
def test_what_was_lost_is_told_once():
    ledger = Ledger()
    task = ledger.issue(7)
    assert ledger.finish(task, matches=7, episodes=4, dropped=1, failed=2)
    ledger.reissued += 3
    assert ledger.take() == {"rollout/failed": 2, "rollout/dropped": 1, "rollout/reissued": 3}
    # What was too old is dropped as well, but has a metric of its own.
    ledger.stale += ledger.discard(task, episodes=4)
    assert ledger.take() == {"rollout/failed": 0, "rollout/dropped": 0, "rollout/reissued": 0}
    ledger.finished += 1
    with pytest.raises(LapwingError, match="does not balance"):
        ledger.take()
    with pytest.raises(LapwingError, match="holds 2 matches, but 1 were played and 0 given up and 2 failed"):
        ledger.finish(ledger.issue(2), matches=2, episodes=1, dropped=0, failed=2)
