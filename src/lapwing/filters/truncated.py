"""Leave out episodes that a limit cut."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked

SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def truncated(batch: EpisodeBatch) -> np.ndarray:
    """Keep the episodes that the rules ended.

        keep_i = terminated_i or not truncated_i

    Nothing is known of how a cut episode would have ended, so that its return is noise. What is left out here is left
    out of the group's mean too; the selection `untruncated` keeps it there and only trains on none of its tokens,
    as DAPO does. To leave cut episodes out and to punish them (`overlong`) is a contradiction.

    Provenance: formula and defaults from the authors' code.

    Reference: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", section 3.4 (overlong
      filtering). https://arxiv.org/abs/2503.14476

    Args:
      batch: E episodes.

    Returns:
      `keep`, bool [E], without unit; True = counts.
    """
    return batch.terminated | ~batch.truncated
