"""Several ranks, here threads with a model each, make the update that one process makes."""

import threading

import numpy as np
import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.losses.entropy import entropy
from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scorer
from lapwing.training.learner import AdamW, Learner, Regulariser, Schedule

SETTINGS = {"learning_rate": 1e-3, "final_share": 1.0, "clip_norm": 0.3, "eps": 1e-3, "average": 0.5}


class Meeting:
    """Where the ranks exchange arrays; the last that comes adds them up, in the order of the ranks."""

    def __init__(self, size):
        self.given, self.size = [None] * size, size
        self.barrier = threading.Barrier(size, timeout=120)

    def rank(self, number):
        return Rank(self, number)


class Rank:
    def __init__(self, meeting, number):
        self.meeting, self.number = meeting, number

    def share(self, count):
        return slice(count * self.number // self.meeting.size, count * (self.number + 1) // self.meeting.size)

    def sum(self, numbers):
        self.meeting.given[self.number] = numbers
        self.meeting.barrier.wait()
        total = np.sum(self.meeting.given, axis=0)
        self.meeting.barrier.wait()
        return total

    def sum_gradients(self, parameters):
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = torch.from_numpy(self.sum(gradient.numpy())).float()


def together(size, work):
    """Run `work(rank)` in `size` threads; their results in the order of the ranks."""
    meeting, results = Meeting(size), [None] * size

    def run(number):
        try:
            results[number] = work(meeting.rank(number))
        except BaseException:
            meeting.barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def numbers(batch):
    random = np.random.default_rng(1)
    return random.normal(size=batch.num_tokens), random.uniform(0.01, 0.2, size=batch.num_tokens)


def neighbours(*, logprob, behavior_logprob, advantage):
    """A loss in which each token depends on all others."""
    return -(logprob - behavior_logprob).exp() * advantage + (logprob - logprob.mean()) ** 2


LOSSES = {"mergeable": (clipped_surrogate, True), "not mergeable": (neighbours, False)}


@pytest.mark.parametrize(("loss", "mergeable"), LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("size", [2, 3, 12])
@pytest.mark.parametrize("epochs", [1, 2])
def test_ranks_make_the_update_of_one_process(make_model, batch, loss, mergeable, size, epochs):
    # Fails when a rank counts its own metrics only, clips before the sum, or scores a pair that another one scores.
    # With 12 ranks some of them have no pair at all.
    advantage, weight = numbers(batch)

    # Models are made one after the other: their seed is that of the whole process.
    models = iter([make_model(seed=1) for _ in range(size + 1)])

    def learn(ranks):
        model = next(models)
        bonus = Regulariser("entropy", entropy, ("token_entropy",), Schedule(0.01, 0.01))
        learner = Learner(
            model,
            loss=loss,
            loss_needs=("behavior_logprob", "advantage"),
            mergeable=mergeable,
            regularisers=[bonus],
            optimizer=AdamW(**SETTINGS, epochs=epochs),
            seed=0,
            row_tokens=12,
            batch_tokens=24,
            ranks=ranks,
        )
        metrics = [learner.update(batch, advantage, weight) for _ in range(2)]
        return torch.cat([p.detach().reshape(-1) for p in model.parameters()]), metrics

    alone, expected = learn(None)
    found = together(size, learn)
    for weights, metrics in found:
        torch.testing.assert_close(weights, alone, atol=1e-5, rtol=0)
        for some, others in zip(metrics, expected, strict=True):
            # Each rank packs its own pairs.
            some["update/padding_share"] = others["update/padding_share"]
            assert some == pytest.approx(others, rel=1e-6, abs=1e-5)
        assert torch.equal(weights, found[0][0])


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(make_model, batch):
    # Fails when only the rank with the broken token keeps its weights.
    advantage, weight = numbers(batch)
    advantage[0] = 12345.0

    def broken(**given):
        return torch.where(given["advantage"] == 12345.0, np.nan, clipped_surrogate(**given))

    models = iter([make_model(seed=1) for _ in range(2)])

    def learn(ranks):
        learner = Learner(
            next(models),
            loss=broken,
            loss_needs=("behavior_logprob", "advantage"),
            seed=0,
            ranks=ranks,
        )
        metrics = learner.update(batch, advantage, weight)
        return learner.version, metrics["update/nonfinite"], learner.fault

    results = together(2, learn)
    assert [result[:2] for result in results] == [(0, 1.0), (0, 1.0)]
    assert sorted(fault.split(" (")[0] for _, _, fault in results)[0].startswith("the loss is not finite")
    assert any("number 0 of the batch" in fault for _, _, fault in results)


# F41. Fails when a rank whose own moments are fine steps alone.
def test_a_moment_that_is_not_finite_on_one_rank_stops_all(make_model, batch):
    advantage, weight = numbers(batch)
    models = iter([make_model(seed=1) for _ in range(2)])
    spoilt = iter([True, False])

    def learn(ranks):
        learner = Learner(
            next(models),
            loss=clipped_surrogate,
            loss_needs=("behavior_logprob", "advantage"),
            seed=0,
            ranks=ranks,
        )
        learner.update(batch, advantage, weight)
        if next(spoilt):
            next(iter(learner.optimizer.state.values()))["exp_avg"].view(-1)[0] = np.nan
        learner.update(batch, advantage, weight)
        return learner.version, learner.fault

    results = sorted(together(2, learn))
    assert [version for version, _ in results] == [1, 1]
    assert "exp_avg" in results[0][1] + results[1][1]
    assert "another rank" in results[0][1] + results[1][1]


def test_ranks_score_what_one_process_scores(model, batch):
    steps = np.arange(batch.num_steps)
    alone = DistinctReplies(batch, steps).score(Scorer(model), want=("logprob", "entropy"))

    def score(ranks):
        return DistinctReplies(batch, steps, ranks=ranks).score(Scorer(model), want=("logprob", "entropy"))

    for found in together(3, score):
        for name, column in alone.items():
            np.testing.assert_allclose(found[name], column, atol=1e-6)


def test_a_bound_below_one_is_refused(make_model):
    with pytest.raises(UserError, match=r"max_ratio .* at least 1.* 0\.5"):
        Learner(make_model(), loss=clipped_surrogate, seed=0, max_ratio=0.5)
