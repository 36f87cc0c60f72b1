"""Starts of medium difficulty, by an online estimate of success."""

import numpy as np

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.protocols import Game
from lapwing.core.types import Group, Match, Verdict
from lapwing.games.game import initial_state
from lapwing.samplers._estimator import Estimator
from lapwing.samplers.grouped import Grouped

# Places that the features of all starts are hashed to.
_FEATURES = 4096


class Pcl(Grouped):
    """Draws `candidates` times as many starts as it plays, and plays those whose expected success is nearest `target`.

        play the m starts x that minimise |V(x) − τ| among the k · m candidates;   V learns from their mean outcome

    A share of the groups, `uniform`, is drawn from the other candidates by chance, because V sees only what it selects.
    Ties are broken by chance. V is a logistic regression on hashed features of what the policy sees at the start; it
    learns after an iteration, so that it lags one behind. Of candidates only the initial state is made. They are starts
    of the training split alone: those of the evaluation are never among them.

    The authors read V off a language model; the light estimator is Lapwing's choice.

    Provenance: formula from a paper note; code not seen.

    Reference: "Prompt Curriculum Learning for Efficient LLM Post-Training". https://arxiv.org/abs/2510.01135
    """

    def __init__(
        self,
        game: Game,
        *,
        seed: int,
        groups: int = 16,
        group_size: int = 16,
        max_steps: int = 20,
        share_chance: bool = True,
        candidates: int = 4,
        target: float = 0.5,
        uniform: float = 0.1,
        low: float = 0.0,
        high: float = 1.0,
        rate: float = 0.3,
    ) -> None:
        """Make the sampler.

        Args:
          game: what is played; its starts can be looked at without being played.
          seed, group_size, max_steps, share_chance: as for `grouped`.
          groups: m, played in an iteration.
          candidates: k, starts that are looked at for each one that is played, at least 1.
          target: τ, the expected success that is sought, in [0, 1].
          uniform: share of the groups that are drawn by chance, in [0, 1].
          low, high: returns that count as 0 and as 1 where the game has no notion of success; others are cut there.
          rate: of the estimator's learning, above 0.

        Raises:
          UserError: a size is impossible, or a state of the game is a handle that can be used only once.
        """
        super().__init__(
            game, seed=seed, groups=groups, group_size=group_size, max_steps=max_steps, share_chance=share_chance
        )
        if not game.restorable:
            raise UserError(
                f"{type(game).__name__}'s starts cannot be looked at without being played; take the sampler 'grouped'."
            )
        if candidates < 1:
            raise UserError(f"sampler.candidates is at least 1, not {candidates}.")
        for name, value in (("target", target), ("uniform", uniform)):
            if not 0.0 <= value <= 1.0:
                raise UserError(f"sampler.{name} is in [0, 1], not {value}.")
        if not low < high:
            raise UserError(f"sampler.low ({low}) is below sampler.high ({high}).")
        if not rate > 0.0:
            raise UserError(f"sampler.rate is above 0, not {rate}.")
        self.candidates = candidates
        self.target = target
        self.uniform = uniform
        self.low = low
        self.high = high
        self.estimator = Estimator(features=_FEATURES, rate=rate)
        self._drawn: dict[int, tuple[np.ndarray, float]] = {}
        self._errors: list[float] = []

    @property
    def adaptive(self) -> bool:
        """What is drawn depends on what was reviewed."""
        return True

    def draw(self, iteration: int) -> list[Match]:
        """The matches of the chosen candidates, the nearest first."""
        count = self.candidates * self.groups
        starts = [self._group(iteration, number, (iteration, number))[0] for number in range(count)]
        places = [self.estimator.places(self.game.view(initial_state(start), 0)) for start in starts]
        value = np.array([self.estimator.value(place) for place in places])
        random = rng.generator("candidates", self.seed, iteration)
        chosen = choose(value, self.groups, target=self.target, uniform=self.uniform, random=random)
        self._drawn = {group: (places[at], float(value[at])) for group, at in enumerate(chosen)}
        self._errors = []
        return [m for group, at in enumerate(chosen) for m in self._group(iteration, group, (iteration, at))]

    def review(self, group: Group) -> Verdict:
        """Accept the group, and learn from its mean outcome."""
        outcome = self._outcome(group)
        places, expected = self._drawn[group.episodes[0].match.group]
        self._errors.append(abs(expected - outcome))
        self.estimator.learn(places, outcome)
        return Verdict()

    def metrics(self) -> dict[str, float]:
        """What was expected of the groups drawn, and how wrong that was."""
        value = np.array([expected for _, expected in self._drawn.values()])
        return {
            "sampler/value_mean": float(value.mean()),
            "sampler/effective_ratio": float(effective_ratio(value, self.group_size).mean()),
            **({"sampler/value_error": float(np.mean(self._errors))} if self._errors else {}),
        }

    def state(self) -> dict[str, object]:
        """What the estimator learnt."""
        return {**super().state(), "estimator": self.estimator.state()}

    def restore(self, state: dict[str, object]) -> None:
        """Take it back."""
        super().restore(state)
        self.estimator.restore(state["estimator"])  # pyright: ignore[reportArgumentType]

    def _outcome(self, group: Group) -> float:
        if not np.isnan(group.success).any():
            return float(group.success.mean())
        scaled = (group.episode_return - self.low) / (self.high - self.low)
        return float(np.clip(scaled, 0.0, 1.0).mean())


def choose(value: np.ndarray, count: int, *, target: float, uniform: float, random: np.random.Generator) -> list[int]:
    """Numbers of the candidates to play: those nearest the target, the nearest first, and some of the others.

    Args:
      value: expected success of each candidate.
      count: how many to choose, at most as many as there are.
      target: sought.
      uniform: share of them, rounded, that is drawn from those that are not the nearest.
      random: breaks ties and draws.
    """
    by_chance = min(round(uniform * count), len(value) - count)
    shuffled = random.permutation(len(value))
    # Rounding of the difference must not break a tie.
    distance = np.round(np.abs(value - target)[shuffled], 12)
    order = shuffled[np.argsort(distance, kind="stable")]
    nearest, others = order[: count - by_chance], order[count - by_chance :]
    return [*nearest.tolist(), *random.permutation(others)[:by_chance].tolist()]


def effective_ratio(success: np.ndarray | float, members: int) -> np.ndarray:
    """The probability that a group holds both success and failure, 1 − pⁿ − (1 − p)ⁿ.

    Args:
      success: p, of one member.
      members: n.
    """
    p = np.asarray(success, dtype=np.float64)
    return 1.0 - p**members - (1.0 - p) ** members
