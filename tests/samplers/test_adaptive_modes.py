import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rollout import Rollout
from lapwing.core.types import Guidance
from lapwing.games.frozen_lake import FrozenLake
from lapwing.rollout.play import play
from lapwing.samplers.adaptive_modes import AdaptiveModes
from lapwing.shaping.a2fm_adaptive import a2fm_adaptive

GAME = FrozenLake(map_name="4x4")
MODES = ("<action>", "<think>")


def sampler(**settings):
    return AdaptiveModes(GAME, **{"seed": 1, "groups": 1, "openings": MODES, "forced": 2, "free": 3, **settings})


# B.35: three modes, ρ = γ = 3: G = 12.
def test_the_published_group():
    one = AdaptiveModes(GAME, seed=1, groups=1)
    found = [match.guidance for match in one.draw(0)]
    assert one.group_size == len(found) == 12
    forced = [Guidance(opening=f"<{mode}>") for mode in ("instant", "reasoning", "agentic") for _ in range(3)]
    assert found == [*forced, None, None, None]


# Fails when a forced mode is taken from the script of the reply alone, or a free one from its place in the group.
def test_columns_tell_the_mode_and_who_chose_it(make_agent):
    said = iter(["<think> hm </think> <action> down </action>", "<action> down </action>", "down"])

    def reply(text, key):
        if text.endswith("<action>"):
            return "down </action>"
        return "hm </think> <action> down </action>" if text.endswith("<think>") else next(said)

    one = sampler(max_steps=1)
    rollout = Rollout.of(play(one.draw(0), {0: make_agent(reply)}))
    columns = one.columns(rollout, lambda matches: rollout)
    assert columns["mode"].tolist() == [0, 0, 1, 1, 1, 0, -1]
    assert columns["forced"].tolist() == [True] * 4 + [False] * 3
    batch = rollout.batch.with_columns(**columns)
    # B.35: easy, and all forced members succeed (p = 1): a heavy success earns nothing, a light one all.
    won = batch.with_columns(success=np.ones(7), outcome=np.ones(7))
    assert a2fm_adaptive(won).outcome.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"forced": 0}, "forced"),
        ({"free": -1}, "free"),
        ({"openings": ("<think>",)}, "openings"),
        ({"openings": ("<think>", "<think> long")}, "openings"),
        ({"openings": ("", "<think>")}, "openings"),
        ({"groups": 0}, "groups"),
    ],
)
def test_impossible_settings_are_refused_by_name(setting, name):
    with pytest.raises(UserError, match=rf"sampler\.{name} "):
        sampler(**setting)
