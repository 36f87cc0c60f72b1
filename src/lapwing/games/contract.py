"""What every game promises, and `check_game`, which plays a game to see whether it keeps it."""

import dataclasses
import hashlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from lapwing.core.errors import GameError
from lapwing.core.rng import generator
from lapwing.core.storage import canonical_json
from lapwing.core.types import Action, State, Transition
from lapwing.games._elsewhere import digests_elsewhere

# Actions offered where a game takes any text.
_TEXTS = ("", "yes", "no", "42", "a longer reply\nof two lines")
# Of more legal actions than this, only some are tried in each state.
_TRIED = 64
# Draws per step whose frequencies are held against `outcomes`, and how many standard deviations are forgiven.
_DRAWS = 400
_DEVIATIONS = 6.0


def check_game(
    game: Any, *, matches: int = 20, max_steps: int = 100, seed: int = 0, other_process: bool = True
) -> None:
    """Play random matches and raise at the first promise that the game breaks.

    The promises: settings are a frozen dataclass; the same seed gives the same match, also in another order, in
    another instance, after other matches, and in another process with another clock and hash seed, if that can import
    the game; the global random generators are left alone; `step` leaves its arguments alone and can be repeated from
    any state; states, views and actions are hashable and turn into canonical JSON; every legal action is accepted,
    and its text tells it from the others; rewards are finite floats within `reward_range`, one per player; a game
    that `has_success` tells it at the end, any other never; `outcomes` and `initial_outcomes`, where they exist,
    agree with what is drawn; `heuristic` gives legal actions.

    The matches have the seeds `seed`, `seed + 1`, … and half of their decisions are the heuristic's, if there is one.
    Games that are not `restorable` are never stepped twice from one state.

    Args:
      game: the game to check.
      matches: how many matches to play.
      max_steps: after how many steps a match is cut off.
      seed: the seed of the first match.
      other_process: play the matches in another process too, which takes a second.

    Raises:
      GameError: a promise is broken; the message names the smallest seed that shows it.
    """
    _check_settings(game)
    before = _global_chance()
    for number in range(seed, seed + matches):
        _CheckedMatch(game, number).play(max_steps)
    numbers = range(seed, seed + matches)
    forward = [transcript(game, number, max_steps=max_steps) for number in numbers]
    backward = [transcript(game, number, max_steps=max_steps) for number in reversed(numbers)][::-1]
    fresh = [transcript(dataclasses.replace(game), number, max_steps=max_steps) for number in numbers]
    for number, once, again, elsewhere in zip(numbers, forward, backward, fresh, strict=True):
        where = f"seed {number}; see it again with check_game(game, matches={matches}, seed={seed})"
        if once != again:
            _fail(game, "plays a match differently after other matches; keep all memory in the state", where)
        if once != elsewhere:
            _fail(game, "plays a match differently in a second instance; keep all memory in the state", where)
    for name, now in _global_chance().items():
        if now != before[name]:
            _fail(game, f"draws from {name}, or seeds it, which others share; take all chance from the rng argument")
    _check_elsewhere(game, numbers if other_process else (), forward, max_steps)


def _global_chance() -> dict[str, str]:
    """What the generators that all code of a process shares would draw next."""
    return {"the module random": repr(random.getstate()), "numpy.random": repr(np.random.get_state())}  # noqa: NPY002


def _check_elsewhere(game: Any, numbers: Sequence[int], here: Sequence[list[str]], max_steps: int) -> None:
    found = digests_elsewhere(game, numbers, max_steps) if numbers else None
    for number, once, digest in zip(numbers, here, found or (), strict=False):
        if _digest([once]) != digest:
            where = f"seed {number}"
            _fail(game, "plays a match differently in another process, on another day or with another hash seed", where)


def transcript(game: Any, seed: int, *, max_steps: int = 100) -> list[str]:
    """Play one match by the seed alone and write it down as canonical JSON.

    Args:
      game: the game.
      seed: decides chance and actions.
      max_steps: after how many steps the match is cut off.

    Returns:
      One text for the start, and one for the actions, the transition and the views of each step.
    """
    state = game.initial(generator(seed, "check", "initial"))
    lines = [canonical_json([state, _views(game, state)])]
    for index in range(max_steps):
        actions = {p: _choose(game, seed, index, state, p, game.legal(state, p)) for p in game.players(state)}
        transition = game.step(state, actions, generator(seed, "check", "chance", index))
        state = transition.state
        lines.append(canonical_json([_texts(actions), transition, _views(game, state)]))
        if transition.terminated:
            break
    return lines


def transcript_digest(game: Any, seed: int = 0, *, matches: int = 5, max_steps: int = 100) -> str:
    """Hash the transcripts of several matches: equal digests in two processes mean equal matches.

    Args:
      game: the game.
      seed: the seed of the first match; the others follow.
      matches: how many matches.
      max_steps: after how many steps a match is cut off.

    Returns:
      32 hexadecimal digits.
    """
    return _digest([transcript(game, number, max_steps=max_steps) for number in range(seed, seed + matches)])


def _digest(transcripts: Sequence[Sequence[str]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for lines in transcripts:
        for line in lines:
            digest.update(line.encode("utf-8", errors="replace") + b"\n")
    return digest.hexdigest()


def _fail(game: Any, sentence: str, where: str = "", cause: Exception | None = None) -> NoReturn:
    raise GameError(f"{type(game).__name__} {sentence}{where and f' ({where})'}.") from cause


def _check_settings(game: Any) -> None:
    parameters = getattr(type(game), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        _fail(game, "is no frozen dataclass; write @dataclass(frozen=True) above the class")
    for name in ("num_players", "reward_range", "restorable", "initial", "players", "view", "legal", "step"):
        if not hasattr(game, name):
            _fail(game, f"has no {name}; see lapwing.core.protocols.Game")
    if type(game.num_players) is not int or game.num_players < 1:
        _fail(game, f"has num_players {game.num_players!r}; it is an integer of at least 1")
    if not (
        isinstance(game.reward_range, tuple)
        and len(game.reward_range) == 2
        and all(math.isfinite(bound) for bound in game.reward_range)
        and game.reward_range[0] <= game.reward_range[1]
    ):
        _fail(game, f"has reward_range {game.reward_range!r}; it is (lowest, highest), both finite")
    if not isinstance(game.restorable, bool):
        _fail(game, f"has restorable {game.restorable!r}; it is True or False")
    if hasattr(game, "words") and not all(isinstance(word, str) for word in game.words()):
        _fail(game, "has words that are no strings")


class _CheckedMatch:
    """One match in which every value is looked at before it is used."""

    def __init__(self, game: Any, seed: int) -> None:
        self.game = game
        self.seed = seed
        self.where = "the start"
        self.counted = False

    def fail(self, sentence: str, cause: Exception | None = None) -> NoReturn:
        again = f"see it again with check_game(game, matches=1, seed={self.seed})"
        _fail(self.game, sentence, f"{self.where}, seed {self.seed}; {again}", cause)

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self.game, method)(*arguments)
        except Exception as error:
            self.fail(f"fails in {method}: {type(error).__name__}: {error}", error)

    def play(self, max_steps: int) -> None:
        state = self.start()
        for index in range(max_steps):
            self.where = f"step {index}"
            choices = {player: self.legal(state, player) for player in self.players(state)}
            transition = self.step(state, choices, index)
            state = transition.state
            if transition.terminated:
                return

    def start(self) -> State:
        state, again = (self.call("initial", generator(self.seed, "check", "initial")) for _ in range(2))
        self.check_position(state)
        if state != again or canonical_json(state) != canonical_json(again):
            self.fail("draws two different states from one seed; take all chance from the rng argument")
        outcomes = self.initial_outcomes()
        if outcomes is not None:
            self.check_probabilities("initial_outcomes", [probability for probability, _ in outcomes])
            if state not in {outcome for _, outcome in outcomes}:
                self.fail("draws a state that is not among initial_outcomes")
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
        players = self.call("players", state)
        seats = range(self.game.num_players)
        if not isinstance(players, tuple) or not players or len(set(players)) < len(players):
            self.fail(f"lets {players!r} decide; while the game goes on that is a tuple of different seats")
        if any(type(player) is not int or player not in seats for player in players):
            self.fail(f"lets {players!r} decide; seats are integers from 0 to {len(seats) - 1}")
        return players

    def legal(self, state: State, player: int) -> Sequence[Action] | None:
        legal = self.call("legal", state, player)
        if hasattr(self.game, "heuristic"):
            action = self.call("heuristic", state, player)
            if legal is not None and action not in legal:
                self.fail(f"has a heuristic that plays {action!r}, which is not legal")
        if legal is None:
            return None
        if not isinstance(legal, Sequence) or isinstance(legal, str) or not legal:
            self.fail(f"has the legal actions {legal!r}; they are a sequence of at least one action, or None")
        texts = [str(action) for action in legal]
        for action, text in zip(legal, texts, strict=True):
            self.check_value("an action", action)
            if not text or text != text.strip():
                self.fail(f"has an action whose text is {text!r}; a text has no blanks around it and is not empty")
        if len(set(texts)) < len(texts):
            self.fail(f"has two legal actions with one text: {texts}")
        if list(self.call("legal", state, player)) != list(legal):
            self.fail("gives other legal actions when it is asked again")
        return legal

    def step(self, state: State, choices: Mapping[int, Sequence[Action] | None], index: int) -> Transition:
        """Take the match's own step, then what each player could do else, then the own one again."""
        actions = {p: _choose(self.game, self.seed, index, state, p, legal) for p, legal in choices.items()}
        transition = self.stepped(state, actions, index)
        if not self.game.restorable:
            return transition
        for player, legal in choices.items():
            for action in _some(legal or ()):
                self.stepped(state, {**actions, player: action}, index)
        if self.stepped(state, actions, index) != transition:
            self.fail("steps one state twice with the same chance and gets two results; keep no memory outside it")
        self.check_outcomes(state, actions, transition)
        return transition

    def stepped(self, state: State, actions: dict[int, Action], index: int) -> Transition:
        before, given = canonical_json(state), dict(actions)
        transition = self.call("step", state, given, generator(self.seed, "check", "chance", index))
        if canonical_json(state) != before:
            self.fail("changes the state that step was given; return a new one")
        if given != actions:
            self.fail("changes the actions that step was given")
        self.check_transition(transition)
        return transition

    def check_transition(self, transition: Transition) -> None:
        if not isinstance(transition, Transition):
            self.fail(f"returns {type(transition).__name__} from step; return a Transition")
        self.check_per_player("reward", transition.reward, float)
        low, high = self.game.reward_range
        for player, reward in transition.reward.items():
            if not low <= reward <= high:
                self.fail(f"rewards player {player} with {reward}, outside its reward_range ({low}, {high})")
        if type(transition.terminated) is not bool:
            self.fail(f"returns terminated {transition.terminated!r}; it is True or False")
        self.check_success(transition)
        if transition.outcome is not None:
            self.check_per_player("outcome", transition.outcome, float)
        for name, part in transition.parts.items():
            if not isinstance(name, str) or type(part) is not float or not math.isfinite(part):
                self.fail(f"has the reward part {name!r}: {part!r}; parts are named finite floats")
        self.check_position(transition.state)

    def check_success(self, transition: Transition) -> None:
        has_success = getattr(self.game, "has_success", False)
        if transition.success is None:
            if has_success and transition.terminated:
                self.fail("ends without saying who succeeded, though its has_success is True")
            return
        self.check_per_player("success", transition.success, bool)
        if not has_success:
            self.fail("says who succeeded; announce it with has_success = True, so that unfinished matches count too")

    def check_per_player(self, name: str, values: Mapping[int, Any], kind: type) -> None:
        if not isinstance(values, Mapping) or set(values) != set(range(self.game.num_players)):
            self.fail(f"returns {name} {values!r}; it has one entry per player, keyed by seat")
        for value in values.values():
            if type(value) is not kind or not math.isfinite(value):
                self.fail(f"returns {name} {values!r}; every entry is a finite {kind.__name__}, not {type(value)}")

    def check_position(self, state: State) -> None:
        self.check_value("a state", state)
        for player in range(self.game.num_players):
            view = self.call("view", state, player)
            self.check_value("a view", view)
            if self.call("view", state, player) != view:
                self.fail("shows another view when it is asked again")

    def check_value(self, noun: str, value: Any) -> None:
        try:
            hash(value)
        except TypeError as error:
            self.fail(f"has {noun} that is not hashable ({error}); use frozen dataclasses and tuples", error)
        for part in _parts(value):
            if type(part) not in (bool, int, float, str, type(None)):
                self.fail(f"has {noun} with a {type(part).__name__} in it; use bool, int, float, str, None and tuples")
            if isinstance(part, float) and not math.isfinite(part):
                self.fail(f"has {noun} with {part} in it; numbers are finite")

    def check_probabilities(self, method: str, probabilities: list[float]) -> None:
        if any(not probability >= 0.0 for probability in probabilities) or abs(sum(probabilities) - 1.0) > 1e-9:
            self.fail(f"has {method} with the probabilities {probabilities}; none is negative and their sum is 1")

    def check_outcomes(self, state: State, actions: dict[int, Action], drawn: Transition) -> None:
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
            self.fail(f"draws a transition that is not among the outcomes of {_texts(actions)}")
        if len(expected) > 1 and not self.counted:
            self.counted = True
            self.check_frequencies(state, actions, expected)

    def check_frequencies(self, state: State, actions: dict[int, Action], expected: dict[Any, float]) -> None:
        rng = generator(self.seed, "check", "frequencies")
        counts = dict.fromkeys(expected, 0)
        for _ in range(_DRAWS):
            key = _transition_key(self.call("step", state, dict(actions), rng))
            if key not in counts:
                self.fail(f"draws a transition that is not among the outcomes of {_texts(actions)}")
            counts[key] += 1
        for key, probability in expected.items():
            spread = math.sqrt(_DRAWS * probability * (1.0 - probability))
            if abs(counts[key] - _DRAWS * probability) > _DEVIATIONS * spread + 3.0:
                self.fail(
                    f"draws an outcome of {_texts(actions)} {counts[key]} times in {_DRAWS}, "
                    f"though outcomes gives it probability {probability:.3g}"
                )


def _some(legal: Sequence[Action]) -> Sequence[Action]:
    return legal[:: len(legal) // _TRIED + 1]


def _choose(game: Any, seed: int, index: int, state: State, player: int, legal: Sequence[Action] | None) -> Action:
    rng = generator(seed, "check", "action", index, player)
    if hasattr(game, "heuristic") and rng.random() < 0.5:
        return game.heuristic(state, player)
    options = _TEXTS if legal is None else legal
    return options[int(rng.integers(len(options)))]


def _texts(actions: Mapping[int, Action]) -> dict[int, str]:
    return {player: str(action) for player, action in actions.items()}


def _views(game: Any, state: State) -> list[Any]:
    return [game.view(state, player) for player in range(game.num_players)]


def _transition_key(transition: Transition) -> Any:
    named: list[Mapping[Any, Any]] = [transition.reward, transition.success or {}, transition.outcome or {}]
    return (transition.state, transition.terminated, *(tuple(sorted(values.items())) for values in named))


def _parts(value: Any) -> Iterator[Any]:
    """The leaves of frozen data: what is no dataclass, tuple or frozenset."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, (tuple, frozenset)):
        for item in value:
            yield from _parts(item)
    else:
        yield value
