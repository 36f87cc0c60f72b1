import numpy as np
import pytest

from lapwing import build
from lapwing.annotate._agent_profile import agent_profile
from lapwing.build.stage_plan import invalid_settings
from lapwing.core.errors import UserError
from lapwing.core.types import Match
from lapwing.games.kuhn_poker import KuhnPoker
from lapwing.policies.agent import InvalidRule
from lapwing.rollout.play import play
from lapwing.tabular.extensive import extensive_game
from lapwing.tabular.profile_values import expected_values

TABLE = extensive_game(KuhnPoker())
SMALL = ("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32")


def parts_of(*overrides):
    """Plan, model, agent and rule of the Kuhn recipe with fresh weights, which know nothing of the reply format."""
    plan = build.plan(build.read_recipe("kuhn_poker_tiny", overrides=[*SMALL, *overrides]))[-1]
    shop = build.make_workshop(plan, 0)
    return shop.model, build.make_agent(plan, shop), InvalidRule(**invalid_settings(plan.policy))


RULES = [
    ("policy.invalid=random_legal",),
    ("policy.invalid=default", "policy.default_action=bet"),
    ("policy.invalid=retry", "policy.retries=2"),
]


@pytest.mark.parametrize("rule", RULES)
def test_it_is_what_the_agent_does_in_play(rule):
    model, agent, invalid = parts_of(*rule)
    profile, wrong = agent_profile(model, agent, TABLE, invalid)
    # Fresh weights: most replies stand for no action, so that the rule decides most moves.
    assert wrong.min() > 0.5
    matches = [Match(KuhnPoker(), 0, "test", 0, number, 0, 3, share_chance=False) for number in range(1500)]
    episodes = play(matches, {0: agent, 1: agent}, learners=(0, 1), invalid=invalid)
    at = {(seat, view): number for number, (seat, view) in enumerate(zip(TABLE.seat, TABLE.views, strict=True))}
    counts = np.zeros(TABLE.num_choices)
    for episode in episodes:
        for step, following in zip(episode.steps, [*episode.steps[1:], None], strict=True):
            if following is None or following.view != step.view:  # a retry is asked again at the same view
                number = at[episode.player, step.view]
                counts[TABLE.choice_splits[number] + TABLE.legal[number].index(step.action)] += 1
    total = np.add.reduceat(counts, TABLE.choice_splits[:-1])[TABLE.set_of_choice]
    met = total > 100
    assert met.sum() >= 20
    error = np.sqrt(profile * (1 - profile) / np.maximum(total, 1))
    assert (np.abs(counts / np.maximum(total, 1) - profile)[met] < 4.5 * error[met] + 1e-9).all()
    returns = np.array([episode.domain_return for episode in episodes if episode.player == 0])
    assert abs(returns.mean() - expected_values(TABLE, profile)[0]) < 4 * returns.std() / np.sqrt(len(returns))


def test_the_rules_by_hand():
    model, agent, _ = parts_of()
    legal, wrong = agent_profile(model, agent, TABLE, InvalidRule("random_legal"))
    default, _ = agent_profile(model, agent, TABLE, InvalidRule("default", default_action="pass"))
    retry, _ = agent_profile(model, agent, TABLE, InvalidRule("retry", default_action="pass", retries=1))
    q, low = wrong[0], TABLE.choice_splits[0]
    intended = legal[low : low + 2] - q / 2
    np.testing.assert_allclose(intended.sum(), 1 - q)
    np.testing.assert_allclose(default[low : low + 2], intended + np.array([q, 0.0]))
    np.testing.assert_allclose(retry[low : low + 2], intended * (1 + q) + np.array([q * q, 0.0]))


def test_what_is_no_function_of_the_view_is_refused():
    model, agent, _ = parts_of()
    with pytest.raises(UserError, match="ends the match"):
        agent_profile(model, agent, TABLE, InvalidRule("forfeit"))
    model, agent, rule = parts_of("policy.context={name='transcript'}")
    with pytest.raises(UserError, match="reads the current state only"):
        agent_profile(model, agent, TABLE, rule)
