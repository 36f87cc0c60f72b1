"""Numbers of episodes, steps and tokens that no machine holds at once."""

from lapwing.build.schema import Checker
from lapwing.build.stage_plan import StagePlan

# More would be drawn, or listed, for longer than anybody waits.
_MOST_EPISODES = 10**6
_MOST_STEPS = 10**6
_MOST_TOKENS = 2**24
_MOST_REPETITIONS = 10_000


def check_counts(checker: Checker, where: str, stage: StagePlan) -> None:
    """Refuse more episodes, steps or tokens than a machine can hold.

    Args:
      checker: collects what is wrong.
      where: the stage's name.
      stage: whose settings.
    """
    sampler, evaluation = stage.sampler.settings, stage.evaluation.settings
    groups = sampler.get("groups", 1) * max(sampler.get("oversample", 1.0), 1.0)
    size = len(sampler.get("openings", ())) * sampler.get("forced", 0) + sampler.get("free", 0)
    episodes = groups * (sampler.get("group_size") or size or 1)
    counts = {
        "sampler.groups times sampler.group_size": (episodes, _MOST_EPISODES),
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
