"""The nouns of Lapwing as frozen data: Match, Transition, Ask, Decision, Step, Episode, Group, Verdict, Selection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import numpy as np

State = Any
View = Any
Action = Any
Memory = Any


class Message(TypedDict):
    """One message of a chat: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """An action of a tool-using agent: one tool, and its arguments as a JSON text.

    `arguments` is an object, or a bare string for a tool with one required argument. It is what a model wrote, in
    canonical form where it is JSON at all: whoever executes the call checks it.
    """

    name: str
    arguments: str = "{}"

    def __str__(self) -> str:
        return f"{self.name} {self.arguments}"


@dataclass(frozen=True, slots=True)
class Answer:
    """An action of a tool-using agent: its final answer, as text."""

    text: str

    def __str__(self) -> str:
        return f"answer {self.text}"


@dataclass(frozen=True, slots=True)
class Malformed:
    """What an unreadable reply of a tool-using agent stands for; the game answers it with an error."""

    reason: str

    def __str__(self) -> str:
        return f"malformed: {self.reason}"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered; `status` is "ok" or "error", never told by the text."""

    status: str
    text: str

    @property
    def ok(self) -> bool:
        """Whether the tool did what it was asked."""
        return self.status == "ok"


@dataclass(frozen=True, slots=True)
class Transition:
    """What one step of a game did.

    Attributes:
      state: the state after the step.
      reward: reward of each player for this step.
      terminated: the game ended by its rules.
      success: per player, whether the match counts as won; None where the game has no such notion or goes on.
      outcome: per player, what is judged at the end only (an answer); None where there is nothing.
      parts: named parts of the reward, for the log.
    """

    state: State
    reward: Mapping[int, float]
    terminated: bool = False
    success: Mapping[int, bool] | None = None
    outcome: Mapping[int, float] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guidance:
    """What a language agent is helped with in a match; others do not read it.

    Attributes:
      hint: a text that stands before the first message of the user; empty for none.
      strip: the model reads the hint while it plays, but what is stored, and trained on, are contexts without it.
      mask: probability that a reply is drawn among the actions that the game's heuristic allows, at each decision.
      opening: what every reply begins with: part of its context, and not trained on; empty for none.
    """

    hint: str = ""
    strip: bool = False
    mask: float = 0.0
    opening: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """One play of a game from one seed.

    The members of a group share `seed`, `split`, `iteration` and `group`, therefore their initial state; with
    `share_chance` they also share the chance of every transition. A match with a `start_state` begins there.
    """

    game: Any
    seed: int
    split: str
    iteration: int
    group: int
    member: int
    max_steps: int
    share_chance: bool = True
    start: tuple[int, int] | None = None
    start_state: State = None
    guidance: Guidance | None = None

    @property
    def start_address(self) -> tuple[int, int]:
        """The (iteration, group) that the initial state is drawn for."""
        return (self.iteration, self.group) if self.start is None else self.start

    @property
    def identifier(self) -> str:
        """The name of the match within its run, `split/iteration/group/member`."""
        return f"{self.split}/{self.iteration}/{self.group}/{self.member}"


class Prompt(NamedTuple):
    """A context as token ids, and its bytes as a key for memos."""

    token: np.ndarray
    key: bytes


class Request(NamedTuple):
    """A context to continue, with the 64-bit key of the reply's random stream."""

    prompt: Prompt
    key: int


class Completion(NamedTuple):
    """A sampled reply: token ids, their log-probabilities as sampled, and what ended it."""

    token: np.ndarray
    logprob: np.ndarray
    stop_reason: str


@dataclass(slots=True)
class Ask:
    """A policy is asked for one decision.

    Attributes:
      view: what the player may know.
      legal: the legal actions, or None where the game is open-ended.
      memory: what the policy returned with its last decision in this episode; None at the start.
      key: the 64-bit key of this decision's random stream.
      game, state, player, steps_left: the truth, for baselines that are allowed to know it; a language agent reads
        none of it, unless its guidance masks actions.
      guidance: what the learning agent is helped with; None nearly always.
    """

    view: View
    legal: Sequence[Action] | None
    memory: Memory
    key: int
    game: Any
    state: State
    player: int
    steps_left: int
    guidance: Guidance | None = None


@dataclass(slots=True)
class Decision:
    """One reply of a policy and the action that it stands for.

    Attributes:
      action: the action that is executed, None if the reply was invalid and a rule decides.
      valid: the reply parsed to a legal action.
      text: the reply as text.
      context: the whole context as token ids, int32.
      token: the reply as token ids, int32 (empty for policies that are no language models).
      logprob: log-probability of each reply token as sampled, float64, same length as `token`.
      reason: why the reply was invalid, empty if it was valid.
      extends: how many leading tokens of `context` are the previous context and reply of the episode; 0 = fresh.
      stop_reason: what ended the reply: "end", "stop" or "length".
      span: what each reply token belongs to, as the column `span` numbers it; None where the parser does not say.
      switch: the reply opens a new segment of a plan; None where the parser reads no plans.
      num_tokens: how long the reply was where its tokens are not ours but a server's; None elsewhere.
      num_context_tokens: the same of the context.
    """

    action: Action | None
    valid: bool
    text: str
    context: np.ndarray
    token: np.ndarray
    logprob: np.ndarray
    reason: str = ""
    extends: int = 0
    stop_reason: str = "end"
    span: np.ndarray | None = None
    switch: bool | None = None
    num_tokens: int | None = None
    num_context_tokens: int | None = None


@dataclass(slots=True)
class Step:
    """One decision of an episode and what came of it.

    `state` and `steps_left` say where the match stood, for those who play on from there.
    """

    decision: Decision
    action: Action | None
    view: View
    view_key: int
    action_key: int
    next_view_key: int
    reward: float
    domain_reward: float
    parts: Mapping[str, float]
    state: State = None
    steps_left: int = 0


@dataclass(slots=True)
class Episode:
    """One player's decisions in one match.

    `final_view` is what the player saw after the last of them; `opponent_version` which frozen version of the learner
    sat on other seats, where one was drawn.
    """

    match: Match
    player: int
    steps: list[Step]
    terminated: bool
    truncated: bool
    outcome: float = 0.0
    success: bool | None = None
    final_context: np.ndarray | None = None
    policy_version: int = 0
    final_view: View = None
    opponent_version: int | None = None

    @property
    def episode_return(self) -> float:
        """Sum of the training rewards plus the outcome."""
        return sum(step.reward for step in self.steps) + self.outcome

    @property
    def domain_return(self) -> float:
        """Sum of the game's own rewards plus the outcome: what is reported."""
        return sum(step.domain_reward for step in self.steps) + self.outcome


class Group(NamedTuple):
    """The finished episodes of one group, for the review of a sampler.

    Where several seats learn, these are the episodes of the first of them that decided, and what is said of them holds
    for the groups of the others too: what one seat wins another may lose, so that a mixture would tell nothing.

    Attributes:
      index: of the group in its batch.
      episodes: n of them; they may be made only when they are asked for.
      success: 1 or 0, NaN where the game has no such notion, float64 [n].
      episode_return: training rewards plus outcome, float64 [n].
      others: the groups in the batch that hold the other seats' episodes of the same matches.
    """

    index: int
    episodes: Sequence[Episode]
    success: np.ndarray
    episode_return: np.ndarray
    others: tuple[int, ...] = ()

    @staticmethod
    def of(index: int, episodes: Sequence[Episode]) -> "Group":
        """The group of episodes that exist already."""
        success = [np.nan if episode.success is None else float(episode.success) for episode in episodes]
        returns = [episode.episode_return for episode in episodes]
        return Group(index, episodes, np.array(success), np.array(returns))


class BestKnown(NamedTuple):
    """The best that is known of a game whose optimum cannot be computed here.

    Attributes:
      score: mean return of a match.
      source: who plays so well, or why nobody can do better.
    """

    score: float
    source: str


class Verdict(NamedTuple):
    """What a sampler makes of a finished group.

    Attributes:
      accept: the group is trained on; else it is dropped.
      replay: whole groups of further matches to play now, under numbers that are new in the iteration.
    """

    accept: bool = True
    replay: tuple[Match, ...] = ()


class Selection(NamedTuple):
    """How often, and how strongly, each episode is trained on.

    An episode counts `count` times in numerator and denominator of an aggregation; `factor`, an importance
    correction, multiplies its numerator only.
    """

    count: np.ndarray
    factor: np.ndarray
