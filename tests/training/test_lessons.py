import numpy as np
import pytest
import torch

from lapwing import build
from lapwing.core.memory import Remembering
from lapwing.losses.entropy import entropy
from lapwing.pairing.by_return import by_return
from lapwing.preferences._adapter import over_tokens, tensors_of_tokens
from lapwing.preferences.dpo import dpo
from lapwing.testing import episodes
from lapwing.training.lessons import make_lesson
from lapwing.training.objective import Correction, Objective, Regulariser, Schedule
from lapwing.training.stage_memory import as_tensors, from_checkpoint, put_back, remembered


def stage_of(recipe, *overrides):
    plan = build.plan(build.read_recipe(recipe, overrides=["model.hidden=32", "model.heads=2", *overrides]))[-1]
    return build.make_stage(plan, build.make_workshop(plan, 0))


@pytest.fixture(scope="module")
def paired():
    return stage_of("frozen_lake_fixed_dpo", "pairs.every=false")


def test_a_lesson_of_pairs_weighs_the_tokens_of_its_episodes_alike(paired):
    batch = episodes(
        [[1.0, 0.0], [0.0], [0.5]],
        tokens_per_step=[[2, 1], [3], [1]],
        reference_logprob=[[[0, 0], [0]], [[0] * 3], [[0]]],
    )
    lesson = make_lesson(paired, batch, 0)
    assert lesson.given["chosen"].tolist() == [0]
    assert lesson.given["rejected"].tolist() == [1]
    # Fails when the third episode, which is in no pair, is trained on.
    np.testing.assert_allclose(lesson.weight, [1 / 6] * 6 + [0])
    assert lesson.episodes == 2
    assert lesson.by_token.tolist() == [0.0] * 7


def test_nothing_left_is_no_lesson(paired):
    batch = episodes([[1.0], [0.0]])
    lesson = make_lesson(paired, batch.select(np.zeros(2, dtype=bool)), 0)
    assert (lesson.episodes, len(lesson.weight)) == (0, 0)


# Fails when a regulariser beside a loss of pairs is multiplied by the number of tokens.
def test_beside_pairs_a_regulariser_is_a_mean_over_their_tokens():
    batch = episodes([[1.0], [0.0]], tokens_per_step=[[3], [2]])
    pairs = by_return(batch)
    weight = np.full(5, 1 / 5)
    bonus = Regulariser("entropy", entropy, ("token_entropy",), Schedule(0.5, 0.5))
    objective = Objective(
        over_tokens(dpo, beta=1.0), tensors_of_tokens(dpo, {"beta": 1.0}), mergeable=False, silent=False,
        regularisers=[bonus],
    )  # fmt: skip
    given = {
        "logprob": torch.tensor([-1.0, -1.0, -1.0, -2.0, -2.0]),
        "reference_logprob": torch.full((5,), -1.0),
        "token_entropy": torch.full((5,), 2.0),
        "episode_of_token": torch.tensor([0, 0, 0, 1, 1]),
        "weight": torch.from_numpy(weight),
        "chosen": torch.from_numpy(np.array(pairs.chosen)),
        "rejected": torch.from_numpy(np.array(pairs.rejected)),
        "pair_weight": torch.from_numpy(np.array(pairs.weight)),
    }
    total = (given["weight"] * objective.value(given, objective.active(0.0))).sum()
    # h = 0 − (−2) = 2: −log σ(2) − 0.5 · 2
    assert float(total) == pytest.approx(-np.log(1 / (1 + np.exp(-2.0))) - 1.0, abs=1e-6)


def test_corrections_multiply_the_loss_and_not_the_regularisers():
    half = Correction(lambda *, logprob: torch.full_like(logprob, 0.5).requires_grad_(), ("logprob",))
    bonus = Regulariser("entropy", entropy, ("token_entropy",), Schedule(1.0, 1.0))
    objective = Objective(
        lambda *, logprob: -logprob, (), mergeable=True, silent=True, corrections=[half, half], regularisers=[bonus]
    )
    given = {"logprob": torch.tensor([-4.0], requires_grad=True), "token_entropy": torch.tensor([2.0])}
    assert objective.value(given, objective.active(0.0)).tolist() == [4.0 * 0.25 - 2.0]
    assert not objective.is_silent(0.0)
    # One term that needs its whole sequence makes the whole of it so.
    whole = Correction(half.loss, half.needs, mergeable=False)
    assert not Objective(lambda *, logprob: logprob, (), mergeable=True, silent=True, corrections=[whole]).mergeable


def test_what_methods_remember_goes_through_a_checkpoint():
    stage = stage_of("frozen_lake_fixed_riskpo", "sampler.group_size=4")
    before = remembered(stage)
    assert isinstance(stage.credit, Remembering)
    batch = stage.collector.collect(stage.sampler.draw(0)).batch
    stage.credit(batch)
    after = remembered(stage)
    assert any(not np.array_equal(before.methods[0][n], after.methods[0][n]) for n in after.methods[0])
    tensors = as_tensors(after)
    put_back(stage, before)
    put_back(stage, from_checkpoint(stage, after.sampler, tensors))
    again = remembered(stage)
    for name, array in after.methods[0].items():
        np.testing.assert_array_equal(again.methods[0][name], array)
        assert again.methods[0][name].dtype == array.dtype
