"""The different token sequences that a critic reads in a batch."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.storage import bytes_key


class Rows:
    """Token sequences without repetition: prompts of a state-only context repeat a lot."""

    def __init__(self) -> None:
        self.sequences: list[np.ndarray] = []
        self._index: dict[tuple[int, bytes], int] = {}

    def of_steps(self, batch: EpisodeBatch, replied: np.ndarray) -> np.ndarray:
        """Each step's context followed by the first few tokens of its reply.

        Args:
          batch: N steps.
          replied: how many tokens of the reply, [N].

        Returns:
          The number of each step's sequence, int64 [N].
        """
        keys = batch.extra.get("context_key")
        # Numbers of Python are faster one at a time than those of NumPy.
        starts, counts = batch.token_splits[:-1].tolist(), replied.tolist()
        row = np.empty(batch.num_steps, dtype=np.int64)
        for step, (start, count) in enumerate(zip(starts, counts, strict=True)):
            reply = batch.token[start : start + count]
            key = (bytes_key(batch.context(step).tobytes()) if keys is None else int(keys[step]), reply.tobytes())
            at = self._index.setdefault(key, len(self.sequences))
            if at == len(self.sequences):
                self.sequences.append(np.concatenate([batch.context(step), reply]))
            row[step] = at
        return row

    def of_ends(self, batch: EpisodeBatch, episodes: np.ndarray) -> np.ndarray:
        """The context that each of some episodes would have gone on from.

        Returns:
          The number of each episode's sequence, int64 [len(episodes)].
        """
        row = np.empty(len(episodes), dtype=np.int64)
        for i, episode in enumerate(episodes):
            low, high = batch.final_context_splits[episode : episode + 2]
            context = batch.final_context_token[low:high]
            at = self._index.setdefault((bytes_key(context.tobytes()), b""), len(self.sequences))
            if at == len(self.sequences):
                self.sequences.append(context)
            row[i] = at
        return row

    def last(self, row: np.ndarray) -> np.ndarray:
        """The position of the last token of the sequences with these numbers."""
        lengths = np.array([len(sequence) for sequence in self.sequences], dtype=np.int64)
        return lengths[row] - 1
