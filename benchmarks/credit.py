"""Time and memory of every credit method and modulation as the batch grows: `make bench-credit`.

A batch has episodes of 20 steps with two tokens each, in groups of 16 that pass the states of a small lake. Each
method runs in a process of its own; seconds are the median of three runs, memory is the largest resident size beyond
that of the batch. Growth is the ratio of the largest to the second largest batch, which is five times smaller.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

STEPS, TOKENS = 20, 2
SLOWER = {"graft", "rtmc", "hgpo", "salt"}  # may take longer than 2 s a million steps


def batch_of(episodes: int) -> Any:
    from lapwing.core.batch import EpisodeBatch
    from lapwing.core.columns import COLUMNS

    random = np.random.default_rng(0)
    n, k = episodes * STEPS, episodes * STEPS * TOKENS
    reward = np.zeros(n)
    reward[STEPS - 1 :: STEPS] = random.random(episodes) < 0.5
    view = random.integers(1, 17, n).astype(np.uint64)
    size = {"E": episodes, "N": n, "K": k}
    columns = {name: random.random(size[c.axis]) for name, c in COLUMNS.items()}
    columns |= {"switch": random.random(n) < 0.3, "span": random.integers(0, 6, k)}
    columns |= {"success": (random.random(episodes) < 0.5).astype(np.float64)}
    columns |= {"context_key": view, "answer_key": random.integers(1, 5, episodes).astype(np.uint64)}
    return EpisodeBatch(
        step_splits=np.arange(episodes + 1) * STEPS,
        token_splits=np.arange(n + 1) * TOKENS,
        context_splits=np.arange(n + 1),
        extends_previous=np.zeros(n, dtype=bool),
        reward=reward,
        outcome=np.zeros(episodes),
        terminated=np.ones(episodes, dtype=bool),
        truncated=np.zeros(episodes, dtype=bool),
        group=np.arange(episodes) // 16,
        match=np.arange(episodes),
        player=np.zeros(episodes, dtype=np.int64),
        policy_version=np.zeros(n, dtype=np.int64),
        token=np.zeros(k, dtype=np.int32),
        context_token=np.zeros(n, dtype=np.int32),
        sampler_logprob=np.zeros(k),
        behavior_logprob=np.zeros(k),
        final_context_splits=np.zeros(episodes + 1, dtype=np.int64),
        final_context_token=np.zeros(0, dtype=np.int32),
        view_key=view,
        action_key=random.integers(1, 5, n).astype(np.uint64),
        next_view_key=np.append(view[1:], np.uint64(1)),
        valid=np.ones(n, dtype=bool),
        extra=columns,
    )


def measure(folder: str, name: str, episodes: int) -> dict[str, float]:
    from lapwing.core.memory import bound
    from lapwing.core.registry import resolve

    method = bound(resolve(folder, name), {})
    batch = batch_of(episodes)
    arguments = (batch,) if folder == "credit" else (batch, resolve("credit", "grpo")(batch))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        method(*arguments)
        seconds.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds), "mebibytes": (after - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "NAME", "EPISODES"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], given.one[1], int(given.one[2]))))
        return
    from lapwing.core.registry import names

    rows = []
    for folder in ("credit", "modulation"):
        for name in names(folder):
            row: dict[str, Any] = {"folder": folder, "name": name}
            for episodes in given.episodes:
                command = [sys.executable, __file__, "--one", folder, name, str(episodes)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                row[str(episodes)] = json.loads(done.stdout)
            rows.append(row)
            if not given.json:
                show(row, given.episodes)
    if given.json:
        print(json.dumps(rows, indent=2))


def show(row: dict[str, Any], sizes: list[int]) -> None:
    large, small = row[str(sizes[-1])], row[str(sizes[-2])] if len(sizes) > 1 else None
    growth = "" if small is None else f"  x{large['seconds'] / max(small['seconds'], 1e-9):.1f}"
    limit = "" if row["name"] in SLOWER or (large["seconds"] < 2 and large["mebibytes"] < 1024) else "  OVER THE LIMIT"
    print(
        f"{row['folder']:<10} {row['name']:<18} {sizes[-1] * STEPS:>9,} steps  {large['seconds']:>7.3f} s"
        f"  {large['mebibytes']:>6.0f} MiB{growth}{limit}",
        flush=True,
    )


if __name__ == "__main__":
    main()
