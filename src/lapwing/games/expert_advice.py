"""Prediction with expert advice: the same choice again and again, with every alternative's loss shown afterwards."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import ClassVar, Literal

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Transition

_MOST_EXPERTS = 6


@dataclass(frozen=True, slots=True)
class ExpertAdviceState:
    """The round, every expert's summed loss, the player's, and which expert has which chance of a loss."""

    round: int
    losses: tuple[int, ...]
    own: int
    means: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ExpertAdviceView:
    """The round of how many, and what each expert lost so far."""

    round: int
    rounds: int
    losses: tuple[int, ...]


@dataclass(frozen=True)
class ExpertAdvice:
    """Follow one of several experts in each round; the loss of a round is 0 or 1, and all experts' losses are shown.

    | action | meaning |
    | --- | --- |
    | a, b, c, … | follow the first, second, third, … expert in this round |

    View: the round, the number of rounds, and the summed loss of each expert.

    Start: with `process = "random"` the chances of a loss are dealt to the experts anew in every match, and each
    round's losses are drawn from them. With `process = "leader_set"` the losses are set against whoever follows the
    leader: in every round the expert with the least summed loss, the first of several, loses 1 and all others 0.

    Reward: −(loss of the expert that was followed), in each round. The outcome at the end is the summed loss of the
    best expert, so that

        return = min_a Σ_t l_{t,a} − Σ_t l_{t,a_t} = −regret

    It is a success if the player lost no more than the best expert. The parts `loss` and, in the last round, `regret`
    tell what was lost.

    Reference: Park et al. 2024, "Do LLM Agents Have Regret? A Case Study in Online Learning and Games".
      https://arxiv.org/abs/2403.16843; Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", chapter 2.

    Attributes:
      means: each expert's chance of a loss in a round, in [0, 1]; 2 to 6 experts. Who has which is dealt.
      rounds: of a match, 1 to 64.
      process: "random" or "leader_set".
    """

    means: tuple[float, ...] = (0.2, 0.6)
    rounds: int = 8
    process: Literal["random", "leader_set"] = "random"

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True
    reward_range: ClassVar[tuple[float, float]] = (-1.0, 0.0)

    def __post_init__(self) -> None:
        means = tuple(float(mean) for mean in self.means)
        if not 2 <= len(means) <= _MOST_EXPERTS:
            raise UserError(f"There are 2 to {_MOST_EXPERTS} experts, not {len(means)}; set game.means.")
        for mean in means:
            if not 0.0 <= mean <= 1.0:
                raise UserError(f"An expert loses with a chance in [0, 1], not {mean}; set game.means.")
        if not 1 <= self.rounds <= 64:
            raise UserError(f"A match has 1 to 64 rounds, not {self.rounds}; set game.rounds.")
        if self.process not in ("random", "leader_set"):
            raise UserError(f"game.process is 'random' or 'leader_set', not '{self.process}'.")
        object.__setattr__(self, "means", means)

    @property
    def null_ceiling(self) -> float:
        """What who draws an expert, or always follows the same, gets at most: never less regret than this.

        Where the chances are dealt, an expert that was chosen blindly loses mean(means) a round, and the best one at
        most min(means). Against the leader each expert loses every n-th round.
        """
        if self.process == "leader_set":
            return self.rounds // len(self.means) - self.rounds / len(self.means)
        return self.rounds * (min(self.means) - sum(self.means) / len(self.means))

    def initial(self, rng: np.random.Generator) -> ExpertAdviceState:
        """Deal the chances."""
        return self._start(tuple(self.means[i] for i in rng.permutation(len(self.means))))

    def initial_outcomes(self) -> list[tuple[float, ExpertAdviceState]]:
        """Every way to deal the chances that differs from the others."""
        dealt = list(itertools.permutations(self.means)) if self.process == "random" else [self.means]
        return [(dealt.count(means) / len(dealt), self._start(means)) for means in dict.fromkeys(dealt)]

    def players(self, state: ExpertAdviceState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: ExpertAdviceState, player: int) -> ExpertAdviceView:
        """What was lost so far, not the chances."""
        return ExpertAdviceView(state.round, self.rounds, state.losses)

    def legal(self, state: ExpertAdviceState, player: int) -> tuple[str, ...]:
        """One letter per expert."""
        return tuple(ascii_lowercase[: len(self.means)])

    def step(self, state: ExpertAdviceState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Draw the losses of a round."""
        if self.process == "leader_set":
            return self._lost(state, actions[0], self._against_leader(state))
        drawn = rng.random(len(self.means))
        return self._lost(state, actions[0], tuple(int(u < mean) for u, mean in zip(drawn, state.means, strict=True)))

    def outcomes(self, state: ExpertAdviceState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """Every vector of losses that may come."""
        if self.process == "leader_set":
            return [(1.0, self._lost(state, actions[0], self._against_leader(state)))]
        found = []
        for losses in itertools.product((0, 1), repeat=len(self.means)):
            chance = math.prod(m if loss else 1.0 - m for m, loss in zip(state.means, losses, strict=True))
            if chance > 0.0:
                found.append((chance, self._lost(state, actions[0], losses)))
        return found

    def heuristic(self, state: ExpertAdviceState, player: int) -> str:
        """Follow the leader: the expert that lost least so far, the first of several."""
        return ascii_lowercase[state.losses.index(min(state.losses))]

    def words(self) -> list[str]:
        """The names of the experts, and the numbers up to the rounds."""
        return [*ascii_lowercase[: len(self.means)], *(str(number) for number in range(self.rounds + 1))]

    def _start(self, means: tuple[float, ...]) -> ExpertAdviceState:
        own = self.means if self.process == "leader_set" else means
        return ExpertAdviceState(0, (0,) * len(means), 0, own)

    def _against_leader(self, state: ExpertAdviceState) -> tuple[int, ...]:
        leader = state.losses.index(min(state.losses))
        return tuple(int(expert == leader) for expert in range(len(self.means)))

    def _lost(self, state: ExpertAdviceState, action: str, losses: tuple[int, ...]) -> Transition:
        loss = losses[ascii_lowercase.index(action)]
        summed = tuple(before + now for before, now in zip(state.losses, losses, strict=True))
        following = ExpertAdviceState(state.round + 1, summed, state.own + loss, state.means)
        best = min(summed)
        if following.round < self.rounds:
            return Transition(following, {0: -float(loss)}, parts={"loss": float(loss)})
        return Transition(
            following,
            {0: -float(loss)},
            terminated=True,
            success={0: following.own <= best},
            outcome={0: float(best)},
            parts={"loss": float(loss), "regret": float(following.own - best)},
        )
