"""Seats with weights of their own: `opponents.1 = { name = "separate" }`."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lapwing
from lapwing import build
from lapwing.api import exploit
from lapwing.api.dry_run import requirements
from lapwing.core.errors import UserError
from lapwing.core.rollout import Rollout
from lapwing.training.checkpoint import is_whole, save_model
from lapwing.training.loop import iterate
from lapwing.training.metrics import METRICS, as_described

SMALL = (
    *("iterations=2", "warm_start.iterations=2", "evaluation.episodes=6", "evaluation.development_episodes=4"),
    *("evaluation.every=2", "evaluation.replay_groups=1", "evaluation.transfer=[]", "game={name='rotated'}"),
    *("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32"),
    *("sampler.groups=2", "sampler.group_size=4", "sampler.max_steps=9", "warm_start.sampler.groups=4"),
    *("warm_start.sampler.max_steps=9",),
)
SEPARATE = "opponents.1.name=separate"


def plans(*overrides):
    return build.plan(build.read_recipe("frozen_lake_tiny", overrides=[*SMALL, *overrides]))


def built(*overrides):
    plan = plans(*overrides)[-1]
    shop = build.with_seats(plan, build.make_workshop(plan, 0))
    stage = build.make_stage(plan, shop)
    stage.load(0)
    return plan, shop, stage


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_seat_is_played_by_a_model_of_its_own():
    plan, shop, stage = built(SEPARATE)
    assert build.weight_sets(plan) == ((0,), (1,))
    first, second = (stage.collector.policies[seat].generator.model for seat in (0, 1))
    assert first is shop.model
    assert second is shop.others[1].model
    assert not same(weights(first), weights(second))
    # Initial weights follow from the run's seed and the seat.
    again = build.with_seats(plan, build.make_workshop(plan, 0)).others[1].model
    other = build.with_seats(plan, build.make_workshop(plan, 1)).others[1].model
    assert same(weights(second), weights(again))
    assert not same(weights(second), weights(other))


def test_seats_of_one_name_share_one_set_of_weights():
    four = (
        "game={name='snake', num_snakes=4}",
        "opponents={1={name='separate', weights='b'}, 2={name='self'}, 3={name='separate', weights='b'}}",
    )
    plan, _, stage = built(*four)
    assert build.weight_sets(plan) == ((0, 2), (1, 3))
    seated = stage.collector.policies
    assert seated[0] is seated[2]
    assert seated[1] is seated[3] is not seated[0]
    one_each = plans("game={name='snake', num_snakes=3}", "opponents={1={name='separate'}, 2={name='separate'}}")
    # In the warm start too, whose teacher each set clones from its own seats.
    assert [build.weight_sets(one) for one in one_each] == [((0,), (1,), (2,))] * 2


class Recorded:
    """Plays what another stage played, as far as it was of one seat."""

    def __init__(self, ledger, rollouts, seat, learner):
        self.ledger, self.rollouts, self.seat, self.learner = ledger, list(rollouts), seat, learner

    def collect(self, matches):
        whole = self.rollouts.pop(0)
        batch = whole.batch.select(whole.batch.player == self.seat)
        batch = batch.with_columns(policy_version=np.full(batch.num_steps, self.learner.version))
        return Rollout(batch, [episode for episode in whole.episodes if episode.player == self.seat])


# Every room of the pipeline, with chance of its own, memory, a reference, a critic, and several updates an iteration.
RICH = {
    "by step": (
        *("credit={name='grpo'}", "modulation=[{name='whiten', over='batch'}]", "filters=[{name='zero_spread'}]"),
        *("selection={name='aaw', replacement=true}", "annotate=[{name='reference_logprob'}]"),
        "regularisers=[{name='kl_k3', coefficient=0.1}, {name='entropy_adaptive', coefficient=1.0, target=0.5}]",
        *("optimizer.epochs=2", "optimizer.minibatches=2", "optimizer.average=0.5", "loss={name='clipped_surrogate'}"),
    ),
    "critic": ("credit={name='gae'}", "annotate=[{name='value'}]", "selection={name='uniform', keep=0.5}"),
    "by token": (
        "credit={name='token_gae'}",
        "annotate=[{name='token_value'}]",
        "shaping=[{name='overlong', limit=1, cache=1}]",
    ),
    "memory": ("credit={name='riskpo', bundle=2}", "selection={name='all_episodes'}"),
}


@pytest.mark.parametrize("kind", RICH)
def test_each_seat_learns_as_if_its_episodes_were_all_there_is(kind, tmp_path):
    plan, shop, stage = built(SEPARATE, "sampler.group_size=8", *RICH[kind])
    models = [shop.model, shop.others[1].model]
    began = [weights(model) for model in models]
    for name, model in (("model", shop.model), ("seat_1", models[1])):
        save_model(tmp_path / name, model, shop.tokenizer, max_tokens=1)
    stage.annotators = stage.make_annotators(tmp_path / "model")
    rollouts, collect = [], stage.collector.collect
    stage.collector.collect = lambda matches: rollouts.append(collect(matches)) or rollouts[-1]
    rows = list(iterate(stage, stage.make_learner(), 0, lambda _: None))
    ended = [weights(model) for model in models]
    assert not any(same(before, after) for before, after in zip(began, ended, strict=True))
    of_seats = {name for row in rows for name in row if name.endswith((":0", ":1"))}
    assert {as_described(name) for name in of_seats} <= set(METRICS)

    alone_plan = dataclasses.replace(plan, opponents=build.against_fixed(plan).opponents)
    for seat, model in enumerate(models):
        model.load_state_dict(began[seat])
        own = shop if seat == 0 else shop.others[1]
        alone = build.make_stage(alone_plan, own)
        alone.seed = stage.seed
        alone.annotators = alone.make_annotators(tmp_path / ("model" if seat == 0 else "seat_1"))
        learner = alone.make_learner()
        alone.collector = Recorded(stage.collector.ledger, rollouts, seat, learner)
        lone_rows = list(iterate(alone, learner, 0, lambda _: None))
        assert same(weights(model), ended[seat])
        for row, lone in zip(rows, lone_rows, strict=True):
            told = {name for name in lone if name.startswith(("policy/", "update/", "critic/"))}
            assert told
            assert {name: row[f"{name}:{seat}"] for name in told} == {name: lone[name] for name in told}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["collector.name=ray"], "collector.name = 'ray' does not go with them; choose 'local' or 'isolated'"),
        (["learner.name=accelerate", "learner.ranks=2"], "a learner section does not go with them; leave it out"),
        (["pairs.name=by_return", "loss={name='dpo'}", "regularisers=[]"], "pairs are not divided among seats"),
        (["sampler.name=branching"], "measures the states of one seat that learns"),
        (["opponents.1.weights="], "weights is a name"),
        (["opponents.1.every=3"], "every is unknown"),
        (["game={name='snake', num_snakes=3}", "opponents.2.name=past"], "choose one of the two for all seats"),
        (["evaluation.opponents.1.name=separate"], "there is no 'separate'"),
        (["annotate=[{name='exact_advantage'}]"], "weights of the run"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_it_is_refused_before_any_work(overrides, words):
    with pytest.raises(UserError, match=words):
        plans(SEPARATE, *overrides)


def test_a_warm_start_trains_no_weights_that_the_main_stage_does_not_have(tmp_path):
    overrides = [*SMALL, "opponents.1.name=self", "warm_start.opponents.1.name=separate"]
    with pytest.raises(UserError, match="give both stages the same opponents"):
        lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


# Fails when each adapter brings a base of its own, or when the adapters are one.
def test_adapters_of_several_seats_share_their_base(toy_folder):
    own = [text for text in SMALL if not text.startswith("model.")]
    adapter = f"model={{name='{toy_folder('qwen2')}', lora={{rank=4, alpha=8, targets=['q_proj']}}}}"
    plan = build.plan(build.read_recipe("frozen_lake_tiny", overrides=[*own, SEPARATE, adapter]))[-1]
    shop = build.with_seats(plan, build.make_workshop(plan, 0))
    first, second = (dict(one.model.named_parameters()) for one in (shop, shop.others[1]))
    assert {weight.requires_grad for weight in first.values()} == {True, False}
    for name, weight in second.items():
        assert (weight is first[name]) is not weight.requires_grad
    # Both begin as the base; the half of each adapter that is drawn is its own.
    drawn = [name for name in first if "lora_A" in name]
    assert drawn
    assert not any(torch.equal(first[name], second[name]) for name in drawn)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run of rock, paper, scissors between two models."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    overrides = [text for text in SMALL if not text.startswith("game")]
    own = ("opponents.1.name=separate", "checkpoint_every=1", "optimizer.learning_rate=0.01", "evaluation.every=0")
    return lapwing.train("rock_paper_scissors_tiny", run=folder, overrides=[*overrides, *own]).path


def seat_weights(path):
    return load_file(path / "model.safetensors")


def test_a_checkpoint_has_a_folder_for_each_model(run):
    newest = run / "checkpoints" / "2"
    assert {path.name for path in newest.iterdir()} == {"manifest.json", "model", "seat_1", "state"}
    assert is_whole(newest)
    assert not same(seat_weights(newest / "model"), seat_weights(newest / "seat_1"))
    assert not same(seat_weights(newest / "seat_1"), seat_weights(run / "checkpoints" / "0" / "seat_1"))


def test_the_weights_of_a_seat_play_where_a_run_does(run):
    second = run / "checkpoints" / "2" / "seat_1"
    view = lapwing.load(run).game.view(lapwing.load(run).game.initial(np.random.default_rng(0)), 0)
    for folder, weights_of in ((run, "model"), (run / "checkpoints" / "2", "model"), (second, "seat_1")):
        loaded = dict(lapwing.load(folder).policy.generator.model.named_parameters())
        expected = seat_weights(run / "checkpoints" / "2" / weights_of)
        assert all(torch.equal(loaded[name], weight) for name, weight in expected.items())
        assert lapwing.load(folder).act(view).valid in (True, False)
    found = lapwing.cross_play([str(run), str(second)], game="matrix_game", matches=4, max_steps=1)
    assert found["players"] == [str(run), str(second)]
    with pytest.raises(UserError, match="holds no model"):
        lapwing.load(run / "checkpoints" / "9")


def test_each_seat_is_exploited_with_its_own_weights(run):
    (newest,) = exploit(run)["rows"]
    (shared,) = exploit(run, overrides=["opponents.1.name=self"])["rows"]
    # What seat 1 can win is against the weights of seat 0, which play it in both; what seat 0 can win is not.
    assert newest["seats"][1]["best_response"] == shared["seats"][1]["best_response"]
    assert newest["seats"][0]["best_response"] != shared["seats"][0]["best_response"]
    assert exploit(run, checkpoints="all")["rows"][-1]["seats"] == newest["seats"]


def test_a_run_from_another_begins_with_the_weights_of_the_same_seats(run, tmp_path):
    again = lapwing.train(str(run / "recipe.toml"), run=tmp_path / "a", overrides=["iterations=0"], start_from=run)
    ended, began = run / "checkpoints" / "2", again.path / "checkpoints" / "0"
    for name in ("model", "seat_1"):
        assert same(seat_weights(ended / name), seat_weights(began / name))


def test_the_dry_run_counts_every_model():
    one, two = (requirements(plans(f"opponents.1.name={name}"), 0) for name in ("self", "separate"))
    for each in ("weights", "moments", "checkpoint", "disk"):
        assert two[each] == 2 * one[each] > 0
    # One update at a time: what a pass keeps is there once. Gradients of the first are there during the second.
    assert two["activations"] == one["activations"]
    standing = two["weights"] + two["masters"] + two["moments"]
    assert two["peak"] == standing + max(two["cache"], two["gradients"] + two["activations"])
    assert (one["models"], two["models"]) == (1, 2)
    adapter = requirements(plans("opponents.1.name=self", *LORA), 0), requirements(plans(SEPARATE, *LORA), 0)
    # The base is there once.
    assert adapter[1]["weights"] - adapter[0]["weights"] < 0.1 * adapter[0]["weights"]
    assert adapter[1]["moments"] == 2 * adapter[0]["moments"]


LORA = ("model={name='Qwen/Qwen3-0.6B', lora={rank=4, alpha=8, targets=['q_proj']}}",)
