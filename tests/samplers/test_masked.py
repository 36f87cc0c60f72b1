import pytest

from lapwing.core.errors import UserError
from lapwing.core.types import Guidance
from lapwing.games.bandit import Bandit
from lapwing.games.frozen_lake import FrozenLake
from lapwing.samplers.masked import Masked, mask_probability

GAME = FrozenLake(map_name="4x4")


# B.42: decay 100: ε(0, 25, 100, 150) = 1, .75, 0, 0.
def test_the_published_schedule():
    assert [mask_probability(t, 100) for t in (0, 25, 100, 150)] == [1.0, 0.75, 0.0, 0.0]


def test_matches_carry_the_probability_of_their_iteration_and_none_at_its_end():
    one = Masked(GAME, seed=1, groups=2, group_size=3, decay=10)
    for iteration, mask in ((0, 1.0), (4, 0.6)):
        assert {match.guidance for match in one.draw(iteration)} == {Guidance(mask=mask)}
        assert one.metrics() == {"sampler/mask": mask}
    assert {match.guidance for match in one.draw(10)} == {None}
    assert one.metrics() == {"sampler/mask": 0.0}


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match=r"sampler\.decay is at least 1 iteration, not 0"):
        Masked(GAME, seed=1, decay=0)

    class Blind(Bandit):
        heuristic = None

    with pytest.raises(UserError, match="Blind has no heuristic to mask actions by"):
        Masked(Blind(), seed=1)
