"""A person plays: the board, the legal replies with their numbers, and how the match ended."""

import sys
from collections.abc import Sequence
from typing import Any

from lapwing.console.boards import say_board
from lapwing.console.lines import say
from lapwing.core.clean_text import printable
from lapwing.core.errors import UserError
from lapwing.core.types import Action, Ask


class _Quit(Exception):
    """The person does not want to go on."""


def play_at_terminal(
    name: str, settings: Sequence[str], seed: int, max_steps: int, allow_code: Sequence[str] = ()
) -> None:
    """Let a person play one match of a game.

    Args:
      name: of the game.
      settings: `key=value` or `game.key=value` overrides of its settings; `policy.parser={…}` is whose replies are
        shown beside the actions.
      seed: of the match.
      max_steps: step cap.
      allow_code: packages outside Lapwing whose game may be played.

    Raises:
      UserError: there is no such game or setting, or the match could not begin.
    """
    from lapwing import build
    from lapwing.core.types import Match
    from lapwing.games.tools.dialogue import ToolGame
    from lapwing.policies.baselines import Human
    from lapwing.report import dialogue
    from lapwing.rollout.play import play

    if max_steps < 1:
        raise UserError(f"--max-steps is at least 1, not {max_steps}.")
    build.checked_seed(seed)
    plan = build.game_plan(name, settings, allow_code=tuple(allow_code))
    game = build.make_game(plan.game)
    opponents = build.make_opponents(plan)
    talks = isinstance(game, ToolGame)
    person = _Person(plan.parser.make(**plan.parser.settings), talks=talks)
    how = "type a call of a tool, or the answer" if talks else "type an action, its first letters or its number"
    say(f"{name}: {how}; q ends the match.")
    match = Match(game=game, seed=seed, split="test", iteration=0, group=0, member=0, max_steps=max_steps)
    human = Human(person.ask, read=dialogue.read_line if talks else _read)
    try:
        (episode,) = play([match], {0: human, **opponents})
    except _Quit:
        say("\nEnded.")
        return
    say()
    _say_end(game, episode)


def _say_end(game: Any, episode: Any) -> None:
    from lapwing.games.tools.dialogue import ToolGame
    from lapwing.report import dialogue
    from lapwing.report.boards import board

    if isinstance(game, ToolGame):
        say(dialogue.ending(game, episode))
    else:
        say_board(board(episode.final_view))
    ended = "cut after the last step" if episode.truncated else "over"
    won = "" if episode.success is None else (", you made it" if episode.success else ", you did not make it")
    part = getattr(game, "score_part", None)
    score = "" if part is None else f", {part} {sum(step.parts.get(part, 0.0) for step in episode.steps):g}"
    say(f"\nThe match is {ended}{won}: {len(episode.steps)} steps, return {episode.domain_return:+g}{score}.")


class _Person:
    """Shows what a player knows and may do, and hands on what is typed."""

    def __init__(self, parser: Any, *, talks: bool) -> None:
        self._parser, self._talks = parser, talks
        self._is_told = False

    def ask(self, ask: Ask, refused: str) -> str:
        from lapwing.report import dialogue
        from lapwing.report.boards import board

        say()
        if refused:
            say(refused)
        else:
            say_board(board(ask.view))
        if not self._is_told and (reply := self._reply(ask)):
            say(reply)
        self._is_told = True
        asked = dialogue.prompt(ask.view) if self._talks else numbered(ask.legal or ())
        sys.stdout.write(f"{printable(asked)} > ")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line or line.strip().lower() in ("q", "quit"):
            raise _Quit
        return line

    def _reply(self, ask: Ask) -> str:
        """What an agent has to write, where that is not the action itself; empty where it is."""
        from lapwing.report import dialogue

        if self._talks:
            return f"An agent replies {dialogue.replies(ask.view, self._parser)}."
        first = next(iter(ask.legal or ()), None)
        if first is None or self._parser.compose(first) == str(first):
            return ""
        return f"An agent replies {self._parser.compose(first)} for {first}."


def numbered(legal: Sequence[Action]) -> str:
    """The legal actions with the numbers that stand for them, as "1 left  2 right"; without where they are numbers."""
    names = [str(action) for action in legal]
    if any(name[:1].isdecimal() for name in names):
        return ", ".join(names)
    return "  ".join(f"{number} {name}" for number, name in enumerate(names, 1))


def _read(text: str, ask: Ask) -> Any:
    """The action that was typed: its number, its name, or the beginning of its name."""
    from lapwing.policies.baselines import complete
    from lapwing.policies.parsers import Invalid

    typed, legal = text.strip(), ask.legal or ()
    if typed.isdecimal() and legal and not any(str(action)[:1].isdecimal() for action in legal):
        if 1 <= int(typed[:9]) <= len(legal):
            return legal[int(typed[:9]) - 1]
        return Invalid(f"type a number from 1 to {len(legal)}, or an action")
    return complete(text, ask.legal)
