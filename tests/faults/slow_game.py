"""A lake that waits in the middle of a step for as long as a file is there."""

import os
import time
from pathlib import Path

from lapwing.games.frozen_lake import FrozenLake


class SlowLake(FrozenLake):
    """Waits while the file that LAPWING_TEST_WAIT names exists, and says so in a file beside it."""

    def step(self, state, actions, rng):
        """As the lake's, later."""
        _wait()
        return super().step(state, actions, rng)

    def outcomes(self, state, actions):
        """As the lake's, later."""
        _wait()
        return super().outcomes(state, actions)


def _wait():
    wait = Path(os.environ["LAPWING_TEST_WAIT"])
    end = time.monotonic() + 60.0
    while wait.exists() and time.monotonic() < end:
        wait.with_suffix(".waits").touch()
        time.sleep(0.005)
