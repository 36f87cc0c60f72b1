"""Learning is real: small recipes reach what they promise, on maps that they never trained on."""

import numpy as np
import pytest

import lapwing
from lapwing.core import rng
from lapwing.games.frozen_lake import FrozenLake


# Fails when the sign of the loss is turned, or when play does not put the game's reward into what is trained on. It
# does not fail without the group baseline: two arms are learnt all the same, only the tests of `grpo` notice.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bandit_tiny", "bandit_tiny_all", "bandit_tiny_uniform"])
def test_the_bandit_finds_the_best_arm(name, tmp_path):
    run = lapwing.train(name, run=tmp_path / "run", overrides=["evaluation.episodes=500"], seed=0)
    policies = run.evaluation["policies"]
    # The best arm pays in 8 of 10 cases; half of the pulls at random pay 0.5.
    assert policies["untrained"]["success"]["high"] < 0.6
    assert policies["trained"]["success"]["mean"] > 0.72
    policy = lapwing.load(run.path)
    view = policy.game.view(policy.game.initial(np.random.default_rng(0)), 0)
    actions = [policy.act(view, seed=seed).action for seed in range(200)]
    assert actions.count("b") >= 180


# Fails when the generator goes on with distributions of old weights (`Stage.load` without `forget`), when the sign of
# the loss is turned, or when play loses the reward.
@pytest.mark.slow
def test_the_fixed_lake_is_crossed(tmp_path):
    run = lapwing.train("frozen_lake_fixed_tiny", run=tmp_path / "run", overrides=["evaluation.episodes=300"], seed=0)
    policies = run.evaluation["policies"]
    assert policies["untrained"]["success"]["high"] < 0.2
    assert policies["trained"]["success"]["mean"] >= 0.9
    assert policies["trained_greedy"]["success"]["mean"] == 1.0
    assert policies["optimal"]["success"]["mean"] == 1.0


# Fails when the table of an environment is another one's, when its rewards are lost, or when its words do not say where
# the player stands.
@pytest.mark.slow
def test_an_environment_of_gymnasium_is_solved(tmp_path):
    overrides = ["iterations=30", "evaluation.episodes=100", "evaluation.every=0"]
    run = lapwing.train("cliff_walking_tiny", run=tmp_path / "run", overrides=overrides, seed=0)
    policies = run.evaluation["policies"]
    assert policies["untrained"]["return"]["high"] < -60.0
    assert policies["trained_greedy"]["return"]["mean"] == -13.0
    assert policies["optimal"]["return"]["mean"] == -13.0
    assert policies["random"]["return"]["high"] < -500.0


def transposed(rows):
    return tuple("".join(column) for column in zip(*rows, strict=True))


def maps(split, number, size=4):
    game = FrozenLake(size=size).for_split(split)
    return {game.initial(rng.generator("map", split, i)).rows for i in range(number)}


# Fails when `split_of` hashes the map without its transpose, when `for_split` is ignored, or when two splits share a
# part: each was tried.
@pytest.mark.parametrize("size", [4, 5])
def test_no_map_nor_its_mirror_image_is_in_two_splits(size):
    found = {split: maps(split, 3000, size) for split in ("train", "development", "test")}
    assert all(len(some) > 100 for some in found.values())
    for split, some in found.items():
        mirrored = some | {transposed(rows) for rows in some}
        for other, more in found.items():
            assert other == split or not mirrored & more


# Fails when `make_stage` draws from another split.
def test_a_stage_trains_on_train_maps_and_is_evaluated_on_the_others(small):
    from lapwing import build
    from lapwing.evaluation.evaluate import evaluation_matches
    from lapwing.rollout.play import initial_state

    recipe = build.read_recipe("frozen_lake_tiny", overrides=[*small, "sampler.groups=100"])
    plans = build.plan(recipe)
    shop = build.make_workshop(plans[-1], 0)
    trained = {
        initial_state(match).rows
        for plan in plans
        for iteration in range(5)
        for match in build.make_stage(plan, shop).sampler.draw(iteration)
    }
    game = build.make_game(plans[-1].game)
    held_out = {
        initial_state(match).rows
        for split in ("development", "test")
        for match in evaluation_matches(game, split=split, seed=1_000_003, episodes=500, max_steps=20)
    }
    assert len(trained) > 100
    assert len(held_out) > 100
    assert not (trained | {transposed(rows) for rows in trained}) & held_out


def test_development_and_test_matches_have_no_map_in_common():
    assert not maps("development", 2000) & maps("test", 2000)
