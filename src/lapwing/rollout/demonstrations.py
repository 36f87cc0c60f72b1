"""Demonstrations: the dialogues of a file as episodes, for cloning."""

from lapwing.core.errors import UserError
from lapwing.core.json_lines import Row
from lapwing.core.protocols import Policy
from lapwing.core.types import Episode, Match
from lapwing.models.chat_format import ChatFormat
from lapwing.rollout._dialogue_file import Turn, as_episode
from lapwing.rollout._dialogues import read_dialogue
from lapwing.rollout._file_collector import FileCollector


class Demonstrations(FileCollector):
    """Collects the dialogues of a file as episodes, and draws which ones: a collector and its own sampler.

        {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}, …]}

    Each line is one dialogue, as TRL and OpenAI's fine-tuning take them; `{"prompt": …, "completion": …}`, with texts
    or lists of messages, is read as well, and so are `tools`, `tool_calls` and messages of the role tool, which the
    chat template writes. A message of the assistant is a step: its context is the template's own rendering of what
    stands before it, its reply what the template writes for it, up to the end of the turn. A step whose context
    continues the last context and reply token for token extends them; where the template writes earlier turns anew (a
    thinker's) it begins afresh. A message of weight 0, or in a prompt, is context only.

    Every epoch goes through the dialogues in another order, which belongs to the seed; every iteration takes the next
    ones. Log-probabilities are 0 and rewards 0: the loss is `negative_log_likelihood`, without credit.

    Attributes:
      bad: why lines were left out, a sentence for each.
      too_long: dialogues that were left out because they have more tokens than fit; 0 before the first is drawn.
    """

    _one, _several, _all, _longest = "dialogue", "dialogues", "demonstrations", "dialogue has"

    def __init__(
        self,
        *,
        path: str,
        chat: ChatFormat,
        seed: int,
        policy: Policy | None = None,
        positions: int | None = None,
        episodes: int = 64,
        max_tokens: int | None = None,
        max_bad_lines: int = 0,
    ) -> None:
        """Look through the file.

        Args:
          path: a JSONL file, plain or gzipped.
          chat: the model's chat template.
          seed: of the run.
          policy: which learns; its version is that of the episodes, which nobody's weights played.
          positions: the longest sequence that the model takes, in tokens.
          episodes: dialogues an iteration.
          max_tokens: leave out dialogues of more tokens than this; None leaves out only those beyond `positions`.
          max_bad_lines: how many lines that are no demonstrations are left out; more are refused.

        Raises:
          UserError: a number is impossible, or the file is missing, empty or has too many bad lines.
        """
        if episodes < 1:
            raise UserError(f"collector.episodes is at least 1, not {episodes}.")
        super().__init__(
            path=path,
            chat=chat,
            seed=seed,
            policy=policy,
            positions=positions,
            size=episodes,
            max_tokens=max_tokens,
            max_bad_lines=max_bad_lines,
        )
        self.episodes = episodes
        self._each(read_dialogue)

    def draw(self, iteration: int) -> list[Match]:
        """A match for each dialogue of an iteration.

        Raises:
          UserError: no dialogue is short enough for the model, or the template refuses too many.
        """
        return [
            Match(
                game=None,
                seed=self.seed,
                split="train",
                iteration=iteration,
                group=group,
                member=0,
                max_steps=len(self._at(iteration, group)),
            )
            for group in range(self.episodes)
        ]

    def _episode(self, match: Match, version: int) -> Episode:
        return as_episode(self.chat, match, self._at(match.iteration, match.group), version)

    def _encode(self, row: Row) -> list[Turn] | None:
        return self._encoder.turns(read_dialogue(row)) or None
