"""From stage plans to objects."""

import copy
import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lapwing.build.collectors import Origin, is_cloned, make_collector, play_once
from lapwing.build.pipeline import make_pipeline
from lapwing.build.pool import forget, make_pool, release
from lapwing.build.schema import Part, bind, constant
from lapwing.build.seats import against_fixed, learners, make_opponents, seated, weight_sets
from lapwing.build.served import is_served, refuse_served
from lapwing.build.stage_plan import StagePlan, invalid_settings
from lapwing.core import rng
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Episode, Match
from lapwing.games.mixture import Mixture


@dataclass
class Workshop:
    """What all stages share: the model, its tokenizer, what they were made from, and the ranks that train it.

    `others` are the further models that learn beside it, each by the lowest of its seats.
    """

    model: Any
    tokenizer: Any
    seed: int
    team: Any = None
    origin: Origin | None = None
    others: dict[int, "Workshop"] = field(default_factory=dict)

    def of_sets(self, sets: Sequence[Sequence[int]]) -> list["Workshop"]:
        """The model of each set of seats that shares weights, as `weight_sets` tells them."""
        return [self, *(self.others[min(seats)] for seats in sets[1:])]


def make_game(part: Part) -> Game:
    """The game that a section names."""
    return part.make(**part.settings)


def make_workshop(
    stage: StagePlan, seed: int, *, weights: Path | None = None, trust_remote_code: bool = False
) -> Workshop:
    """Build the model and tokenizer of a run.

    Args:
      stage: whose game, renderer and parser say which words a tiny model needs.
      seed: of the run; the initial weights follow from it.
      weights: a folder to load instead, of a whole model or of a PEFT adapter.
      trust_remote_code: run code that comes with a pretrained model.
    """
    from lapwing.models import pretrained, tiny
    from lapwing.policies.escape import without_tags

    if is_served(stage):
        return Workshop(None, None, seed)
    if stage.model.make is not tiny.tiny_model:
        settings = {**stage.model.settings, "seed": seed, "trust_remote_code": trust_remote_code}
        if weights is not None:
            return Workshop(*pretrained.load_folder(weights, base=stage.model.name, **settings), seed)
        return Workshop(*pretrained.pretrained_model(path=stage.model.name, **settings), seed)
    if weights is not None:
        return Workshop(*pretrained.load_folder(weights, dtype="float32", device="cpu"), seed)
    game = make_game(stage.game)
    renderer = stage.renderer.make(**stage.renderer.settings)
    parser = stage.parser.make(**stage.parser.settings)
    chance = rng.generator("words")
    # A mixture has a start of each of its games.
    starts = game.initial_of_each(chance) if isinstance(game, Mixture) else [game.initial(chance)]
    legal = game.legal(starts[0], 0)
    # What later views and replies may hold is the game's to say.
    said = set(getattr(game, "words", set)()) | _said_by_sampler(stage.sampler)
    words = said.union(
        *(renderer.words(game.view(state, seat)) for state in starts for seat in range(game.num_players)),
        # Whose turn it is not may have no legal action.
        *(parser.words(game.legal(state, seat) or ()) for state in starts for seat in {0, *game.players(state)}),
    )
    if legal is None:
        # A text from outside is shown without tags.
        words |= {without_tags(word) for word in said}
    tokenizer = tiny.tiny_tokenizer(words)
    return Workshop(tiny.tiny_model(len(tokenizer), seed=seed, **stage.model.settings), tokenizer, seed)


def _said_by_sampler(sampler: Part) -> set[str]:
    """The words that a sampler puts into prompts or replies."""
    texts = (sampler.settings.get(name) for name in ("text", "lead_in", "openings"))
    each = [text if isinstance(text, tuple) else (text,) for text in texts if text]
    return {word for several in each for text in several for word in text.split()}


def make_earlier_workshop(
    stage: StagePlan, shop: Workshop, weights: Path, *, trust_remote_code: bool = False
) -> Workshop:
    """The same model with the weights of an earlier checkpoint; with LoRA both share the base.

    Args:
      stage: as for `make_workshop`.
      shop: the model as it is now; it stays as it is.
      weights: of the checkpoint.
      trust_remote_code: as for `make_workshop`.
    """
    from lapwing.models import lora

    if lora.has_adapter(shop.model):
        return Workshop(lora.twin(shop.model, weights), shop.tokenizer, shop.seed)
    return make_workshop(stage, shop.seed, weights=weights, trust_remote_code=trust_remote_code)


def with_seats(stage: StagePlan, shop: Workshop) -> Workshop:
    """The same with a model for every further seat that learns with weights of its own; those there stay.

    Initial weights are drawn by the key ("model", run's seed, seat). A run that begins with weights of another takes
    those of the same seat, or the first model's where the other run had one model for all. What does not learn, as
    the base of an adapter, is shared.

    Args:
      stage: the main one.
      shop: the first model, with what it was built from.
    """
    from lapwing.models.frozen import share_frozen
    from lapwing.training.by_seat import seat_folder

    origin = shop.origin or Origin({})
    for seat in (min(seats) for seats in weight_sets(stage)[1:]):
        if seat in shop.others:
            continue
        weights = origin.weights
        if weights is not None and (own := weights.with_name(seat_folder(seat))).is_dir():
            weights = own
        seed = rng.fold(0, "model", shop.seed, seat)
        other = make_workshop(stage, seed, weights=weights, trust_remote_code=origin.trust_remote_code)
        share_frozen(other.model, shop.model)
        shop.others[seat] = other
    return shop


def make_agent(stage: StagePlan, shop: Workshop, *, taught: bool = False) -> Any:
    """The language agent of a stage.

    Args:
      stage: its settings.
      shop: the model.
      taught: let the stage's teacher decide, if it has one.
    """
    from lapwing.policies.agent import Agent

    parser = stage.parser.make(**stage.parser.settings)
    if is_served(stage):
        from lapwing.policies.chat_agent import ChatAgent

        return ChatAgent(
            renderer=stage.renderer.make(**stage.renderer.settings),
            context=stage.context.make(**stage.context.settings),
            parser=parser,
            client=stage.generation.make(model=stage.model.name, stop=parser.stop, **stage.generation.settings),
        )
    chat = make_chat(stage, shop)
    return Agent(
        renderer=stage.renderer.make(**stage.renderer.settings),
        context=stage.context.make(**stage.context.settings),
        parser=parser,
        tokenizer=shop.tokenizer,
        generator=make_generator(stage, shop, ends=chat.ends, stop=parser.stop),
        teacher=stage.teacher.make(**stage.teacher.settings) if taught and stage.teacher else None,
        chat=chat,
    )


def make_generator(stage: StagePlan, shop: Workshop, *, ends: frozenset[int], **changes: Any) -> Any:
    """The generator of a stage.

    Args:
      stage: its settings.
      shop: the model.
      ends: the tokens that end a reply.
      changes: what differs from the settings, and the stop strings.
    """
    # Not every generator is told which tokens end a reply, and whether contexts extend each other.
    asked = inspect.signature(stage.generation.make).parameters
    known = {"ends": ends, "append_only": getattr(stage.context.make, "append_only", False)}
    given = {name: value for name, value in known.items() if name in asked}
    return stage.generation.make(shop.model, shop.tokenizer, **{**stage.generation.settings, **given, **changes})


def make_chat(stage: StagePlan, shop: Workshop) -> Any:
    """How the model's chat template is used in a stage; the model's own settings know further tokens that end replies.

    Args:
      stage: its settings.
      shop: the model.
    """
    from lapwing.models.chat_format import ChatFormat

    ends = getattr(getattr(shop.model, "generation_config", None), "eos_token_id", None)
    found = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return ChatFormat(shop.tokenizer, thinking=stage.policy.get("thinking"), ends=found)


def greedy(agent: Any) -> Any:
    """The same agent with greedy decoding; both share what their generator remembers."""
    from lapwing.policies.chat_agent import ChatAgent

    if isinstance(agent, ChatAgent):
        return agent.greedily()
    other = copy.copy(agent)
    other.generator = agent.generator.greedily()
    return other


def make_stage(stage: StagePlan, shop: Workshop) -> Any:
    """Everything that the loop needs for one stage."""
    from lapwing.training.alarms import Alarms
    from lapwing.training.stages import Stage

    refuse_served(stage)
    shops = with_seats(stage, shop).of_sets(weight_sets(stage))
    agents = [make_agent(stage, one, taught=True) for one in shops]
    agent = agents[0]
    game = make_game(stage.game)
    from lapwing.games.game import for_split

    sampler = stage.sampler.make(
        for_split(game, "train"), seed=rng.fold(0, stage.name, shop.seed), **stage.sampler.settings
    )
    sampler, situation = _with_situation(stage, agent, game, sampler)
    past = make_past(stage, shop, agent)
    collector = make_collector(stage, shop, agent, local_collector(stage, agents, past))
    return Stage(
        name=stage.name,
        iterations=stage.settings.iterations,
        checkpoint_every=stage.settings.checkpoint_every,
        checkpoints_kept=stage.settings.checkpoints_kept,
        evaluate_every=stage.evaluation.settings["every"],
        alarms=Alarms(**stage.alarms.settings),
        seed=rng.fold(0, stage.name, shop.seed),
        # Which dialogues a file's collector takes is its own affair.
        sampler=collector if is_cloned(stage) else sampler,
        collector=collector,
        policy=agent,
        others=agents[1:],
        **make_pipeline(stage, shops, functools.partial(_make_annotators, stage, situation)),
        forget=functools.partial(forget, agents, past),
        # Not every generator keeps something on the learner's device.
        release=functools.partial(release, agents),
    )


def make_past(stage: StagePlan, shop: Workshop, agent: Any, *, is_sent: bool = False) -> Any:
    """The pool of past versions of an agent, where seats play with one; else None.

    Args:
      stage: its settings.
      shop: the model.
      agent: who learns.
      is_sent: the versions are those of another process, which sends them.
    """

    def generator(model: Any) -> Any:
        twin = Workshop(model, shop.tokenizer, shop.seed)
        return make_generator(stage, twin, ends=agent.chat.ends, stop=agent.parser.stop)

    return make_pool(stage, agent, shop.model, generator, is_sent=is_sent)


def local_collector(stage: StagePlan, agents: Sequence[Any], past: Any = None) -> Any:
    """The collector that plays a stage in this process.

    Args:
      stage: its settings.
      agents: who learn, one for each set of weights.
      past: frozen versions of the first, where they play.
    """
    from lapwing.policies.agent import InvalidRule
    from lapwing.rollout.collector import LocalCollector

    return LocalCollector(
        agents[0],
        opponents=seated(stage, agents, past),
        learners=learners(stage),
        invalid=InvalidRule(**invalid_settings(stage.policy)),
        deadline_seconds=stage.settings.deadline_seconds,
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


def _make_annotators(stage: StagePlan, situation: Any, shop: Workshop, reference: Path) -> list[Any]:
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


def make_team(stage: StagePlan, command: str, *, resumed: bool = False) -> Any:
    """Meet the other processes that train a stage; None where it is trained by one.

    Args:
      stage: the main one.
      command: what follows `lapwing` on the command line, to say how to start it.
      resumed: the run goes on, perhaps with another number of processes.

    Raises:
      UserError: other processes were started than the recipe asks for.
    """
    if stage.learner is None:
        # Without torch, which costs seconds: nothing was started in most cases.
        if "RANK" in os.environ:
            from lapwing.distributed.ranks import check_ranks

            check_ranks(None, command)
        return None
    return stage.learner.make(**stage.learner.settings).start(command, resumed=resumed)


def make_play(
    stage: StagePlan, team: Any = None, *, safe_point: Callable[[], None] | None = None
) -> Callable[[Policy, list[Match]], list[Episode]]:
    """Plays matches for evaluation: the rule for invalid replies as in training, but without their penalty.

    The other seats are those of `against_fixed`.

    Args:
      stage: its settings.
      team: the processes that play the matches together; None for this one alone.
      safe_point: is called now and then; it may raise.
    """
    from lapwing.policies.agent import InvalidRule
    from lapwing.rollout.collector import LocalCollector

    invalid = InvalidRule(**{**invalid_settings(stage.policy), "penalty": 0.0})
    opponents = make_opponents(against_fixed(stage))

    def play(policy: Policy, matches: list[Match]) -> list[Episode]:
        local = LocalCollector(policy, opponents=opponents, invalid=invalid)
        if safe_point is not None:
            local.safe_point = safe_point
        return play_once(stage, local, team, matches)

    return play
