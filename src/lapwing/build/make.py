"""From stage plans to objects."""

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapwing.build.schema import Part, bind, constant, tensors_of
from lapwing.build.stage_plan import StagePlan, invalid_settings
from lapwing.core import rng
from lapwing.core.errors import LapwingError
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Episode, Match


@dataclass
class Workshop:
    """What all stages share: the model, its tokenizer, and what they were made from."""

    model: Any
    tokenizer: Any
    seed: int


def make_game(part: Part) -> Game:
    """The game that a section names."""
    return part.make(**part.settings)


def make_workshop(stage: StagePlan, seed: int, *, weights: Path | None = None) -> Workshop:
    """Build the model and tokenizer of a run.

    Args:
      stage: whose game, renderer and parser say which words a tiny model needs.
      seed: of the run; the initial weights follow from it.
      weights: a Hugging Face folder to load instead.
    """
    from lapwing.models import pretrained, tiny
    from lapwing.policies.escape import without_tags

    if weights is not None:
        return Workshop(*pretrained.load_folder(weights), seed)
    if stage.model.make is not tiny.tiny_model:
        return Workshop(*pretrained.pretrained_model(path=stage.model.name, **stage.model.settings), seed)
    game = make_game(stage.game)
    renderer = stage.renderer.make(**stage.renderer.settings)
    parser = stage.parser.make(**stage.parser.settings)
    state = game.initial(rng.generator("words"))
    legal = game.legal(state, 0)
    words = renderer.words(game.view(state, 0)) | parser.words(legal or ())
    if legal is None:
        # What a reply may hold is the game's to say; a text from outside is shown without tags.
        said = set(getattr(game, "words", set)())
        words |= said | {without_tags(word) for word in said}
    tokenizer = tiny.tiny_tokenizer(words)
    return Workshop(tiny.tiny_model(len(tokenizer), seed=seed, **stage.model.settings), tokenizer, seed)


def make_agent(stage: StagePlan, shop: Workshop, *, taught: bool = False) -> Any:
    """The language agent of a stage.

    Args:
      stage: its settings.
      shop: the model.
      taught: let the stage's teacher decide, if it has one.
    """
    from lapwing.policies.agent import Agent

    parser = stage.parser.make(**stage.parser.settings)
    return Agent(
        renderer=stage.renderer.make(**stage.renderer.settings),
        context=stage.context.make(**stage.context.settings),
        parser=parser,
        tokenizer=shop.tokenizer,
        generator=stage.generation.make(shop.model, shop.tokenizer, stop=parser.stop, **stage.generation.settings),
        teacher=stage.teacher.make(**stage.teacher.settings) if taught and stage.teacher else None,
    )


def greedy(agent: Any) -> Any:
    """The same agent with greedy decoding; both share what their generator remembers."""
    other = copy.copy(agent)
    other.generator = agent.generator.greedily()
    return other


def make_opponents(stage: StagePlan) -> dict[int, Policy]:
    """The policies of the other seats."""
    return {seat: part.make(**part.settings) for seat, part in stage.opponents.items()}


def make_stage(stage: StagePlan, shop: Workshop) -> Any:
    """Everything that the loop needs for one stage."""
    from lapwing.policies.agent import InvalidRule
    from lapwing.rollout.collector import LocalCollector
    from lapwing.training.stages import Stage, no_credit

    agent = make_agent(stage, shop, taught=True)
    game = make_game(stage.game)
    from lapwing.games.game import for_split

    sampler = stage.sampler.make(
        for_split(game, "train"), seed=rng.fold(0, stage.name, shop.seed), **stage.sampler.settings
    )
    sampler, situation = _with_situation(stage, agent, game, sampler)
    return Stage(
        name=stage.name,
        iterations=stage.settings.iterations,
        checkpoint_every=stage.settings.checkpoint_every,
        evaluate_every=stage.evaluation.settings["every"],
        seed=rng.fold(0, stage.name, shop.seed),
        sampler=sampler,
        collector=LocalCollector(
            agent,
            opponents=make_opponents(stage),
            invalid=InvalidRule(**invalid_settings(stage.policy)),
            deadline_seconds=stage.settings.deadline_seconds,
        ),
        policy=agent,
        credit=no_credit if stage.credit is None else bind(stage.credit),
        credit_level="step" if stage.credit is None else constant(stage.credit, "LEVEL", "step"),
        make_annotators=functools.partial(_make_annotators, stage, shop, situation),
        shaping=[bind(part) for part in stage.shaping],
        filters=[bind(part) for part in stage.filters],
        modulation=[bind(part) for part in stage.modulation],
        selection=bind(stage.selection),
        aggregation=bind(stage.aggregation),
        make_learner=functools.partial(_make_learner, stage, shop),
        forget=agent.generator.forget,
    )


def _with_situation(stage: StagePlan, agent: Any, game: Game, sampler: Any) -> tuple[Any, Any]:
    """What annotators that solve the game are told, and the sampler, which then remembers the matches that it drew."""
    from lapwing.annotate._truth import Situation
    from lapwing.policies.agent import InvalidRule
    from lapwing.rollout.play import initial_state
    from lapwing.samplers._remembered import Remembered

    asked = {name for part in stage.annotate for name in inspect.signature(part.make).parameters}
    if not asked & {"situation", "starts"}:
        return sampler, None
    remembered = Remembered(sampler)
    return remembered, Situation(
        agent=agent,
        game=game,
        invalid=InvalidRule(**invalid_settings(stage.policy)),
        max_steps=stage.sampler.settings["max_steps"],
        opponents=make_opponents(stage),
        starts=lambda: list(dict.fromkeys(initial_state(match) for match in remembered.matches)),
    )


def _make_annotators(stage: StagePlan, shop: Workshop, situation: Any, reference: Path) -> list[Any]:
    """Each is given what its constructor asks for by name, besides its settings."""
    given = {
        "model": shop.model,
        "weights": reference,
        "situation": situation,
        **({} if situation is None else {"agent": situation.agent, "game": situation.game, "starts": situation.starts}),
        "tokenizer": shop.tokenizer,
        "seed": rng.fold(0, stage.name, shop.seed),
        "credit": None if stage.credit is None else bind(stage.credit),
        "credit_needs": () if stage.credit is None else constant(stage.credit, "NEEDS", ()),
    }
    made = []
    for part in stage.annotate:
        asked = inspect.signature(part.make).parameters
        made.append(part.make(**{name: value for name, value in given.items() if name in asked}, **part.settings))
    return made


def _make_learner(stage: StagePlan, shop: Workshop) -> Any:
    from lapwing.training.learner import AdamW, Learner, Regulariser, Schedule

    generation = stage.generation.settings
    return Learner(
        shop.model,
        loss=bind(stage.loss),
        loss_needs=[name for name in tensors_of(stage.loss) if name != "logprob"],
        mergeable=constant(stage.loss, "MERGEABLE", False),
        regularisers=[
            Regulariser(
                name=part.name,
                loss=bind(part),
                needs=tensors_of(part),
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
    )


def make_play(stage: StagePlan) -> Callable[[Policy, list[Match]], list[Episode]]:
    """Plays matches for evaluation: the rule for invalid replies as in training, but without their penalty."""
    from lapwing.policies.agent import InvalidRule
    from lapwing.rollout.collector import LocalCollector

    invalid = InvalidRule(**{**invalid_settings(stage.policy), "penalty": 0.0})
    opponents = make_opponents(stage)

    def play(policy: Policy, matches: list[Match]) -> list[Episode]:
        return LocalCollector(policy, opponents=opponents, invalid=invalid).play(matches)

    return play


def _is_enumerable(game: Game) -> bool:
    from lapwing.tabular.enumerate import enumerate_game

    try:
        enumerate_game(game, [game.initial(rng.generator("enumerable"))])
    except LapwingError:  # too large, or open-ended
        return False
    return True


def make_baselines(stage: StagePlan) -> dict[str, Policy]:
    """The baselines that the stage's game supports: random, guess, heuristic and optimal, where there are such."""
    from lapwing.games.game import has_exact_outcomes
    from lapwing.policies import baselines as found

    game = make_game(stage.game)
    policies: dict[str, Policy] = {}
    if game.legal(game.initial(rng.generator("legal")), 0) is not None:
        policies["random"] = found.Random()
    if callable(getattr(game, "guess", None)):
        policies["guess"] = found.Guess()
    if callable(getattr(game, "heuristic", None)):
        policies["heuristic"] = found.Heuristic()
    if has_exact_outcomes(game) and game.num_players == 1 and _is_enumerable(game):
        policies["optimal"] = found.Optimal()
    return policies
