"""What was found of a game: a line for each promise, how to see the broken ones again, and the null agents."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

from lapwing.console.lines import say

_WORDS = {True: "kept", False: "BROKEN", None: "–"}


class _Printed(io.TextIOBase):
    """Counts the lines that are written to it and keeps the first."""

    def __init__(self) -> None:
        self.lines = 0
        self.first = ""

    def write(self, text: str, /) -> int:
        if not self.lines:
            self.first += text.partition("\n")[0][:60]
        self.lines += text.count("\n")
        return len(text)


def check_at_terminal(
    name: str,
    settings: Sequence[str],
    *,
    matches: int,
    seed: int,
    max_steps: int,
    deadline_seconds: float,
    limit_seconds: float | None,
    as_json: bool,
) -> int:
    """Look at a game and say what was found.

    Args:
      name: of the game.
      settings: `key=value`.
      matches, seed, max_steps, deadline_seconds, limit_seconds: what is looked at, as `api.checking` takes it.
      as_json: print one JSON object instead.

    Returns:
      How many promises are broken.

    Raises:
      UserError: there is no such game or setting.
    """
    import contextlib
    import json

    from lapwing.api.checking import again, check_game

    # What a game prints is not ours, and thousands of times the same.
    printed = _Printed()
    with contextlib.redirect_stdout(printed):
        asked, found = check_game(
            name,
            settings,
            matches=matches,
            seed=seed,
            max_steps=max_steps,
            deadline_seconds=deadline_seconds,
            limit_seconds=limit_seconds,
        )
    if printed.lines:
        note = f"The game prints while it is played: {printed.lines:,} lines here, the first of them {printed.first!r}."
        found = dataclasses.replace(found, notes=(*found.notes, note))
    if as_json:
        result = {**asked, **found.to_dict()}
        for finding, row in zip(found.findings, result["promises"], strict=True):
            row["again"] = again(asked, settings, finding) or None
        say(json.dumps(result, indent=2, allow_nan=False))
    else:
        _show(asked, found, [(finding, again(asked, settings, finding)) for finding in found.broken])
    return len(found.broken)


def _show(asked: dict[str, Any], found: Any, broken: Sequence[tuple[Any, str]]) -> None:
    width = max(len(one.promise) for one in found.findings)
    for one in found.findings:
        say(f"{one.promise:<{width}}  {_WORDS[one.kept]:<6}  {one.meaning}")
    for finding, command in broken:
        seed = "" if finding.seed is None else f" Smallest seed: {finding.seed}."
        say(f"\n{finding.promise}: the game {finding.found}.{seed}\n  {command}")
    for reason in dict.fromkeys(finding.found for finding in found.findings if finding.kept is None):
        unseen = [one.promise for one in found.findings if one.kept is None and one.found == reason]
        say(f"\n{', '.join(unseen)}: not looked at, {reason.rstrip('.')}.")
    if found.null_agents:
        ceiling = "none is declared" if found.ceiling is None else f"{found.ceiling:.3g}"
        got = ", ".join(f"{one.agent} {one.mean:.3g} ± {one.half_width:.2g}" for one in found.null_agents)
        say(f"\nNull agents: {got}; null_ceiling: {ceiling}.")
    for note in found.notes:
        say(note)
    kept = sum(finding.kept is True for finding in found.findings)
    say(
        f"\n{asked['game']}: {kept} of {len(found.findings)} promises kept, {len(found.broken)} broken, in "
        f"{asked['matches']} matches of at most {asked['max_steps']} steps from seed {asked['seed']} on."
    )
