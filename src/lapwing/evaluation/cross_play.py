"""Everybody against everybody: who wins how often in which seat, and how strong each is."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Episode, Match
from lapwing.evaluation.evaluate import evaluation_matches
from lapwing.rollout.play import initial_state, play
from lapwing.stats.clustered import clustered_mean, clustered_share
from lapwing.stats.elo import elo

SCHEMA_VERSION = 2
ANCHOR_RATING = 1000.0
VIRTUAL_DRAWS = 1.0


def cross_play(
    policies: Mapping[str, Policy],
    game: Game,
    *,
    name: str,
    matches: int,
    seed: int,
    max_steps: int,
    anchor: str | None = None,
) -> dict[str, Any]:
    """Let every two policies meet in every seating, from the same starts.

    The one with the larger return has won; equal returns are a draw. An invalid reply plays the first legal action.
    Intervals are over starts, each with its match in either seating. Where a match is settled by its start, those that
    began alike are one match; with a single start there is no interval (`low` and `high` are None).

    Args:
      policies: by name, at least two.
      game: of two players.
      name: of the game, as recipes write it.
      matches: of each pair in each seating.
      seed: of the matches, whose starts are those of the test split.
      max_steps: step cap of a match.
      anchor: whose rating is 1000; the first policy if left out.

    Returns:
      The object of `lapwing cross-play --json`.

    Raises:
      UserError: there are fewer than two policies, the game has not two players, or a number is impossible.
    """
    names = list(policies)
    if len(names) < 2:
        raise UserError("Cross-play needs at least two players.")
    if game.num_players != 2:
        raise UserError(f"Cross-play is for games of two players, and {name} has {game.num_players}.")
    if matches < 1 or max_steps < 1:
        raise UserError("--matches and --max-steps are at least 1.")
    anchor = names[0] if anchor is None else anchor
    if anchor not in policies:
        raise UserError(f"The anchor is one of the players, {', '.join(names)}; not '{anchor}'.")
    drawn = evaluation_matches(game, split="test", seed=seed, episodes=matches, max_steps=max_steps)
    pairs = []
    for first, second in itertools.combinations(names, 2):
        seatings = []
        for seats in ((first, second), (second, first)):
            episodes = play(drawn, {seat: policies[who] for seat, who in enumerate(seats)}, learners=(0, 1))
            seatings.append((seats, _results(game, drawn, episodes)))
        pairs.append(_pair(first, second, seatings))
    return {
        "schema_version": SCHEMA_VERSION,
        "game": name,
        "matches": matches,
        "seed": seed,
        "max_steps": max_steps,
        "players": names,
        "pairs": pairs,
        "elo": rate(names, pairs, anchor),
    }


def rate(names: Sequence[str], pairs: Sequence[Mapping[str, Any]], anchor: str) -> dict[str, Any]:
    """The ratings of all players from the counts of all pairs.

    Args:
      names: of the players.
      pairs: each with `first`, `second` and the counts `wins`, `draws`, `losses` of the first; where it `repeats`, all
        matches together count as much as the `different` ones.
      anchor: whose rating is given.
    """
    place = {name: number for number, name in enumerate(names)}
    score = np.zeros((len(names), len(names)))
    for pair in pairs:
        first, second = place[pair["first"]], place[pair["second"]]
        played = pair["wins"] + pair["draws"] + pair["losses"]
        weight = pair["different"] / played if pair.get("repeats") else 1.0
        score[first, second] += weight * (pair["wins"] + 0.5 * pair["draws"])
        score[second, first] += weight * (pair["losses"] + 0.5 * pair["draws"])
    found = elo(score, anchor=place[anchor], anchor_rating=ANCHOR_RATING, virtual_draws=VIRTUAL_DRAWS)
    ratings = zip(names, found.rating.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    return {
        "anchor": anchor,
        "anchor_rating": ANCHOR_RATING,
        "virtual_draws": VIRTUAL_DRAWS,
        "ratings": {name: {"rating": rating, "low": low, "high": high} for name, rating, low, high in ratings},
    }


class _Results(NamedTuple):
    """The matches of a seating, in the order of their numbers.

    Attributes:
      returns: to seats 0 and 1, [matches, 2]; a seat that never decided has 0.
      start: what each began with; equal where they began alike.
      course: all that was seen and done in each; equal where they are the same match.
    """

    returns: np.ndarray
    start: list[Any]
    course: list[Any]


def _results(game: Game, matches: Sequence[Match], episodes: Sequence[Episode]) -> _Results:
    of_match: dict[int, list[Episode]] = {match.group: [] for match in matches}
    for episode in episodes:
        of_match[episode.match.group].append(episode)
    returns = np.zeros((len(matches), 2))
    start, course = [], []
    for row, match in enumerate(matches):
        seats = sorted(of_match[match.group], key=lambda episode: episode.player)
        for episode in seats:
            returns[row, episode.player] = episode.domain_return
        course.append(tuple((episode.player, episode.outcome, _seen_and_done(episode)) for episode in seats))
        # The state of a live environment says nothing; what is seen first does.
        start.append(initial_state(match) if game.restorable else _first_view(seats))
    return _Results(returns, start, course)


def _seen_and_done(episode: Episode) -> tuple[Any, ...]:
    return tuple((step.view_key, step.action_key, step.next_view_key, step.domain_reward) for step in episode.steps)


def _first_view(seats: Sequence[Episode]) -> tuple[int, int]:
    steps = [(-episode.steps[0].steps_left, episode.player, episode.steps[0].view_key) for episode in seats]
    return min(steps)[1:] if steps else (0, 0)


def _pair(first: str, second: str, seatings: Sequence[tuple[tuple[str, str], _Results]]) -> dict[str, Any]:
    repeats = _repeats([results for _, results in seatings])
    # What is drawn once for both seatings is the start. Where nothing else is drawn, those that are alike are one.
    starts = seatings[0][1].start if repeats else list(range(len(seatings[0][1].start)))
    place = {start: number for number, start in enumerate(dict.fromkeys(starts))}
    cluster = np.array([place[start] for start in starts])
    rows = []
    own, other, different = [], [], 0
    for seats, results in seatings:
        seat = seats.index(first)
        mine, theirs = results.returns[:, seat], results.returns[:, 1 - seat]
        own.append(mine)
        other.append(theirs)
        different += len(set(results.course))
        rows.append({"seats": list(seats), **_counts(mine, theirs), "return": _mean(mine, cluster, repeats)})
    mine, theirs, both = np.concatenate(own), np.concatenate(other), np.concatenate([cluster, cluster])
    most = different if repeats else len(mine)
    return {
        "first": first,
        "second": second,
        **_counts(mine, theirs),
        "different": different,
        "repeats": repeats,
        "win": _share(mine > theirs, both, most),
        "draw": _share(mine == theirs, both, most),
        "loss": _share(mine < theirs, both, most),
        "return": _mean(mine, both, repeats),
        "opponent_return": _mean(theirs, both, repeats),
        "seatings": rows,
    }


def _repeats(seatings: Sequence[_Results]) -> bool:
    """Whether a match is settled by its start: some began alike, and all that did were the same."""
    met: dict[Any, Any] = {}
    again = 0
    for number, results in enumerate(seatings):
        for start, course in zip(results.start, results.course, strict=True):
            again += (number, start) in met
            if met.setdefault((number, start), course) != course:
                return False
    return again > 0


def _share(happened: np.ndarray, cluster: np.ndarray, most: float) -> dict[str, float | None]:
    sizes = np.bincount(cluster)
    if len(sizes) < 2:
        return {"mean": float(happened.mean()), "low": None, "high": None}
    return dict(clustered_share(np.bincount(cluster, weights=happened), sizes, most=most).to_dict())


def _mean(values: np.ndarray, cluster: np.ndarray, repeats: bool) -> dict[str, float | None]:
    sizes = np.bincount(cluster)
    if len(sizes) >= 2:
        found = clustered_mean(np.bincount(cluster, weights=values), sizes)
        if not repeats or found.low < found.high:
            return dict(found.to_dict())
    # A few matches that end alike do not say how others would.
    return {"mean": float(values.mean()), "low": None, "high": None}


def _counts(mine: np.ndarray, theirs: np.ndarray) -> dict[str, int]:
    return {
        "wins": int((mine > theirs).sum()),
        "draws": int((mine == theirs).sum()),
        "losses": int((mine < theirs).sum()),
    }
