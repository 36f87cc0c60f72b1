"""Numbers of episodes, steps and tokens that no machine holds at once."""

import math
from collections.abc import Mapping
from typing import Any

from lapwing.build.schema import Checker
from lapwing.build.stage_plan import StagePlan

# More would be drawn, or listed, for longer than anybody waits.
_MOST_EPISODES = 10**6
_MOST_STEPS = 10**6
_MOST_TOKENS = 2**24
_MOST_REPETITIONS = 10_000


def most_episodes(sampler: Mapping[str, Any]) -> int:
    """The most episodes that an iteration plays, with all that reviews may ask for.

    Args:
      sampler: settings of one.
    """
    rounds = sampler.get("max_rounds", 1) + len(sampler.get("levels", ()))
    drawn = math.ceil(sampler.get("groups", 1) * max(sampler.get("oversample", 1.0), 1.0))
    return drawn * rounds * _group_size(sampler)


def _group_size(sampler: Mapping[str, Any]) -> int:
    modes = len(sampler.get("openings", ())) * sampler.get("forced", 0) + sampler.get("free", 0)
    return sampler.get("group_size") or modes or 1


def check_counts(checker: Checker, where: str, stage: StagePlan) -> None:
    """Refuse more episodes, steps or tokens than a machine can hold.

    Args:
      checker: collects what is wrong.
      where: the stage's name.
      stage: whose settings.
    """
    sampler, evaluation = stage.sampler.settings, stage.evaluation.settings
    groups = sampler.get("groups", 1)
    counts = {
        "sampler.groups times sampler.group_size": (groups * _group_size(sampler), _MOST_EPISODES),
        "what an iteration may play in all rounds of sampler.max_rounds": (most_episodes(sampler), 10 * _MOST_EPISODES),
        "sampler.groups times sampler.candidates": (groups * sampler.get("candidates", 1), _MOST_EPISODES),
        "sampler.max_steps": (sampler["max_steps"], _MOST_STEPS),
        "evaluation.episodes": (evaluation["episodes"], _MOST_EPISODES),
        "evaluation.development_episodes": (evaluation["development_episodes"], _MOST_EPISODES),
        "evaluation.max_steps": (evaluation["max_steps"] or 1, _MOST_STEPS),
        "sampler.branches": (sampler.get("branches", 1), _MOST_REPETITIONS),
    }
    for name in ("max_tokens", "row_tokens", "batch_tokens"):
        counts[f"generation.{name}"] = stage.generation.settings.get(name, 1), _MOST_TOKENS
    learners = [("optimizer", stage.optimizer), *((f"annotate.{part.name}", part) for part in stage.annotate)]
    for section, part in learners:
        for name in ("epochs", "minibatches"):
            counts[f"{section}.{name}"] = part.settings.get(name, 1), _MOST_REPETITIONS
    for name, (number, most) in counts.items():
        if number > most:
            checker.errors.append(f"{where}: {name} is at most {most:,}, not {number:,.0f}.")
