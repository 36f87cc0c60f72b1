"""From a stage plan to what an update descends, and who makes it."""

import inspect
from collections.abc import Callable
from typing import Any

from lapwing.build.schema import Part, bind, constant, tensors_of
from lapwing.build.stage_plan import StagePlan
from lapwing.core import rng


def make_learner(stage: StagePlan, shop: Any) -> Any:
    """The learner of a stage, with a fresh optimiser.

    Args:
      stage: its settings.
      shop: the model and the ranks that train it.
    """
    from lapwing.training.learner import AdamW, Learner, Regulariser, Schedule
    from lapwing.training.objective import Correction

    generation = stage.generation.settings
    make = Learner if shop.team is None else shop.team.learner
    loss, needs = _token_loss(stage)
    return make(
        shop.model,
        loss=loss,
        loss_needs=[name for name in needs if name != "logprob"],
        mergeable=stage.pairs is None and constant(stage.loss, "MERGEABLE", False),
        silent=stage.pairs is None and constant(stage.loss, "SILENT", False),
        split="group" if stage.pairs is not None else constant(stage.loss, "SPLIT", "episode"),
        corrections=[
            Correction(loss=bind(part), needs=tensors_of(part), mergeable=constant(part, "MERGEABLE", False))
            for part in stage.corrections
        ],
        regularisers=[
            Regulariser(
                name=part.name,
                loss=bind_regulariser(part),
                needs=tensors_of(part),
                mergeable=constant(part, "MERGEABLE", False),
                coefficient=Schedule(
                    extra.coefficient,
                    extra.coefficient if extra.final_coefficient is None else extra.final_coefficient,
                    until=extra.until,
                ),
            )
            for part, extra in stage.regularisers
        ],
        optimizer=AdamW(**stage.optimizer.settings),
        seed=rng.fold(0, stage.name, shop.seed),
        temperature=generation["temperature"],
        batch_tokens=generation["batch_tokens"],
        row_tokens=generation["row_tokens"],
        max_lag=stage.collector.settings.get("ahead", 0),
    )


def _token_loss(stage: StagePlan) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The loss of a stage by token, and the tensors that it takes."""
    if stage.pairs is None:
        return bind(stage.loss), tensors_of(stage.loss)
    from lapwing.preferences._adapter import over_tokens, tensors_of_tokens

    make, settings = stage.loss.make, stage.loss.settings
    return over_tokens(make, **settings), tensors_of_tokens(make, settings)


def bind_regulariser(part: Part) -> Callable[..., Any]:
    """The loss of a part with its settings bound; one whose coefficient adapts begins with its initial state."""
    from lapwing.training.objective import AdaptiveLoss

    adapts = hasattr(inspect.getmodule(part.make), "after_update")
    return AdaptiveLoss(part.make, part.settings) if adapts else bind(part)
