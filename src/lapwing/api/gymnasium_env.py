"""Our games as environments of Gymnasium, for whoever trains with something else."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from lapwing.core import registry, rng
from lapwing.core.errors import GameError, UserError, nearest, shown
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Action, Ask, Transition, View
from lapwing.games.adapters._gymnasium_package import gymnasium_package
from lapwing.games.tools.dialogue import ToolGame
from lapwing.policies.parsers import Invalid

# Matches and steps in which the actions of a game are looked for.
_MATCHES, _STEPS = 100, 100
_ATTEMPTS = 100
_LONGEST_TEXT = 100_000
_LONGEST_ACTION = 10_000
# What texts may hold: Latin and Greek letters, punctuation, arrows, boxes; anything else is shown as "?".
_RANGES = ((9, 11), (32, 127), (160, 1024), (0x2010, 0x2060), (0x2190, 0x2600))
_LETTERS = "".join(chr(code) for low, high in _RANGES for code in range(low, high))
_METADATA = {"render_modes": ["ansi"], "render_fps": 4}
OBSERVATIONS = ("text", "dict")


def to_gymnasium(
    game: Game | str,
    *,
    seat: int = 0,
    opponents: Policy | str | Mapping[int, Policy | str] | None = None,
    max_steps: int | None = None,
    observation: str = "text",
    renderer: Any = None,
    actions: Sequence[str] | None = None,
    render_mode: str | None = None,
) -> Any:
    """Make an environment of Gymnasium of a game.

    The observation is the view as text, or with `observation = "dict"` that (`text`) and the mask of the legal actions
    (`action_mask`). An action is its number among all actions of the game, or a text where a game takes any.
    `info` tells the mask as `action_mask`, the legal actions as `legal`, and at the end `success`, where there is
    such a thing. An action that is not legal now stands for the first that is, and `info["illegal"]` is True.

    The reward is the seat's, with what opponents do until it decides again, and with the outcome at the end.

    Args:
      game: a game, or the name of a shipped one.
      seat: who decides.
      opponents: the policies of the other seats: one for all, or by seat; a name as in recipes ("random",
        "heuristic", "scripted") or a policy. Left out, they move at random.
      max_steps: truncates after so many steps of the game; None for never.
      observation: "text" or "dict".
      renderer: turns views into messages; None for the words with coordinates, or the dialogue of a game with tools.
      actions: all actions by name; left out, those that random play finds. Texts, for a game that takes any.
      render_mode: "ansi", or None.

    Returns:
      The environment.

    Raises:
      UserError: an argument does not fit, or the package gymnasium is missing.
    """
    made: Any = registry.resolve("games", game)() if isinstance(game, str) else game
    if not 0 <= seat < made.num_players:
        raise UserError(f"{type(made).__name__} has the seats 0 to {made.num_players - 1}; seat is not {shown(seat)}.")
    if observation not in OBSERVATIONS:
        raise UserError(f"observation is no {shown(observation)}; {nearest(str(observation), OBSERVATIONS)}")
    if render_mode not in (None, "ansi"):
        raise UserError(f"render_mode is 'ansi' or None, not {shown(render_mode)}.")
    if max_steps is not None and max_steps < 1:
        raise UserError(f"max_steps is at least 1, not {max_steps}.")
    return _environment_class()(
        game=made,
        seat=seat,
        policies={other: _policy(opponents, other, made) for other in range(made.num_players) if other != seat},
        max_steps=max_steps,
        with_mask=observation == "dict",
        renderer=renderer,
        names=actions,
        render_mode=render_mode,
    )


@lru_cache(maxsize=1)
def _environment_class() -> Any:
    env = gymnasium_package().Env
    return type("LapwingEnv", (_Played, env), {"metadata": _METADATA, "__doc__": _Played.__doc__})


def _policy(given: Any, seat: int, game: Any) -> Policy:
    from lapwing.build.options import baselines

    if isinstance(given, Mapping):
        unknown = [other for other in given if other not in range(game.num_players)]
        if unknown:
            raise UserError(f"{type(game).__name__} has no seat {shown(unknown[0])} for an opponent.")
        given = given.get(seat)
    name = "random" if given is None else given
    if not isinstance(name, str):
        return name
    if name not in baselines():
        raise UserError(f"There is no opponent {shown(name)}; {nearest(name, baselines())}")
    return baselines()[name]()


def _names_of(game: Any, seat: int) -> tuple[Action, ...] | None:
    """All actions of a seat that random play finds, in their order; None where any text is an action."""
    found: dict[Action, None] = {}
    for match in range(_MATCHES):
        state = game.initial(rng.generator("vocabulary", match))
        for step in range(_STEPS):
            chosen = {}
            for player in game.players(state):
                legal = game.legal(state, player)
                if legal is None:
                    return None
                found.update(dict.fromkeys(legal) if player == seat else {})
                chosen[player] = legal[rng.fold(0, "vocabulary", match, step, player) % len(legal)]
            transition = game.step(state, chosen, rng.generator("vocabulary", match, step))
            state = transition.state
            if transition.terminated:
                break
    return tuple(found)


class _Played:
    """A game of Lapwing as an environment of Gymnasium; `lapwing.to_gymnasium` makes it.

    All chance is drawn from `np_random`, so that whoever sets it decides what happens next.
    """

    np_random: Any  # of gymnasium.Env, which comes after this class

    def __init__(
        self,
        *,
        game: Any,
        seat: int,
        policies: Mapping[int, Policy],
        max_steps: int | None,
        with_mask: bool,
        renderer: Any,
        names: Sequence[str] | None,
        render_mode: str | None,
    ) -> None:
        self.game, self.seat, self.render_mode = game, seat, render_mode
        self._policies, self._max_steps, self._with_mask = policies, max_steps, with_mask
        self.actions: tuple[Any, ...] | None = _names_of(game, seat) if names is None else tuple(names)
        self._number = {str(action): number for number, action in enumerate(self.actions or ())}
        self._renderer = _renderer(game) if renderer is None else renderer
        self._state: Any = None
        self._is_over = True
        self._make_spaces()

    def _make_spaces(self) -> None:
        spaces = gymnasium_package().spaces
        text = spaces.Text(min_length=0, max_length=_LONGEST_TEXT, charset=_LETTERS)
        self.observation_space: Any = text
        if self.actions is None:
            self.action_space: Any = spaces.Text(min_length=0, max_length=_LONGEST_ACTION, charset=_LETTERS)
            if self._with_mask:
                self.observation_space = spaces.Dict({"text": text})
            return
        self.action_space = spaces.Discrete(len(self.actions))
        if self._with_mask:
            mask = spaces.MultiBinary(len(self.actions))
            self.observation_space = spaces.Dict({"text": text, "action_mask": mask})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a match; equal seeds give equal matches."""
        super().reset(seed=seed)  # type: ignore[misc]
        for _ in range(_ATTEMPTS):
            self._state = self.game.initial(self.np_random)
            self._steps, self._memory, self._is_over = 0, {}, False
            if not self._wait(0.0, None)[1]:
                return self._observation(), self._info({})
        raise GameError(f"{type(self.game).__name__} is over before seat {self.seat} decides, {_ATTEMPTS} times.")

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Decide, and wait until this seat decides again."""
        if self._is_over:
            raise UserError("The match is over; call reset() before step().")
        chosen, is_legal = self._action(action)
        transition = self._stepped({self.seat: chosen})
        reward, terminated = self._wait(_paid(transition, self.seat), transition)
        truncated = not terminated and self._max_steps is not None and self._steps >= self._max_steps
        self._is_over = terminated or truncated
        info = self._info({} if is_legal else {"illegal": True})
        if self._is_over and getattr(self.game, "has_success", False):
            info["success"] = bool((self._last.success or {}).get(self.seat, False))
        return self._observation(), reward, terminated, truncated, info

    def render(self) -> str | None:
        """The board as a person at a terminal likes to see it."""
        from lapwing.report.boards import board

        return board(self.game.view(self._state, self.seat)) if self.render_mode == "ansi" else None

    def _wait(self, reward: float, transition: Transition | None) -> tuple[float, bool]:
        """Let the opponents move until this seat decides; the reward with theirs, and whether the match is over."""
        while True:
            if transition is not None:
                self._last = transition
                if transition.terminated:
                    return reward, True
            is_last = self._max_steps is not None and self._steps >= self._max_steps
            if is_last or self.seat in self.game.players(self._state):
                return reward, False
            transition = self._stepped({})
            reward += _paid(transition, self.seat)

    def _stepped(self, chosen: dict[int, Action]) -> Transition:
        """Step the game with this seat's action and those of all others who decide now."""
        others = [player for player in self.game.players(self._state) if player != self.seat]
        actions = {**chosen, **{player: self._asked(player) for player in others}}
        transition = self.game.step(self._state, actions, self.np_random)
        self._state = transition.state
        self._steps += 1
        return transition

    def _asked(self, player: int) -> Action:
        legal = self.game.legal(self._state, player)
        left = 10**9 if self._max_steps is None else self._max_steps - self._steps
        ask = Ask(
            view=self.game.view(self._state, player),
            legal=legal,
            memory=self._memory.get(player),
            key=int(self.np_random.integers(2**63)),
            game=self.game,
            state=self._state,
            player=player,
            steps_left=left,
        )
        decision, self._memory[player] = self._policies[player].act_many([ask])[0]
        if decision.action is None:
            # As recipes have it: what is unreadable stands for the first legal action.
            return legal[0] if legal else self.game.malformed(decision.reason)
        return decision.action

    def _action(self, given: Any) -> tuple[Action, bool]:
        legal = self.game.legal(self._state, self.seat)
        if self.actions is None and legal is None:
            return self._text_action(str(given))
        if self.actions is None or not 0 <= int(given) < len(self.actions):
            raise UserError(f"An action is a number from 0 to {len(self.actions or ()) - 1}, not {shown(given)}.")
        name = str(self.actions[int(given)])
        if legal is None:
            return self._text_action(name)
        names = [str(action) for action in legal]
        return (legal[names.index(name)], True) if name in names else (legal[0], False)

    def _text_action(self, text: str) -> tuple[Action, bool]:
        if not isinstance(self.game, ToolGame):
            return text, True
        from lapwing.policies.tool_parser import ToolUse

        action = ToolUse().parse(text, None)
        return (self.game.malformed(action.reason), False) if isinstance(action, Invalid) else (action, True)

    def _mask(self) -> np.ndarray:
        """Which actions are legal now, int8 [actions]."""
        mask = np.zeros(len(self.actions or ()), dtype=np.int8)
        for action in self._legal():
            if str(action) not in self._number:
                raise GameError(
                    f"{type(self.game).__name__} has the action {action}, which was not known; pass actions=."
                )
            mask[self._number[str(action)]] = 1
        return mask

    def _legal(self) -> Sequence[Action]:
        if self._is_over or self.seat not in self.game.players(self._state):
            return ()
        legal = self.game.legal(self._state, self.seat)
        # Where a game takes any text, those that were given are all there is.
        return (self.actions or ()) if legal is None else legal

    def _info(self, more: dict[str, Any]) -> dict[str, Any]:
        if self.actions is None:
            return more
        return {"action_mask": self._mask(), "legal": tuple(str(action) for action in self._legal()), **more}

    def _observation(self) -> Any:
        said = self._text(self.game.view(self._state, self.seat))
        if not self._with_mask:
            return said
        return {"text": said} if self.actions is None else {"text": said, "action_mask": self._mask()}

    def _text(self, view: View) -> str:
        said = "\n".join(message["content"] for message in self._renderer.messages(view))
        known = set(_LETTERS)
        return "".join(letter if letter in known else "?" for letter in said)[:_LONGEST_TEXT]


def _renderer(game: Any) -> Any:
    from lapwing.policies import renderers

    return renderers.ToolDialogue() if isinstance(game, ToolGame) else renderers.Coordinates()


def _paid(transition: Transition, seat: int) -> float:
    """The reward of a step with what is judged at the end."""
    outcome = 0.0 if transition.outcome is None else transition.outcome.get(seat, 0.0)
    return float(transition.reward.get(seat, 0.0)) + float(outcome)
