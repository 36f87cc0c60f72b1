"""Methods that undo or double one another: which pairs are refused, and why.

Everything else is research. Code from outside is not judged by its name, only by its LEVEL.
"""

from collections.abc import Iterator

from lapwing.build.schema import Part, constant
from lapwing.build.stage_plan import StagePlan

_EPISODE_CREDIT = ("grpo", "dr_grpo", "rloo", "reinforce", "lite_ppo")
_GAE_FAMILY = ("gae", "token_gae", "bilevel_gae", "dual_gae", "egae", "hae")
_MT_GRPO = ("mt_grpo", "mt_grpo_prefix")
_TIME_PENALTIES = ("step_reward", "step_penalty")


def unsafe_pairs(stage: StagePlan) -> list[str]:
    """Why the stage's choices do not go together, one sentence for each pair that is refused."""
    return [*_levels(stage), *_salt(stage), *_whitening(stage), *_double_discount(stage), *_telescoping(stage)]


def _position(parts: list[Part], name: str) -> int | None:
    return next((i for i, part in enumerate(parts) if part.name == name), None)


def _levels(stage: StagePlan) -> Iterator[str]:
    if stage.credit is None or constant(stage.credit, "LEVEL", "step") == "step":
        return
    for part in stage.modulation:
        if constant(part, "LEVEL", "any") == "step":
            yield (
                f"the modulation '{part.name}' takes one advantage per step, but the credit '{stage.credit.name}' "
                "gives one per token; choose a credit of level step."
            )


def _salt(stage: StagePlan) -> Iterator[str]:
    salt, empg = _position(stage.modulation, "salt"), _position(stage.modulation, "empg")
    if salt is None:
        return
    name = stage.credit.name if stage.credit else ""
    if name and ":" not in name and name not in _EPISODE_CREDIT:
        yield (
            f"the modulation 'salt' averages the credit of whole episodes over shared transitions, but '{name}' "
            f"credits steps already, which the average would blur; use one of {', '.join(_EPISODE_CREDIT)}."
        )
    if empg is not None and empg < salt:
        yield (
            "the modulation 'salt' averages the credit of whole episodes, but 'empg' before it has made it differ from "
            "step to step; put salt before empg."
        )


def _whitening(stage: StagePlan) -> Iterator[str]:
    empg = _position(stage.modulation, "empg")
    for i, part in enumerate(stage.modulation):
        if part.name != "whiten":
            continue
        over_group = part.settings.get("over") == "group"
        if over_group and stage.credit is not None and stage.credit.name in _GAE_FAMILY:
            yield (
                f"'whiten' over the group on top of '{stage.credit.name}' subtracts a second baseline from an "
                "advantage that the critic's value has centred already; whiten over the batch."
            )
        if empg is not None and over_group and i > empg:
            yield (
                "'whiten' over the group after 'empg' takes back the scale that empg gave to the steps; whiten the "
                "batch after it, or the groups before it."
            )
        if empg is not None and not over_group and i < empg:
            yield "'empg' comes before 'whiten' over the batch, which is the last modulation; exchange them."


def _double_discount(stage: StagePlan) -> Iterator[str]:
    credit = stage.credit
    if credit is None or credit.name != "gigpo" or not credit.settings.get("discount", 1.0) < 1.0:
        return
    for name in _TIME_PENALTIES:
        amount = stage.game.settings.get(name, 0.0)
        # A reward for surviving a step is no penalty; a penalty may be stated with either sign.
        if isinstance(amount, (int, float)) and (amount < 0 or (amount > 0 and name.endswith("penalty"))):
            yield (
                f"'gigpo' with discount {credit.settings['discount']} and the game's {name} = {amount} both price "
                "time, which discounts it twice; set credit.discount = 1 or take the penalty out of the game."
            )


def _telescoping(stage: StagePlan) -> Iterator[str]:
    credit = stage.credit
    shaped = _position(stage.shaping, "tips") is not None
    if credit is not None and shaped and credit.name in _MT_GRPO and credit.settings.get("horizon") == "suffix":
        yield (
            f"'{credit.name}' with horizon = 'suffix' sums the rewards of later turns, and potential-based shaping "
            "('tips') telescopes in that sum to nearly nothing; set credit.horizon = 'immediate' or leave tips out."
        )
