"""Operations on ragged arrays: values laid end to end, with `splits` of length segments + 1 as boundaries."""

import numpy as np

from lapwing.core import rng


def lengths_to_splits(lengths: np.ndarray) -> np.ndarray:
    """Boundaries [S+1] of segments with the given lengths [S]."""
    splits = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=splits[1:])
    return splits


def segment_of(splits: np.ndarray) -> np.ndarray:
    """The segment that each element belongs to, int64 [splits[-1]]."""
    return np.repeat(np.arange(len(splits) - 1), np.diff(splits))


def segment_sum(values: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Sum of each segment, float64 [S]; an empty segment gives 0."""
    return np.bincount(segment_of(splits), weights=values, minlength=len(splits) - 1).astype(np.float64)


def segment_mean(values: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Mean of each segment, float64 [S]; an empty segment gives 0."""
    return segment_sum(values, splits) / np.maximum(np.diff(splits), 1)


def reverse_discounted_sum(values: np.ndarray, discount: float, splits: np.ndarray) -> np.ndarray:
    """Discounted sum from each element to the end of its segment.

        y_t = x_t + γ y_{t+1},   y = 0 past the end of the segment

    Args:
      values: x, [N].
      discount: γ, in [0, 1].
      splits: boundaries of the segments, [S+1].

    Returns:
      y, float64 [N].
    """
    return reverse_scan(values, discount, splits)


def group_index(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the groups 0, 1, …: the group of each member [E] and the size of each group."""
    index = distinct(group)[1]
    return index, np.bincount(index)


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values in ascending order, and which of them each value is.

    As `np.unique`, but without a sort where the values are small whole numbers.

    Args:
      values: whole numbers, [N].
    """
    if values.dtype.kind == "i" and len(values) and values.min() >= 0 and values.max() < 4 * len(values) + 1024:
        present = np.bincount(values) > 0
        return np.flatnonzero(present), (np.cumsum(present) - 1)[values]
    different, index = np.unique(values, return_inverse=True)
    return different, index.reshape(-1)


def match_index(*columns: np.ndarray, never: int | None = None) -> np.ndarray:
    """Number the rows of some columns so that two rows have the same number where they agree in every column.

    Args:
      columns: the columns, [N] each; whole numbers of any kind.
      never: a row with this value in any column after the first matches no other row; None lets all rows match.

    Returns:
      int64 [N], numbers from 0 without gaps.
    """
    # One sort of mixed keys instead of one for each column; that two rows collide has probability 2⁻⁶⁴ a pair.
    key = np.zeros(len(columns[0]), dtype=np.uint64)
    alone = np.zeros(len(key), dtype=bool)
    for column in columns:
        key = rng.fold_many(key, column)
    for column in columns[1:] if never is not None else ():
        alone |= column == never
    index = np.unique(key, return_inverse=True)[1].reshape(-1)
    if alone.any():
        index = group_index(np.where(alone, len(index) + np.arange(len(index)), index))[0]
    return index


def group_mean(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Mean of each member's group, float64 [E]."""
    index, size = group_index(group)
    return (np.bincount(index, weights=values) / size)[index]


def group_std(values: np.ndarray, group: np.ndarray, *, ddof: int = 1) -> np.ndarray:
    """Standard deviation of each member's group, float64 [E]; 0 where the group has at most `ddof` members.

    A group whose values are all equal gives exactly 0, without the rounding of the mean.
    """
    index, size = group_index(group)
    values = np.asarray(values, dtype=np.float64)
    centred = values - (np.bincount(index, weights=values) / size)[index]
    square = np.bincount(index, weights=centred**2)
    std = np.sqrt(square / np.maximum(size - ddof, 1))
    std[(size <= ddof) | ~_has_spread(values, index, len(size))] = 0.0
    return std[index]


def has_spread(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Whether the values of each member's group differ by more than rounding, bool [E]."""
    index, size = group_index(group)
    return _has_spread(np.asarray(values, dtype=np.float64), index, len(size))[index]


def _has_spread(values: np.ndarray, index: np.ndarray, groups: int) -> np.ndarray:
    low = np.full(groups, np.inf)
    high = np.full(groups, -np.inf)
    np.minimum.at(low, index, values)
    np.maximum.at(high, index, values)
    # Sums of the same rewards in another order differ by rounding; that is no spread.
    return high - low > 1e-10 * np.maximum(np.maximum(np.abs(low), np.abs(high)), 1.0)


def concatenate_splits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Boundaries of two ragged arrays laid one after the other."""
    return np.concatenate([first, first[-1] + second[1:]])


def take_segments(splits: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the elements of the chosen segments, in order, and the new boundaries."""
    lengths = np.diff(splits)[segments]
    new_splits = lengths_to_splits(lengths)
    offset = np.repeat(splits[:-1][segments] - new_splits[:-1], lengths)
    return np.arange(new_splits[-1]) + offset, new_splits


def reverse_scan(values: np.ndarray, coefficient: np.ndarray | float, splits: np.ndarray) -> np.ndarray:
    """Linear recurrence from the end of each segment to its beginning, with a coefficient per element.

        y_t = x_t + c_t y_{t+1},   y = 0 past the end of the segment

    Args:
      values: x, [N].
      coefficient: c, [N] or one number; that of the last element of a segment plays no part.
      splits: boundaries of the segments, [S+1].

    Returns:
      y, float64 [N].
    """
    result = np.array(values, dtype=np.float64)
    coefficient = np.broadcast_to(coefficient, result.shape)
    length = np.diff(splits)
    order = np.argsort(-length, kind="stable")
    last = splits[1:][order] - 1
    # How many segments reach back that far from their end.
    reaching = np.searchsorted(-length[order], -np.arange(1, length.max(initial=0)))
    # All last elements are done; then all last-but-one at once, and so on: one vector operation per position.
    for back, count in enumerate(reaching, start=1):
        at = last[:count] - back
        result[at] += coefficient[at] * result[at + 1]
    return result
