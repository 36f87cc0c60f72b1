import pytest

from lapwing.core.types import Match
from lapwing.evaluation.evaluate import measure
from lapwing.games.bandit_suite import BanditSuite
from lapwing.games.expert_advice import ExpertAdvice
from lapwing.games.frozen_lake import FrozenLake
from lapwing.policies.baselines import Heuristic, Random
from lapwing.report.regret import regret_figures
from lapwing.rollout.play import play


def measured(game, policy, matches=20):
    episodes = play([Match(game, 0, "test", 0, group, 0, 50) for group in range(matches)], {0: policy})
    return measure(episodes), episodes


def test_the_regret_of_an_episode_is_the_sum_of_what_its_pulls_lost():
    found, episodes = measured(BanditSuite(horizon=12), Random())
    expected = sum(step.parts["regret"] for episode in episodes for step in episode.steps) / 20
    assert found["regret"]["mean"] == pytest.approx(expected)
    assert [point["step"] for point in found["regret_curve"]] == list(range(1, 13))
    assert found["regret_curve"][-1]["mean"] == pytest.approx(expected)
    # Who draws never settles: the growth is a line.
    assert found["regret_growth"]["linear"] * 12 > 0.8 * expected


def test_regret_that_is_known_at_the_end_only_has_no_curve():
    found, episodes = measured(ExpertAdvice(), Random())
    assert found["regret"]["mean"] == pytest.approx(sum(e.steps[-1].parts["regret"] for e in episodes) / 20)
    assert (found["regret_curve"], found["regret_growth"]) == (None, None)


def test_other_games_have_no_regret():
    found, _ = measured(FrozenLake(map_name="4x4"), Random())
    assert (found["regret"], found["regret_curve"], found["regret_growth"]) == (None, None, None)
    assert found["context_tokens_per_step"]["mean"] == 0.0


def test_a_match_of_one_pull_has_a_curve_and_no_growth():
    found, _ = measured(BanditSuite(horizon=1), Random())
    assert len(found["regret_curve"]) == 1
    assert found["regret_growth"] is None


def test_the_chart_has_a_line_for_every_policy_with_regret():
    game = BanditSuite(horizon=8)
    policies = {name: measured(game, policy)[0] for name, policy in (("random", Random()), ("ucb1", Heuristic()))}
    policies["untrained"] = measured(FrozenLake(map_name="4x4"), Random())[0]
    (figure,) = regret_figures({"policies": policies})
    assert "random" in figure.svg
    assert "UCB1" in figure.svg
    assert "untrained" not in figure.svg
    assert regret_figures({"policies": {"untrained": policies["untrained"]}}) == regret_figures(None) == []


def test_context_and_reply_tokens_are_counted_apart(make_agent):
    agent = make_agent(lambda _text, _key: "<action> right </action>")
    found, episodes = measured(FrozenLake(map_name="4x4"), agent, matches=3)
    read = [sum(len(s.decision.context) for s in e.steps) / len(e.steps) for e in episodes]
    assert found["context_tokens_per_step"]["mean"] == pytest.approx(sum(read) / 3)
    assert found["tokens_per_step"]["mean"] == len(episodes[0].steps[0].decision.token) > 1
    assert found["context_tokens_per_step"]["mean"] > found["tokens_per_step"]["mean"]
