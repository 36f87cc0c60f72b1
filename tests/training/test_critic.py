"""A critic beside the policy: warm-up, what it is taught, and that a resumed run goes on to the last bit."""

import shutil

import numpy as np
import pytest
import torch

import lapwing
from lapwing import build
from lapwing.core.errors import UserError
from lapwing.core.storage import read_json, read_json_lines, write_json
from lapwing.testing import episodes
from lapwing.training.loop import iterate
from lapwing.training.metrics import CRITICS, METRICS
from lapwing.training.run_state import restore_critics

SETTINGS = ("iterations=4", "checkpoint_every=2", "evaluation.every=4", "optimizer.epochs=1")
RECIPE = """
name = "{name}"
extends = "frozen_lake_fixed_gae"
[[stage]]
name = "main"
[[stage.annotate]]
name = "value"
{settings}
"""


@pytest.fixture
def recipe(tmp_path):
    """A recipe with other settings of its critic."""

    def write(settings, name="critic"):
        path = tmp_path / f"{name}.toml"
        path.write_text(RECIPE.format(name=name, settings=settings), "utf-8")
        return str(path)

    return write


@pytest.fixture
def stage(recipe, small):
    def make(settings):
        read = build.read_recipe(recipe(settings), overrides=[*small, *SETTINGS])
        plan = build.plan(read)[-1]
        made = build.make_stage(plan, build.make_workshop(plan, read.seed))
        made.annotators = made.make_annotators(None)
        return made

    return make


def rows_of(stage, learner):
    return list(iterate(stage, learner, 0, lambda rollout: None))


# Fails when the warm-up is asked about after the critic has learnt, or when the weights are not set to 0.
def test_the_policy_waits_while_the_critic_warms_up(stage):
    made = stage("warm_up = 2")
    learner = made.make_learner()
    before = [parameter.detach().clone() for parameter in learner.model.parameters()]
    rows = iterate(made, learner, 0, lambda rollout: None)
    for _ in range(2):
        row = next(rows)
        assert row["update/skipped"] == 1.0
        assert row["critic/value_gradient_norm"] > 0.0
    assert all(torch.equal(new, old) for new, old in zip(learner.model.parameters(), before, strict=True))
    assert next(rows)["update/skipped"] == 0.0
    assert not all(torch.equal(new, old) for new, old in zip(learner.model.parameters(), before, strict=True))


# Fails when the loop hands the critic the advantage after its modulation.
def test_the_critic_is_taught_what_the_credit_gave(stage):
    made = stage("")
    given, taught = [], []
    credit, learn = made.credit, made.annotators[0].learn
    made.credit = lambda batch: given.append(credit(batch)) or given[-1]
    made.modulation = [lambda batch, advantage: advantage * 0.0 + 5.0]
    made.annotators[0].learn = lambda batch, advantage: taught.append(advantage.copy()) or learn(batch, advantage)
    rows_of(made, made.make_learner())
    assert len(taught) == 4
    for of_credit, of_critic in zip(given, taught, strict=True):
        np.testing.assert_array_equal(of_critic, of_credit)


def test_the_critic_learns_before_the_policy_moves(stage):
    made = stage('trunk = "shared"')
    learner = made.make_learner()
    order = []
    learn, update = made.annotators[0].learn, learner.update
    made.annotators[0].learn = lambda *rest: order.append("critic") or learn(*rest)
    learner.update = lambda *rest, **more: order.append("policy") or update(*rest, **more)
    rows_of(made, learner)
    assert order == ["critic", "policy"] * 4


def test_a_batch_without_episodes_is_passed_over(stage):
    made = stage("")
    made.filters = [lambda batch: np.zeros(batch.num_episodes, dtype=bool)]
    for row in rows_of(made, made.make_learner()):
        assert row["update/skipped"] == 1.0
        assert "critic/value_loss" not in row


# Fails when a critic's weights, moments or counts are left out of the checkpoint, or restored before it is made.
@pytest.mark.parametrize("settings", ["", 'trunk = "shared"\nwarm_up = 3\nminibatches = 2'], ids=["copy", "shared"])
def test_a_resumed_run_has_the_same_critic_to_the_last_bit(settings, recipe, tmp_path, small, what_counts):
    run = lapwing.train(recipe(settings), run=tmp_path / "whole", overrides=[*small, *SETTINGS]).path
    cut = shutil.copytree(run, tmp_path / "cut")
    shutil.rmtree(cut / "checkpoints" / "4")
    for name in ("evaluation.json", "report.html"):
        (cut / name).unlink()
    write_json(cut / "manifest.json", read_json(cut / "manifest.json") | {"status": "running"})
    lapwing.resume(cut)
    assert what_counts(cut) == what_counts(run)
    rows = [row for row in read_json_lines(run / "metrics.jsonl") if row["stage"] == "main"]
    assert all(np.isfinite(row["critic/value_explained_variance"]) for row in rows)
    assert any("critic.0.weight.0" in path.read_text("latin-1") for path in cut.rglob("learner.safetensors"))


def test_every_critic_has_its_metrics(model):
    from lapwing.annotate.hierarchy_values import HierarchyValues
    from lapwing.annotate.token_value import TokenValue
    from lapwing.annotate.value import Value

    assert {made.name: made.heads for made in (Value, TokenValue, HierarchyValues)} == CRITICS
    batch = episodes([[0.0, 1.0]], span=[[[4], [4]]], switch=[[True, False]])
    for made in (Value(model, seed=0), TokenValue(model, seed=0), HierarchyValues(model, seed=0)):
        metrics = made.learn(batch.with_columns(**made.columns(batch)), np.zeros(2))
        assert set(metrics) <= set(METRICS)


def test_settings_out_of_range_are_refused_before_any_work(recipe):
    for settings, named in (("learning_rate = -1.0", "learning_rate"), ("discount = 2.0", "discount")):
        with pytest.raises(UserError, match=rf"main\.annotate\.value: .*{named}"):
            build.plan(build.read_recipe(recipe(settings)))
    with pytest.raises(UserError, match="trunk"):
        build.plan(build.read_recipe(recipe('trunk = "own"')))


def test_a_critic_that_reads_spans_needs_a_parser_that_gives_them(tmp_path):
    path = tmp_path / "spans.toml"
    path.write_text(RECIPE.format(name="spans", settings="").replace('"value"', '"hierarchy_values"'), "utf-8")
    with pytest.raises(UserError, match="'hierarchy_values' needs the column span"):
        build.plan(build.read_recipe(str(path)))


# Fails when number 0, which is older than the critics but may hold an average or masters, is asked for them.
def test_a_checkpoint_without_the_critic_leaves_it_as_it_begins(stage):
    made = stage("warm_up = 0")
    before = {name: tensor.clone() for name, tensor in made.critics[0].state().items()}
    restore_critics(made, {"average.0": torch.zeros(1)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.critics[0].state().items())
