"""What the learner does to fit an update into memory: smaller passes when it runs out, and layers computed again."""

import numpy as np
import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.models.scorer import Scorer
from lapwing.training.adamw import AdamW
from lapwing.training.learner import Learner


def numbers(batch):
    random = np.random.default_rng(1)
    return random.normal(size=batch.num_tokens), random.uniform(0.01, 0.2, size=batch.num_tokens)


def make_learner(model, **settings):
    epochs = settings.pop("epochs", 1)
    return Learner(
        model,
        loss=settings.pop("loss", clipped_surrogate),
        loss_needs=("behavior_logprob", "advantage"),
        optimizer=AdamW(learning_rate=1e-3, final_share=1.0, eps=1e-3, clip_norm=1e9, epochs=epochs),
        seed=0,
        row_tokens=8,
        **settings,
    )


class Device:
    """A device that holds so many places of a pass, forward (or backward), and no more."""

    def __init__(self, model, places, *, backward=False, once_at=None):
        self.places, self.shapes, self.backward, self.once_at = places, [], backward, once_at
        model.base_model.register_forward_pre_hook(self.forward, with_kwargs=True)
        model.base_model.register_forward_hook(self.after, with_kwargs=True)

    def forward(self, module, args, kwargs):
        self.shapes.append(tuple(kwargs["input_ids"].shape))
        if len(self.shapes) == self.once_at or (kwargs["input_ids"].numel() > self.places and not self.backward):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def after(self, module, args, kwargs, output):
        if kwargs["input_ids"].numel() > self.places and output.last_hidden_state.requires_grad:
            output.last_hidden_state.register_hook(self.refuse)

    def refuse(self, gradient):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def neighbours(*, logprob, behavior_logprob, advantage):
    """A loss in which each token depends on all others."""
    return -(logprob - behavior_logprob).exp() * advantage + (logprob - logprob.mean()) ** 2


CASES = {
    "forward": {},
    "backward": {"backward": True},
    "of several epochs": {"epochs": 2},
    "of a loss that is not mergeable": {"loss": neighbours, "mergeable": False},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_an_update_that_does_not_fit_is_made_in_smaller_passes(make_model, batch, case):
    # Fails when the gradient of the first, failed attempt is kept, or its tokens are counted twice.
    advantage, weight = numbers(batch)
    settings = {name: value for name, value in case.items() if name != "backward"}
    models = [make_model(seed=1), make_model(seed=1)]
    expected = make_learner(models[0], **settings).update(batch, advantage, weight)
    device = Device(models[1], 32, backward="backward" in case)
    learner = make_learner(models[1], **settings)
    metrics = learner.update(batch, advantage, weight)
    assert expected["update/out_of_memory"] == 0.0
    assert metrics["update/out_of_memory"] >= 1.0
    assert max(rows * width for rows, width in device.shapes[-3:]) <= 32
    for name in expected.keys() - {"update/out_of_memory", "update/padding_share"}:
        assert metrics[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    # What was learnt is kept: the next update begins with passes that fit.
    assert learner.update(batch, advantage, weight)["update/out_of_memory"] == 0.0


def test_an_update_that_fails_in_its_second_pass_is_begun_anew(make_model, batch):
    # Fails when the gradient of the pass before is kept. Memory may be short for reasons of its own.
    advantage, weight = numbers(batch)
    gradients = []
    for once_at in (None, 2):
        model = make_model(seed=1)
        device = Device(model, 10**6, once_at=once_at)
        metrics = make_learner(model, batch_tokens=20).update(batch, advantage, weight)
        gradients.append(torch.cat([p.grad.reshape(-1) for p in model.parameters()]))
    assert metrics["update/out_of_memory"] == 1.0
    assert len(device.shapes) > 4
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_passes_are_halved_until_they_fit(make_model, batch):
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    device = Device(model, 16)
    make_learner(model).update(batch, advantage, weight)
    places = [rows * width for rows, width in device.shapes]
    too_many = [number for number, size in enumerate(places) if size > 16]
    assert too_many == list(range(len(too_many)))
    assert all(places[number + 1] <= places[number] / 2 for number in too_many)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_row_that_does_not_fit_is_one_clear_error(make_model, batch, backward):
    # Fails when it is tried for ever.
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    Device(model, 3, backward=backward)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(UserError, match=r"no memory for a forward pass of 1 row of \d+ tokens; lower generation"):
        make_learner(model).update(batch, advantage, weight)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


def test_other_errors_are_not_taken_for_a_lack_of_memory(make_model, batch):
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    model.base_model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("device-side assert")))
    with pytest.raises(RuntimeError, match="device-side assert"):
        make_learner(model).update(batch, advantage, weight)


def test_scores_that_do_not_fit_are_computed_in_smaller_passes(make_model, batch):
    contexts = [batch.context(n) for n in range(batch.num_steps)]
    replies = [batch.token[low:high] for low, high in zip(batch.token_splits, batch.token_splits[1:], strict=False)]
    model = make_model(seed=1)
    expected = Scorer(model, row_tokens=8).score(contexts, replies)["logprob"]
    Device(model, 20)
    scorer = Scorer(model, row_tokens=8)
    np.testing.assert_allclose(scorer.score(contexts, replies)["logprob"], expected, atol=1e-6)
    assert scorer.out_of_memory >= 1


def test_the_share_of_padding_is_measured(make_model, batch):
    # Rows of different lengths in one pass; one row alone has no padding.
    advantage, weight = numbers(batch)
    share = make_learner(make_model(seed=1)).update(batch, advantage, weight)["update/padding_share"]
    assert 0.0 < share < 0.5
    alone = make_learner(make_model(seed=1), batch_tokens=1).update(batch, advantage, weight)
    assert alone["update/padding_share"] <= share


def test_gradient_checkpointing_makes_the_same_update(toy_folder, batch):
    # Fails when the learner leaves the model in evaluation mode: every layer would run once only.
    advantage, weight = numbers(batch)
    from transformers import AutoModelForCausalLM

    updated, calls = [], []
    for checkpointing in (False, True):
        model = AutoModelForCausalLM.from_pretrained(toy_folder("qwen2")).eval()
        if checkpointing:
            model.activation_checkpointing_enable()
        # What is found out about a body takes a few passes, once.
        Scorer(model).score([np.array([3, 4, 5])], [np.array([4])])
        layer = model.base_model.layers[0]
        forward = layer.mlp.forward
        layer.mlp.forward = lambda x, forward=forward, c=checkpointing: calls.append(c) or forward(x)
        learner = make_learner(model)
        learner.update(batch, advantage, weight)
        updated.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    torch.testing.assert_close(*updated, atol=1e-6, rtol=0)
    # Once forward; and once more where the backward pass computes it again.
    assert (calls.count(False), calls.count(True)) == (1, 2)
