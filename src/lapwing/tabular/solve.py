"""The exact answer: values, advantages and visits of a given policy, invalid replies included."""

from dataclasses import dataclass, field

import numpy as np

from lapwing.core.errors import LapwingError
from lapwing.tabular.enumerate import TabularGame

RULES = ("default", "random_legal", "forfeit", "retry")


@dataclass(frozen=True, eq=False)
class InvalidReplies:
    """What happens when a reply stands for no action; its probability is the last column of a policy.

    Attributes:
      rule: "default" plays `default`; "random_legal" any legal action with the same probability; "forfeit" ends the
        match; "retry" asks again up to `retries` times in a row, which takes no step of the game, then plays `default`.
      penalty: subtracted from the training reward of every invalid reply.
      default: [S] index of the action that is played instead; 0 where none is given.
      retries: at least 1.
    """

    rule: str = "default"
    penalty: float = 0.0
    default: np.ndarray | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise LapwingError(f"There is no rule '{self.rule}' for invalid replies; valid names: {', '.join(RULES)}.")

    @property
    def levels(self) -> int:
        """L: how many replies in a row one decision may take."""
        return self.retries + 1 if self.rule == "retry" else 1

    def played(self, table: TabularGame) -> np.ndarray:
        """[S, A] probability of each action once no retry is left; all 0 where the match is given up."""
        shape = (table.num_states, table.num_actions)
        if self.rule == "forfeit":
            return np.zeros(shape)
        if self.rule == "random_legal":
            return table.is_legal / np.maximum(table.is_legal.sum(axis=1, keepdims=True), 1)
        played = np.zeros(shape)
        default = np.zeros(shape[0], dtype=np.int64) if self.default is None else self.default
        played[np.arange(shape[0]), default] = 1.0
        return played * table.is_legal


@dataclass(frozen=True, eq=False)
class Solution:
    """The exact answer for one policy, by the number of steps of the game that are left, being cut off worth 0.

    L is 1, or with retries how many replies in a row one decision may take; A includes the invalid reply, which comes
    last, if the policy has one.

    Attributes:
      values: [L, H+1, S] expected return from a state with h steps left after l invalid replies to it.
      action_values: [L, H+1, S, A] the same after a given reply; 0 where it does not exist.
      visits: [L, H, S] probability that a match is in a state at step t after l invalid replies to it.
      expected_return: of a match from the starts, in units of reward.
      policy: [S, A] the policy that was solved.
    """

    values: np.ndarray
    action_values: np.ndarray
    visits: np.ndarray
    expected_return: float
    policy: np.ndarray
    exists: np.ndarray = field(repr=False)

    @property
    def horizon(self) -> int:
        """H."""
        return self.visits.shape[1]

    @property
    def advantages(self) -> np.ndarray:
        """[L, H+1, S, A] action value minus value, 0 where the action does not exist or no step is left."""
        advantage = (self.action_values - self.values[..., None]) * self.exists
        advantage[:, 0] = 0.0
        return advantage

    @property
    def gradient_weights(self) -> np.ndarray:
        """[S, A] the factor of ∇ log π(a | s) in the gradient of the expected return.

            w(s, a) = π(a | s) Σ_t d_t(s) A_{H−t}(s, a)

        Reference: Sutton et al. 2000, "Policy Gradient Methods for Reinforcement Learning with Function
          Approximation", theorem 1, for a finite horizon.
        """
        by_time = self.advantages[:, :0:-1]
        return self.policy * np.einsum("lts,ltsa->sa", self.visits, by_time)


def solve(
    table: TabularGame,
    policy: np.ndarray,
    horizon: int,
    *,
    invalid: InvalidReplies | None = None,
    discount: float = 1.0,
) -> Solution:
    """Solve for the value of a policy by the number of steps left, and follow it forward from the starts.

        V_0 = 0,   Q_h(s, a) = Σ p · (r + γ V_{h−1}(s')),   V_h(s) = Σ_a π(a | s) Q_h(s, a)
        Q_h(s, invalid) = −penalty + Q_h of what is played instead   (0 if the match is given up)
        d_0 = start,   d_{t+1}(s') = Σ_s d_t(s) Σ_a π(a | s) p(s' | s, a)

    While a retry is left, Q_h(s, invalid) = −penalty + γ V_h(s) one retry later.

    Reference: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", eq. 4.5 and section 13.2.
      http://incompleteideas.net/book/the-book-2nd.html

    Args:
      table: the enumerated game.
      policy: [S, A] probability of each legal action, or [S, A + 1] with that of an invalid reply last.
      horizon: H, steps of the game after which a match is cut, at least 1.
      invalid: what an invalid reply does; needed if the policy has the further column.
      discount: γ, per decision, in [0, 1].

    Returns:
      The solution, in units of the training reward.

    Raises:
      LapwingError: the policy is of another shape or is no distribution.
    """
    on_legal, on_invalid = _split(table, policy, has_invalid=invalid is not None)
    rule = invalid or InvalidReplies()
    played = rule.played(table)
    values = np.zeros((rule.levels, horizon + 1, table.num_states))
    action_values = np.zeros((rule.levels, horizon + 1, table.num_states, table.num_actions + 1))
    for left in range(1, horizon + 1):
        legal_value = table.action_values(values[0, left - 1], discount=discount)
        after = (played * legal_value).sum(axis=1)
        for level in reversed(range(rule.levels)):
            action_values[level, left, :, :-1] = legal_value
            action_values[level, left, :, -1] = (after - rule.penalty) * table.decides
            values[level, left] = (on_legal * legal_value).sum(axis=1) + on_invalid * action_values[level, left, :, -1]
            after = discount * values[level, left]
    visits = _visits(table, on_legal, on_invalid, played, rule, horizon)
    exists = np.concatenate([table.is_legal, table.decides[:, None]], axis=1)
    used = slice(None) if invalid is not None else slice(0, -1)
    return Solution(
        values=values,
        action_values=action_values[..., used],
        visits=visits,
        expected_return=float(table.start @ values[0, horizon]),
        policy=np.concatenate([on_legal, on_invalid[:, None]], axis=1)[:, used],
        exists=exists[:, used],
    )


def simulate(
    table: TabularGame,
    solution: Solution,
    state: np.ndarray,
    left: np.ndarray,
    rng: np.random.Generator,
    *,
    invalid: InvalidReplies | None = None,
) -> np.ndarray:
    """Play many matches on the table at once, each from a state of its own to its end.

    Args:
      table: the enumerated game.
      solution: whose policy plays.
      state, left: [M] where each match begins and how many steps of the game are left.
      rng: the source of replies and chance.
      invalid: what an invalid reply does; needed if the policy has the further column.

    Returns:
      [M] the return of each match, undiscounted, in units of the training reward.
    """
    rule = invalid or InvalidReplies()
    on_legal, on_invalid = _split(table, solution.policy, has_invalid=invalid is not None)
    played = np.cumsum(rule.played(table), axis=1)
    replies = np.cumsum(np.concatenate([on_legal, on_invalid[:, None]], axis=1), axis=1)
    heights = np.cumsum(table.probability)
    first = np.searchsorted(table.row, np.arange(table.num_states * table.num_actions + 1))
    total = np.zeros(len(state))
    state, left = state.copy(), left.copy()
    live = np.flatnonzero((left > 0) & table.is_legal[state, 0])
    while len(live):
        here = state[live]
        action = _draw(replies[here], rng)
        wrong = action == table.num_actions
        for level in range(rule.levels):
            total[live[wrong]] -= rule.penalty
            if level + 1 < rule.levels:
                action[wrong] = _draw(replies[here[wrong]], rng)
                wrong = action == table.num_actions
        action[wrong] = _draw(played[here[wrong]], rng)
        gives_up = wrong & (rule.rule == "forfeit")
        live, here, action = live[~gives_up], here[~gives_up], action[~gives_up]
        pair = here * table.num_actions + action
        low, high = first[pair], first[pair + 1]
        below = np.where(low > 0, heights[low - 1], 0.0)
        height = below + rng.random(len(live)) * (heights[high - 1] - below)
        at = np.clip(np.searchsorted(heights, height, side="right"), low, high - 1)
        total[live] += table.reward[at]
        state[live] = table.next_state[at]
        left[live] -= 1
        live = live[~table.terminated[at] & (left[live] > 0)]
    return total


def _draw(heights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index for each row of running sums, [M, A] → [M]."""
    if heights.shape[0] == 0:
        return np.zeros(0, dtype=np.int64)
    level = rng.random(len(heights)) * heights[:, -1]
    return np.minimum((heights <= level[:, None]).sum(axis=1), heights.shape[1] - 1)


def _split(table: TabularGame, policy: np.ndarray, *, has_invalid: bool) -> tuple[np.ndarray, np.ndarray]:
    """The policy on legal actions [S, A] and on invalid replies [S], once it is sure to be one."""
    shape = (table.num_states, table.num_actions + has_invalid)
    if policy.shape != shape:
        raise LapwingError(f"The policy has shape {policy.shape}, the enumerated game needs {shape}.")
    on_legal = np.where(table.is_legal, policy[:, : table.num_actions], 0.0)
    on_legal[table.waits, 0] = 1.0
    on_invalid = np.where(table.decides, policy[:, -1], 0.0) if has_invalid else np.zeros(table.num_states)
    total = on_legal.sum(axis=1) + on_invalid
    wrong = table.decides & ((np.abs(total - 1.0) > 1e-6) | (policy < 0.0).any(axis=1))
    if wrong.any():
        at = int(wrong.argmax())
        raise LapwingError(
            f"The policy of state {at} is {policy[at].tolist()}; it must be probabilities of the legal actions"
            f"{' and of an invalid reply' if has_invalid else ''} that sum to 1."
        )
    return on_legal, on_invalid


def _visits(
    table: TabularGame,
    on_legal: np.ndarray,
    on_invalid: np.ndarray,
    played: np.ndarray,
    rule: InvalidReplies,
    horizon: int,
) -> np.ndarray:
    visits = np.zeros((rule.levels, horizon, table.num_states))
    onward = table.continuation.T.tocsr()
    mass = np.where(table.is_legal[:, 0], table.start, 0.0)
    for step in range(horizon):
        executed = np.zeros_like(on_legal)
        for level in range(rule.levels):
            visits[level, step] = mass
            executed += mass[:, None] * on_legal
            mass = mass * on_invalid
        executed += mass[:, None] * played
        mass = onward @ executed.ravel()
    return visits
