"""Lapwing's own loop."""

from collections.abc import Callable, Sequence
from typing import Any

import lake

from lapwing import build
from lapwing.training.loop import iterate


def make(
    maps: str = "fixed",
    context: str = "transcript",
    learning_rate: float = lake.FROZEN,
    seed: int = 0,
    learnt: bool = False,
    updates: int = 1,
    every_token: bool = False,
    share: bool = True,
    settings: Sequence[str] = (),
) -> Callable[..., dict[str, float]]:
    """A function that plays and learns for some iterations, or evaluates the weights.

    Args:
      maps: "fixed" or "random".
      context: "transcript" or "state_only".
      learning_rate: of AdamW, constant.
      seed: of the matches and of sampling.
      learnt: begin with the weights of a policy that has become narrow.
      updates: iterations of one unit of work.
      every_token: train on all episodes, as the peers do, also on those of groups without spread, whose gradient is 0
        and which the learner leaves out.
      share: compute the beginnings that sequences share once, and keep keys and values for the next turn.
      settings: further overrides of the recipe.
    """
    plan = lake.plans(
        maps,
        context,
        [f"optimizer.learning_rate={learning_rate}", *([] if share else ["generation.prefix_bytes=0"]), *settings],
    )[-1]
    model, tokenizer = lake.load(lake.start(maps, context, learnt=learnt))
    stage = build.make_stage(plan, build.Workshop(model, tokenizer, seed))
    played: list[Any] = []
    learner = stage.make_learner()
    if every_token:
        learner.objective.silent = False
    learner.scorer.share = share
    trained = _counted(learner)
    rows = iterate(stage, learner, 0, played.append)

    def work(evaluate: int = 0) -> dict[str, float]:
        if evaluate:
            return {"success": lake.success(plan, model, tokenizer, evaluate, seed)}
        measured = [next(rows) for _ in range(updates)]
        batches = [credited.batch for credited in played]
        played.clear()
        tokens = sum(batch.num_tokens for batch in batches)
        evaluated = sum(trained)
        trained.clear()
        if every_token and evaluated != tokens:
            raise RuntimeError(f"Of {tokens} tokens {evaluated} were trained on, not all of them.")
        return {
            "updates": updates,
            "trained_tokens": evaluated,
            "episodes": sum(batch.num_episodes for batch in batches),
            "steps": sum(batch.num_steps for batch in batches),
            "tokens": tokens,
            "success": sum(row["rollout/success"] for row in measured) / updates,
            "play_seconds": sum(row["time/play"] for row in measured),
        }

    return work


def _counted(learner: Any) -> list[int]:
    """How many tokens the learner evaluates the loss of, a number for each forward pass.

    Equal pairs of context and reply are computed once and count as often as they were played.
    """
    loss, numbers = learner.objective.loss, []

    def counted(**columns: Any) -> Any:
        numbers.append(len(columns["logprob"]))
        return loss(**columns)

    learner.objective.loss = counted
    return numbers
