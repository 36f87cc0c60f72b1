"""The replay of a run says what happened: probabilities, credit and exact answers, step by step."""

from pathlib import Path

import numpy as np
import pytest

from lapwing import build
from lapwing.api.replay import make_replay
from lapwing.core.errors import UserError

SMALL = (
    *("model.hidden=16", "model.layers=1", "model.heads=2", "model.intermediate=16"),
    *("sampler.group_size=4", "evaluation.replay_groups=2"),
)


def replay_of(recipe, *overrides, names=("trained",)):
    plan = build.plan(build.read_recipe(recipe, overrides=[*SMALL, *overrides]))[-1]
    shop = build.make_workshop(plan, 3)
    # Without a critic nothing of a checkpoint is read but its name.
    return make_replay(plan, {name: (shop, Path("checkpoints/0")) for name in names})


@pytest.fixture(scope="module")
def lake():
    return replay_of("frozen_lake_tiny", names=("trained", "untrained"))


@pytest.fixture(scope="module")
def dialogue():
    return replay_of("search_qa_mt_grpo", "game.entities=60")


def steps_of(replay, policy="trained"):
    return [step for one in replay["policies"][policy]["episodes"] for step in one["steps"]]


# Fails when the choice of a step is that of another state, or the log-probability that of another token.
def test_the_probability_of_the_action_is_that_of_the_sampled_token(lake):
    choices = lake["policies"]["trained"]["choices"]
    valid = [step for step in steps_of(lake) if step["valid"]]
    assert len(valid) > 10
    for step in valid:
        choice = choices[step["choice"]]
        share = choice["probability"][choice["actions"].index(step["action"])]
        assert len(step["tokens"]) == 1
        assert step["tokens"][0].strip() == step["action"]
        # Of all tokens that stand for the action, the sampled one is the greatest part here.
        assert np.exp(step["logprob"][0]) <= share * 1.001
        assert share == pytest.approx(np.exp(step["logprob"][0]), rel=0.05)


def test_probabilities_sum_to_one_and_exact_advantages_to_zero_under_them(lake):
    for choice in lake["policies"]["trained"]["choices"]:
        assert sum(choice["probability"]) == pytest.approx(1.0, abs=2e-3)
        total = sum(p * a for p, a in zip(choice["probability"], choice["exact"], strict=True))
        assert total == pytest.approx(0.0, abs=1e-3)


def test_the_exact_advantage_of_a_step_is_that_of_its_action(lake):
    choices = lake["policies"]["trained"]["choices"]
    for step in steps_of(lake):
        choice = choices[step["choice"]]
        at = choice["actions"].index(step["action"]) if step["valid"] else -1
        assert step["exact"] == pytest.approx(choice["exact"][at], rel=1e-3, abs=1e-6)


# Fails when groups are mixed up, or the methods are listed in another order than their numbers.
def test_credit_is_computed_within_the_groups_that_are_shown(lake):
    names = [method["name"] for method in lake["methods"]]
    assert names[0] == "grpo"
    assert lake["methods"][0]["own"]
    episodes = lake["policies"]["trained"]["episodes"]
    for group in {one["group"] for one in episodes}:
        members = [one for one in episodes if one["group"] == group]
        assert len(members) == 4
        mean = np.mean([one["return"] for one in members])
        for one in members:
            for step in one["steps"]:
                assert step["credit"][names.index("dr_grpo")] == pytest.approx(one["return"] - mean, abs=1e-3)


def test_a_method_that_works_by_token_has_a_number_for_every_token(dialogue):
    names = {method["name"]: at for at, method in enumerate(dialogue["methods"])}
    assert dialogue["methods"][names["reinforce_pp"]]["level"] == "token"
    for step in steps_of(dialogue):
        assert len(step["credit"][names["reinforce_pp"]]) == len(step["tokens"]) == len(step["logprob"])
        assert len(step["entropy"]) == len(step["tokens"])


# Fails when the prompt of a later turn holds the whole transcript again, or a part of it is missing.
def test_a_transcript_is_stored_once(dialogue):
    policy = dialogue["policies"]["trained"]
    long = next(one for one in policy["episodes"] if len(one["steps"]) > 1)
    first, second = long["steps"][:2]
    assert not first["extends"]
    assert second["extends"]
    question = policy["pictures"][first["picture"]]["question"]
    assert question.split()[0] in policy["prompts"][first["prompt"]]
    assert question not in policy["prompts"][second["prompt"]]
    assert "tool" in policy["prompts"][second["prompt"]]
    assert len(policy["pictures"][second["picture"]]["turns"]) == 1


def test_policies_play_the_same_matches(lake):
    def starts(name):
        policy = lake["policies"][name]
        return {
            one["match"]: str(policy["pictures"][one["steps"][0]["picture"]]["cells"]) for one in policy["episodes"]
        }

    assert starts("trained") == starts("untrained")
    assert len(set(starts("trained").values())) == 2


def test_methods_that_are_missing_say_why(lake, dialogue):
    assert "annotate/value" in lake["left_out"]["gae"]
    assert lake["no_exact_answer"] == ""
    assert dialogue["no_exact_answer"]
    assert not any(isinstance(step["exact"], float) for step in steps_of(dialogue))


def test_modulation_is_one_more_method():
    replay = replay_of("frozen_lake_tiny_salt", "evaluation.replay_groups=1")
    assert [method["name"] for method in replay["methods"]][:2] == ["grpo, modulated", "grpo"]
    assert any(step["credit"][0] != step["credit"][1] for step in steps_of(replay))


# Fails when the package of the run's own method is not handed on.
def test_a_method_of_ones_own_comes_first(tmp_path, monkeypatch):
    (tmp_path / "halved_credit.py").write_text(
        'NEEDS = ()\n\n\ndef halved(batch):\n    """Half the return."""\n'
        "    return 0.5 * batch.episode_return[batch.episode_of_step]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "halved_credit:halved"
    recipe = build.read_recipe("frozen_lake_tiny", overrides=[*SMALL, f"credit.name='{name}'"])
    plan = build.plan(recipe, allow_code=("halved_credit",))[-1]
    replay = make_replay(plan, {"trained": (build.make_workshop(plan, 3), Path("checkpoints/0"))})
    assert replay["methods"][0] == {"name": name, "level": "step", "own": True}
    for one in replay["policies"]["trained"]["episodes"]:
        assert {step["credit"][0] for step in one["steps"]} == {one["return"] / 2}


def test_none_is_made_where_none_is_wanted():
    with pytest.raises(UserError, match="replay_groups is 0"):
        replay_of("frozen_lake_tiny", "evaluation.replay_groups=0")
