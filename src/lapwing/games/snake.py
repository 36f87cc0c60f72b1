"""Snake, alone or with up to three others on the board; rounds are simultaneous."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import BestKnown, Transition

ACTIONS = ("up", "down", "left", "right")
_MOVES: dict[str, tuple[int, int]] = {"up": (0, 1), "down": (0, -1), "left": (-1, 0), "right": (1, 0)}

# Mean return of the heuristic on the default board.
_HEURISTIC = 11.83
Cell = tuple[int, int]
Body = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class SnakeState:
    """The board: the cells of each snake, head first (none: the snake is dead), and the apples in ascending order."""

    bodies: tuple[Body, ...]
    apples: tuple[Cell, ...]

    @property
    def alive(self) -> tuple[int, ...]:
        """The seats whose snake lives."""
        return tuple([player for player, body in enumerate(self.bodies) if body])


@dataclass(frozen=True, slots=True)
class SnakeView:
    """All that there is to know: the board's size, the own body, the other living bodies, and the apples."""

    width: int
    height: int
    body: Body
    others: tuple[Body, ...]
    apples: tuple[Cell, ...]


@dataclass(frozen=True)
class Snake:
    """Steer a snake to apples; every apple makes it longer, and hitting anything else kills it.

    | action | the head moves |
    | --- | --- |
    | up | to y + 1 |
    | down | to y - 1 |
    | left | to x - 1 |
    | right | to x + 1 |

    View: width and height, the own body (head first), the bodies of the other living snakes, and the apples. A cell
    is (x, y), with (0, 0) at the bottom left.

    Start: apples and snakes lie on different cells drawn uniformly; every snake is one cell long.

    Round: all living snakes move at once, against the board as it was when the round began, tails included.

    1. Snakes whose new heads are on one cell die.
    2. A snake whose new head is off the board or on a cell of any snake dies, even if that cell is a tail that is
       about to move away. So two snakes that swap their heads die both.
    3. Any other snake moves. On an apple it grows by one cell, the new head; else its tail leaves the last cell.
    4. The dead vanish, and decide nothing any more. Then apples are drawn uniformly on free cells until there are
       `apples` of them again, or no cell is free.

    Reward: `death_reward` is all that the round gives to a snake that dies in it; a living snake gets `step_reward`,
    and `apple_reward` besides if it ate; one that died before gets 0. The parts `apples` and `deaths` count those of
    the round, with several snakes seat by seat as `apples_0`, `apples_1`, `deaths_0`, `deaths_1` and so on.

    End: a lone snake plays until it dies; with several the game ends as soon as at most one lives, and the survivor
    gets nothing for it. So with three or four the match goes on for the others when one dies, whose own episode ends
    there. It also ends when the snakes fill the whole board, apples and all. There is no notion of success; a cap on
    the number of rounds belongs to the sampler.

    Reference: the rules are Lapwing's; Dilkes et al. 2025, "Reinforced Language Models for Sequential Decision Making",
      train on a game of this name. https://arxiv.org/abs/2508.10839

    Attributes:
      width: cells from left to right, 2 to 64.
      height: cells from bottom to top, 2 to 64.
      apples: how many apples lie on the board, at least 1.
      num_snakes: 1 to 4, each with a seat.
      death_reward: the whole reward of the round in which the snake dies.
      apple_reward: what an apple adds to the round's reward.
      step_reward: reward of a round that is survived.
    """

    width: int = 5
    height: int = 5
    apples: int = 1
    num_snakes: int = 1
    death_reward: float = -1.0
    apple_reward: float = 1.0
    step_reward: float = 0.0

    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (2 <= self.width <= 64 and 2 <= self.height <= 64):
            raise UserError(
                f"A snake board has 2 to 64 cells along a side, not {self.width} x {self.height}; "
                "set game.width and game.height."
            )
        if not 1 <= self.num_snakes <= 4:
            raise UserError(f"Snake is played by 1 to 4 snakes, not {self.num_snakes}; set game.num_snakes.")
        cells = self.width * self.height
        if not 1 <= self.apples <= cells - self.num_snakes:
            raise UserError(
                f"A {self.width} x {self.height} board beside {self.num_snakes} snake(s) has room for 1 to "
                f"{cells - self.num_snakes} apples, not {self.apples}; set game.apples."
            )
        for name in ("death_reward", "apple_reward", "step_reward"):
            reward = float(getattr(self, name))
            if not math.isfinite(reward):
                raise UserError(f"A reward is a finite number, not {reward}; set game.{name}.")
            object.__setattr__(self, name, reward)

    @property
    def num_players(self) -> int:
        """One seat per snake."""
        return self.num_snakes

    @property
    def reward_range(self) -> tuple[float, float]:
        """From the worst of dying, surviving and eating to the best."""
        rewards = (self.death_reward, self.step_reward, self.step_reward + self.apple_reward)
        return min(rewards), max(rewards)

    @property
    def best_known(self) -> BestKnown | None:
        """Perfect play of one snake that is paid for apples, where there is a way round the board; else what was seen.

        A snake that follows a cycle through all cells never meets itself: its body lies behind it on the cycle, and
        while an apple is left the cell before it is free. A board with an odd number of cells has no such cycle.
        """
        if self.num_snakes > 1 or self.step_reward != 0.0 or self.apple_reward <= 0.0:
            return None
        most = self.width * self.height - 1
        if most % 2 == 1:
            said = f"perfect play: all {most} apples, along a cycle through all cells, without a cap on steps"
            return BestKnown(most * self.apple_reward, said)
        if (self.width, self.height, self.apples, self.apple_reward, self.death_reward) == (5, 5, 1, 1.0, -1.0):
            said = "the heuristic in 500 matches of at most 100 steps (python docs/games_numbers.py snake)"
            return BestKnown(_HEURISTIC, f"{said}; nobody gets more than {most}")
        return None

    @property
    def null_ceiling(self) -> float | None:
        """What who turns at random, or to and fro, gets at most in 100 steps: less than an apple, or its death.

        It was measured on boards from 2 x 2 to 10 x 10 with up to an apple on five cells; of others nothing is known.
        """
        if self.apples > max(1, self.width * self.height // 5) or self.step_reward > 0.0 or self.death_reward > 0.0:
            return None
        return 0.0 if 0.0 <= self.apple_reward <= -self.death_reward else max(0.0, self.apple_reward)

    def initial(self, rng: np.random.Generator) -> SnakeState:
        """Lay the apples and then the snakes on different cells."""
        cells = _cells(self.width, self.height)
        drawn = [cells[index] for index in rng.permutation(len(cells))[: self.apples + self.num_snakes].tolist()]
        return SnakeState(
            bodies=tuple((head,) for head in drawn[self.apples :]),
            apples=tuple(sorted(drawn[: self.apples])),
        )

    def players(self, state: SnakeState) -> tuple[int, ...]:
        """The seats whose snake lives; they decide at once."""
        return state.alive

    def view(self, state: SnakeState, player: int) -> SnakeView:
        """The whole board as this snake sees it."""
        others = tuple([body for seat, body in enumerate(state.bodies) if body and seat != player])
        return SnakeView(self.width, self.height, state.bodies[player], others, state.apples)

    def is_out(self, view: SnakeView) -> bool:
        """Whether who sees this is dead while others may play on."""
        return not view.body

    def legal(self, state: SnakeState, player: int) -> tuple[str, ...]:
        """All four moves, also the deadly ones."""
        return ACTIONS

    def step(self, state: SnakeState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Play one round; chance places the new apples."""
        heads = [_moved(body[0], actions[player]) if body else None for player, body in enumerate(state.bodies)]
        bodies: list[Body] = []
        reward: dict[int, float] = {}
        parts: dict[str, float] = {}
        apples = state.apples
        for player, (head, body) in enumerate(zip(heads, state.bodies, strict=True)):
            if head is None:
                reward[player] = 0.0
                bodies.append(())
            elif self._is_deadly(head, state.bodies) or heads.count(head) > 1:
                reward[player] = self.death_reward
                parts[self._part("deaths", player)] = 1.0
                bodies.append(())
            elif head in apples:
                reward[player] = self.step_reward + self.apple_reward
                parts[self._part("apples", player)] = 1.0
                apples = tuple(apple for apple in apples if apple != head)
                bodies.append((head, *body))
            else:
                reward[player] = self.step_reward
                bodies.append((head, *body[:-1]))
        if len(apples) < self.apples:
            apples = self._refilled(apples, bodies, rng)
        after = SnakeState(tuple(bodies), apples)
        is_over = len(after.alive) < min(2, self.num_snakes) or not apples
        return Transition(after, reward, terminated=is_over, parts=parts)

    def heuristic(self, state: SnakeState, player: int) -> str:
        """The first move of a shortest way to an apple around all bodies, else a move that survives, else any.

        The other snakes are taken to stand still, and ties go to the earlier action.
        """
        blocked = {cell for body in state.bodies for cell in body}
        frontier: deque[tuple[Cell, str]] = deque()
        head = state.bodies[player][0]
        for action in ACTIONS:
            cell = _moved(head, action)
            if self._is_on_board(cell) and cell not in blocked:
                blocked.add(cell)
                frontier.append((cell, action))
        fallback = frontier[0][1] if frontier else ACTIONS[0]
        while frontier:
            cell, first = frontier.popleft()
            if cell in state.apples:
                return first
            for action in ACTIONS:
                onward = _moved(cell, action)
                if self._is_on_board(onward) and onward not in blocked:
                    blocked.add(onward)
                    frontier.append((onward, first))
        return fallback

    def scripted(self, state: SnakeState, player: int, rng: np.random.Generator) -> str:
        """The careless opponent: uniform over the moves that stay on the board and miss its own body, else over all.

        Its own tail does not count as body if the snake is longer than two cells, and it ignores the other snakes.
        """
        body = state.bodies[player]
        cells = {action: _moved(body[0], action) for action in ACTIONS}
        own = body[:-1] if len(body) > 2 else body
        moves = [action for action, cell in cells.items() if self._is_on_board(cell) and cell not in own]
        moves = moves or list(ACTIONS)
        return moves[int(rng.integers(len(moves)))]

    def _is_on_board(self, cell: Cell) -> bool:
        return 0 <= cell[0] < self.width and 0 <= cell[1] < self.height

    def _is_deadly(self, cell: Cell, bodies: Iterable[Body]) -> bool:
        return not self._is_on_board(cell) or any([cell in body for body in bodies])

    @property
    def score_part(self) -> str:
        """The part of the reward whose sum is the score: apples of the first snake."""
        return self._part("apples", 0)

    def _part(self, name: str, player: int) -> str:
        return name if self.num_snakes == 1 else f"{name}_{player}"

    def _refilled(self, apples: tuple[Cell, ...], bodies: list[Body], rng: np.random.Generator) -> tuple[Cell, ...]:
        taken = {cell for cells in (apples, *bodies) for cell in cells}
        free = [cell for cell in _cells(self.width, self.height) if cell not in taken]
        new = [free.pop(int(rng.integers(len(free)))) for _ in range(min(self.apples - len(apples), len(free)))]
        return tuple(sorted((*apples, *new)))


def _moved(cell: Cell, action: str) -> Cell:
    right, up = _MOVES[action]
    return cell[0] + right, cell[1] + up


@lru_cache(maxsize=64)
def _cells(width: int, height: int) -> tuple[Cell, ...]:
    return tuple((x, y) for y in range(height) for x in range(width))
