"""Methods that undo or double one another: which pairs are refused, and why.

Everything else is research. Code from outside is not judged by its name, only by its LEVEL.
"""

from collections.abc import Iterator

from lapwing.build.schema import Part, constant
from lapwing.build.stage_plan import StagePlan
from lapwing.core.protocols import Game

_EPISODE_CREDIT = ("grpo", "dr_grpo", "rloo", "reinforce", "lite_ppo")
_GAE_FAMILY = ("gae", "token_gae", "bilevel_gae", "dual_gae", "egae", "hae")
_MT_GRPO = ("mt_grpo", "mt_grpo_prefix")
_TIME_PENALTIES = ("step_reward", "step_penalty")


def unsafe_pairs(stage: StagePlan) -> list[str]:
    """Why the stage's choices do not go together, one sentence for each pair that is refused."""
    found = (_levels, _salt, _whitening, _double_discount, _telescoping, _late_format_gate)
    return [reason for reasons in found for reason in reasons(stage)]


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


def _late_format_gate(stage: StagePlan) -> Iterator[str]:
    otc, gate = _position(stage.shaping, "otc"), _position(stage.shaping, "router_r1")
    if otc is not None and gate is not None and otc < gate:
        yield (
            "the shaping 'router_r1' judges the format, which comes before any coefficient, but 'otc' before it has "
            "multiplied the outcome already; put router_r1 before otc."
        )


def tool_mismatches(stage: StagePlan, game: Game) -> Iterator[str]:
    """Why a game and the parts of the policy do not go together, where one of them is about tools."""
    from lapwing.games.tools.dialogue import ToolGame

    context, renderer, parser = stage.context, stage.renderer, stage.parser
    if not isinstance(game, ToolGame):
        for part, ours in ((renderer, "tool_dialogue"), (parser, "tool_use")):
            if part.name == ours:
                yield f"'{ours}' is for games with tools, and {stage.game.name} has none."
        return
    if renderer.name != "tool_dialogue":
        yield f"{stage.game.name} is a dialogue with tools; set policy.renderer.name = 'tool_dialogue'."
    if parser.name != "tool_use":
        yield f"{stage.game.name} takes calls and answers; set policy.parser.name = 'tool_use'."
    if context.name != "transcript" and context.settings.get("k", 0) < game.max_turns:
        yield (
            f"the context '{context.name}' forgets the question before the answer is due; set "
            "policy.context.name = 'transcript'."
        )
    if stage.sampler.settings["max_steps"] <= game.max_turns:
        yield (
            f"after {game.max_turns} calls the answer is step {game.max_turns + 1}, but sampler.max_steps is "
            f"{stage.sampler.settings['max_steps']}; raise it."
        )
    if stage.model.name == "tiny":
        yield from _unknown_words(renderer, parser)


def _unknown_words(renderer: Part, parser: Part) -> Iterator[str]:
    """What the embedded model cannot say or read: it has one token a word, and only for words of the game."""
    if parser.name == "tool_use" and parser.settings["style"] != "words":
        yield "the tiny model has one token a word and cannot write JSON; set policy.parser.style = 'words'."
    if renderer.name == "tool_dialogue" and renderer.settings["errors"] != "bare":
        yield "the tiny model does not know the words of errors; set policy.renderer.errors = 'bare'."
