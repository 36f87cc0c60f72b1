"""The sections `collector` and `learner` of a recipe: what they build, and what goes with what."""

import dataclasses
import json

import pytest
import torch

import lapwing
from lapwing import build
from lapwing.build.collectors import _in_an_actor
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.storage import read_json, read_json_lines
from lapwing.distributed.ray_collector import RayCollector
from lapwing.rollout.collector import LocalCollector

CLONING = ("warm_start.loss.name=negative_log_likelihood", "warm_start.collector.name=demonstrations")


def plans(*overrides, recipe="frozen_lake_tiny"):
    return build.plan(build.read_recipe(recipe, overrides=overrides))


def test_a_stage_is_played_here_unless_it_says_otherwise(small):
    plan = plans(*small)[-1]
    assert plan.collector.name == "local"
    assert isinstance(build.make_stage(plan, build.make_workshop(plan, 0)).collector, LocalCollector)


def test_ray_is_built_from_the_resolved_recipe_and_starts_nothing_yet(small):
    read = build.read_recipe("frozen_lake_tiny", overrides=[*small, "collector.name=ray", "collector.actors=3"])
    found = build.plan(read)
    assert [plan.collector.name for plan in found] == ["ray", "ray"]  # a warm start is played there too
    shop = build.make_workshop(found[-1], 0)
    with pytest.raises(LapwingError, match="resolved recipe"):
        build.make_stage(found[-1], shop)
    shop.origin = build.Origin(build.resolved(read, found))
    stage = build.make_stage(found[-1], shop)
    assert isinstance(stage.collector, RayCollector)
    stage.close()
    here = build.played_here(found[-1])
    assert isinstance(build.make_stage(here, shop).collector, LocalCollector)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["collector.name=rya"], "did you mean ray"),
        (["collector.name=ray", "collector.actors=0"], "actors"),
        (["collector.name=ray", "learner.name=accelerate", "learner.ranks=2"], "every rank plays its share"),
        (["warm_start.collector.name=demonstrations", "warm_start.collector.path=no.jsonl"], "no file 'no.jsonl'"),
        (["warm_start.collector.name=demonstrations"], "path is missing"),
        (["learner.name=accelerate"], "ranks is missing"),
        (["learner.name=accelerate", "learner.ranks=2", "learner.strategy=zero"], "strategy"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(overrides, words):
    with pytest.raises(UserError, match=words):
        plans(*overrides)


def test_demonstrations_need_cloning_and_no_teacher(tmp_path):
    file = tmp_path / "demos.jsonl"
    file.write_text("{}\n")
    named = ("collector.name=demonstrations", f"collector.path={file}")
    with pytest.raises(UserError, match="demonstrations have no rewards"):
        plans(*named)
    with pytest.raises(UserError, match=r"need no policy\.teacher"):
        plans(*(f"warm_start.{text}" for text in named))


def lake_demonstrations(file):
    """Dialogues of an expert on the fixed lake, as another tool would have written them."""
    from lapwing.core.types import Match
    from lapwing.games.game import for_split
    from lapwing.policies.baselines import Optimal
    from lapwing.rollout.play import play

    plan = plans("policy.renderer.nearby=2", recipe="frozen_lake_fixed_tiny")[-1]
    game = for_split(build.make_game(plan.game), "train")
    renderer = plan.renderer.make(**plan.renderer.settings)
    rows = []
    for member in range(4):
        match = Match(game=game, seed=0, split="train", iteration=0, group=0, member=member, max_steps=20)
        for step in play([match], {0: Optimal()})[0].steps:
            user = renderer.messages(step.view)[-1]["content"]
            rows.append(
                {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": step.action}]}
            )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_a_run_begins_with_the_users_own_demonstrations(toy_folder, tmp_path, monkeypatch):
    """Cloned from a file of an expert's moves, the model crosses the lake before any reward is seen."""
    toy = toy_folder("qwen2")
    file = tmp_path / "demos.jsonl"
    lake_demonstrations(file)
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f"""
[[stage]]
name = "demonstrated"
iterations = 100
[stage.collector]
name = "demonstrations"
path = {json.dumps(str(file))}
episodes = 24
[stage.loss]
name = "negative_log_likelihood"
[stage.optimizer]
learning_rate = 5e-3

[[stage]]
name = "main"
iterations = 1
[stage.game]
name = "frozen_lake"
map_name = "4x4"
[stage.policy]
renderer = {{ name = "coordinates", nearby = 2 }}
[stage.model]
name = {json.dumps(str(toy))}
[stage.generation]
max_tokens = 6
[stage.sampler]
groups = 1
group_size = 4
max_steps = 20
[stage.credit]
name = "grpo"
[stage.loss]
name = "clipped_surrogate"
[stage.optimizer]
learning_rate = 1e-6
[stage.evaluation]
episodes = 20
"""
    )
    run = lapwing.train(str(recipe), run=tmp_path / "run")
    untrained = run.evaluation["policies"]["untrained"]["success"]["mean"]
    assert untrained > 0.8
    rows = read_json_lines(run.path / "metrics.jsonl")
    assert rows[99]["update/loss"] < 0.1 < rows[0]["update/loss"]
    # Another file is another warm start, whatever the cache holds.
    file.write_text(file.read_text().replace("right", "left"))
    again = lapwing.train(str(recipe), run=tmp_path / "again")
    assert not read_json(again.path / "manifest.json")["warm_start_cached"]


@pytest.mark.slow
def test_a_run_with_actors_equals_one_without(small, tmp_path):
    short = [*small, "iterations=2", "warm_start.iterations=1", "evaluation.episodes=4", "optimizer.epochs=1"]
    local = lapwing.train("frozen_lake_tiny", run=tmp_path / "local", overrides=short)
    spread = lapwing.train(
        "frozen_lake_tiny",
        run=tmp_path / "ray",
        overrides=[*short, "collector.name=ray", "warm_start.collector.name=local"],
    )
    one, two = (read_json_lines(run.path / "metrics.jsonl") for run in (local, spread))
    assert [row["rollout/tokens"] for row in one] == [row["rollout/tokens"] for row in two]
    for name in ("rollout/return_mean", "update/loss", "update/gradient_norm", "policy/entropy"):
        assert [row[name] for row in one] == pytest.approx([row[name] for row in two], abs=1e-5)
    assert two[-1]["collector/deaths"] == 0
    assert local.evaluation == spread.evaluation


def test_actors_on_other_devices_have_the_learners_number_format(small, toy_folder):
    own = [change for change in small if not change.startswith("model.")]
    named = [*own, "collector.name=ray", f"model.name={toy_folder('qwen2')}"]
    read = build.read_recipe("frozen_lake_tiny", overrides=named)
    found = build.plan(read)
    shop = build.make_workshop(found[-1], 0)
    shop.model.bfloat16()  # as "auto" makes it on a GPU
    _, model = _in_an_actor(found[-1], dataclasses.replace(shop, origin=build.Origin(build.resolved(read, found))))()
    assert model.dtype == torch.bfloat16
