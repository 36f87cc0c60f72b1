"""Policies that are no language models: random, legal-random, heuristic, optimal, a noisy expert, a person."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Action, Ask, Decision, Memory
from lapwing.policies.parsers import Invalid
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.value_iteration import optimal_policy

_NO_TOKENS = np.zeros(0, dtype=np.int32)
_NO_LOGPROBS = np.zeros(0)


def plain_decision(action: Action, *, valid: bool = True, text: str | None = None, reason: str = "") -> Decision:
    """A decision that came from no language model."""
    return Decision(
        action=action if valid else None,
        valid=valid,
        text=str(action) if text is None else text,
        context=_NO_TOKENS,
        token=_NO_TOKENS,
        logprob=_NO_LOGPROBS,
        reason=reason,
    )


class _Baseline:
    """Decides one ask after the other with `choose`."""

    version = 0

    def choose(self, ask: Ask) -> Action:
        raise NotImplementedError

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Decide every ask."""
        return [(plain_decision(self.choose(ask)), None) for ask in asks]


class Random(_Baseline):
    """Every legal action with the same probability, those that lose at once included."""

    def choose(self, ask: Ask) -> Action:
        """One legal action."""
        return _pick(_legal(ask), ask.key)


class LegalRandom(Random):
    """`Random` under its other name: a random policy never plays what a game does not accept."""


class Heuristic(_Baseline):
    """The game's own simple strategy."""

    def choose(self, ask: Ask) -> Action:
        """What the game's `heuristic` says."""
        heuristic = getattr(ask.game, "heuristic", None)
        if heuristic is None:
            raise UserError(f"{type(ask.game).__name__} has no heuristic; choose another policy.")
        return heuristic(ask.state, ask.player)


class Scripted(_Baseline):
    """The game's scripted opponent, which may draw at random."""

    def choose(self, ask: Ask) -> Action:
        """What the game's `scripted` says."""
        scripted = getattr(ask.game, "scripted", None)
        if scripted is None:
            raise UserError(f"{type(ask.game).__name__} has no scripted opponent; choose another policy.")
        return scripted(ask.state, ask.player, rng.lazy_generator("scripted", ask.key))


class Guess(_Baseline):
    """The game's best guess without doing anything for it: the floor that work has to beat."""

    def choose(self, ask: Ask) -> Action:
        """What the game's `guess` says."""
        guess = getattr(ask.game, "guess", None)
        if guess is None:
            raise UserError(f"{type(ask.game).__name__} has no guess; choose another policy.")
        return guess(ask.state, ask.player)


class Demonstrator(_Baseline):
    """A demonstrator of limited skill at a game with tools, to clone before training."""

    def __init__(self, *, call_share: float = 1.0, query_accuracy: float = 1.0, copy_accuracy: float = 1.0) -> None:
        """Make the policy.

        Args:
          call_share: probability that the first reply is a tool call and not a guess.
          query_accuracy: probability that a call asks the right thing.
          copy_accuracy: probability that an answer after a result is what the result says, and not a guess.

        Raises:
          UserError: one of them is no probability.
        """
        self._shares = {"call_share": call_share, "query_accuracy": query_accuracy, "copy_accuracy": copy_accuracy}
        for name, share in self._shares.items():
            if not 0.0 <= share <= 1.0:
                raise UserError(f"{name} is a probability in [0, 1], not {share}.")

    def choose(self, ask: Ask) -> Action:
        """What the game's `demonstrate` says."""
        demonstrate = getattr(ask.game, "demonstrate", None)
        if demonstrate is None:
            raise UserError(f"{type(ask.game).__name__} has no demonstrations; choose another teacher.")
        return demonstrate(ask.state, ask.player, rng.generator("demonstration", ask.key), **self._shares)


class Optimal(_Baseline):
    """The best action with the steps that are left, solved exactly; for games of one player that can be enumerated.

    Of equally good actions the one that is done sooner is taken, by a discount of 1 − 10⁻⁶.
    """

    def __init__(self, *, max_states: int = 100_000) -> None:
        """Make the policy.

        Args:
          max_states: refuse larger games.
        """
        self.max_states = max_states
        self._solved: dict[Any, tuple[Any, np.ndarray]] = {}
        self._table_of: dict[Any, Any] = {}

    def choose(self, ask: Ask) -> Action:
        """The best action."""
        at = self._table_of.get((ask.game, ask.state))
        if at is None or len(self._solved[at][1]) <= ask.steps_left:
            at = (ask.game, ask.state)
            table = enumerate_game(ask.game, [ask.state], max_states=self.max_states)
            self._solved[at] = (table, optimal_policy(table, ask.steps_left, 1.0 - 1e-6))
            self._table_of.update({(ask.game, state): at for state in table.states})
        table, best = self._solved[at]
        state = table.index[ask.state]
        return table.legal[state][best[ask.steps_left, state]]


class NoisyExpert(_Baseline):
    """An expert whose move is replaced by a random legal one with probability 1 − `expert_share`."""

    def __init__(self, *, expert_share: float = 0.0, expert: str = "optimal") -> None:
        """Make the policy.

        Args:
          expert_share: probability of an expert move, in [0, 1]; 0 is random legal play.
          expert: "optimal" or "heuristic".

        Raises:
          UserError: the share is no probability, or there is no such expert.
        """
        if not 0.0 <= expert_share <= 1.0:
            raise UserError(f"expert_share is a probability in [0, 1], not {expert_share}.")
        if expert not in ("optimal", "heuristic"):
            raise UserError(f"expert is 'optimal' or 'heuristic', not '{expert}'.")
        self.expert_share = expert_share
        self._expert = Optimal() if expert == "optimal" else Heuristic()

    def choose(self, ask: Ask) -> Action:
        """An expert move or a random legal one."""
        if rng.generator("expert", ask.key).random() < self.expert_share:
            return self._expert.choose(ask)
        return _pick(_legal(ask), ask.key)


class Human(_Baseline):
    """A person at a terminal."""

    def __init__(
        self,
        ask_person: Callable[[Ask, str], str],
        *,
        read: Callable[[str, Ask], Action | Invalid] | None = None,
    ) -> None:
        """Make the policy.

        Args:
          ask_person: shows the ask, and why the last answer was refused (empty at first), and returns what was typed.
          read: the action that a typed text stands for, or why it stands for none; `complete` if left out.
        """
        self._ask_person = ask_person
        self._read = read or (lambda text, ask: complete(text, ask.legal))

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Ask until each answer is a legal action."""
        return [(plain_decision(self.choose(ask)), None) for ask in asks]

    def choose(self, ask: Ask) -> Action:
        """The action that the person names."""
        refused = ""
        while True:
            action = self._read(self._ask_person(ask, refused), ask)
            if not isinstance(action, Invalid):
                return action
            refused = action.reason


def complete(text: str, legal: Sequence[Action] | None) -> Action | Invalid:
    """The legal action that begins with what was typed, if there is exactly one; where any text is legal, the text."""
    if legal is None:
        return text.strip() or Invalid("nothing was typed")
    typed = text.strip().lower()
    found = [action for action in legal if str(action).lower().startswith(typed)] if typed else []
    exact = [action for action in found if str(action).lower() == typed]
    if exact or len(found) == 1:
        return (exact or found)[0]
    return Invalid(f"type one of {', '.join(map(str, legal))}")


def _legal(ask: Ask) -> Sequence[Action]:
    if not ask.legal:
        raise UserError(f"{type(ask.game).__name__} lists no legal actions here; a random policy needs them.")
    return ask.legal


def _pick(legal: Sequence[Action], key: int) -> Action:
    return legal[rng.fold(key, "pick") % len(legal)]
