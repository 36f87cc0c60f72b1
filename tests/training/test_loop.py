"""The loop, with parts put in by hand."""

import numpy as np
import pytest
import torch

from lapwing import build
from lapwing.core.types import Verdict
from lapwing.filters.star_po_top_p import star_po_top_p
from lapwing.training.loop import iterate


@pytest.fixture
def stage(small):
    """The main stage of a bandit of few, small groups; two iterations."""
    overrides = [change for change in small if not change.startswith("iterations")]
    recipe = build.read_recipe("bandit_tiny", overrides=[*overrides, "iterations=2"])
    plan = build.plan(recipe)[-1]
    return build.make_stage(plan, build.make_workshop(plan, recipe.seed))


def of_none_it_would_fail(batch):
    """A credit method that no batch without steps can have: the smallest reward of none is an error."""
    return batch.reward - batch.reward.min()


def nothing_is_learnt(stage):
    stage.credit = of_none_it_would_fail
    learner = stage.make_learner()
    before = [parameter.detach().clone() for parameter in learner.model.parameters()]
    rows = list(iterate(stage, learner, 0, lambda rollout: None))
    for parameter, old in zip(learner.model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    return rows


# Fails when credit is asked about a batch without episodes.
def test_filters_that_keep_nothing_skip_the_update_and_the_rest_is_logged(stage):
    stage.filters = [lambda batch: np.zeros(batch.num_episodes, dtype=bool), star_po_top_p]
    rows = nothing_is_learnt(stage)
    assert [row["iteration"] for row in rows] == [0, 1]
    for row in rows:
        assert row["update/skipped"] == 1.0
        assert row["update/count"] == 0.0
        assert row["selection/episodes"] == 0
        assert row["rollout/new_episodes"] > 0
        assert np.isfinite(row["rollout/return_mean"])


def test_so_does_a_sampler_that_accepts_no_group(stage, monkeypatch):
    monkeypatch.setattr(type(stage.sampler), "review", lambda sampler, group: Verdict(accept=False))
    assert [row["update/skipped"] for row in nothing_is_learnt(stage)] == [1.0, 1.0]


def test_a_token_level_credit_may_find_nothing_either(stage):
    stage.filters = [lambda batch: np.zeros(batch.num_episodes, dtype=bool)]
    stage.credit_level = "token"
    assert [row["update/skipped"] for row in nothing_is_learnt(stage)] == [1.0, 1.0]


def test_what_is_left_is_learnt_from(stage):
    stage.filters = [lambda batch: batch.group == batch.group[0]]
    stage.credit = of_none_it_would_fail
    (row, _) = iterate(stage, stage.make_learner(), 0, lambda rollout: None)
    assert row["update/skipped"] == 0.0
    assert 0 < row["selection/episodes"] < row["rollout/new_episodes"]


# Fails when keys and values of contexts stay on the device during the update.
def test_what_generation_keeps_is_given_back_before_the_update(stage):
    store = stage.policy.generator._memory.prefixes
    store.begin(2**20)
    learner, kept = stage.make_learner(), []
    update = learner.update

    def watched(*given, **settings):
        kept.append(store.bytes)
        return update(*given, **settings)

    learner.update = watched
    token = np.arange(9, dtype=np.int32)
    for _ in iterate(stage, learner, 0, lambda rollout: None):
        store.add(token, [(torch.zeros(2, 9, 4), torch.zeros(2, 9, 4))])
        assert store.bytes > 0
    assert kept == [0, 0]
