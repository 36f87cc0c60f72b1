"""Everybody against everybody: who wins how often in which seat, and how strong each is."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Episode
from lapwing.evaluation.evaluate import evaluation_matches
from lapwing.rollout.play import play
from lapwing.stats.elo import elo
from lapwing.stats.summarise import summarise
from lapwing.stats.wilson import wilson

SCHEMA_VERSION = 1
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
            seatings.append((seats, _returns(episodes)))
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
      pairs: each with `first`, `second` and the counts `wins`, `draws`, `losses` of the first.
      anchor: whose rating is given.
    """
    place = {name: number for number, name in enumerate(names)}
    score = np.zeros((len(names), len(names)))
    for pair in pairs:
        first, second = place[pair["first"]], place[pair["second"]]
        score[first, second] += pair["wins"] + 0.5 * pair["draws"]
        score[second, first] += pair["losses"] + 0.5 * pair["draws"]
    found = elo(score, anchor=place[anchor], anchor_rating=ANCHOR_RATING, virtual_draws=VIRTUAL_DRAWS)
    ratings = zip(names, found.rating.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    return {
        "anchor": anchor,
        "anchor_rating": ANCHOR_RATING,
        "virtual_draws": VIRTUAL_DRAWS,
        "ratings": {name: {"rating": rating, "low": low, "high": high} for name, rating, low, high in ratings},
    }


def _returns(episodes: Sequence[Episode]) -> np.ndarray:
    """The return of each match to seats 0 and 1, [matches, 2]; a seat that never decided has 0."""
    order: dict[int, int] = {}
    found = np.zeros((len({episode.match.group for episode in episodes}), 2))
    for episode in episodes:
        row = order.setdefault(episode.match.group, len(order))
        found[row, episode.player] = episode.domain_return
    return found


def _pair(first: str, second: str, seatings: Sequence[tuple[tuple[str, str], np.ndarray]]) -> dict[str, Any]:
    rows = []
    own, other = [], []
    for seats, returns in seatings:
        seat = seats.index(first)
        mine, theirs = returns[:, seat], returns[:, 1 - seat]
        own.append(mine)
        other.append(theirs)
        rows.append({"seats": list(seats), **_counts(mine, theirs), "return": summarise(mine).to_dict()})
    mine, theirs = np.concatenate(own), np.concatenate(other)
    counts = _counts(mine, theirs)
    shares = {
        share: wilson(counts[count], len(mine)).to_dict()
        for share, count in (("win", "wins"), ("draw", "draws"), ("loss", "losses"))
    }
    return {
        "first": first,
        "second": second,
        **counts,
        **shares,
        "return": summarise(mine).to_dict(),
        "opponent_return": summarise(theirs).to_dict(),
        "seatings": rows,
    }


def _counts(mine: np.ndarray, theirs: np.ndarray) -> dict[str, int]:
    return {
        "wins": int((mine > theirs).sum()),
        "draws": int((mine == theirs).sum()),
        "losses": int((mine < theirs).sum()),
    }
