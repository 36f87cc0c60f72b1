import copy

import numpy as np
import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.models.value_heads import CriticSettings, Lesson, Reads, ValueHeads

RNG = np.random.default_rng(3)
# The second row begins the third, and the first comes twice.
ROWS = [RNG.integers(4, 40, size=length).astype(np.int32) for length in (3, 4, 6, 1, 9)]
ROWS[2][:4] = ROWS[1]
ROWS.append(ROWS[0])


def reads(*places):
    row, position = zip(*places, strict=True)
    return Reads(np.array(row), np.array(position))


EVERYWHERE = reads(*((i, j) for i, row in enumerate(ROWS) for j in range(len(row))))


def lesson(places, target, behavior=None, episode=None):
    return Lesson(
        places,
        np.arange(len(places.row)) if episode is None else np.array(episode),
        np.zeros(len(places.row)) if behavior is None else np.array(behavior, dtype=float),
        np.array(target, dtype=float),
    )


def critic(model, heads=("value",), *, row_tokens=160, batch_tokens=16384, seed=0, **settings):
    settings = CriticSettings(**{"clip": 0.0, **settings})
    return ValueHeads(model, heads, seed=seed, settings=settings, row_tokens=row_tokens, batch_tokens=batch_tokens)


def taught(model, heads=("value",), **settings):
    """A critic with weights that are not 0 any more."""
    made = critic(model, heads, **settings)
    lessons = {head: lesson(EVERYWHERE, np.linspace(i, 2 - i, len(EVERYWHERE.row))) for i, head in enumerate(heads)}
    for _ in range(3):
        made.fit(ROWS, lessons)
    return made


def test_a_critic_that_has_learnt_nothing_says_zero(model):
    values = critic(model, ("low", "high")).values(ROWS, {"low": EVERYWHERE, "high": EVERYWHERE})
    assert values["low"].dtype == np.float64
    assert not values["low"].any()
    assert not values["high"].any()


# Fails when the position is off by one, or when a head reads with another's weights.
@pytest.mark.parametrize("trunk", ["copy", "shared"])
def test_values_are_those_of_each_row_alone(make_model, trunk):
    model = make_model(seed=1)
    made = taught(model, ("low", "high"), trunk=trunk)
    some = reads((4, 8), (0, 1), (4, 2), (3, 0))
    values = made.values(ROWS, {"high": EVERYWHERE, "low": some})
    for number, (head, places) in enumerate((("low", some), ("high", EVERYWHERE))):
        for value, row, position in zip(values[head], *places, strict=True):
            tokens = torch.from_numpy(ROWS[row][: position + 1].astype(np.int64))[None]
            hidden = made._body(input_ids=tokens).last_hidden_state[0, -1]
            alone = (hidden @ made._weight[number] + made._bias[number]).detach()
            assert value == pytest.approx(float(alone), abs=1e-5)
    assert np.std(values["high"]) > 0.01


# Fails when nodes are counted from the first row of all instead of the first of the micro-batch.
@pytest.mark.parametrize(("row_tokens", "batch_tokens"), [(1, 1), (5, 5), (12, 30), (1000, 1)])
def test_the_sizes_of_micro_batches_do_not_matter(make_model, row_tokens, batch_tokens):
    whole, small = (
        taught(make_model(seed=1), ("low", "high"), **sizes)
        for sizes in ({}, {"row_tokens": row_tokens, "batch_tokens": batch_tokens})
    )
    for head in ("low", "high"):
        np.testing.assert_allclose(
            small.values(ROWS, {head: EVERYWHERE})[head], whole.values(ROWS, {head: EVERYWHERE})[head], atol=1e-4
        )


def test_a_row_that_comes_twice_goes_through_the_body_once(make_model):
    made = critic(make_model())
    tokens = []
    made._body.register_forward_hook(
        lambda body, args, kwargs, out: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    made.values([ROWS[0]] * 50, {"value": Reads(np.arange(50), np.full(50, 2))})
    assert tokens == [3]


# Fails when the loss is summed over the places, or its mean taken over all heads together.
def test_the_first_update_by_hand(model):
    # Values are 0, so the gradient by the bias is −mean(target) of each head: −1 and +2, of length √5 at least. AdamW's
    # first step is the learning rate, against the sign of the gradient.
    made = critic(model, ("low", "high"), learning_rate=0.01, trunk="shared")
    metrics = made.fit(ROWS, {"low": lesson(reads((0, 2), (3, 0)), [0.5, 1.5]), "high": lesson(reads((1, 3)), [-2.0])})
    np.testing.assert_allclose(made._bias.detach(), [0.01, -0.01], rtol=1e-4)
    assert metrics["low_loss"] == pytest.approx(0.5 * (0.5**2 + 1.5**2) / 2)
    assert metrics["high_loss"] == pytest.approx(0.5 * 2.0**2)
    assert metrics["low_explained_variance"] == 0.0
    assert metrics["gradient_norm"] > np.sqrt(5.0)
    assert metrics["nonfinite"] == 0.0


def test_values_reach_their_targets(make_model):
    made = critic(make_model(), learning_rate=0.01)
    target = RNG.normal(size=len(EVERYWHERE.row))
    target[-3:] = target[:3]  # the same row
    for _ in range(100):
        behavior = made.values(ROWS, {"value": EVERYWHERE})["value"]
        metrics = made.fit(ROWS, {"value": lesson(EVERYWHERE, target, behavior)})
    assert metrics["value_explained_variance"] > 0.8


def test_the_clip_holds_a_value_near_what_it_was(make_model):
    place = reads((0, 2))
    made = {clip: critic(make_model(), clip=clip, learning_rate=1e-3, trunk="shared") for clip in (0.0, 0.1)}
    for one in made.values():
        for _ in range(200):
            one.fit(ROWS, {"value": lesson(place, [1.0])})
    assert made[0.0].values(ROWS, {"value": place})["value"][0] == pytest.approx(1.0, abs=0.2)
    # Adam's momentum carries a little past the clip.
    assert made[0.1].values(ROWS, {"value": place})["value"][0] < 0.3


@pytest.mark.parametrize("trunk", ["copy", "shared"])
def test_the_policy_is_left_alone(make_model, trunk):
    model = make_model(seed=1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    made = taught(model, trunk=trunk)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
        assert parameter.requires_grad
    own = {id(parameter) for parameter in made.parameters}
    assert not own & {id(parameter) for parameter in model.parameters()}
    assert len(own) == (2 if trunk == "shared" else 2 + len(list(model.base_model.parameters())))


def test_a_frozen_policy_gives_a_body_that_learns(model):
    made = taught(model)
    assert not torch.equal(made._body.embed_tokens.weight, model.base_model.embed_tokens.weight)


@pytest.mark.parametrize("trunk", ["copy", "shared"])
@pytest.mark.parametrize("minibatches", [1, 3])
def test_a_restored_critic_goes_on_to_the_last_bit(make_model, trunk, minibatches):
    settings = {"trunk": trunk, "minibatches": minibatches, "epochs": 2, "warm_up": 4}
    whole = taught(make_model(seed=1), **settings)
    # A body that was made from other weights must get those that were saved.
    restored = critic(make_model(seed=1 if trunk == "shared" else 2), **settings)
    restored.restore(whole.state())
    assert not restored.ready
    for made in (whole, restored):
        made.fit(ROWS, {"value": lesson(EVERYWHERE, np.linspace(0, 2, len(EVERYWHERE.row)))})
    assert restored.ready
    assert set(whole.state()) == set(restored.state())
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, restored.state()[name]), name


def test_a_saved_state_is_not_changed_by_what_follows(make_model):
    made = taught(make_model())
    state = made.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    made.fit(ROWS, {"value": lesson(EVERYWHERE, np.ones(len(EVERYWHERE.row)))})
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_an_episode_is_never_split_among_minibatches(model):
    made = critic(model, ("low", "high"), minibatches=2)
    episode = [0, 0, 1, 1, 2, 2, 3]
    places = reads(*((0, 0),) * 7)
    lessons = {"low": lesson(places, range(7), episode=episode), "high": lesson(reads((1, 1)), [9], episode=[3])}
    parts = made._parts(lessons, 0)
    assert len(parts) == 2
    seen = [set(part["low"].episode.tolist()) for part in parts]
    assert set.union(*seen) == {0, 1, 2, 3}
    assert not set.intersection(*seen)
    assert sorted(np.concatenate([part["low"].target for part in parts]).tolist()) == list(range(7))
    assert [3 in part["low"].episode for part in parts] == ["high" in part for part in parts]


def test_more_minibatches_than_episodes_leave_none_empty(model):
    made = critic(model, minibatches=5)
    made.fit(ROWS, {"value": lesson(reads((0, 0), (1, 0)), [1.0, 0.0])})
    assert made.updates == 2


def test_a_target_that_is_not_finite_leaves_the_weights(make_model):
    made = taught(make_model())
    before = made.state()
    totals = {"value_loss": 0.0, "gradient_norm": 0.0, "nonfinite": 0.0}
    assert made._one_update(ROWS, {"value": lesson(reads((0, 0)), [np.inf])}, totals) == 0
    assert totals["nonfinite"] == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state().items())


def test_a_batch_without_steps_counts_for_the_warm_up_and_teaches_nothing(make_model):
    made = critic(make_model(), warm_up=1)
    before = made.state()
    empty = Lesson(Reads(*(np.zeros(0, dtype=np.int64),) * 2), *(np.zeros(0),) * 3)
    assert not made.ready
    assert made.fit([], {"value": empty}) == {"gradient_norm": 0.0, "nonfinite": 0.0}
    assert made.ready
    assert torch.equal(made.state()["weight.0"], before["weight.0"])
    assert made.values([], {"value": empty.reads})["value"].shape == (0,)


@pytest.mark.parametrize(
    "settings",
    [
        *({"learning_rate": bad} for bad in (0.0, -1.0, float("inf"), float("nan"))),
        *({"clip": bad} for bad in (-0.1, float("nan"))),
        *({"epochs": 0}, {"minibatches": 0}, {"warm_up": -1}, {"clip_norm": 0.0}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    (name,) = settings
    with pytest.raises(UserError, match=name):
        CriticSettings(**settings)


# The device "meta" stands for a GPU, whose fused step takes no moments from another device.
def test_moments_that_were_read_from_a_file_come_to_the_device_of_the_weights(make_model):
    saved = taught(make_model()).state()
    assert {tensor.device.type for tensor in saved.values()} == {"cpu"}
    elsewhere = critic(copy.deepcopy(make_model()).to("meta"))
    elsewhere.restore(saved)
    found = [tensor for state in elsewhere.optimizer.state.values() for tensor in state.values()]
    assert {tensor.device.type for tensor in found} == {"meta"}
