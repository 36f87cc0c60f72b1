"""Values that no type can refuse: what costs nothing is built and tried before any work starts."""

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lapwing.build.collectors import check_collector
from lapwing.build.learners import bind_regulariser
from lapwing.build.limits import check_counts
from lapwing.build.make import make_game
from lapwing.build.pairs import tool_mismatches, unsafe_pairs
from lapwing.build.schema import Checker, Part, bind, constant, construct, lists, raised, tensors_of
from lapwing.build.seats import against_fixed, check_seats, is_learnt, make_opponents
from lapwing.build.served import SERVER, is_served
from lapwing.build.stage_plan import StagePlan, invalid_settings
from lapwing.core import registry, rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import COLUMNS, PART_PREFIX, column_axis, producer
from lapwing.core.errors import UserError, nearest
from lapwing.core.protocols import Game
from lapwing.core.types import Ask, Selection

# Registered columns that `EpisodeBatch.pack` always fills.
_PLAYED = ("context_key", "domain_reward", "success")
# Columns of the probe batch that are no numbers around a half.
_PROBE_VALUES: dict[str, Any] = {
    "context_key": np.uint64(1),
    "answer_key": np.uint64(1),
    "switch": True,
    "span": 4,
    "tool_calls": 1,
    "success": 1.0,
    "reference_logprob": -0.5,
}


def _check_model(checker: Checker, where: str, part: Part) -> None:
    from lapwing.models.pretrained import check_attention, pretrained_model
    from lapwing.models.tiny import check_sizes, tiny_model

    if part.make is tiny_model:
        construct(checker, where, check_sizes, part.settings)
    if part.make is pretrained_model:
        construct(checker, where, check_attention, {"attention": part.settings["attention"]})


def check_values(checker: Checker, where: str, stage: StagePlan) -> None:
    """Build what costs nothing, so that impossible values are found before any work starts."""
    before = len(checker.errors)
    from lapwing.models.tiny import tiny_model

    _check_model(checker, f"{where}.model", stage.model)
    game = construct(checker, f"{where}.game", stage.game.make, stage.game.settings)
    if game is not None:
        construct(checker, f"{where}.game", lambda: _probe_starts(game), {})
        construct(
            checker, f"{where}.sampler", functools.partial(stage.sampler.make, game, seed=0), stage.sampler.settings
        )
        check_seats(checker, where, stage, game.num_players)
    of_stage = (stage.optimizer, stage.evaluation, stage.alarms)
    for part in (stage.renderer, stage.context, stage.parser, stage.teacher, *of_stage):
        if part is not None:
            construct(checker, where, part.make, part.settings)
    if game is not None and len(checker.errors) == before:
        _check_play(checker, where, stage, game)
    _check_annotators(checker, where, stage, game)
    check_collector(checker, where, stage)
    _check_budgets(checker, where, stage.generation.settings)
    check_counts(checker, where, stage)
    _check_ranks(checker, where, stage)
    if is_served(stage):
        client = functools.partial(stage.generation.make, model=stage.model.name)
        construct(checker, f"{where}.generation", client, stage.generation.settings)
    if stage.model.make is tiny_model and game is not None and len(checker.errors) == before:
        _check_reply_fits(checker, where, stage, game)
    _check_advantage(checker, where, stage)
    _check_no_effect(checker, where, stage)
    _check_columns(checker, where, stage)
    _check_functions(checker, where, stage)
    checker.errors.extend(f"{where}: {reason}" for reason in unsafe_pairs(stage))


def _check_advantage(checker: Checker, where: str, stage: StagePlan) -> None:
    """What reads an advantage has one, and one that is made is read."""
    readers = [part for part in (*_terms(stage),) if "advantage" in tensors_of(part)]
    advice = "a stage that learns from pairs has none; leave it out" if stage.pairs else "add a credit section"
    if stage.credit is None:
        checker.errors.extend(f"{where}: '{part.name}' needs an advantage; {advice}." for part in readers)
    elif not readers and stage.modulation and stage.selection.name in ("all_episodes", "uniform", "untruncated"):
        checker.errors.append(
            f"{where}: nothing reads an advantage here, so that the modulation '{stage.modulation[0].name}' has no "
            f"effect: the loss '{stage.loss.name}' takes none; leave it out."
        )


def _terms(stage: StagePlan) -> Iterator[Part]:
    """Everything that is evaluated by token."""
    yield stage.loss
    yield from stage.corrections
    yield from (part for part, _ in stage.regularisers)


def _check_annotators(checker: Checker, where: str, stage: StagePlan, game: Game | None) -> None:
    for part in stage.annotate:
        # A critic's settings can be tried without the model that it needs.
        if (check := getattr(part.make, "check", None)) is not None:
            construct(checker, f"{where}.annotate.{part.name}", check, part.settings)
        if not part.settings.get("temperature", 1.0) > 0:
            checker.errors.append(
                f"{where}.annotate.{part.name}: temperature is above 0, not {part.settings['temperature']}."
            )
        if game is not None and "starts" in inspect.signature(part.make).parameters and not hasattr(game, "gold"):
            checker.errors.append(
                f"{where}.annotate: '{part.name}' needs a game with gold answers, and {stage.game.name} has none."
            )
        if game is not None and "situation" in inspect.signature(part.make).parameters:
            limit = {"max_states": part.settings["max_states"]} if "max_states" in part.settings else {}
            construct(checker, f"{where}.annotate.{part.name}", check_solvable, {"stage": stage, "game": game, **limit})


def check_solvable(stage: StagePlan, game: Game, *, max_states: int = 10_000) -> None:
    """Refuse a stage whose exact answer cannot be computed.

    Raises:
      UserError: the sentence says why.
    """
    from lapwing.annotate._truth import Places, Situation, check_direct, check_hidden
    from lapwing.games.game import for_split
    from lapwing.policies.agent import InvalidRule

    check_direct(
        stage.parser.make(**stage.parser.settings),
        stage.context.make(**stage.context.settings),
        taught=stage.teacher is not None,
        greedy=stage.generation.settings["greedy"],
    )
    situation = Situation(
        agent=None,
        game=game,
        invalid=InvalidRule(**invalid_settings(stage.policy)),
        max_steps=stage.sampler.settings["max_steps"],
        opponents=make_opponents(stage),
    )
    start = for_split(game, "train").initial(rng.generator("probe"))
    check_hidden(Places(situation, [start], max_states=max_states))


def _check_no_effect(checker: Checker, where: str, stage: StagePlan) -> None:
    """Refuse settings that would change nothing."""
    game = stage.game.settings
    if game.get("split", "all") != "all":
        checker.errors.append(
            f"{where}.game: split is set by the engine, for training and for evaluation; leave it out."
        )
    if stage.name != "main" and stage.annotate:
        checker.errors.append(f"{where}.annotate: only the main stage has reference weights; leave it out.")
    if stage.name != "main" and stage.evaluation.settings["every"]:
        checker.errors.append(f"{where}.evaluation: only the main stage is evaluated; leave it out.")


def _check_reply_fits(checker: Checker, where: str, stage: StagePlan, game: Game) -> None:
    """The tiny model has one token a word; a reply that cannot be finished would never be valid."""
    parser = stage.parser.make(**stage.parser.settings)
    state = game.initial(rng.generator("probe"))
    legal = game.legal(state, 0)
    if legal is None:
        heuristic = getattr(game, "heuristic", None)
        legal = () if heuristic is None else (heuristic(state, 0),)
    longest = max((parser.compose(action) for action in legal), key=lambda text: len(text.split()), default="")
    needed, budget = len(longest.split()), stage.generation.settings["max_tokens"]
    if needed > budget:
        checker.errors.append(
            f"{where}.generation: max_tokens is {budget}, but the reply '{longest}' needs {needed} tokens."
        )


def _check_ranks(checker: Checker, where: str, stage: StagePlan) -> None:
    if stage.learner is None:
        return
    construct(checker, f"{where}.learner", stage.learner.make, stage.learner.settings)
    if stage.learner.settings.get("strategy") == "fsdp" and stage.optimizer.settings.get("state") == "8bit":
        checker.errors.append(
            f"{where}.optimizer: moments in 8 bits share a scale in blocks that shards would cut, so that "
            'learner.strategy = "fsdp" takes state = "float32"; each rank keeps its part of them only.'
        )


def _check_budgets(checker: Checker, where: str, budget: Mapping[str, Any]) -> None:
    if budget["max_tokens"] < 1:
        checker.errors.append(
            f"{where}.generation: a reply needs a budget of at least 1 token, not {budget['max_tokens']}; "
            "raise max_tokens."
        )
    if not budget["temperature"] > 0:
        checker.errors.append(f"{where}.generation: temperature is above 0, not {budget['temperature']}.")
    for name in ("row_tokens", "batch_tokens", "memo_bytes"):
        if budget.get(name, 1) < 1:
            checker.errors.append(f"{where}.generation: {name} is at least 1, not {budget[name]}.")


def _produced(stage: StagePlan) -> set[str]:
    """The registered columns that a batch of the stage has: those of every played batch, and what its parts add."""
    found: set[str] = set(_PLAYED)
    for part in (*stage.annotate, stage.sampler, stage.parser, stage.game):
        # In rooms that keep several things in one module the constant is the class's own.
        found |= set(getattr(part.make, "PRODUCES", None) or constant(part, "PRODUCES", ()))
    if stage.parser.settings.get("spans"):
        found.add("span")
    return found


def _needs(part: Part) -> tuple[str, ...]:
    """The registered columns that a part always reads."""
    if part.make.__module__.startswith("lapwing.preferences."):
        from lapwing.preferences._adapter import tensors_of_tokens

        # Some need no reference with some settings.
        return tuple(name for name in tensors_of_tokens(part.make, part.settings) if name == "reference_logprob")
    return tuple(constant(part, "NEEDS", ()))


def _check_columns(checker: Checker, where: str, stage: StagePlan) -> None:
    """Every column that something needs is in a played batch or comes from an annotator."""
    produced = _produced(stage)
    readers = (
        *stage.annotate,
        *stage.shaping,
        *stage.filters,
        *([stage.credit] if stage.credit else []),
        *stage.modulation,
        stage.selection,
        stage.aggregation,
        *([stage.pairs] if stage.pairs else []),
        stage.loss,
        *stage.corrections,
        *(part for part, _ in stage.regularisers),
    )
    for part in readers:
        for name in _needs(part):
            if name not in produced:
                checker.errors.append(f"{where}: '{part.name}' needs the column {name}; {_supply(name)}")


_SUPPLIERS = {
    "tool_calls": "games with tools have it, such as search_qa.",
    "tool_cost": "games with tools have it, such as search_qa.",
    "answer_key": "games with tools have it, such as search_qa.",
    "branch_value": "set sampler.name = 'branching'.",
    "next_branch_value": "set sampler.name = 'branching'.",
    "switch": "set policy.parser.name = 'hierarchical' and policy.context.name = 'current_plan'.",
    "span": "set policy.parser.name = 'hierarchical', or 'tags' with spans = true.",
}


def _supply(name: str) -> str:
    """What to do about a column that nobody produces."""
    if name not in COLUMNS:
        return f"no column is called that; {nearest(name, COLUMNS)}"
    room, _, supplier = producer(name).partition("/")
    if room != "annotate":
        return _SUPPLIERS.get(name, f"{room}/{supplier} supplies it, but not with what this recipe names.")
    if supplier in registry.names(room):
        return f"add [[stage.annotate]] with name = '{supplier}'."
    return f"no annotator of Lapwing supplies it yet; name one of your own with PRODUCES = ('{name}',)."


def _check_play(checker: Checker, where: str, stage: StagePlan, game: Game) -> None:
    """Let every policy that is no language model decide once, and set up the games of the evaluation."""
    from lapwing.policies.agent import InvalidRule

    state = game.initial(rng.generator("probe"))
    given = {seat: part for seat, part in stage.opponents.items() if not is_learnt(part)}
    measured = {seat: part for seat, part in against_fixed(stage).opponents.items() if given.get(seat) is not part}
    for role, parts in (
        ("policy.teacher", {0: stage.teacher}),
        ("opponents", given),
        ("evaluation.opponents", measured),
    ):
        for seat, part in parts.items():
            if part is not None:
                at = f"{where}.{role}" + (f".{seat}" if seat else "")
                construct(checker, at, functools.partial(_probe_policy, part, game, state, seat), {})
    rule = construct(checker, f"{where}.policy", InvalidRule, invalid_settings(stage.policy))
    if rule is not None and rule.rule != "forfeit":
        malformed = getattr(game, "malformed", None)
        unreadable = None if malformed is None else malformed("unreadable")
        arguments = {"legal": game.legal(state, 0), "key": 0, "unreadable": unreadable}
        construct(checker, f"{where}.policy", rule.action, arguments)
    mismatches = list(tool_mismatches(stage, game))
    checker.errors.extend(f"{where}: {reason}" for reason in mismatches)
    for i, entry in enumerate(stage.evaluation.settings["transfer"]):
        place = f"{where}.evaluation.transfer.{i}"
        other = construct(checker, place, with_game, {"stage": stage, "settings": entry})
        if other is not None and not mismatches:
            checker.errors.extend(f"{place}: {reason}" for reason in _transfer_mismatches(other, entry))


def _transfer_mismatches(stage: StagePlan, entry: Mapping[str, Any]) -> Iterator[str]:
    cap = entry.get("max_steps", stage.sampler.settings["max_steps"])
    sampler = stage.sampler._replace(settings={**stage.sampler.settings, "max_steps": cap})
    return tool_mismatches(dataclasses.replace(stage, sampler=sampler), make_game(stage.game))


def _probe_policy(part: Part, game: Game, state: Any, player: int) -> None:
    settings = {**part.settings, **({"expert_share": 1.0} if part.settings.get("expert_share") else {})}
    view, legal = game.view(state, player), game.legal(state, player)
    ask = Ask(view=view, legal=legal, memory=None, key=0, game=game, state=state, player=player, steps_left=1)
    policy = part.make(**settings)
    # A plan costs nothing: no server is asked.
    if part.name != SERVER:
        policy.act_many([ask])


def _probe_starts(game: Game) -> None:
    from lapwing.games.game import SPLITS, for_split

    for split in SPLITS:
        for_split(game, split).initial(rng.generator("probe", split))


def _check_functions(checker: Checker, where: str, stage: StagePlan) -> None:
    """Run every function of the pipeline on a small batch: their own checks of their settings speak."""
    import torch

    produced = _produced(stage)
    advantage = np.array([0.5, 0.5, -0.5, 0.5, -0.5])
    everything = Selection(count=np.ones(4, dtype=np.int64), factor=np.ones(4))
    for part, rest in (
        *((part, ()) for part in (*stage.shaping, *stage.filters, stage.credit, stage.pairs)),
        *((part, (advantage,)) for part in stage.modulation),
        (stage.selection, (advantage, rng.generator("probe"))),
        (stage.aggregation, (everything,)),
        *((part, None) for part in (stage.loss, *stage.corrections, *(part for part, _ in stage.regularisers))),
    ):
        if part is not None:
            arguments = () if rest is None else (_probe_batch(part, produced), *rest)
            tensors = {
                # Numbers of steps, episodes and groups are indices.
                name: torch.zeros(1, dtype=torch.int64 if "_of_" in name and name != "return_of_episode" else None)
                for name in (tensors_of(part) if rest is None else ())
            }
            try:
                call = bind_regulariser(part) if rest is None else bind(part)
                call(*arguments, **tensors)
            except KeyError as error:
                checker.errors.append(f"{where}.{part.name}: {error.args[0]}")
            except Exception as error:
                if not isinstance(error, UserError) and ":" not in part.name:
                    raise
                said = str(error) if isinstance(error, UserError) else raised(error)
                said = said.removeprefix(f"{part.name}: ")
                checker.errors.append(f"{where}.{part.name}: {said}")


def _probe_batch(part: Part, produced: set[str]) -> EpisodeBatch:
    """Four short episodes in two groups, with the columns that the stage produces and those that the part needs.

    What a part needs and nobody produces is said by `_check_columns`; its settings are tried all the same. Whether a
    game reports the part that a setting names shows only once it is played.
    """
    from lapwing.testing import episodes

    keys: dict[str, Any] = {name: [[1, 2], [1], [2], [1]] for name in ("view_key", "action_key", "next_view_key")}
    batch = episodes([[0.0, 1.0], [0.0], [1.0], [0.0]], group=[0, 0, 1, 1], **keys)
    size = {"E": batch.num_episodes, "N": batch.num_steps, "K": batch.num_tokens}
    names = {name for name in (*produced, *_needs(part)) if name in COLUMNS}
    if isinstance(part.settings.get("part"), str):
        names.add(PART_PREFIX + (part.settings["part"] or "none"))
    for key in ("parts", "parties"):
        names |= {PART_PREFIX + named for named in part.settings.get(key, ()) if named}
    columns = {name: np.full(size[column_axis(name)], _PROBE_VALUES.get(name, 0.5)) for name in names}
    return batch.with_columns(**columns)


def with_game(stage: StagePlan, settings: Mapping[str, Any]) -> StagePlan:
    """The same stage on a game with other settings, or on another game if `name` is among them.

    Raises:
      UserError: the settings do not fit the game.
    """
    checker = Checker(())
    name = settings.get("name", stage.game.name)
    own = {k: v for k, v in settings.items() if k not in ("name", "max_steps")}
    base = stage.game.settings if name == stage.game.name else {}
    part = checker.part("game", "game", {"name": name, **lists(base), **own})
    game = None if part is None else construct(checker, "game", part.make, part.settings)
    if game is not None and game.num_players != make_game(stage.game).num_players:
        checker.errors.append("game: it has another number of seats.")
    cap = settings.get("max_steps", 1)
    if isinstance(cap, bool) or not isinstance(cap, int) or cap < 1:
        checker.errors.append(f"max_steps is a whole number of at least 1, not {cap!r}.")
    if checker.errors:
        raise UserError(" ".join(checker.errors))
    assert part is not None
    return dataclasses.replace(stage, game=part)
