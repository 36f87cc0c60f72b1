"""Bandits over a horizon in words: what was seen, or a summary of it, or what an algorithm makes of it."""

import math
from string import ascii_lowercase
from typing import Literal

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Message
from lapwing.games.bandit_suite import BanditSuiteView
from lapwing.games.contextual_bandit import ContextualBanditView, regression
from lapwing.stats.bandit_index import lin_ucb, ucb1

INSTRUCTIONS = "Pull one arm in each round . Every arm pays around a mean of its own , which is hidden . Earn much ."
_COLOURS = ["blue", "green", "red", "yellow", "purple", "orange", "white", "black", "pink", "brown"]
# What an arm is called, and what the rules say.
_SCENARIOS = {
    "arms": ("", INSTRUCTIONS),
    "buttons": (
        "button",
        "There are buttons of several colours . Each pays around a mean of its own , which is hidden . Push one in "
        "each round , and earn much .",
    ),
    "videos": (
        "video",
        "Users are shown videos . Each video is liked at a rate of its own , which is hidden . Choose one in each "
        "round , and earn many likes .",
    ),
}
_FIXED = "round of last paid none pulled mean value bonus index new sees + -"
_MOST_NUMBERS = 4000


class Bandits:
    """Shows a bandit: `evidence` says how much of the work is done for the player.

    "last" shows the last payoff only, which with the context policy `transcript` is the raw history. "summary" shows
    how often each arm was pulled and what it paid on average. "guided" shows the exploitation value and the
    exploration bonus of each arm, as UCB1 (LinUCB, where there are features) computes them: EVOLvE's algorithm-guided
    support, whose best action is the largest sum. "index" shows that sum.

    Reference: Nie et al. 2024, "EVOLvE: Evaluating and Optimizing LLMs For Exploration".
      https://arxiv.org/abs/2410.06238
    """

    def __init__(
        self,
        *,
        evidence: Literal["last", "summary", "guided", "index"] = "summary",
        scenario: Literal["arms", "buttons", "videos"] = "arms",
        digits: int = 2,
        instructions: bool | str = False,
        reply_format: str = "",
    ) -> None:
        """Make the renderer.

        Args:
          evidence: "last", "summary", "guided" or "index".
          scenario: "arms", "buttons" (of a colour) or "videos"; the reply is the arm's letter in all of them.
          digits: decimals of payoffs, values and bonuses, 0 to 3; one token each for the tiny model.
          instructions: put the rules, or this text, before the view, as a system message.
          reply_format: what is said after the view, on a line of its own: how to reply.

        Raises:
          UserError: there is no such evidence or scenario, or `digits` is another number.
        """
        if evidence not in ("last", "summary", "guided", "index"):
            raise UserError(f"renderer.evidence is 'last', 'summary', 'guided' or 'index', not '{evidence}'.")
        if scenario not in _SCENARIOS:
            raise UserError(f"renderer.scenario is {', '.join(_SCENARIOS)}, not '{scenario}'.")
        if digits not in (0, 1, 2, 3):
            raise UserError(f"renderer.digits is 0 to 3, not {digits}.")
        self.evidence = evidence
        self.scenario = scenario
        self.digits = digits
        self.instructions = instructions
        self.reply_format = reply_format

    def messages(self, view: BanditSuiteView | ContextualBanditView) -> list[Message]:
        """The messages that show a view.

        Raises:
          UserError: the view is of another game.
        """
        text = self._text(view)
        user = Message(role="user", content=f"{text}\n{self.reply_format}" if self.reply_format else text)
        said = self._rules()
        return [Message(role="system", content=said), user] if said else [user]

    def words(self, view: BanditSuiteView | ContextualBanditView) -> set[str]:
        """The words that views like this one may need; more than 4,000 numbers are not listed, round them."""
        said = " ".join([self._rules(), self.reply_format, *self._names(_num_arms(view)), _FIXED]).split()
        rounds = {str(number) for number in range(view.horizon + 1)}
        return set(said) | rounds | self._numbers(view)

    def _rules(self) -> str:
        if isinstance(self.instructions, str):
            return self.instructions
        return _SCENARIOS[self.scenario][1] if self.instructions else ""

    def _text(self, view: BanditSuiteView | ContextualBanditView) -> str:
        if not isinstance(view, (BanditSuiteView, ContextualBanditView)):
            raise UserError(
                f"The renderer 'bandits' shows bandit_suite and contextual_bandit, not a {type(view).__name__}; choose "
                "'grid' or 'coordinates'."
            )
        names = self._names(_num_arms(view))
        parts = [f"round {view.pull if isinstance(view, BanditSuiteView) else view.round} of {view.horizon}"]
        if isinstance(view, ContextualBanditView):
            parts.append("sees " + " ".join("+" if x > 0 else "-" for x in view.context))
        if self.evidence == "last":
            arm = view.last_arm
            parts.append("last none" if arm < 0 else f"last {names[arm]} paid {self._number(view.last_payoff)}")
        elif self.evidence == "summary":
            counts, totals = _counts(view)
            parts += [
                f"{name} pulled {n} mean {self._number(total / n) if n else 'none'}"
                for name, n, total in zip(names, counts, totals, strict=True)
            ]
        else:
            parts += [self._guide(name, *found) for name, *found in zip(names, *_index(view), strict=True)]
        return " ".join(parts)

    def _guide(self, name: str, value: float, bonus: float) -> str:
        if self.evidence == "index":
            return f"{name} index {'new' if math.isinf(bonus) else self._number(value + bonus)}"
        return f"{name} value {self._number(value)} bonus {'new' if math.isinf(bonus) else self._number(bonus)}"

    def _names(self, count: int) -> list[str]:
        """What the arms are called: the letter of the reply, and the scenario's name after it."""
        noun = _SCENARIOS[self.scenario][0]
        letters = ascii_lowercase[:count]
        if self.scenario == "buttons":
            return [f"{letter} {_COLOURS[i % len(_COLOURS)]} {noun}" for i, letter in enumerate(letters)]
        return [f"{letter} {noun}" if noun else letter for letter in letters]

    def _number(self, number: float) -> str:
        return f"{round(number, self.digits) + 0.0:.{self.digits}f}"

    def _numbers(self, view: BanditSuiteView | ContextualBanditView) -> set[str]:
        """Every number that may be shown."""
        is_guided = self.evidence in ("guided", "index")
        if isinstance(view, BanditSuiteView):
            low, high = min(view.lowest, 0.0), view.highest
            high += view.scale * math.sqrt(2.0 * math.log(view.horizon + 1)) if is_guided else 0.0
        else:
            # A regression may leave the range of what was paid; a bonus is at most √d.
            low, high = (-1.0, 2.0 + math.sqrt(len(view.context) + 1)) if is_guided else (0.0, 1.0)
        step = 10.0**-self.digits
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first > _MOST_NUMBERS:
            return set()
        return {self._number(number * step) for number in range(first, last + 1)}


def _num_arms(view: BanditSuiteView | ContextualBanditView) -> int:
    return len(view.counts if isinstance(view, BanditSuiteView) else view.gram)


def _counts(view: BanditSuiteView | ContextualBanditView) -> tuple[list[int], list[float]]:
    """How often each arm was pulled and what it paid in all."""
    if isinstance(view, BanditSuiteView):
        return list(view.counts), list(view.totals)
    # The first feature is always 1: its sums count pulls and payoffs.
    return [row[0] for row in view.gram], [float(row[0]) for row in view.moment]


def _index(view: BanditSuiteView | ContextualBanditView) -> tuple[np.ndarray, np.ndarray]:
    """Exploitation value and exploration bonus of every arm."""
    if isinstance(view, BanditSuiteView):
        return ucb1(np.array(view.counts), np.array(view.totals), scale=view.scale)
    return lin_ucb(*regression(view))


_PLAIN = Bandits()


def text(view: BanditSuiteView | ContextualBanditView) -> str:
    """The summary, for renderers that know no other choice."""
    return _PLAIN.messages(view)[0]["content"]


def words(view: BanditSuiteView | ContextualBanditView) -> set[str]:
    """The words of the summary."""
    return _PLAIN.words(view)
