"""Load, play and evaluate policies."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lapwing import build
from lapwing.api.loading import plan_and_shop
from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Ask, Decision, Episode, Match, View


def load(
    run_or_model: str | Path,
    *,
    game: str | None = None,
    greedy: bool = False,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> "LoadedPolicy":
    """Load a trained policy.

    Args:
      run_or_model: the folder of a run, a Hugging Face folder, or a hub id.
      game: which game a model that comes from no run is to play.
      greedy: take the most probable token.
      allow_code: packages outside Lapwing whose code the run's recipe may name.
      trust_remote_code: run code that comes with a pretrained model.

    Raises:
      UserError: there is no such run or model.
    """
    plan, shop = plan_and_shop(str(run_or_model), game, (), allow_code=allow_code, trust_remote_code=trust_remote_code)
    agent = build.make_agent(plan, shop)
    return LoadedPolicy(build.greedy(agent) if greedy else agent, build.make_game(plan.game))


class LoadedPolicy:
    """A policy together with the game that it plays."""

    def __init__(self, policy: Policy, game: Game) -> None:
        """Put the two together."""
        self.policy = policy
        self.game = game
        self.version = policy.version

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Any]]:
        """Decide every ask."""
        return self.policy.act_many(asks)

    def act(self, view: View, *, legal: Sequence[Any] | None = None, seed: int = 0) -> Decision:
        """Decide once, from a view alone.

        Args:
          view: what the player sees.
          legal: the legal actions; left out, those of the start of the game.
          seed: of the reply.
        """
        if legal is None:
            legal = self.game.legal(self.game.initial(rng.generator("act")), 0)
        key = rng.fold(0, "act", seed)
        ask = Ask(view=view, legal=legal, memory=None, key=key, game=self.game, state=None, player=0, steps_left=1)
        return self.policy.act_many([ask])[0][0]


def play(
    game: Game, policies: Policy | Mapping[int, Policy], seed: int = 0, *, max_steps: int = 100, split: str = "test"
) -> list[Episode]:
    """Play one match.

    Args:
      game: what is played.
      policies: the policy of each seat, or of the only one.
      seed: of the match.
      max_steps: step cap.
      split: of the starts.

    Returns:
      The episode of each seat.
    """
    from lapwing.games.game import for_split
    from lapwing.rollout.play import play as play_matches

    seats = policies if isinstance(policies, Mapping) else {0: policies}
    match = Match(
        game=for_split(game, split), seed=seed, split=split, iteration=0, group=0, member=0, max_steps=max_steps
    )
    return play_matches([match], seats, learners=sorted(seats))


def evaluate(
    run_or_model: str | Path,
    *,
    game: str | None = None,
    overrides: Sequence[str] = (),
    episodes: int = 500,
    seed: int | None = None,
    baselines: bool = False,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Measure a run or a model on test matches.

    Args:
      run_or_model: the folder of a run, a Hugging Face folder, or a hub id.
      game: another game for the same weights.
      overrides: `section.key=value`, as `game.size=5` or `sampler.max_steps=30`.
      episodes: number of matches.
      seed: of the matches; the run's evaluation seed if left out.
      baselines: measure random, heuristic and optimal play too.
      allow_code: packages outside Lapwing whose code the run's recipe may name.
      trust_remote_code: run code that comes with a pretrained model.

    Returns:
      The object of `lapwing eval --json`, with `references` where anything is known of the game's returns; with `usage`
      (requests, tokens, cost) where a server was asked.

    Raises:
      UserError: there is no such run, model, game or setting.
    """
    if episodes < 1:
        raise UserError(f"An evaluation needs at least 1 episode, not {episodes}.")
    if seed is not None:
        build.checked_seed(seed)
    plan, shop = plan_and_shop(
        str(run_or_model), game, overrides, allow_code=allow_code, trust_remote_code=trust_remote_code
    )
    agent = build.make_agent(plan, shop)
    policies: dict[str, Policy] = {"trained": agent, "trained_greedy": build.greedy(agent)}
    untrained = Path(run_or_model) / "checkpoints" / "0" / "model"
    if untrained.is_dir() and not build.is_served(plan):
        before = build.make_earlier_workshop(plan, shop, untrained, trust_remote_code=trust_remote_code)
        policies["untrained"] = build.make_agent(plan, before)
    if baselines:
        policies |= build.make_baselines(plan)
    result = with_references(plan, measure(plan, policies, episodes=episodes, seed=seed))
    return {**result, "usage": agent.client.spent()} if build.is_served(plan) else result


def with_references(plan: build.StagePlan, result: dict[str, Any], *, max_steps: int | None = None) -> dict[str, Any]:
    """An evaluation with what its returns are to be held against: `opponents` and `references`, where there are any.

    Args:
      plan: whose game and opponents.
      result: what `measure` found.
      max_steps: of the matches; the plan's if left out.
    """
    from lapwing.evaluation.references import references

    fixed = build.against_fixed(plan)
    found = references(
        build.make_game(plan.game),
        opponents=build.make_opponents(fixed),
        seed=result["seed"],
        max_steps=max_steps or _max_steps(plan),
    )
    opponents = {str(seat): part.name for seat, part in sorted(fixed.opponents.items())}
    return {**result, **({"opponents": opponents} if opponents else {}), **({"references": found} if found else {})}


def _max_steps(plan: build.StagePlan) -> int:
    return plan.evaluation.settings["max_steps"] or plan.sampler.settings["max_steps"]


def measure(
    plan: build.StagePlan,
    policies: Mapping[str, Policy],
    *,
    episodes: int,
    seed: int | None = None,
    split: str = "test",
    max_steps: int | None = None,
    team: Any = None,
    safe_point: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Measure policies on the matches of a split, as the plan's evaluation says.

    Args:
      plan: whose game and evaluation settings.
      policies: by name.
      episodes, seed, split, max_steps: of the matches; seed and step cap default to the plan's.
      team: the processes that play the matches together; None for this one alone.
      safe_point: is called now and then; it may raise.
    """
    from lapwing.evaluation.evaluate import evaluate as measure_all

    settings = plan.evaluation.settings
    return measure_all(
        policies,
        build.make_game(plan.game),
        name=plan.game.name,
        play=build.make_play(plan, team, safe_point=safe_point),
        split=split,
        seed=settings["seed"] if seed is None else seed,
        episodes=episodes,
        max_steps=max_steps or _max_steps(plan),
    )
