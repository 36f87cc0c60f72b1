"""A stage whose settings are checked and complete, before any model is built."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lapwing.build.schema import Part, lists
from lapwing.core.errors import UserError


@dataclass(frozen=True)
class RegulariserSettings:
    """Settings of a regulariser besides its own: coefficient over the course of the stage."""

    coefficient: float
    final_coefficient: float | None = None
    until: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.until <= 1.0:
            raise UserError(f"until is a share of the stage in (0, 1], not {self.until}.")


@dataclass(frozen=True)
class PolicySettings:
    """Settings of the language agent besides its parts."""

    invalid: str = "default"
    format_penalty: float = 1.0
    default_action: str | None = None
    retries: int = 1
    thinking: bool | None = None


@dataclass(frozen=True)
class StageSettings:
    """Settings of a stage besides its sections.

    Of the checkpoints of the main stage the newest `checkpoints_kept` stay, and number 0. Matches that run for more
    than the deadline are given up.
    """

    iterations: int = 100
    checkpoint_every: int = 50
    checkpoints_kept: int = 2
    deadline_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise UserError(f"iterations is at least 0, not {self.iterations}.")
        if self.deadline_seconds is not None and not self.deadline_seconds > 0:
            raise UserError(f"deadline_seconds is above 0, not {self.deadline_seconds}; leave it out to wait.")
        if self.checkpoint_every < 1:
            raise UserError(f"checkpoint_every is at least 1, not {self.checkpoint_every}.")
        if self.checkpoints_kept < 2:
            raise UserError(
                f"checkpoints_kept is at least 2, not {self.checkpoints_kept}: if the newest one is damaged, the run "
                "goes on from the one before."
            )


@dataclass
class StagePlan:
    """A stage whose settings are checked and complete, before any model is built."""

    name: str
    settings: StageSettings
    game: Part
    opponents: dict[int, Part]
    policy: dict[str, Any]
    renderer: Part
    context: Part
    parser: Part
    teacher: Part | None
    model: Part
    generation: Part
    sampler: Part
    annotate: list[Part]
    shaping: list[Part]
    filters: list[Part]
    credit: Part | None
    modulation: list[Part]
    selection: Part
    aggregation: Part
    loss: Part
    corrections: list[Part]
    regularisers: list[tuple[Part, RegulariserSettings]]
    optimizer: Part
    evaluation: Part
    alarms: Part
    collector: Part
    learner: Part | None = None
    pairs: Part | None = None
    evaluation_opponents: dict[int, Part] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The stage as a table of a resolved recipe: training it again repeats the run."""

        def table(part: Part, **further: Any) -> dict[str, Any]:
            return lists({"name": part.name, **part.settings, **further})

        def seats(opponents: Mapping[int, Part]) -> dict[str, Any]:
            return {str(seat): table(part) for seat, part in opponents.items()}

        # A stage with pairs has no advantages, and says nothing of them.
        of_advantages = {
            "modulation": [table(part) for part in self.modulation],
            "selection": table(self.selection),
            "aggregation": table(self.aggregation),
            "corrections": [table(part) for part in self.corrections],
        }
        resolved: dict[str, Any] = {
            "name": self.name,
            **lists(dataclasses.asdict(self.settings)),
            "game": table(self.game),
            "opponents": seats(self.opponents),
            "policy": {
                **lists(self.policy),
                "renderer": table(self.renderer),
                "context": table(self.context),
                "parser": table(self.parser),
                **({"teacher": table(self.teacher)} if self.teacher else {}),
            },
            "model": table(self.model),
            "generation": table(self.generation),
            "collector": table(self.collector),
            "sampler": table(self.sampler),
            "annotate": [table(part) for part in self.annotate],
            "shaping": [table(part) for part in self.shaping],
            "filters": [table(part) for part in self.filters],
            **({"pairs": table(self.pairs)} if self.pairs else {}),
            **({"credit": table(self.credit)} if self.credit else {}),
            **({} if self.pairs else of_advantages),
            "loss": table(self.loss),
            "regularisers": [table(part, **dataclasses.asdict(extra)) for part, extra in self.regularisers],
            "optimizer": table(self.optimizer),
            **({"learner": table(self.learner)} if self.learner else {}),
            "evaluation": {
                **{k: v for k, v in table(self.evaluation).items() if k != "name"},
                **({"opponents": seats(self.evaluation_opponents)} if self.evaluation_opponents else {}),
            },
            "alarms": {k: v for k, v in table(self.alarms).items() if k != "name"},
        }
        return {key: value for key, value in resolved.items() if value not in ({}, [])}


def invalid_settings(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The rule for invalid replies, from the settings of a policy."""
    return {
        "rule": policy["invalid"],
        "penalty": policy["format_penalty"],
        "default_action": policy["default_action"],
        "retries": policy["retries"],
    }
