"""An episode at the terminal, board by board."""

import sys
import time
from pathlib import Path
from typing import Any

from lapwing.console.boards import say_board
from lapwing.console.lines import is_terminal, say
from lapwing.core.errors import UserError


def watch_at_terminal(run: Path, *, pick: str, delay: float, step: bool, **source: Any) -> None:
    """Replay an episode of a run.

    Args:
      run: its folder.
      pick: "best", "worst", "failed", "longest" or "random".
      delay: seconds between two boards, at a terminal.
      step: wait for the return key instead.
      source: policy, credit and iteration, as `episodes_to_watch` takes them.

    Raises:
      UserError: there is no such run or episode.
    """
    import random

    from lapwing.api.watching import checked_pick, episodes_to_watch
    from lapwing.api.watching import pick as picked

    if not 0.0 <= delay < float("inf"):
        raise UserError(f"--delay is a number of seconds, at least 0, not {delay:g}.")
    checked_pick(pick)
    watched = episodes_to_watch(run, **source)
    show_watched(watched, picked(watched.episodes, pick, number=random.randrange(2**30)), delay=delay, step=step)


def show_watched(watched: Any, episode: Any, *, delay: float, step: bool) -> None:
    """Replay an episode; without a terminal all of it is written at once.

    Args:
      watched: the `Watched` that the episode is from.
      episode: a `WatchedEpisode`.
      delay: seconds between two boards.
      step: wait for the return key instead; q ends it.
    """
    count = len(episode.steps)
    say(f"{watched.where}; match {episode.match}, one of {len(watched.episodes)}.")
    if watched.credit:
        say(f"advantage: of {watched.credit}; above 0 it makes the reply more probable.")
    waits = is_terminal()
    for number, one in enumerate(episode.steps, 1):
        say(f"\nstep {number} of {count}")
        if one.board:
            say_board(one.board)
        for line in _lines(one):
            say(line)
        if waits and not _wait(delay, step):
            say("\nEnded.")
            return
    say("\nend")
    if episode.end:
        say_board(episode.end)
    say(_ended(episode))


def _lines(one: Any) -> list[str]:
    stands_for = "nothing" if one.action is None else one.action
    found = [f"reply      {_indented(one.reply)}"]
    if one.reply.strip() != one.action:
        found.append(f"action     {_indented(stands_for)}")
    if one.reason:
        found.append(f"not valid  {_indented(one.reason)}")
    by_game = "" if one.domain_reward == one.reward else f" ({one.domain_reward:+.4g} by the game alone)"
    found.append(f"reward     {one.reward:+.4g}{by_game}")
    found.extend(f"  {_indented(name)}: {value:+.4g}" for name, value in one.parts.items() if value)
    if one.choices:
        found.append(f"policy     {_indented('  '.join(f'{name} {value:.2f}' for name, value in one.choices.items()))}")
    exact = "" if one.exact is None else f"  (exact {one.exact:+.3g})"
    found.append(f"advantage  {'none: not learnt from' if one.advantage is None else f'{one.advantage:+.3g}'}{exact}")
    return found


def _ended(episode: Any) -> str:
    won = "" if episode.success is None else ", success" if episode.success else ", no success"
    how = "cut by the step limit" if episode.truncated else "ended by the rules"
    outcome = f", outcome {episode.outcome:+.4g} included" if episode.outcome else ""
    length = len(episode.steps)
    steps = f"{length} step{'' if length == 1 else 's'}"
    return f"\n{how}{won}: {steps}, return {episode.episode_return:+.4g}{outcome}."


def _wait(delay: float, step: bool) -> bool:
    """Until the next board is due; False if the person has seen enough."""
    if not step:
        time.sleep(delay)
        return True
    sys.stdout.write("return: next board, q: end > ")
    sys.stdout.flush()
    line = sys.stdin.readline()
    return bool(line) and line.strip().lower() not in ("q", "quit")


def _indented(text: str) -> str:
    """Further lines begin with blanks, so that none of them looks like a line of ours."""
    return text.replace("\n", "\n           ")
