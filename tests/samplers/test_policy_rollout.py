"""PolicyRollout, from its draw to what the learner recomputes."""

import numpy as np
import pytest

from lapwing import build
from lapwing.core.errors import UserError
from lapwing.core.types import Episode, Group, Guidance
from lapwing.credit.grpo import grpo
from lapwing.games.frozen_lake import FrozenLake
from lapwing.samplers.policy_rollout import PolicyRollout
from lapwing.testing import episodes

GAME = FrozenLake(map_name="4x4")
SMALL = ("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32", "sampler.group_size=8")


def sampler(**settings):
    return PolicyRollout(GAME, **{"seed": 1, "groups": 2, "group_size": 4, "text": "right down", **settings})


def test_the_second_half_of_each_group_reads_the_text():
    told = [match.guidance for match in sampler().draw(0)]
    assert told == 2 * [None, None, Guidance(hint="right down", strip=True), Guidance(hint="right down", strip=True)]


def test_without_a_text_it_is_the_way_that_an_expert_goes():
    whole, half = (sampler(text="", share=share).draw(0)[-1].guidance.hint.split() for share in (1.0, 0.5))
    assert len(whole) == 6
    assert half == whole[:3]
    # Nobody crosses in five steps: there is nothing to tell.
    assert {match.guidance for match in sampler(text="", max_steps=5).draw(0)} == {None}


def test_success_with_and_without_the_text_is_measured_apart():
    one = sampler(groups=1)
    members = one.draw(0)
    won = (False, False, True, False)
    one.review(Group.of(0, [Episode(m, 0, [], True, False, success=w) for m, w in zip(members, won, strict=True)]))
    assert one.metrics() == {"sampler/unfiltered_success": 0.0, "sampler/hinted_success": 0.5}
    one.draw(1)
    assert one.metrics() == {}


# B.41: rewards [0, 0 | 1, 1] → advantages [−, −, +, +], over all 2G.
def test_the_group_is_both_halves():
    advantage = grpo(episodes([[0.0], [0.0], [1.0], [1.0]]))
    assert np.sign(advantage).tolist() == [-1.0, -1.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def stage():
    read = build.read_recipe("frozen_lake_fixed_policy_rollout", overrides=[*SMALL, "iterations=1"])
    plan = build.plan(read)[-1]
    return build.make_stage(plan, build.make_workshop(plan, read.seed))


# B.41: stored contexts never hold the text; sampler_logprob is not what the learner recomputes on them.
def test_what_is_stored_is_without_the_text_and_the_trainer_recomputes(stage):
    matches = stage.sampler.draw(0)
    rollout = stage.collector.collect(matches)
    batch, tokenizer = rollout.batch, stage.policy.tokenizer
    hint = matches[-1].guidance.hint
    contexts = [tokenizer.decode(batch.context(n)) for n in range(batch.num_steps)]
    assert not any(hint in text for text in contexts)
    half = np.array([match.guidance is not None for match in matches])
    assert half.sum() == 4
    # Equal views have equal contexts, whoever was told what.
    keys = batch.column("context_key")
    assert len(set(zip(batch.view_key.tolist(), keys.tolist(), strict=True))) == len(set(keys.tolist()))
    told = half[batch.episode_of_step][batch.step_of_token]
    recomputed = stage.make_learner()._with_behavior(batch).behavior_logprob
    gap = np.abs(recomputed - batch.sampler_logprob)
    assert gap[~told].max() < 1e-5
    assert gap[told].max() > 1e-3


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"group_size": 5}, "sampler.group_size is even"),
        ({"share": 0.0}, "sampler.share is a share"),
        ({"text": "", "expert": "best"}, "There is no sampler.expert 'best'"),
    ],
)
def test_impossible_settings_are_refused(setting, sentence):
    with pytest.raises(UserError, match=sentence):
        sampler(**setting)
