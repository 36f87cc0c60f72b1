"""Every credit method on the same episodes, without a model: what each thinks of every step."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lapwing.core import registry
from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import producer
from lapwing.core.errors import LapwingError, MissingColumnError, UserError, nearest
from lapwing.core.memory import bound
from lapwing.core.ragged import group_mean, has_spread, segment_mean
from lapwing.core.storage import to_plain
from lapwing.evaluation.transcripts import Transcripts

SCHEMA_VERSION = 1
BASE = "grpo"
_ROOMS = ("credit", "modulation")
# Ranks of more steps are taken of evenly spaced ones.
MOST_RANKED = 100_000
Settings = Mapping[tuple[str, str], Mapping[str, Any]]


class Scored(NamedTuple):
    """What one method says.

    Attributes:
      name: of the method; of a modulation with the credit that it works on, as "grpo+salt".
      room: "credit" or "modulation".
      level: "step" or "token".
      scope: what may influence an episode's number, "group" or "batch".
      settings: those that were set.
      advantage [N]: of each step; of a method that works by token, the mean over the reply.
      mean_absolute: mean of |A| over the steps.
      zero_share: share of the steps with A = 0.
      sign_agreement: share of the steps whose advantage has the sign of the episode's return relative to its group,
        of those where neither is 0; None where there are none.
    """

    name: str
    room: str
    level: str
    scope: str
    settings: Mapping[str, Any]
    advantage: np.ndarray
    mean_absolute: float
    zero_share: float
    sign_agreement: float | None


@dataclass(frozen=True)
class Score:
    """All methods on the same episodes.

    Attributes:
      transcripts: the episodes.
      methods: in the order of their rooms and names.
      not_scored: the reason, by the name of the method.
      relative_return [E]: return minus the mean return of the group.
      rank_correlation [methods, methods]: Spearman's, over steps; NaN where a method gives one number throughout.
    """

    transcripts: Transcripts
    methods: Sequence[Scored]
    not_scored: Mapping[str, str]
    relative_return: np.ndarray
    rank_correlation: np.ndarray

    def summary(self) -> dict[str, Any]:
        """The object of `lapwing score --json` without its numbers per episode."""
        transcripts, batch = self.transcripts, self.transcripts.batch
        return {
            "schema_version": SCHEMA_VERSION,
            "source": transcripts.source,
            "format": transcripts.form,
            "views": transcripts.views,
            "num_episodes": batch.num_episodes,
            "num_steps": batch.num_steps,
            "num_tokens": batch.num_tokens,
            "num_groups": len(transcripts.groups),
            "notes": list(transcripts.notes),
            "methods": {method.name: self._describe(at) for at, method in enumerate(self.methods)},
            "not_scored": dict(self.not_scored),
        }

    def _describe(self, at: int) -> dict[str, Any]:
        method = self.methods[at]
        ranks = zip(self.methods, self.rank_correlation[at], strict=True)
        return {
            "room": method.room,
            "level": method.level,
            "scope": method.scope,
            "settings": to_plain(dict(method.settings)),
            "mean_absolute": method.mean_absolute,
            "zero_share": method.zero_share,
            "sign_agreement": method.sign_agreement,
            "rank_correlation": {other.name: float(rho) if np.isfinite(rho) else None for other, rho in ranks},
        }

    def episode(self, index: int) -> dict[str, Any]:
        """One entry of `episodes` in that object: who it is, its rewards, and every method's number for each step."""
        batch = self.transcripts.batch
        steps = slice(int(batch.step_splits[index]), int(batch.step_splits[index + 1]))
        return {
            "id": self.transcripts.identifiers[index],
            "group": self.transcripts.groups[int(batch.group[index])],
            "return": float(self._returns[index]),
            "relative_return": float(self.relative_return[index]),
            "outcome": float(batch.outcome[index]),
            "terminated": bool(batch.terminated[index]),
            "truncated": bool(batch.truncated[index]),
            "reward": batch.reward[steps].tolist(),
            "advantage": {method.name: method.advantage[steps].tolist() for method in self.methods},
        }

    @functools.cached_property
    def _returns(self) -> np.ndarray:
        return self.transcripts.batch.episode_return

    def json_chunks(self) -> Iterator[str]:
        """The object of `lapwing score --json` as text, an episode at a time: the whole may not fit in memory."""
        yield json.dumps(self.summary(), indent=2, allow_nan=False).removesuffix("\n}") + ',\n  "episodes": ['
        for index in range(self.transcripts.batch.num_episodes):
            yield (",\n    " if index else "\n    ") + json.dumps(self.episode(index), allow_nan=False)
        yield "\n  ]\n}\n"


def score_transcripts(
    transcripts: Transcripts,
    *,
    methods: Sequence[str] | None = None,
    modulations: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> Score:
    """Score episodes by every credit method, and grpo's credit by every modulation, whose columns are there.

    Args:
      transcripts: the episodes.
      methods: names of credit methods; None for all.
      modulations: names of modulations, which work on grpo; None for all.
      settings: of methods, by room and name.

    Raises:
      UserError: there is no such method, a setting is wrong, or nothing can be scored.
    """
    settings = settings or {}
    chosen = {"credit": methods, "modulation": modulations}
    wanted = [(room, name) for room in _ROOMS for name in _names(room, chosen[room])]
    for room, name in settings:
        if (room, name) not in wanted and (room, name) != ("credit", BASE):
            raise UserError(
                f"There are settings for {name}, but it is not among the methods; name it in --{_OPTION[room]}."
            )
    scored: list[Scored] = []
    not_scored: dict[str, str] = {}
    relative = relative_return(transcripts.batch)
    for room, name in wanted:
        label = name if room == "credit" else f"{BASE}+{name}"
        try:
            advantage = _advantage(transcripts.batch, room, name, settings)
        except LapwingError as error:
            has_settings = (room, name) in settings or (room == "modulation" and ("credit", BASE) in settings)
            if not isinstance(error, UserError):
                raise
            if has_settings and not isinstance(error, MissingColumnError):
                raise UserError(f"{label}: {error}") from error
            not_scored[label] = str(error)
            continue
        scored.append(
            _scored(label, room, name, settings.get((room, name), {}), advantage, relative, transcripts.batch)
        )
    if not scored:
        reasons = " ".join(not_scored.values())
        raise UserError(f"No method can score {transcripts.source}: {reasons or 'none was named.'}")
    return Score(transcripts, scored, not_scored, relative, rank_correlation([one.advantage for one in scored]))


_OPTION = {"credit": "methods", "modulation": "modulation"}


def _names(room: str, chosen: Sequence[str] | None) -> list[str]:
    known = registry.names(room)
    if isinstance(chosen, str):
        raise UserError(f"Names of {room} are a list, as in ['{chosen}'], not '{chosen}'.")
    for name in chosen or ():
        if name not in known:
            other = "modulation" if room == "credit" else "credit"
            is_other = name in registry.names(other)
            hint = f"it is in {other}; name it in --{_OPTION[other]}." if is_other else nearest(name, known)
            raise UserError(f"There is no {room} method '{name}'; {hint}")
    return known if chosen is None else list(dict.fromkeys(chosen))


def _advantage(batch: EpisodeBatch, room: str, name: str, settings: Settings) -> np.ndarray:
    """What a method gives, by step, float64 [N].

    Raises:
      UserError: the batch lacks what the method needs, or a setting is wrong.
    """
    entry = registry.describe(room, name)
    missing = [column for column in entry.needs if column not in batch.extra]
    if missing:
        raise MissingColumnError(_needs(name, missing))
    method: Callable[..., np.ndarray] = registry.resolve(room, name)
    own = settings.get((room, name), {})
    if room == "credit":
        found = bound(method, own)(batch)
    else:
        base = registry.resolve("credit", BASE)(batch, **settings.get(("credit", BASE), {}))
        found = bound(method, own)(batch, base)
    found = np.asarray(found, dtype=np.float64)
    if entry.level == "token":
        found = segment_mean(found, batch.token_splits)
    if len(found) != batch.num_steps or not np.isfinite(found).all():
        raise LapwingError(f"{name} did not give one finite number for each step.")
    return found


def _needs(name: str, missing: Sequence[str]) -> str:
    columns = _listed([f"'{column}'" for column in missing])
    suppliers = list(dict.fromkeys(producer(column) for column in missing))
    return (
        f"{name} needs the column{'s' if len(missing) > 1 else ''} {columns}, which the file does not have; "
        f"{_listed(suppliers)} {'supplies' if len(suppliers) == 1 else 'supply'} "
        f"{'it' if len(missing) == 1 else 'them'}."
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def relative_return(batch: EpisodeBatch) -> np.ndarray:
    """Return minus the mean return of the group, exactly 0 where the group's returns are equal, float64 [E]."""
    found = batch.episode_return
    return np.where(has_spread(found, batch.group), found - group_mean(found, batch.group), 0.0)


def _scored(
    label: str,
    room: str,
    name: str,
    settings: Mapping[str, Any],
    advantage: np.ndarray,
    relative: np.ndarray,
    batch: EpisodeBatch,
) -> Scored:
    entry = registry.describe(room, name)
    sign, expected = np.sign(advantage), np.sign(relative)[batch.episode_of_step]
    counts = (sign != 0) & (expected != 0)
    return Scored(
        name=label,
        room=room,
        level="token" if entry.level == "token" else "step",
        scope=entry.scope or "group",
        settings=settings,
        advantage=advantage,
        mean_absolute=float(np.abs(advantage).mean()),
        zero_share=float((sign == 0).mean()),
        sign_agreement=float((sign == expected)[counts].mean()) if counts.any() else None,
    )


def rank_correlation(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Spearman's correlation of every two columns; NaN where one of them is constant.

        ρ = cov(rank x, rank y) / (std(rank x) std(rank y)),   equal numbers share the mean of their ranks

    Of more than MOST_RANKED rows, as many evenly spaced ones count.

    Args:
      columns: [N] each.

    Returns:
      float64 [columns, columns].
    """
    length = len(columns[0])
    at = np.linspace(0, length - 1, min(length, MOST_RANKED)).astype(np.int64)
    ranks = np.stack([_ranks(column[at]) for column in columns])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1))
    product = np.outer(norm, norm)
    found = np.divide(centred @ centred.T, product, out=np.full(product.shape, np.nan), where=product > 0)
    return np.clip(found, -1.0, 1.0)


def _ranks(values: np.ndarray) -> np.ndarray:
    # Numbers that differ by rounding only are equal.
    rounded = np.round(values / (np.abs(values).max(initial=0.0) or 1.0), 9)
    _, index, count = np.unique(rounded, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2.0)[index.reshape(-1)]
