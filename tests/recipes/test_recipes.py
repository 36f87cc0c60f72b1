"""Every shipped recipe plays and learns, in small; one of each kind runs from end to end."""

import json

import pytest

import lapwing
from lapwing import build
from lapwing.core.storage import read_json, read_json_lines
from lapwing.training.loop import iterate
from lapwing.training.metrics import METRICS, as_described

SHORT = (
    *("iterations=2", "checkpoint_every=1"),
    *("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32"),
    *("sampler.groups=2", "sampler.group_size=4"),
    *("evaluation.episodes=4", "evaluation.development_episodes=4", "evaluation.every=1"),
    "evaluation.replay_groups=1",
)


def short(name):
    """Overrides that make a recipe small, whatever comes before its main stage."""
    before = [stage["name"] for stage in build.read_recipe(name).stages[:-1]]
    first = [f"{stage}.{setting}=2" for stage in before for setting in ("iterations", "sampler.groups")]
    own = ["game.entities=60"] if name.startswith("search_qa") else []
    if name.startswith("textworld"):  # making a game takes seconds
        own = ["game.games=1"]
    if name.endswith("_riskpo"):
        own = ["credit.bundle=2"]
    if name.endswith("_a2fm"):  # its groups are as large as their modes together
        return [*(text for text in SHORT if "group_size" not in text), *first, "sampler.forced=1", "sampler.free=2"]
    return [*SHORT, *first, *own]


# A game, a reply format, a sampler or a kind of annotator that no other of them has. The bandit and the fixed lake are
# run to their report in test_learning.py.
WHOLE = (
    *("frozen_lake_think_tiny", "frozen_lake_slippery_tiny", "snake_5x5_tiny", "snake_10x10_tiny", "key_door_hiper"),
    *("frozen_lake_fixed_gae", "frozen_lake_fixed_oracle", "frozen_lake_fixed_vine"),
    *("search_qa_mt_grpo", "search_qa_mt_ppo", "search_qa_two_hops"),
)


# Those whose play is guided as training is not: what the sampler says is not what the trainer says.
GUIDED = ("frozen_lake_fixed_masked", "frozen_lake_fixed_policy_rollout")

# Those that load a published model.
PRETRAINED = tuple(name for name in build.recipe_names() if "qwen" in name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(build.recipe_names()) - set(WHOLE) - set(PRETRAINED)))
def test_a_recipe_plays_and_learns_for_two_iterations(name, tmp_path):
    plans = build.plan(build.read_recipe(name, overrides=short(name)))
    shop = build.make_workshop(plans[-1], 0)
    shop.model.save_pretrained(tmp_path)
    for plan in plans:
        stage = build.make_stage(plan, shop)
        stage.load(0)
        stage.annotators = stage.make_annotators(tmp_path) if plan.name == "main" else []
        rows = list(iterate(stage, stage.make_learner(), 0, lambda _: None))
        assert [row["iteration"] for row in rows] == [0, 1]
        assert not any("fault" in row for row in rows)
        assert plan.name != "main" or name in GUIDED or all(row.get("policy/gap_max", 0.0) < 1e-4 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_runs_to_its_report(name, tmp_path):
    run = lapwing.train(name, run=tmp_path / name, overrides=short(name))
    assert read_json(run.path / "manifest.json")["status"] == "finished"
    rows = read_json_lines(run.path / "metrics.jsonl")
    assert [row["stage"] for row in rows] == [stage["name"] for stage in build.read_recipe(name).stages for _ in "12"]
    named = {as_described(key) for row in rows for key in row}
    assert named <= set(METRICS) | {"stage", "iteration"}
    # A random policy needs legal actions to choose from; a dialogue has none, but a guess.
    floor = "guess" if name.startswith("search_qa") else "random"
    assert {"trained", "trained_greedy", "untrained", floor, "heuristic"} <= set(run.evaluation["policies"])
    assert json.loads((run.path / "evaluation.json").read_text("utf-8")) == run.evaluation
    assert name in (run.path / "report.html").read_text("utf-8")
    assert (run.model / "model.safetensors").is_file()
    replay = read_json(run.path / "replay.json")
    own = replay["methods"][0]
    assert own["own"]
    assert own["name"].partition(",")[0] == build.plan(build.read_recipe(name))[-1].credit.name
    assert set(replay["policies"]) == {"trained", "untrained"}
    assert all(one["episodes"] for one in replay["policies"].values())
    # Every recipe promises exact on-policy updates: what the sampler and the trainer think of a token is the same.
    assert all(row.get("policy/gap_max", 0.0) < 1e-4 for row in rows if row["stage"] == "main")


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
def test_a_recipe_for_a_published_model_runs_with_a_toy_in_its_place(name, toy_folder, tmp_path):
    settings = [
        *(f"model.name={toy_folder('qwen2')}", "model.dtype=float32", "generation.max_tokens=12"),
        *("iterations=2", "checkpoint_every=1", "sampler.groups=2", "sampler.group_size=4"),
        *("evaluation.episodes=4", "evaluation.development_episodes=4", "evaluation.every=1"),
        *(["game.entities=60"] if name.startswith("search_qa") else []),
    ]
    run = lapwing.train(name, run=tmp_path / name, overrides=settings)
    rows = read_json_lines(run.path / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [0, 1]
    assert not any("fault" in row for row in rows)
    # After the first update of an iteration the weights are others than those that played.
    assert all(row.get("policy/gap_max", 0.0) < 1e-3 for row in rows)
    assert {"trained", "trained_greedy", "untrained"} <= set(run.evaluation["policies"])
