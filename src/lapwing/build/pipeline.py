"""What a stage does with the episodes that were played: from its plan to functions, annotators and learners."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lapwing.build.learners import make_learner
from lapwing.build.schema import Part, bind, constant
from lapwing.build.seats import weight_sets
from lapwing.build.stage_plan import StagePlan


def make_pipeline(
    stage: StagePlan, shops: Sequence[Any], annotators: Callable[[Any, Path], list[Any]]
) -> dict[str, Any]:
    """The arguments of a `Stage` that say what becomes of its episodes; one of each for every set of weights.

    Args:
      stage: its settings.
      shops: the model of each set of weights.
      annotators: makes those of a model, given the folder of its reference weights.
    """
    from lapwing.training.by_seat import BySeat, seat_folder
    from lapwing.training.credited import no_credit
    from lapwing.training.seat_learners import SeatLearners

    level = "step" if stage.credit is None else constant(stage.credit, "LEVEL", "step")
    axis = "K" if level == "token" else "N"
    sets = weight_sets(stage)
    by_seat = BySeat(sets, axis)

    def make(part: Part) -> Callable[[], Callable[..., Any]]:
        return functools.partial(bind, part)

    def make_annotators(reference: Path) -> list[Any]:
        # What a stage began with is beside each other in a checkpoint.
        others = [reference.with_name(seat_folder(min(seats))) for seats in sets[1:]]
        made = [annotators(shop, folder) for shop, folder in zip(shops, (reference, *others), strict=True)]
        return by_seat.annotators(made)

    def make_learners() -> Any:
        made = [make_learner(stage, shop) for shop in shops]
        return made[0] if len(made) == 1 else SeatLearners(by_seat, made)

    return {
        "credit": no_credit if stage.credit is None else by_seat.method(make(stage.credit), axis),
        "credit_level": level,
        "make_annotators": make_annotators,
        "shaping": [by_seat.shaping(make(part)) for part in stage.shaping],
        "filters": [by_seat.method(make(part), "E") for part in stage.filters],
        "pairs": None if stage.pairs is None else bind(stage.pairs),
        "modulation": [by_seat.method(make(part), axis) for part in stage.modulation],
        "selection": by_seat.selection(make(stage.selection)),
        "aggregation": by_seat.method(make(stage.aggregation), "K"),
        "make_learner": make_learners,
    }
