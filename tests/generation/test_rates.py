"""The sliding window, by hand."""

from hypothesis import given
from hypothesis import strategies as st

from lapwing.generation._rates import Rates


def test_without_limits_nothing_waits():
    rates = Rates()
    rates.note(0.0, 10**9)
    assert rates.wait(0.0, 10**9) == 0.0


def test_the_third_of_two_requests_a_minute_waits_until_the_first_is_a_minute_old():
    rates = Rates(requests_per_minute=2)
    rates.note(0.0, 1)
    rates.note(10.0, 1)
    assert rates.wait(20.0, 1) == 40.0
    assert rates.wait(60.0, 1) == 0.0


def test_tokens_wait_until_enough_have_left_the_window():
    rates = Rates(tokens_per_minute=100)
    rates.note(0.0, 40)
    rates.note(5.0, 40)
    assert rates.wait(10.0, 20) == 0.0
    assert rates.wait(10.0, 21) == 50.0  # the first 40 must go: at 60
    assert rates.wait(10.0, 61) == 55.0  # both must go: at 65


def test_no_longer_than_it_takes_for_enough_to_leave():
    rates = Rates(tokens_per_minute=100)
    for at, tokens in ((0.0, 40), (5.0, 40), (6.0, 10)):
        rates.note(at, tokens)
    assert rates.wait(10.0, 30) == 50.0  # 20 too many; the first 40 are enough


def test_a_count_of_the_server_replaces_the_estimate():
    rates = Rates(tokens_per_minute=100)
    rates.note(0.0, 90).tokens = 10
    assert rates.wait(1.0, 90) == 0.0


def test_what_is_larger_than_the_limit_is_sent_when_the_window_is_empty():
    rates = Rates(tokens_per_minute=100)
    assert rates.wait(0.0, 1000) == 0.0
    rates.note(0.0, 1000)
    assert rates.wait(0.0, 1) == 60.0


def test_the_word_of_the_server_holds_everything():
    rates = Rates()
    rates.hold(7.0)
    rates.hold(3.0)
    assert rates.wait(5.0, 1) == 2.0


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=40), st.integers(1, 5))
def test_in_no_minute_are_more_sent_than_allowed(gaps, limit):
    rates, now, sent = Rates(requests_per_minute=limit), 0.0, []
    for gap in gaps:
        now += gap
        while (seconds := rates.wait(now, 1)) > 0:
            now += seconds
        rates.note(now, 1)
        sent.append(now)
    for first, later in zip(sent, sent[limit:], strict=False):
        assert later - first >= 60.0 - 1e-6
