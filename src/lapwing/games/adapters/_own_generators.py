"""The random generators that an environment of Gymnasium holds: its own, its wrappers' and its spaces'."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lapwing.games.adapters._spaces import parts_of

_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


def layers_of(env: Any) -> Iterator[Any]:
    """An environment with all its wrappers, from the outside in."""
    while True:
        yield env
        inner = getattr(env, "__dict__", {}).get("env")
        if inner is None:
            return
        env = inner


def draw_from(env: Any, spaces: Sequence[Any], rng: np.random.Generator, seed: int) -> bool:
    """Let an environment, its wrappers and its spaces draw from one generator.

    Generators that are attributes are exchanged, also those that a `reset` which does not know of its seed would leave
    as they are. What lies deeper is left alone.

    Args:
      env: the environment.
      spaces: those that `spaces_of` found.
      rng: takes the place of NumPy's generators.
      seed: of those of NumPy's older kind and of the module random, which get generators of their own.

    Returns:
      Whether there are some of those, so that what was drawn cannot be read off `rng`.
    """
    has_others = False
    for layer in layers_of(env):
        attributes = vars(layer)
        for name, value in attributes.items():
            if isinstance(value, _GENERATORS):
                is_shared = isinstance(value, np.random.Generator)
                has_others |= not is_shared
                attributes[name] = rng if is_shared else _other(value, seed)
    for space in spaces:
        space._np_random = rng
    return has_others


def _other(value: Any, seed: int) -> Any:
    return random.Random(seed) if isinstance(value, random.Random) else np.random.RandomState(seed % 2**32)


def spaces_of(env: Any) -> list[Any]:
    """All spaces of an environment, with those that they are made of."""
    inner = env.unwrapped
    found = [env.observation_space, env.action_space, inner.observation_space, inner.action_space]
    for space in found:  # grows while it is walked
        found.extend(parts_of(space))
    return found
