"""Who plays a stage: this process, several processes, Ray actors, or nobody, where a file holds the dialogues."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapwing.build.schema import Checker, Part, construct
from lapwing.build.stage_plan import StagePlan
from lapwing.core import rng
from lapwing.core.errors import LapwingError
from lapwing.core.paths import is_file
from lapwing.core.types import Episode, Match

_RAY, _DEMONSTRATIONS, _PAIRS, _ISOLATED = "ray", "demonstrations", "preference_pairs", "isolated"


@dataclass(frozen=True)
class Origin:
    """What a run was built from, so that another process can build it again.

    Attributes:
      recipe: resolved.
      weights: the folder that the model was loaded from instead of that of the recipe, if any.
      allow_code: packages outside Lapwing whose code the recipe may name.
      trust_remote_code: run code that comes with a pretrained model.
    """

    recipe: Mapping[str, Any]
    weights: Path | None = None
    allow_code: tuple[str, ...] = ()
    trust_remote_code: bool = False


def local() -> None:
    """Play in this process; there is nothing to set."""


def collectors() -> dict[str, Callable[..., Any]]:
    """What the section `collector` may name."""
    from lapwing.distributed.ray_collector import RayCollector
    from lapwing.rollout.demonstrations import Demonstrations
    from lapwing.rollout.isolated import IsolatedCollector
    from lapwing.rollout.preference_pairs import PreferencePairs

    return {
        "local": local,
        _RAY: RayCollector,
        _DEMONSTRATIONS: Demonstrations,
        _PAIRS: PreferencePairs,
        _ISOLATED: IsolatedCollector,
    }


def demonstrates(collector: Any) -> bool:
    """Whether a `collector` section as read names a file of demonstrations or of pairs."""
    return isinstance(collector, Mapping) and collector.get("name") in (_DEMONSTRATIONS, _PAIRS)


def played_here(stage: StagePlan) -> StagePlan:
    """The same stage, played in this process."""
    return dataclasses.replace(stage, collector=Part("local", local, {}), learner=None)


def is_cloned(stage: StagePlan) -> bool:
    """Whether a stage plays nothing and reads a file of demonstrations or of pairs."""
    return stage.collector.name in (_DEMONSTRATIONS, _PAIRS)


def check_collector(checker: Checker, where: str, stage: StagePlan) -> None:
    """Try the settings of a stage's collector; no cluster is started and no model needed."""
    if stage.collector.name == _RAY:
        construct(checker, f"{where}.collector", functools.partial(stage.collector.make, None, None), _of(stage))
    if stage.collector.name == _ISOLATED:
        construct(checker, f"{where}.collector", functools.partial(stage.collector.make, None), _of(stage))
    checker.errors.extend(f"{where}.collector: {reason}" for reason in _mismatches(stage))


def _of(stage: StagePlan) -> dict[str, Any]:
    return dict(stage.collector.settings)


def _mismatches(stage: StagePlan) -> Iterator[str]:
    if stage.collector.name == _RAY and stage.learner is not None:
        yield "'ray' goes with one learner process; with learner.name = 'accelerate' every rank plays its share."
    if not is_cloned(stage):
        return
    path = stage.collector.settings["path"]
    what = "demonstrations" if stage.collector.name == _DEMONSTRATIONS else "pairs"
    if not is_file(path):
        yield f"there is no file '{path}' of {what}."
    if what == "pairs" and stage.pairs is None:
        yield "pairs are learnt from by a loss of pairs; add pairs.name = 'by_return' and loss.name = 'dpo'."
    if what == "demonstrations" and (stage.loss.name != "negative_log_likelihood" or stage.credit is not None):
        yield "demonstrations have no rewards; use loss.name = 'negative_log_likelihood' and no credit section."
    if stage.teacher is not None:
        yield f"{what} need no policy.teacher; leave it out."
    if stage.learner is not None:
        yield f"{what} are read by one process; leave out the learner section."


def make_collector(stage: StagePlan, shop: Any, agent: Any, here: Any) -> Any:
    """The collector of a stage.

    Args:
      stage: its settings.
      shop: the model, and what the run was built from.
      agent: who learns.
      here: the collector that plays in this process.

    Raises:
      LapwingError: actors are to play, and nobody said what the run was built from.
    """
    if is_cloned(stage):
        return stage.collector.make(
            chat=agent.chat,
            policy=agent,
            positions=getattr(shop.model.config.get_text_config(), "max_position_embeddings", None),
            seed=rng.fold(0, stage.name, shop.seed),
            **stage.collector.settings,
        )
    if stage.collector.name == _RAY:
        if shop.origin is None:
            raise LapwingError("Ray actors build a stage from its resolved recipe, and there is none here.")
        collector = stage.collector.make(_in_an_actor(stage, shop), shop.model, **stage.collector.settings)
        collector.past = here.past
        return collector
    player = isolated(stage, here)
    return player if shop.team is None else shop.team.collector(player)


def isolated(stage: StagePlan, here: Any) -> Any:
    """The same collector, with its games in worker processes where the stage asks for that.

    Args:
      stage: its settings.
      here: plays in this process.
    """
    return stage.collector.make(here, **stage.collector.settings) if stage.collector.name == _ISOLATED else here


def play_once(stage: StagePlan, here: Any, team: Any, matches: list[Match]) -> list[Episode]:
    """Play matches as a stage does, and end what was started for that.

    Matches whose game fails are left out, with a warning.

    Args:
      stage: its settings.
      here: plays in this process.
      team: the processes that play the matches together; None for this one alone.
      matches: what to play.

    Raises:
      LapwingError: all of them failed.
    """
    player = isolated(stage, here)
    collector = player if team is None else team.collector(player)
    try:
        episodes = collector.play(matches)
    finally:
        getattr(collector, "close", lambda: None)()
    faults = collector.take_faults()
    if faults and not episodes:
        raise LapwingError(
            f"All {len(matches)} matches failed in their game; try it with lapwing check-game. The first: "
            f"{faults[0]['text']}\n{faults[0]['traceback']}"
        )
    if faults:
        warnings.warn(
            f"{len(faults)} of {len(matches)} matches failed and are left out of what is measured; the first, "
            f"{faults[0]['match']}: {faults[0]['text']}",
            RuntimeWarning,
        )
    return episodes


def _in_an_actor(stage: StagePlan, shop: Any) -> Callable[[], tuple[Any, Any]]:
    from lapwing.build.remote import make_remote

    origin = shop.origin
    return functools.partial(
        make_remote,
        origin.recipe,
        stage.name,
        shop.seed,
        weights=None if origin.weights is None else str(origin.weights),
        allow_code=origin.allow_code,
        trust_remote_code=origin.trust_remote_code,
        dtype=str(shop.model.dtype).removeprefix("torch."),
    )
