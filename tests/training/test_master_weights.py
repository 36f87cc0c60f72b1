"""Parameters in bfloat16 train with float32 masters; those in float32 are their own."""

import numpy as np
import pytest
import torch

from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.training.adamw import AdamW
from lapwing.training.learner import Learner
from lapwing.training.master_weights import MasterWeights

SETTINGS = {"learning_rate": 1e-3, "final_share": 1.0, "clip_norm": 1e9, "eps": 1e-3}


def numbers(batch):
    random = np.random.default_rng(1)
    return random.normal(size=batch.num_tokens), random.uniform(0.01, 0.2, size=batch.num_tokens)


def make_learner(model, **settings):
    sizes = {name: settings.pop(name) for name in ("row_tokens", "batch_tokens") if name in settings}
    optimizer = AdamW(**{**SETTINGS, **settings})
    return Learner(
        model,
        loss=clipped_surrogate,
        loss_needs=("behavior_logprob", "advantage"),
        optimizer=optimizer,
        seed=0,
        **sizes,
    )


def test_a_float32_parameter_is_its_own_master(make_model):
    # Fails when it is copied: moments would be looked up, and gradients left, in another place than today.
    model = make_model()
    parameters = list(model.parameters())
    masters = MasterWeights(parameters)
    assert all(weight is parameter for weight, parameter in zip(masters.weights, parameters, strict=True))
    assert masters.state() == {}


def test_small_steps_add_up_in_the_master():
    # 1 − 10⁻³ rounds to 1 in bfloat16, whose numbers below 1 are 2⁻⁸ apart: without a master 100 steps change nothing.
    parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    masters = MasterWeights([parameter])
    optimizer = torch.optim.SGD(masters.weights, lr=1e-3)
    for _ in range(100):
        with masters.accumulating():
            parameter.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        masters.copy_back()
    torch.testing.assert_close(masters.weights[0].detach(), torch.tensor([0.9]))
    assert parameter.item() == torch.tensor(0.9).bfloat16().item()


def test_gradients_are_summed_in_float32_and_freed():
    # 256 + 1 is 256 in bfloat16, so that a sum in bfloat16 would stay at 256.
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    masters = MasterWeights([parameter])
    with masters.accumulating():
        for slope in (256.0, 1.0, 1.0, 1.0):
            (slope * parameter).sum().backward()
            assert parameter.grad is None
    assert masters.weights[0].grad.item() == 259.0


def test_outside_of_an_update_gradients_stay_with_the_parameters():
    # Fails when hooks are left behind: a second learner of the same model, or an audit, would find no gradient.
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    masters = MasterWeights([parameter])
    with masters.accumulating():
        pass
    parameter.sum().backward()
    assert parameter.grad.item() == 1.0
    assert masters.weights[0].grad is None


def test_only_what_is_trained_has_a_master(make_model):
    model = make_model().bfloat16().requires_grad_(False)
    trained = next(model.parameters()).requires_grad_(True)
    learner = make_learner(model)
    assert [weight.shape for weight in learner.masters.weights] == [trained.shape]
    assert learner.masters.weights[0].dtype == torch.float32


@pytest.mark.parametrize("sizes", [{}, {"row_tokens": 12, "batch_tokens": 12}], ids=["one pass", "many passes"])
def test_training_in_bfloat16_follows_training_in_float32(make_model, batch, sizes):
    # Fails when the parameters' own (rounded) values are stepped: updates of 10⁻³ would be lost for weights above ¼.
    advantage, weight = numbers(batch)
    model, exact = make_model(seed=1).bfloat16(), make_model(seed=1).bfloat16().float()
    learners = [make_learner(model, **sizes), make_learner(exact, **sizes)]
    start = torch.cat([p.detach().reshape(-1).clone() for p in exact.parameters()])
    for _ in range(20):
        metrics = [learner.update(batch, advantage, weight) for learner in learners]
    moved = torch.cat([p.detach().reshape(-1) for p in exact.parameters()]) - start
    followed = torch.cat([w.detach().reshape(-1) for w in learners[0].masters.weights]) - start
    assert metrics[0]["update/count"] == 1.0
    assert torch.nn.functional.cosine_similarity(moved, followed, dim=0) > 0.98
    assert torch.linalg.vector_norm(followed - moved) < 0.2 * torch.linalg.vector_norm(moved)
    for parameter, weights in zip(learners[0].parameters, learners[0].masters.weights, strict=True):
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter, weights.bfloat16())


def test_a_restored_learner_goes_on_to_the_last_bit(make_model, batch):
    # Fails when the masters are not saved: a resumed run would begin from the rounded weights.
    advantage, weight = numbers(batch)
    settings = {"average": 0.5, "minibatches": 2}
    model, other = make_model(seed=1).bfloat16(), make_model(seed=2).bfloat16()
    learner, resumed = make_learner(model, **settings), make_learner(other, **settings)
    for _ in range(3):
        learner.update(batch, advantage, weight)
    resumed.restore(learner.state(), learner.version)
    assert all(torch.equal(some, others) for some, others in zip(model.parameters(), other.parameters(), strict=True))
    for one in (learner, resumed):
        one.update(batch, advantage, weight)
        one.finish()
    for some, others in zip(learner.masters.weights, resumed.masters.weights, strict=True):
        assert torch.equal(some, others)
    for some, others in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(some, others)


def test_the_average_is_kept_in_float32(make_model, batch):
    advantage, weight = numbers(batch)
    learner = make_learner(make_model(seed=1).bfloat16(), average=0.9)
    learner.update(batch, advantage, weight)
    averages = {name: t for name, t in learner.state().items() if name.startswith("average.")}
    assert {average.dtype for average in averages.values()} == {torch.float32}
    learner.finish()
    for index, parameter in enumerate(learner.parameters):
        assert torch.equal(parameter, averages[f"average.{index}"].bfloat16())
