"""Play on a table against play in lockstep: the same matches of one iteration, interleaved, CPU seconds of one thread.

OMP_NUM_THREADS=1 python benchmarks/play.py [RECIPE]
"""

import statistics
import sys
import time

import torch

from lapwing import build


def main() -> None:
    torch.set_num_threads(1)
    recipe = sys.argv[1] if len(sys.argv) > 1 else "frozen_lake_slippery_tiny"
    plan = build.plan(build.read_recipe(recipe))[-1]
    stage = build.make_stage(plan, build.make_workshop(plan, 0))
    stage.load(0)
    matches = stage.sampler.draw(0)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    steps = 0
    for round_number in range(4):
        for tabular in (True, False):
            stage.collector.tabular = tabular
            stage.forget()
            started = time.process_time()
            steps = stage.collector.collect(matches).batch.num_steps
            if round_number:  # the first round fills caches
                seconds[tabular].append(time.process_time() - started)
    table, lockstep = (statistics.median(seconds[tabular]) for tabular in (True, False))
    print(f"{recipe}, untrained model: {len(matches):,} matches, {steps:,} steps")
    print(f"on a table {table:.3f} s, in lockstep {lockstep:.3f} s, ratio {lockstep / table:.1f} (medians of 3)")


if __name__ == "__main__":
    main()
