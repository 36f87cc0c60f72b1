import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.shaping.tspo import tspo
from lapwing.testing import episodes


def make(rewards, found, part="answer_in_result"):
    return episodes(rewards, **{f"part:{part}": found})


def test_three_episodes_by_hand():
    # Fails when every find is paid, the last one instead of the first, or only one episode.
    batch = make([[0, 0, 0, 1], [0, 0], [2]], [[0, 1, 1, 0], [0, 0], [1]])
    np.testing.assert_array_equal(tspo(batch).reward, [0, 0.5, 0, 1, 0, 0, 2.5])
    np.testing.assert_array_equal(tspo(batch, bonus=-1.0).reward, [0, -1, 0, 1, 0, 0, 1])


def test_the_part_has_any_name():
    batch = make([[0, 0]], [[0, 3]], part="hit")
    np.testing.assert_array_equal(tspo(batch, part="hit", bonus=2.0).reward, [0, 2])


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=5))
def test_it_agrees_with_the_definition(found):
    batch = make([[0.0] * len(steps) for steps in found], [[float(hit) for hit in steps] for steps in found])
    expected = [0.5 * (hit and not any(steps[:t])) for steps in found for t, hit in enumerate(steps)]
    np.testing.assert_array_equal(tspo(batch).reward, expected)


def test_a_part_that_the_game_does_not_report_is_refused():
    with pytest.raises(MissingColumnError, match=r"tspo needs the column 'part:answer_in_result'.*rollout/play"):
        tspo(make([[0]], [[1]], part="apples"))


@pytest.mark.parametrize(("settings", "words"), [({"part": ""}, "part must name"), ({"bonus": np.inf}, "bonus")])
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        tspo(make([[0]], [[1]]), **settings)
