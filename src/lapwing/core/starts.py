"""Which episodes began in the same state, whichever seat they are of."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.ragged import distinct


def start_index(batch: EpisodeBatch) -> np.ndarray:
    """Number the starts of a batch 0, 1, …, in the order of its groups; int64 [E].

    A group holds the episodes of one seat, because credit compares a seat with itself. The groups of several seats
    belong to one start where they share a match.

    Args:
      batch: E episodes.
    """
    group = distinct(batch.group)[1]
    if (batch.player == batch.player[0]).all():
        return group
    # Slow to import, and seldom needed.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    match = distinct(batch.match)[1]
    size = int(group.max()) + 1
    nodes = size + int(match.max()) + 1
    graph = coo_array((np.ones(len(group)), (group, size + match)), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False)
    return distinct(component[group].astype(np.int64))[1]
