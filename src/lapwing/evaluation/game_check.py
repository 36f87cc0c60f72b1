"""All that a game promises, looked at to the end: what is kept, what is broken, and how to see it again."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lapwing.core.rng import generator
from lapwing.core.types import Action, Answer, Malformed, State, ToolCall
from lapwing.evaluation.null_agents import MAX_STEPS, NullReturns, null_returns
from lapwing.games._traces import bytes_left, changed_memory, slow_call
from lapwing.games._watchdog import Position, Stuck, watched
from lapwing.games.contract import PROMISES, Broken, Findings, choose, look_at_game
from lapwing.games.tools.dialogue import ToolGame
from lapwing.policies.parsers import Bare, Hierarchical, Tags
from lapwing.policies.renderers import Coordinates
from lapwing.policies.tool_parser import ToolUse

# Matches whose memory is measured, again and again.
_MEMORY_MATCHES = 5
# A game with a slow call is looked at in so few steps, or nobody would see the end.
_STEPS_IF_SLOW = 10
_PARSERS: tuple[tuple[str, Any], ...] = (
    ("bare", Bare()),
    ("tags", Tags()),
    ("tags with thoughts and plans", Tags(think=True, plan=True)),
    ("hierarchical", Hierarchical()),
)
_TOOL_PARSERS: tuple[tuple[str, Any], ...] = (("tool_use", ToolUse()), ("tool_use in words", ToolUse(style="words")))


@dataclass(frozen=True)
class Finding:
    """What became of one promise.

    Attributes:
      promise: its name.
      meaning: what is promised.
      kept: whether it is; None where it could not be looked at, or there is nothing to look at.
      found: what the game does instead, or why nothing was looked at; empty where it is kept.
      seed: the smallest seed that shows it.
      matches, first: how many matches from which seed on show it again; None where nothing is broken.
    """

    promise: str
    meaning: str
    kept: bool | None
    found: str = ""
    seed: int | None = None
    matches: int | None = None
    first: int | None = None


@dataclass(frozen=True)
class GameCheck:
    """The findings on one game.

    Attributes:
      findings: one for each promise, in the order of `PROMISES`.
      null_agents: what each of them got; none where they could not play.
      ceiling: what the game says that they stay below; None where it says nothing.
      notes: what is worth knowing and breaks no promise.
    """

    findings: tuple[Finding, ...]
    null_agents: tuple[NullReturns, ...]
    ceiling: float | None
    notes: tuple[str, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Those that are not kept."""
        return tuple(finding for finding in self.findings if finding.kept is False)

    def to_dict(self) -> dict[str, Any]:
        """As `lapwing check-game --json` prints it, less what was asked for."""
        return {
            "kept": not self.broken,
            "promises": [dataclasses.asdict(finding) for finding in self.findings],
            "null_agents": {
                "ceiling": self.ceiling,
                "returns": {
                    one.agent: {"mean": one.mean, "low": one.mean - one.half_width, "high": one.mean + one.half_width}
                    for one in self.null_agents
                },
            },
            "notes": list(self.notes),
        }


def check_all(
    game: Any,
    *,
    matches: int = 20,
    max_steps: int = 100,
    seed: int = 0,
    deadline_seconds: float = 1.0,
    limit_seconds: float | None = None,
    null_matches: int = 100,
) -> GameCheck:
    """Look at every promise of a game, whatever is broken; only after a call that does not return, no further.

    Args:
      game: the game.
      matches: how many random matches are looked at; they have the seeds `seed`, `seed + 1`, ….
      max_steps: after how many steps a match is cut off.
      seed: of the first match.
      deadline_seconds: what a call of the game may take.
      limit_seconds: what a call takes that is ended because it may never return; left out, `usual_limit`. Only the
        main thread of a process can do that, and only where the system has timers.
      null_matches: how many matches each null agent plays, of at most 100 steps.
    """
    check = _Check(game, range(seed, seed + matches), max_steps, deadline_seconds)
    limit = usual_limit(deadline_seconds) if limit_seconds is None else limit_seconds
    looks = check.looks(null_matches)
    with watched(game, limit):
        for place, (_, look) in enumerate(looks):
            try:
                look()
            except Stuck as stuck:
                _tell_stuck(check.findings, stuck, check.numbers, limit, deadline_seconds)
                unseen = [promise for promises, _ in looks[place:] for promise in promises]
                check.findings.unchecked |= dict.fromkeys(unseen, f"{stuck.method} does not return")
                break
    ceiling = getattr(game, "null_ceiling", None)
    if "null agents" not in check.findings.unchecked:
        _judge_null_agents(check.findings, check.null_agents, ceiling)
    notes = [*check.notes, *_notes(game, check.findings, check.null_agents, ceiling)]
    promises = tuple(_finding(promise, check.findings) for promise in PROMISES)
    return GameCheck(promises, tuple(check.null_agents), ceiling, tuple(notes))


def usual_limit(deadline_seconds: float) -> float:
    """After how many seconds a call is ended: thirty times what it may take, and at least 10.

    Args:
      deadline_seconds: what it may take.
    """
    return max(10.0, 30.0 * deadline_seconds)


class _Check:
    """What is looked at, in this order, and what is found."""

    def __init__(self, game: Any, numbers: range, max_steps: int, deadline_seconds: float) -> None:
        self.game, self.numbers, self.max_steps, self.deadline = game, numbers, max_steps, deadline_seconds
        self.findings = Findings()
        self.notes: list[str] = []
        self.null_agents: list[NullReturns] = []

    def looks(self, null_matches: int) -> list[tuple[tuple[str, ...], Callable[[], None]]]:
        """Promises, and what looks at them; a promise that is looked at twice stands where that ends."""
        game, findings, numbers = self.game, self.findings, self.numbers
        later = ("no leak", "action texts", "deadline", "memory", "null agents")
        return [
            (("deadline",), self.time),
            (tuple(one for one in PROMISES if one not in later), self.play),
            (
                ("action texts",),
                self.whole("action texts", lambda: _look_at_texts(game, findings, numbers, self.max_steps)),
            ),
            (("no leak",), self.whole("no leak", lambda: _look_at_memory(game, findings, numbers, self.max_steps))),
            (("memory",), self.whole("memory", self.weigh)),
            (("null agents",), self.whole("null agents", lambda: self.play_null(null_matches))),
            ((), self.read),
        ]

    def time(self) -> None:
        """Look for calls that are slow."""
        findings = self.findings
        findings.attempt(
            ("deadline",),
            lambda: _look_at_deadline(self.game, findings, self.numbers, self.max_steps, self.deadline),
        )
        if "deadline" in findings.broken:
            self.max_steps = min(self.max_steps, _STEPS_IF_SLOW)
            self.notes.append(f"As a call is slow, all else was looked at in {self.max_steps} steps a match only.")

    def play(self) -> None:
        """Look at all that shows while matches are played."""
        look_at_game(
            self.game, self.findings, matches=len(self.numbers), max_steps=self.max_steps, seed=self.numbers[0]
        )

    def whole(self, promise: str, look: Callable[[], None]) -> Callable[[], None]:
        """Look at one promise, if the settings can be used."""

        def unless_unusable() -> None:
            if "settings" not in self.findings.broken:
                self.findings.attempt((promise,), look)

        return unless_unusable

    def weigh(self) -> None:
        """Look at the memory that matches leave behind."""
        _look_at_bytes(self.game, self.findings, self.numbers[:_MEMORY_MATCHES], self.max_steps)

    def read(self) -> None:
        """Look for words that a tiny model would not know."""
        if not {"settings", "plays"} & self.findings.broken.keys():
            self.findings.attempt((), lambda: self.notes.extend(_about_words(self.game, self.numbers, self.max_steps)))

    def play_null(self, matches: int) -> None:
        """Let agents play that never look."""
        first, cap = self.numbers[0], min(self.max_steps, MAX_STEPS)
        self.null_agents.extend(null_returns(self.game, range(first, first + matches), max_steps=cap))


def _tell_stuck(findings: Findings, stuck: Stuck, numbers: range, limit: float, deadline_seconds: float) -> None:
    said = (
        f"does not return from {stuck.method} within {limit:g} s, though a call may take {deadline_seconds:g} s; "
        "nothing was looked at after that"
    )
    alone = stuck.seed is not None
    first = stuck.seed if alone else numbers[0]
    found = Broken("deadline", said, stuck.seed, stuck.place, matches=1 if alone else len(numbers), first=first)
    # A call that never returns is worse than one that was slow before.
    findings.broken["deadline"] = found


def _finding(promise: str, findings: Findings) -> Finding:
    broken = findings.broken.get(promise)
    if broken is not None:
        said = f"{broken.sentence}{f' ({broken.place})' if broken.place else ''}"
        return Finding(promise, PROMISES[promise], False, said, broken.seed, broken.matches, broken.first)
    if promise in findings.unchecked:
        return Finding(promise, PROMISES[promise], None, findings.unchecked[promise])
    return Finding(promise, PROMISES[promise], True)


def _look_at_deadline(
    game: Any, findings: Findings, numbers: Sequence[int], max_steps: int, deadline_seconds: float
) -> None:
    slow = slow_call(game, numbers, max_steps, deadline_seconds)
    if slow is not None:
        said = f"takes {slow.seconds:.2g} s in {slow.method}, though a call may take {deadline_seconds:g} s"
        place = "the start" if slow.step < 0 else f"step {slow.step}"
        findings.tell(Broken("deadline", said, slow.seed, place, first=slow.seed))


def _look_at_memory(game: Any, findings: Findings, numbers: Sequence[int], max_steps: int) -> None:
    if not game.restorable:
        # What holds a live environment changes with it; that matches are the same all the same, was seen.
        return
    names = changed_memory(game, numbers, max_steps)
    if names:
        said = f"changes {', '.join(names)} with every match; keep all memory in the state"
        findings.tell(Broken("no leak", said, numbers[0], matches=len(numbers), first=numbers[0]))


def _look_at_bytes(game: Any, findings: Findings, numbers: Sequence[int], max_steps: int) -> None:
    if not bytes_left(game, numbers, max_steps):
        return
    for number in numbers:
        if left := bytes_left(game, [number], max_steps):
            said = f"leaves {left:,.0f} bytes behind each time that a match is played, and never frees them"
            findings.tell(Broken("memory", said, number, first=number))
            return


def _look_at_texts(game: Any, findings: Findings, numbers: Sequence[int], max_steps: int) -> None:
    """Compose every legal action and read it back, with every parser that a recipe may name for such a game."""
    parsers = _TOOL_PARSERS if isinstance(game, ToolGame) else _PARSERS
    seen: set[tuple[str, ...]] = set()
    for number in numbers:
        for step, (state, player, legal) in enumerate(_positions(game, number, max_steps)):
            actions = _said(game, state, player) if legal is None else legal
            texts = tuple(map(str, actions))
            if texts in seen:
                continue
            seen.add(texts)
            for (name, parser), action in itertools.product(parsers, actions):
                read = parser.parse(parser.compose(action), legal)
                if read != action:
                    said = (
                        f"has the action {str(action)!r}, which the parser {name} writes as "
                        f"{parser.compose(action)!r} and reads as {read!r}"
                    )
                    findings.tell(Broken("action texts", said, number, f"decision {step}", first=number))
                    return


def _positions(game: Any, seed: int, max_steps: int) -> Iterator[tuple[State, int, Sequence[Action] | None]]:
    """Every decision of a match: the state, who decides, and the legal actions."""
    with Position(seed) as position:
        state = game.initial(generator(seed, "check", "initial"))
        for index in range(max_steps):
            position.place = f"step {index}"
            legal = {player: game.legal(state, player) for player in game.players(state)}
            for player, options in legal.items():
                yield state, player, options
            actions = {player: choose(game, seed, index, state, player, options) for player, options in legal.items()}
            transition = game.step(state, actions, generator(seed, "check", "chance", index))
            state = transition.state
            if transition.terminated:
                return


def _said(game: Any, state: State, player: int) -> list[Action]:
    """Actions of an open-ended game that can be composed: those that it plays itself."""
    if not isinstance(game, ToolGame):
        # Any text is an action there, and parsers that strip it or lower its case change it rightly.
        return []
    found = [getattr(game, name)(state, player) for name in ("heuristic", "gold", "guess") if hasattr(game, name)]
    return [action for action in found if isinstance(action, (ToolCall, Answer)) and not isinstance(action, Malformed)]


def _judge_null_agents(findings: Findings, played: Sequence[NullReturns], ceiling: float | None) -> None:
    if ceiling is None:
        findings.unchecked.setdefault("null agents", "the game declares no null_ceiling")
        return
    above = [one for one in played if one.exceeds(ceiling)]
    if above:
        worst = max(above, key=lambda one: one.mean)
        said = (
            f"pays {worst.agent} {worst.mean:.3g} ± {worst.half_width:.2g} on average, above its null_ceiling of "
            f"{ceiling:.3g}"
        )
        first = worst.seeds[0]
        findings.tell(Broken("null agents", said, worst.first_above(ceiling), matches=1, first=first))


def _notes(game: Any, findings: Findings, played: Sequence[NullReturns], ceiling: float | None) -> Iterator[str]:
    if ceiling is None and played:
        worst = max(played, key=lambda one: one.mean)
        yield (
            f"Declare what agents that never look may get: null_ceiling: ClassVar[float] = "
            f"{_rounded_up(worst.mean + worst.half_width)} would hold ({worst.agent} got {worst.mean:.3g})."
        )
    if "settings" in findings.broken:
        return
    yield from _about_endings(findings)
    if not game.restorable:
        yield "The game is not restorable: no state was stepped twice, and its live environments were not compared."
    if game.num_players > 1 and played:
        yield "Null agents sat in seat 0, against random play."


def _about_words(game: Any, numbers: Sequence[int], max_steps: int) -> Iterator[str]:
    """What a tiny model, made as a recipe makes it, would not know of later views."""
    renderer, parser = Coordinates(), Bare()
    # As `build` collects them: what the game lists, and what its first views and actions hold.
    known: set[str] = set(getattr(game, "words", set)())
    start = game.initial(generator("words"))
    for player in range(game.num_players):
        known |= renderer.words(game.view(start, player)) | parser.words(game.legal(start, player) or ())
    for number in numbers:
        for step, (state, player, legal) in enumerate(_positions(game, number, max_steps)):
            if legal is None:
                return
            said = {
                word for message in renderer.messages(game.view(state, player)) for word in message["content"].split()
            }
            if lacking := sorted((said | parser.words(legal)) - known):
                yield (
                    f"A tiny model would not know the word {lacking[0]!r} (seed {number}, decision {step}): list in "
                    "words() all that views and actions may hold. A renderer of your own may need others."
                )
                return


def _about_endings(findings: Findings) -> Iterator[str]:
    """Matches that never end, and success that is told of those who get less."""
    ended = [match for match in findings.played if match.ending is not None]
    if findings.played and not ended:
        yield "No match ended by the rules of the game; only the step cap ends one."
    got: dict[bool, list[float]] = {True: [], False: []}
    for match in ended:
        for player, success in ((match.ending and match.ending.success) or {}).items():
            got[success].append(
                match.returns[player] + ((match.ending and match.ending.outcome) or {}).get(player, 0.0)
            )
    won, lost = (sum(got[success]) / max(1, len(got[success])) for success in (True, False))
    if got[True] and got[False] and won < lost:
        yield (
            f"Who succeeded got {won:.3g} on average and who did not {lost:.3g}, over {len(ended)} matches: is success "
            "told the wrong way round?"
        )


def _rounded_up(value: float) -> float:
    return round(value + 0.005, 2)
