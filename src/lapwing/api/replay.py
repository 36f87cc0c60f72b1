"""Play a run's replay: the same matches with the trained and the untrained weights, and every credit method on them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lapwing import build
from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.types import Match

SCHEMA_VERSION = 1
# Larger games have no exact answer in the replay; `lapwing audit` solves some of them.
_MOST_STATES = 2000
_LARGEST_GROUP = 16
_SMALLEST_GROUP = 4


def make_replay(
    plan: build.StagePlan,
    checkpoints: Mapping[str, tuple[build.Workshop, Path]],
    *,
    safe_point: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Play a few groups of test matches with each policy and record what happened, token by token.

    All policies play the same matches, in groups as in training, of at most 16 episodes. Every credit method that
    needs nothing that a run of this recipe does not have is computed on them, after the recipe's shaping; where the
    game can be enumerated, the exact advantage as well.

    Args:
      plan: of the main stage.
      checkpoints: by the name of the policy, its model and the checkpoint that its weights are from.
      safe_point: is called now and then; it may raise.

    Returns:
      The object of `replay.json`.

    Raises:
      UserError: this run has no matches to replay; the sentence says why.
    """
    if plan.evaluation.settings["replay_groups"] == 0:
        raise UserError("evaluation.replay_groups is 0.")
    if build.is_cloned(plan):
        raise UserError("the main stage learns from a file and plays no game.")
    plan = build.against_fixed(plan)
    matches = _matches(plan)
    from lapwing.report.recording import record

    played: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    exact = ""
    for name, (shop, checkpoint) in checkpoints.items():
        played[name], missing, exact = _play(plan, shop, checkpoint, matches, safe_point)
        left_out |= missing
    # Numbers stand in one order for all policies; a method may refuse the episodes of one of them.
    first = next(iter(played.values())).credit
    common = [name for name in first if all(name in one.credit for one in played.values())]
    policies = {
        name: record(dataclasses.replace(one, credit={method: one.credit[method] for method in common}))
        for name, one in played.items()
    }
    own = None if plan.credit is None else plan.credit.name
    return {
        "schema": SCHEMA_VERSION,
        "game": plan.game.name,
        "split": "test",
        "groups": len({match.group for match in matches}),
        "group_size": 1 + max(match.member for match in matches),
        "max_steps": matches[0].max_steps,
        "methods": [
            {"name": name, "level": first[name].level, "own": at == 0 and name.partition(",")[0] == own}
            for at, name in enumerate(common)
        ],
        "left_out": left_out,
        "no_exact_answer": exact,
        "policies": policies,
    }


def remake_replay(run: Path, *, allow_code: Sequence[str] = ()) -> None:
    """Play the replay of a run anew, with its first and its last weights, and keep it.

    Args:
      run: the folder of a run.
      allow_code: packages outside Lapwing whose code its recipe may name.

    Raises:
      UserError: there is no such run, it has no checkpoint yet, or there is nothing to replay.
    """
    from lapwing.api.loading import first_model, last_model, plan_and_shop
    from lapwing.training.run_folder import RunFolder

    plan, shop = plan_and_shop(str(run), None, (), allow_code=allow_code)
    last, first = last_model(run), first_model(run)
    checkpoints = {"trained": (shop, last.parent)}
    if first is not None and first != last:
        checkpoints["untrained"] = (build.make_earlier_workshop(plan, shop, first), first.parent)
    RunFolder(run).write_replay(make_replay(plan, checkpoints))


def _matches(plan: build.StagePlan) -> list[Match]:
    from lapwing.games.game import for_split

    settings = plan.sampler.settings
    game = for_split(build.make_game(plan.game), "test")
    size = min(max(settings.get("group_size", _SMALLEST_GROUP), _SMALLEST_GROUP), _LARGEST_GROUP)
    return [
        Match(
            game=game,
            seed=plan.evaluation.settings["seed"],
            split="test",
            iteration=0,
            group=group,
            member=member,
            max_steps=settings["max_steps"],
            share_chance=settings.get("share_chance", True),
        )
        for group in range(plan.evaluation.settings["replay_groups"])
        for member in range(size)
    ]


def _play(
    plan: build.StagePlan,
    shop: build.Workshop,
    checkpoint: Path,
    matches: Sequence[Match],
    safe_point: Callable[[], None],
) -> tuple[Any, dict[str, str], str]:
    """One policy's episodes, the methods that are left out, and why there is no exact answer, if there is none."""
    from lapwing.api.audit import columns_of
    from lapwing.audit.methods import find_methods
    from lapwing.report.recording import Played, credit_of

    stage = build.make_stage(build.played_here(plan), shop)
    stage.collector.safe_point = safe_point
    rollout = stage.collector.collect(list(matches))
    batch = rollout.batch
    truth, batch, reason = _with_truth(plan, shop, stage, matches, batch)
    safe_point()
    batch = _annotated(plan, shop, stage, checkpoint, batch)
    for shape in stage.shaping:
        batch = shape(batch)
    own = {} if plan.credit is None else {plan.credit.name: plan.credit.settings}
    # The plan was made, so that the package of its own method was allowed.
    packages = tuple(name.partition(":")[0].partition(".")[0] for name in own if ":" in name)
    methods, left_out = find_methods(None, columns_of(batch), own, allow_code=packages)
    # What the oracle gives is shown beside every method; as one of them only where it trained the run.
    found, refused = credit_of([one for one in methods if one.name != "oracle" or one.name in own], batch)
    if plan.credit is not None and plan.credit.name in found:
        found = _own_first(plan.credit.name, found, stage, batch)
    played = Played(
        episodes=rollout.episodes,
        batch=batch,
        decode=functools.partial(_decode, shop.tokenizer),
        credit=found,
        truth=truth,
        distribution=None if truth is not None else _distribution(plan, shop, stage),
        weights=f"checkpoint {checkpoint.name}",
    )
    return played, {**left_out, **refused}, reason


def _own_first(name: str, credit: dict[str, Any], stage: Any, batch: EpisodeBatch) -> dict[str, Any]:
    """The run's own method before the others, with its modulation as one more method before that."""
    from lapwing.report.recording import Credit

    own = credit[name]
    ordered = {name: own, **credit}
    if not stage.modulation:
        return ordered
    advantage = own.advantage
    for modulate in stage.modulation:
        advantage = modulate(batch, advantage)
    return {f"{name}, modulated": Credit(own.level, np.asarray(advantage, dtype=np.float64)), **ordered}


def _with_truth(
    plan: build.StagePlan, shop: build.Workshop, stage: Any, matches: Sequence[Match], batch: EpisodeBatch
) -> tuple[Any, EpisodeBatch, str]:
    """The exact solution and the columns that it fills; without one, the reason."""
    from lapwing.annotate._truth import Places, Situation, Truth
    from lapwing.api.audit import with_exact_columns
    from lapwing.rollout.play import initial_state

    game = build.make_game(plan.game)
    try:
        build.check_solvable(plan, game, max_states=_MOST_STATES)
        starts = list(dict.fromkeys(initial_state(match) for match in matches))
        situation = Situation(
            agent=stage.policy,
            game=game,
            invalid=stage.collector.invalid,
            max_steps=plan.sampler.settings["max_steps"],
            opponents=build.make_opponents(plan),
        )
        truth = Truth(shop.model, Places(situation, starts, max_states=_MOST_STATES))
        advantage = truth.advantage(batch)
    except LapwingError as error:
        return None, batch, str(error)
    return truth, with_exact_columns(batch, truth, advantage, shop.seed)[0], ""


def _annotated(
    plan: build.StagePlan, shop: build.Workshop, stage: Any, checkpoint: Path, batch: EpisodeBatch
) -> EpisodeBatch:
    """The batch with entropies and with what the recipe's own annotators add, critics as the checkpoint has them."""
    from lapwing.annotate.entropy import Entropy
    from lapwing.training.checkpoint import load_state
    from lapwing.training.run_state import restore_critics

    entropy = Entropy(shop.model, temperature=plan.generation.settings["temperature"])
    batch = batch.with_columns(**entropy.columns(batch))
    stage.annotators = stage.make_annotators(checkpoint.parent / "0" / "model")
    if stage.critics:
        restore_critics(stage, load_state(checkpoint)[0])
    for part, annotator in zip(plan.annotate, stage.annotators, strict=True):
        # The exact answer of the replay's own matches is there already, or there is none.
        if part.name not in ("exact_advantage", "entropy"):
            batch = batch.with_columns(**annotator.columns(batch))
    return batch


def _distribution(plan: build.StagePlan, shop: build.Workshop, stage: Any) -> Any:
    """What reads π(action | view) off the model; None where a reply is more than the name of an action."""
    from lapwing.annotate._action_distribution import ActionDistribution
    from lapwing.annotate._truth import check_direct

    agent = stage.policy
    try:
        check_direct(agent.parser, agent.context, taught=agent.teacher is not None)
        if build.make_game(plan.game).legal(_start(plan), 0) is None:
            return None
    except LapwingError:
        return None
    return ActionDistribution(shop.model, agent)


def _start(plan: build.StagePlan) -> Any:
    return build.make_game(plan.game).initial(rng.generator("legal"))


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
