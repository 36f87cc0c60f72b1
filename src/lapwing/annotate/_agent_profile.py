"""What a language agent does in every information set of a game, in every seat, as exact probabilities."""

import numpy as np
import torch

from lapwing.annotate._action_distribution import ActionDistribution
from lapwing.annotate._truth import check_direct
from lapwing.core.errors import UserError
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.tabular.extensive import ExtensiveGame


def agent_profile(
    model: torch.nn.Module, agent: Agent, table: ExtensiveGame, invalid: InvalidRule
) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each choice if one agent plays all seats, what its invalid replies lead to included.

    With probability q of an invalid reply, π(a) of the action's replies, and k retries:

        "default", "random_legal"   π(a) + q d(a)                                   d: what is played instead
        "retry"                     π(a) (1 + q + … + q^k) + q^{k+1} d(a)

    Args:
      model: the causal language model that the agent samples from.
      agent: reads nothing but the current view, and replies without thinking first.
      table: the enumerated game.
      invalid: what happens to invalid replies; penalties change no play.

    Returns:
      float64 [Q], and the probability of an invalid reply in each information set, float64 [V].

    Raises:
      UserError: the agent's decisions are no function of the view, or cannot be read off the model; or an invalid reply
        ends the match, which no legal action does.
    """
    check_direct(
        agent.parser,
        agent.context,
        taught=agent.teacher is not None,
        greedy=getattr(agent.generator, "greedy", False),
    )
    if invalid.rule == "forfeit":
        raise UserError(
            "An invalid reply that ends the match is no move of the game, so that the exact answer for several players "
            "has no place for it; choose policy.invalid = 'default', 'random_legal' or 'retry'."
        )
    width = int(np.diff(table.choice_splits).max())
    rows = ActionDistribution(model, agent).probabilities(list(table.views), list(table.legal), width)
    wrong = rows[:, -1]
    first = np.diff(table.choice_splits)[table.set_of_choice]
    position = np.arange(table.num_choices) - table.choice_splits[:-1][table.set_of_choice]
    intended = rows[table.set_of_choice, position]
    instead = 1.0 / first if invalid.rule == "random_legal" else _defaults(table, invalid)
    tries = invalid.retries + 1 if invalid.rule == "retry" else 1
    again = (wrong[:, None] ** np.arange(tries)).sum(axis=1)[table.set_of_choice]
    profile = intended * again + (wrong**tries)[table.set_of_choice] * instead
    total = np.add.reduceat(profile, table.choice_splits[:-1])
    return profile / total[table.set_of_choice], wrong


def _defaults(table: ExtensiveGame, invalid: InvalidRule) -> np.ndarray:
    """[Q] 1 for the action that is played in place of an invalid reply."""
    found = np.zeros(table.num_choices)
    for legal, low in zip(table.legal, table.choice_splits[:-1].tolist(), strict=True):
        found[low + legal.index(invalid.action(legal, 0))] = 1.0
    return found
