"""Episodes of a run to be watched: where they come from, and which one is picked."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lapwing.core.errors import LapwingError, UserError, nearest, shown
from lapwing.core.storage import read_json_lines
from lapwing.report.boards import recorded_board
from lapwing.training.run_folder import RunFolder, name_of

POLICIES = ("trained", "untrained")


class WatchedStep(NamedTuple):
    """One decision.

    Attributes:
      board: what the player saw, as lines of text.
      reply, action: what was said, and what it stood for; None where it stood for nothing.
      reason: why the reply was not valid; empty if it was.
      reward, domain_reward: trained on, and by the game alone.
      parts: the named parts of the reward.
      advantage: under the chosen credit method; the mean over the reply's tokens where that is per token; None where
        there is none.
      exact: the exact advantage of the policy that played; None where it is not known.
      choices: probability of each legal action, and of an invalid reply, where they are known.
    """

    board: str
    reply: str
    action: str | None
    reason: str
    reward: float
    domain_reward: float
    parts: dict[str, float]
    advantage: float | None
    exact: float | None = None
    choices: Mapping[str, float] = MappingProxyType({})


class WatchedEpisode(NamedTuple):
    """One episode.

    Attributes:
      match: split/iteration/group/member.
      steps: in order.
      end: the board after the last one.
      episode_return: the outcome included, as trained on.
      outcome: what was judged at the end.
      success: None where the game has no such notion.
      truncated: cut by the step limit.
    """

    match: str
    steps: list[WatchedStep]
    end: str
    episode_return: float
    outcome: float
    success: bool | None
    truncated: bool


class Watched(NamedTuple):
    """Episodes that were played together, and where they are from.

    Attributes:
      where: in words, as "training episodes of iteration 100, played before its update".
      credit: the method whose advantages are shown, and what they are; empty where there are none.
      episodes: in the order of the source, at least one.
    """

    where: str
    credit: str
    episodes: list[WatchedEpisode]


def episodes_to_watch(
    run: str | Path, *, policy: str | None = None, credit: str | None = None, iteration: int | None = None
) -> Watched:
    """The episodes of a run that can be watched.

    Args:
      run: its folder.
      policy: "trained" or "untrained": whose test matches, of the replay that a finished run has; trained if left out.
      credit: the method whose advantages are shown; the run's own if left out.
      iteration: recorded training episodes of this one instead; the newest where there is no replay.

    Raises:
      UserError: there is no such run, policy, method or iteration, or nothing was recorded.
    """
    folder = RunFolder.open(Path(run))
    if policy is not None and policy not in POLICIES:
        raise UserError(f"There is no policy {shown(policy)}; {nearest(policy, POLICIES)}")
    if policy is not None and iteration is not None:
        raise UserError(
            "--policy chooses test matches of the replay, and --iteration recorded training episodes; leave one out."
        )
    from lapwing.api._watching_replay import replayed

    if iteration is None and (folder.path / "replay.json").is_file():
        return replayed(folder, policy=policy or "trained", credit=credit)
    if policy is not None:
        raise UserError(
            f"{folder.path} has no replay, and so no test matches of the {policy} policy; a run has one when it is "
            "finished, and lapwing report RUN --replay makes it."
        )
    return recorded(folder, credit=credit, iteration=iteration)


def recorded(folder: RunFolder, *, credit: str | None, iteration: int | None) -> Watched:
    """The recorded training episodes of an iteration, from `episodes/main-<iteration>.jsonl`.

    Args:
      folder: of the run.
      credit, iteration: as for `episodes_to_watch`.

    Raises:
      UserError: they do not have what was asked for.
      LapwingError: a file holds something else.
    """
    name = _own_credit(folder)
    if credit is not None and credit != name:
        raise UserError(
            f"The recorded training episodes of {folder.path} hold the credit of {name or 'no method'} alone."
        )
    number, file = _file(folder, iteration)
    try:
        episodes = [_episode(record) for record in read_json_lines(file)]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LapwingError(f"{file} holds no episodes as Lapwing writes them: {error!r}.") from error
    if not episodes:
        raise LapwingError(f"{file} holds no episode.")
    has_credit = any(step.advantage is not None for one in episodes for step in one.steps)
    return Watched(
        f"training episodes of iteration {number}, played before its update",
        f"{name}, as the loss saw it" if has_credit else "",
        episodes,
    )


def _own_credit(folder: RunFolder) -> str:
    import tomllib

    try:
        stage = tomllib.loads(folder.recipe.read_text("utf-8"))["stage"][-1]
        return str(stage.get("credit", {}).get("name", ""))
    except (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise LapwingError(f"{folder.recipe} is no recipe as Lapwing writes it: {error!r}.") from error


def _file(folder: RunFolder, iteration: int | None) -> tuple[int, Path]:
    found = {}
    for path in (folder.path / "episodes").glob("main-*.jsonl"):
        if match := re.fullmatch(r"main-(\d+)", path.stem):
            found[int(match[1])] = path
    if not found:
        raise UserError(
            f"{folder.path} has recorded no episode yet; evaluation.every of its recipe says after how many iterations "
            "some are."
        )
    number = max(found) if iteration is None else iteration
    if number not in found:
        listed = ", ".join(map(str, sorted(found)))
        raise UserError(f"No episodes of iteration {iteration} were recorded; there are those of {listed}.")
    return number, found[number]


def _episode(record: Mapping[str, Any]) -> WatchedEpisode:
    if not record["steps"]:
        raise ValueError("an episode without steps")
    return WatchedEpisode(
        match=name_of(record),
        steps=[_step(step) for step in record["steps"]],
        end=recorded_board(record["final_view"]),
        episode_return=float(record["return"]),
        outcome=float(record["outcome"]),
        success=record["success"],
        truncated=bool(record["truncated"]),
    )


def _step(record: Mapping[str, Any]) -> WatchedStep:
    advantage = record.get("advantage")
    return WatchedStep(
        board=recorded_board(record["view"]),
        reply=str(record["reply"]),
        action=None if record["action"] is None else str(record["action"]),
        reason="" if record["valid"] else str(record["reason"] or "no reason is known"),
        reward=float(record["reward"]),
        domain_reward=float(record["domain_reward"]),
        parts={str(name): float(value) for name, value in record["parts"].items()},
        advantage=float(advantage) if advantage is not None and math.isfinite(advantage) else None,
    )


def _size(one: WatchedEpisode) -> float:
    """Of equal episodes the one that was learnt from most is shown."""
    return sum(abs(step.advantage) for step in one.steps if step.advantage is not None)


def _best(episodes: Sequence[WatchedEpisode]) -> WatchedEpisode:
    return max(episodes, key=lambda one: (one.episode_return, _size(one)))


def _worst(episodes: Sequence[WatchedEpisode]) -> WatchedEpisode:
    return max(episodes, key=lambda one: (-one.episode_return, _size(one)))


def _longest(episodes: Sequence[WatchedEpisode]) -> WatchedEpisode:
    return max(episodes, key=lambda one: (len(one.steps), _size(one)))


def _failed(episodes: Sequence[WatchedEpisode]) -> WatchedEpisode:
    failed = [one for one in episodes if one.success is False]
    if not failed:
        raise UserError(f"None of the {len(episodes)} episodes failed; --pick worst shows the one of least return.")
    return max(failed, key=_size)


_PICKS: dict[str, Callable[[Sequence[WatchedEpisode]], WatchedEpisode]] = {
    "best": _best,
    "worst": _worst,
    "failed": _failed,
    "longest": _longest,
}
PICKS = (*_PICKS, "random")


def pick(episodes: Sequence[WatchedEpisode], how: str, *, number: int = 0) -> WatchedEpisode:
    """One of the episodes.

    Args:
      episodes: at least one.
      how: "best" or "worst" by return, "failed", "longest", or "random"; of equal ones that with the largest sum of
        |advantage|.
      number: chooses the random one, any integer.

    Raises:
      UserError: there is no such way to pick, or no episode of that kind.
    """
    checked_pick(how)
    return episodes[number % len(episodes)] if how == "random" else _PICKS[how](episodes)


def checked_pick(how: str) -> None:
    """Refuse a way to pick that does not exist.

    Raises:
      UserError: there is no such way.
    """
    if how not in PICKS:
        raise UserError(f"There is no way to pick {shown(how)}; {nearest(how, PICKS)}")
