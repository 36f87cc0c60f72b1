"""One match in which every value is looked at before it is used, and what a broken promise is."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from lapwing.core.errors import GameError
from lapwing.core.rng import generator
from lapwing.core.storage import canonical_json
from lapwing.core.types import Action, State, Transition
from lapwing.games._watchdog import Position

# Actions offered where a game takes any text.
TEXTS = ("", "yes", "no", "42", "a longer reply\nof two lines")
# Of more legal actions than this, only some are tried in each state.
_TRIED = 64
# Draws per step whose frequencies are held against `outcomes`, and how many standard deviations are forgiven.
_DRAWS = 400
_DEVIATIONS = 6.0


class Broken(NamedTuple):
    """A promise that a game breaks.

    Attributes:
      promise: its name, as `lapwing.games.contract.PROMISES` has it.
      sentence: what the game does, without its subject.
      seed: the smallest seed that shows it; None where no single match does.
      place: where in that match; empty where it is the whole match.
      matches: how many matches from `first` on have to be played to see it.
      first: the seed of the first of them.
    """

    promise: str
    sentence: str
    seed: int | None = None
    place: str = ""
    matches: int = 1
    first: int | None = None


# Is told of a broken promise, with the error behind it; it may raise.
Tell = Callable[[Broken, BaseException | None], None]


class Ended(Exception):
    """A match, or a game, cannot be looked at any further; what is broken was told."""


class CheckedMatch:
    """One match in which every value is looked at before it is used.

    Args:
      game: the game.
      seed: of the match.
      tell: is told of every broken promise.
      copies: give `step` a copy of the state, for games that change it.
      is_first: of several matches; what takes one look only is looked at here.
    """

    def __init__(self, game: Any, seed: int, tell: Tell, *, copies: bool = False, is_first: bool = False) -> None:
        self.game = game
        self.seed = seed
        self.where = "the start"
        self.copies = copies
        self.is_first = is_first
        # In which steps the draws are counted: the first with chance in it, and two later ones of each match's own.
        self.counted_from = [0, seed % 12, seed * 7 % 100]
        # The returns of the players, and what was said of their success; None if the match was cut off.
        self.returns: dict[int, float] = {}
        self.ending: Transition | None = None
        self._tell = tell

    def note(self, promise: str, sentence: str, cause: BaseException | None = None) -> None:
        """A promise is broken, but the match can go on."""
        self._tell(Broken(promise, sentence, self.seed, self.where, first=self.seed), cause)

    def fail(self, promise: str, sentence: str, cause: BaseException | None = None) -> NoReturn:
        """A promise is broken, and the match cannot go on."""
        self.note(promise, sentence, cause)
        raise Ended

    def call(self, method: str, *arguments: Any) -> Any:
        """Ask the game; nothing that it is asked here may fail."""
        try:
            return getattr(self.game, method)(*arguments)
        except (Exception, SystemExit) as error:
            self.fail("plays", f"fails in {method}: {type(error).__name__}: {error}", error)

    def play(self, max_steps: int) -> None:
        """Play the match to its end or its last step.

        Raises:
          Ended: it could not be played on.
        """
        with Position(self.seed) as position:
            state = self.start()
            for index in range(max_steps):
                self.where = position.place = f"step {index}"
                choices = {player: self.legal(state, player) for player in self.players(state)}
                transition = self.step(state, choices, index)
                for player, reward in transition.reward.items():
                    self.returns[player] = self.returns.get(player, 0.0) + reward
                state = transition.state
                if transition.terminated:
                    self.ending = transition
                    return

    def start(self) -> State:
        """The first state, drawn twice."""
        state, again = (self.call("initial", generator(self.seed, "check", "initial")) for _ in range(2))
        self.check_position(state)
        if state != again or canonical_json(state) != canonical_json(again):
            self.note("chance", "draws two different states from one seed; take all chance from the rng argument")
        outcomes = self.initial_outcomes()
        if outcomes is not None:
            self.check_probabilities("initial_outcomes", [probability for probability, _ in outcomes])
            if state not in {outcome for _, outcome in outcomes}:
                self.note("outcomes", "draws a state that is not among initial_outcomes")
            elif self.is_first and len(outcomes) > 1:
                self.check_start_frequencies(outcomes)
        return state

    def initial_outcomes(self) -> list[tuple[float, State]] | None:
        """The listed starts; None where there is no list, or where the game says that it would be too long."""
        if not hasattr(self.game, "initial_outcomes"):
            return None
        try:
            return self.game.initial_outcomes()
        except GameError:
            return None

    def players(self, state: State) -> tuple[int, ...]:
        """Who decides."""
        players = self.call("players", state)
        seats = range(self.game.num_players)
        if not isinstance(players, tuple) or not players or len(set(players)) < len(players):
            self.fail("plays", f"lets {players!r} decide; while the game goes on that is a tuple of different seats")
        if any(type(player) is not int or player not in seats for player in players):
            self.fail("plays", f"lets {players!r} decide; seats are integers from 0 to {len(seats) - 1}")
        return players

    def legal(self, state: State, player: int) -> Sequence[Action] | None:
        """The legal actions."""
        legal = self.call("legal", state, player)
        if hasattr(self.game, "heuristic"):
            action = self.call("heuristic", state, player)
            if legal is not None and action not in legal:
                self.fail("plays", f"has a heuristic that plays {action!r}, which is not legal")
        if legal is None:
            return None
        if not isinstance(legal, Sequence) or isinstance(legal, str) or not legal:
            self.fail("plays", f"has the legal actions {legal!r}; they are a sequence of at least one action, or None")
        texts = [str(action) for action in legal]
        for action, text in zip(legal, texts, strict=True):
            self.check_value("an action", action)
            if not text or text != text.strip():
                self.note(
                    "action texts",
                    f"has an action whose text is {text!r}; a text has no blanks around it and is not empty",
                )
        if len(set(texts)) < len(texts):
            self.note("action texts", f"has two legal actions with one text: {texts}")
        if list(self.call("legal", state, player)) != list(legal):
            self.note("same seed", "gives other legal actions when it is asked again")
        return legal

    def step(self, state: State, choices: Mapping[int, Sequence[Action] | None], index: int) -> Transition:
        """Take the match's own step, then what each player could do else, then the own one again."""
        actions = {p: choose(self.game, self.seed, index, state, p, legal) for p, legal in choices.items()}
        transition = self.stepped(state, actions, index)
        if not self.game.restorable:
            return transition
        for player, legal in choices.items():
            for action in _some(legal or ()):
                self.stepped(state, {**actions, player: action}, index)
        if self.stepped(state, actions, index) != transition:
            self.note(
                "step", "steps one state twice with the same chance and gets two results; keep no memory outside it"
            )
        elif len(actions) > 1 and self.stepped(state, dict(reversed(actions.items())), index) != transition:
            self.note("step", "gives another result when the same actions are listed in another order; go by the seat")
        else:
            self.check_outcomes(state, actions, transition, index)
        return transition

    def stepped(self, state: State, actions: dict[int, Action], index: int) -> Transition:
        """A transition, once it is known to be one."""
        state = copy.deepcopy(state) if self.copies else state
        before, given = canonical_json(state), dict(actions)
        transition = self.call("step", state, given, generator(self.seed, "check", "chance", index))
        if canonical_json(state) != before:
            self.note("step", "changes the state that step was given; return a new one")
            if not self.copies:
                # The match is played again with copies, and the rest of it is seen then.
                raise Ended
        if given != actions:
            self.note("step", "changes the actions that step was given")
        self.check_transition(transition)
        return transition

    def check_transition(self, transition: Transition) -> None:
        """Rewards, success, outcome, parts and the state of a transition."""
        if not isinstance(transition, Transition):
            self.fail("plays", f"returns {type(transition).__name__} from step; return a Transition")
        if self.check_per_player("rewards", "reward", transition.reward, float):
            low, high = self.game.reward_range
            for player, reward in transition.reward.items():
                if not low <= reward <= high:
                    self.note(
                        "rewards", f"rewards player {player} with {reward}, outside its reward_range ({low}, {high})"
                    )
        if type(transition.terminated) is not bool:
            self.fail("plays", f"returns terminated {transition.terminated!r}; it is True or False")
        self.check_success(transition)
        if transition.outcome is not None:
            self.check_per_player("rewards", "outcome", transition.outcome, float)
        for name, part in transition.parts.items():
            if not isinstance(name, str) or type(part) is not float or not math.isfinite(part):
                self.note("rewards", f"has the reward part {name!r}: {part!r}; parts are named finite floats")
        self.check_position(transition.state)

    def check_success(self, transition: Transition) -> None:
        """Who succeeded is told at the end, if ever."""
        has_success = getattr(self.game, "has_success", False)
        if transition.success is None:
            if has_success and transition.terminated:
                self.note("success", "ends without saying who succeeded, though its has_success is True")
            return
        if self.check_per_player("success", "success", transition.success, bool) and not transition.terminated:
            self.note("success", "says who succeeded before the match ends; say None until then")
        if not has_success:
            self.note(
                "success",
                "says who succeeded; announce it with has_success = True, so that unfinished matches count too",
            )

    def check_per_player(self, promise: str, name: str, values: Mapping[int, Any], kind: type) -> bool:
        """Whether there is one finite value of a kind for each player."""
        if not isinstance(values, Mapping) or set(values) != set(range(self.game.num_players)):
            self.note(promise, f"returns {name} {values!r}; it has one entry per player, keyed by seat")
            return False
        for value in values.values():
            if type(value) is not kind or not math.isfinite(value):
                found = f"a {type(value).__name__}" if type(value) is not kind else str(value)
                self.note(promise, f"returns {name} {values!r}; every entry is a finite {kind.__name__}, not {found}")
                return False
        return True

    def check_position(self, state: State) -> None:
        """A state and what every player sees of it."""
        if not self.check_value("a state", state):
            raise Ended
        for player in range(self.game.num_players):
            view = self.call("view", state, player)
            self.check_value("a view", view)
            if self.call("view", state, player) != view:
                self.note("views", "shows another view when it is asked again")
            # A view that is the state as a whole says that the game hides nothing; one that holds it hides nothing
            # though it looks as if it did.
            if view is not state and dataclasses.is_dataclass(state) and state in held_by(view):
                self.note("views", "has a view that holds the state; show what a player may know, field by field")

    def check_value(self, noun: str, value: Any) -> bool:
        """Whether a value is hashable plain data."""
        try:
            hash(value)
        except TypeError as error:
            self.note(
                "plain data", f"has {noun} that is not hashable ({error}); use frozen dataclasses and tuples", error
            )
            return False
        for part in _leaves(value):
            if type(part) not in (bool, int, float, str, type(None)):
                kind = type(part).__name__
                self.note("plain data", f"has {noun} with a {kind} in it; use bool, int, float, str, None and tuples")
                return False
            if isinstance(part, float) and not math.isfinite(part):
                self.note("plain data", f"has {noun} with {part} in it; numbers are finite")
                return False
        return True

    def check_probabilities(self, method: str, probabilities: list[float]) -> None:
        """A distribution is one."""
        if any(not probability >= 0.0 for probability in probabilities) or abs(sum(probabilities) - 1.0) > 1e-9:
            self.note(
                "outcomes", f"has {method} with the probabilities {probabilities}; none is negative and their sum is 1"
            )

    def check_outcomes(self, state: State, actions: dict[int, Action], drawn: Transition, index: int) -> None:
        """What was drawn is listed, and in some steps of a match as often as it is drawn."""
        if not hasattr(self.game, "outcomes"):
            return
        outcomes = self.call("outcomes", state, dict(actions))
        self.check_probabilities("outcomes", [probability for probability, _ in outcomes])
        expected: dict[Any, float] = {}
        for probability, transition in outcomes:
            self.check_transition(transition)
            key = _transition_key(transition)
            expected[key] = expected.get(key, 0.0) + probability
        if expected.get(_transition_key(drawn), 0.0) == 0.0:
            self.note("outcomes", f"draws a transition that is not among the outcomes of {texts_of(actions)}")
        if len(expected) > 1 and any(first <= index for first in self.counted_from):
            self.counted_from.remove(min(self.counted_from))
            rng = generator(self.seed, "check", "frequencies", index)

            def draw() -> Any:
                given = copy.deepcopy(state) if self.copies else state
                return _transition_key(self.call("step", given, dict(actions), rng))

            self.check_frequencies(draw, expected, f"outcome of {texts_of(actions)}", "outcomes")

    def check_start_frequencies(self, outcomes: list[tuple[float, State]]) -> None:
        """Starts are drawn as often as they are listed."""
        rng = generator(self.seed, "check", "start frequencies")
        expected: dict[State, float] = {}
        for probability, state in outcomes:
            expected[state] = expected.get(state, 0.0) + probability
        self.check_frequencies(lambda: self.call("initial", rng), expected, "start", "initial_outcomes")

    def check_frequencies(self, draw: Callable[[], Any], expected: dict[Any, float], noun: str, method: str) -> None:
        """Draw many times and count."""
        counts = dict.fromkeys(expected, 0)
        for _ in range(_DRAWS):
            key = draw()
            if key not in counts:
                self.note("outcomes", f"draws one {noun} that is not among the {method}")
                return
            counts[key] += 1
        for key, probability in expected.items():
            spread = math.sqrt(max(0.0, _DRAWS * probability * (1.0 - probability)))
            if abs(counts[key] - _DRAWS * probability) > _DEVIATIONS * spread + 3.0:
                self.note(
                    "outcomes",
                    f"draws one {noun} {counts[key]} times in {_DRAWS}, though {method} gives it probability "
                    f"{probability:.3g}",
                )


def _some(legal: Sequence[Action]) -> Sequence[Action]:
    return legal[:: len(legal) // _TRIED + 1]


def choose(game: Any, seed: int, index: int, state: State, player: int, legal: Sequence[Action] | None) -> Action:
    """The action of a check: by the seed, the heuristic's in half of all decisions."""
    rng = generator(seed, "check", "action", index, player)
    if hasattr(game, "heuristic") and rng.random() < 0.5:
        return game.heuristic(state, player)
    options = TEXTS if legal is None else legal
    return options[int(rng.integers(len(options)))]


def texts_of(actions: Mapping[int, Action]) -> dict[int, str]:
    """Actions by their texts."""
    return {player: str(action) for player, action in actions.items()}


def _transition_key(transition: Transition) -> Any:
    named: list[Mapping[Any, Any]] = [transition.reward, transition.success or {}, transition.outcome or {}]
    return (transition.state, transition.terminated, *(tuple(sorted(values.items())) for values in named))


def held_by(value: Any) -> Iterator[Any]:
    """The frozen dataclasses, tuples and sets inside a value, itself left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner: Sequence[Any] = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        inner = list(value) if isinstance(value, (tuple, frozenset)) else ()
    for one in inner:
        if isinstance(one, (tuple, frozenset)) or dataclasses.is_dataclass(one):
            yield one
            yield from held_by(one)


def _leaves(value: Any) -> Iterator[Any]:
    """The leaves of frozen data: what is no dataclass, tuple or frozenset."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name))
    elif isinstance(value, (tuple, frozenset)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
