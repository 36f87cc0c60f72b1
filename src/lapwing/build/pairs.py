"""Methods that undo or double one another: which pairs are refused, and why.

Everything else is research. Code from outside is not judged by its name, only by its LEVEL.
"""

from collections.abc import Iterator

from lapwing.build.collectors import is_cloned
from lapwing.build.schema import Part, constant
from lapwing.build.stage_plan import StagePlan
from lapwing.core.protocols import Game

_EPISODE_CREDIT = ("grpo", "dr_grpo", "rloo", "reinforce", "lite_ppo", "riskpo", "gdpo", "dr_rpo")
_GAE_FAMILY = ("gae", "token_gae", "bilevel_gae", "dual_gae", "egae", "hae")
_MT_GRPO = ("mt_grpo", "mt_grpo_prefix")
_TIME_PENALTIES = ("step_reward", "step_penalty")
# What judges, scales or replaces an outcome, in the order in which it acts; a penalty for length comes after all.
_GATES, _COEFFICIENTS, _WELFARE = ("router_r1",), ("otc", "a2fm_adaptive"), ("empo", "gtalign")
# What reads the log-probabilities of the sampler as those of the policy that is trained.
_OF_SAMPLER = ("truncated_importance", "masked_importance", "off_policy_mask", "kl_penalty", "against_reference")


def unsafe_pairs(stage: StagePlan) -> list[str]:
    """Why the stage's choices do not go together, one sentence for each pair that is refused."""
    found = (
        *(_levels, _salt, _whitening, _double_discount, _telescoping, _late_format_gate, _replaced_outcome),
        *(_overlong, _divergence_twice, _marginal_gains, _bundles, _sequence_ratio, _without_effect, _guided_play),
        _carried,
    )
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
    gate = _position(stage.shaping, "router_r1")
    for name in _COEFFICIENTS:
        at = _position(stage.shaping, name)
        if at is not None and gate is not None and at < gate:
            yield (
                f"the shaping 'router_r1' judges the format, which comes before any coefficient, but '{name}' before "
                f"it has multiplied the outcome already; put router_r1 before {name}."
            )


def _replaced_outcome(stage: StagePlan) -> Iterator[str]:
    for name in _WELFARE:
        at = _position(stage.shaping, name)
        for other in (*_GATES, *_COEFFICIENTS):
            before = _position(stage.shaping, other)
            if at is not None and before is not None and before < at:
                yield (
                    f"the shaping '{name}' replaces the outcome, which takes back what '{other}' before it did; put "
                    f"{name} first or leave {other} out."
                )
    if _position(stage.shaping, "empo") is not None and stage.game.settings.get("turn_weight"):
        yield (
            "the shaping 'empo' needs no label, but the game pays turns for the gold answer; set game.turn_weight = 0."
        )


def _overlong(stage: StagePlan) -> Iterator[str]:
    at = _position(stage.shaping, "overlong")
    if at is None:
        return
    left_out = [part.name for part in (*stage.filters, stage.selection) if part.name in ("truncated", "untruncated")]
    for name in left_out:
        yield f"'overlong' punishes the episodes that '{name}' leaves out of training; keep one of them."
    for other in (*_GATES, *_COEFFICIENTS, *_WELFARE):
        after = _position(stage.shaping, other)
        if after is not None and at < after:
            yield (
                f"the shaping 'overlong' is added last, but '{other}' after it changes the outcome; put overlong at "
                "the end."
            )


def _divergence_twice(stage: StagePlan) -> Iterator[str]:
    if _position(stage.shaping, "kl_penalty") is None:
        return
    for part, _ in stage.regularisers:
        if part.name in ("kl_k1", "kl_k2", "kl_k3", "apo_asymmetric"):
            yield (
                f"the divergence is counted twice, in the reward by 'kl_penalty' and in the loss by '{part.name}'; "
                "keep one."
            )


def _marginal_gains(stage: StagePlan) -> Iterator[str]:
    at = _position(stage.shaping, "submodular")
    discount = 1.0 if stage.credit is None else stage.credit.settings.get("discount", 1.0)
    if at is not None and stage.shaping[at].settings["weight"] != 0 and discount < 1.0:
        yield (
            f"marginal gains ('submodular') add up to the set function only without discount, but credit.discount is "
            f"{discount}; set credit.discount = 1."
        )


def _bundles(stage: StagePlan) -> Iterator[str]:
    if stage.credit is None or stage.credit.name != "riskpo":
        return
    for part in stage.filters:
        if part.name == "zero_spread" or part.name.startswith("star_po_"):
            yield (
                "'riskpo' bundles groups so that those without spread have a signal; leave the filter "
                f"'{part.name}' out."
            )
    groups, bundle = stage.sampler.settings.get("groups", 0), stage.credit.settings["bundle"]
    if groups % bundle:
        yield (
            f"'riskpo' bundles {bundle} groups, but an iteration has {groups}; make sampler.groups a multiple of "
            "credit.bundle."
        )


def _sequence_ratio(stage: StagePlan) -> Iterator[str]:
    if stage.loss.name == "gspo" and stage.loss.settings["span"] == "episode":
        for part in stage.modulation:
            if part.name in ("salt", "empg"):
                yield (
                    "the loss 'gspo' with span = 'episode' averages the advantages of an episode, which takes back "
                    f"what '{part.name}' did; use the loss 'gspo_token'."
                )
    if stage.loss.name != "gspo" or stage.credit is None or ":" in stage.credit.name:
        return
    by_token = constant(stage.credit, "LEVEL", "step") == "token"
    over_episode = stage.loss.settings["span"] == "episode"
    if by_token or (over_episode and stage.credit.name not in _EPISODE_CREDIT):
        yield (
            f"the loss 'gspo' has one ratio for each {stage.loss.settings['span']}, but the credit "
            f"'{stage.credit.name}' gives its {'tokens' if by_token else 'steps'} different advantages; use the loss "
            "'gspo_token'."
        )


def _without_effect(stage: StagePlan) -> Iterator[str]:
    """Terms of the loss that are 0 whatever is played."""
    updates = stage.optimizer.settings.get("epochs", 1) * stage.optimizer.settings.get("minibatches", 1)
    for part, extra in stage.regularisers:
        if part.name == "llds" and updates == 1:
            yield (
                "the regulariser 'llds' punishes that replies became less likely since they were played, and with one "
                "update a batch none has; set optimizer.minibatches = 2 or more."
            )
        if part.name == "apo_asymmetric" and not extra.coefficient and not extra.final_coefficient:
            yield "the regulariser 'apo_asymmetric' weighs a divergence whose coefficient is 0; raise the coefficient."


def _carried(stage: StagePlan) -> Iterator[str]:
    """A context that shows what replies carry has a parser with such replies."""
    tag = getattr(stage.context.make, "carries", None)
    if tag is None or ":" in stage.parser.name:
        return
    writes = stage.parser.settings.get("tag") if stage.parser.name == "notes" else None
    # A model that can read is told by the renderer's reply_format what to write.
    is_told = stage.parser.name == "tags" and stage.model.name != "tiny"
    if writes != tag and not is_told:
        yield (
            f"the context '{stage.context.name}' shows what replies hold between <{tag}> tags, but the parser "
            f"'{stage.parser.name}' {f'writes <{writes}>' if writes else 'writes none'}; set policy.parser = "
            f"{{ name = 'notes', tag = '{tag}' }}."
        )


def _guided_play(stage: StagePlan) -> Iterator[str]:
    """Play that is guided gives other log-probabilities than those that are trained on, and other actions."""
    sampler = stage.sampler.name
    guided = sampler in ("masked", "policy_rollout")
    taught = stage.teacher is not None or is_cloned(stage)
    for part in (*stage.corrections, *stage.shaping, *([stage.pairs] if stage.pairs else [])):
        if part.name in _OF_SAMPLER and taught:
            yield (
                f"'{part.name}' needs log-probabilities of the sampler, and replies of a teacher or of a file have "
                "none; leave it out."
            )
        elif part.name in _OF_SAMPLER and guided:
            yield (
                f"the sampler '{sampler}' guides the play in a way that training does not, so that '{part.name}' would "
                "take the difference for one of the policy; leave it out."
            )
    if guided and stage.collector.settings.get("ahead"):
        yield (
            f"the sampler '{sampler}' guides the play, and with collector.ahead = 1 the guided log-probabilities would "
            "stand below the ratio; set collector.ahead = 0."
        )
    if sampler == "masked" and stage.parser.name != "bare" and ":" not in stage.parser.name:
        yield (
            f"the sampler 'masked' draws among replies that the parser composes, and with '{stage.parser.name}' the "
            "model's own replies hold more than an action; set policy.parser.name = 'bare'."
        )
    if sampler in ("masked", "policy_rollout", "ghpo") and _position(stage.annotate, "exact_advantage") is not None:
        yield (
            f"the annotator 'exact_advantage' solves the game for the policy alone and from its start, and the sampler "
            f"'{sampler}' guides the play; choose the sampler 'grouped'."
        )
    modes = sampler == "adaptive_modes"
    if modes and stage.parser.name == "bare":
        yield "the sampler 'adaptive_modes' opens replies with tags, which the parser 'bare' does not read; use 'tags'."
    if not modes and _position(stage.shaping, "a2fm_adaptive") is not None:
        yield "the shaping 'a2fm_adaptive' needs forced and free modes; set sampler.name = 'adaptive_modes'."


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
