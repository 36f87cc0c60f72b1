"""Where a second of a run goes, and how far that is from what the machine could do.

Part of `make bench`. A recipe's warm start and its first updates are run as they are, and every second is put to an
account: the model in play, what surrounds it (game, text, sampling), credit, the model forward and backward, the
optimiser, and the rest of the update. The floor is

    (2 P · tokens in play + 6 P · tokens in updates) / matmul rate

with P parameters, the tokens that really went through the model, after everything shared was computed once, and the
rate of a large matrix product in the same run on the same threads. The arithmetic of attention is not in the floor,
and that of the last layer where nobody reads it is, although it is left out.
"""

import argparse
import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness

RECIPES = {"frozen_lake_tiny": 60, "snake_5x5_tiny": 60, "frozen_lake_fixed_tiny": 60, "frozen_lake_think_tiny": 40}
# Iterations between two measurements of the matmul rate.
EVERY = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="%(default)s")
    parser.add_argument("--iterations", type=int, help="of the main stage; each recipe has its own by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    for recipe in given.recipes.split(","):
        iterations = given.iterations or RECIPES.get(recipe, 40)
        settings = {"recipe": recipe, "iterations": iterations, "threads": given.threads}
        arm = harness.Arm(recipe, "floor.py:make", settings, threads=given.threads)
        with harness.started([arm]):
            figures[recipe] = arm.step()
        show(recipe, figures[recipe])
        harness.write_results("floor", {"recipes": figures}, threads=given.threads, path=given.out)


def show(recipe: str, found: dict[str, Any]) -> None:
    """Print what was found."""
    print(
        f"{recipe}: {found['iterations']} iterations in {found['loop_seconds']:.1f} s, "
        f"{found['matmul_rate'] / 1e9:.0f} GF/s; share of the floor {found['floor_share']:.2f} "
        f"(play {found['play_floor_share']:.2f}, update {found['update_floor_share']:.2f})"
    )
    for name, share in found["accounts"].items():
        print(f"  {name:32} {share:6.1%}")


def make(recipe: str, iterations: int, threads: int) -> Any:
    """The work of an arm: a recipe's warm start, and the first iterations of its main stage with every second noted."""
    import torch

    torch.set_num_threads(threads)
    from lapwing import build
    from lapwing.training.loop import iterate

    plans = build.plan(build.read_recipe(recipe))
    shop = build.make_workshop(plans[-1], 0)
    for plan in plans[:-1]:
        stage = build.make_stage(plan, shop)
        for _ in iterate(stage, stage.make_learner(), 0, lambda _: None):
            pass
        stage.load(0)

    def work() -> dict[str, Any]:
        stage = build.make_stage(plans[-1], shop)
        learner = stage.make_learner()
        stage.load(learner.version)
        return _measure(stage, learner, shop.model, iterations, threads)

    return work


def _measure(stage: Any, learner: Any, model: Any, iterations: int, threads: int) -> dict[str, Any]:
    from lapwing.training.loop import iterate

    generator = stage.collector.policy.generator
    tokens = {"play": 0, "update": 0}
    phases: dict[str, float] = defaultdict(float)
    rates: list[float] = []
    counts: dict[str, float] = defaultdict(float)

    def record(credited: Any) -> None:
        counts["episodes"] += credited.batch.num_episodes
        counts["steps"] += credited.batch.num_steps

    with _accounts(model, learner) as spent:
        rows = iterate(stage, learner, 0, record)
        for number in range(iterations):
            if number % EVERY == 0:
                rates.append(harness.matmul_rate(threads))
            before = generator.tokens_computed, learner.scorer.tokens
            row = next(rows)
            tokens["play"] += generator.tokens_computed - before[0]
            tokens["update"] += learner.scorer.tokens - before[1]
            for phase in ("play", "credit", "update"):
                phases[phase] += row[f"time/{phase}"]
    rate = statistics.median(rates)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    floor = {"play": 2 * parameters * tokens["play"] / rate, "update": 6 * parameters * tokens["update"] / rate}
    seconds = sum(phases.values())
    rest = phases["update"] - spent["forward"] - spent["backward"] - spent["step"]
    accounts = {
        "model in play": spent["play"],
        "game, text, sampling in play": phases["play"] - spent["play"],
        "credit and selection": phases["credit"],
        "model forward in the update": spent["forward"],
        "backward": spent["backward"],
        "optimiser": spent["step"],
        "rest of the update": rest,
    }
    return {
        "iterations": iterations,
        "loop_seconds": seconds,
        "matmul_rate": rate,
        "parameters": parameters,
        "tokens_computed": tokens,
        "episodes_per_second": counts["episodes"] / seconds,
        "steps_per_second": counts["steps"] / seconds,
        "floor_share": sum(floor.values()) / seconds,
        "play_floor_share": floor["play"] / phases["play"],
        "update_floor_share": floor["update"] / phases["update"],
        "accounts": {name: value / seconds for name, value in accounts.items()},
    }


@contextlib.contextmanager
def _accounts(model: Any, learner: Any) -> Iterator[dict[str, float]]:
    """Seconds of the model's body in play and in updates, of going backward, and of the optimiser."""
    import torch

    spent: dict[str, float] = defaultdict(float)
    began: list[float] = []
    names = ["play"]
    update, step, backward = learner.update, learner.optimizer.step, torch.Tensor.backward

    def timed(name: str, call: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - started

        return run

    def updating(*args: Any, **kwargs: Any) -> Any:
        names.append("forward")
        try:
            return update(*args, **kwargs)
        finally:
            names.pop()

    def after(*_: Any) -> None:
        spent[names[-1]] += time.perf_counter() - began.pop()

    hooks = [
        model.base_model.register_forward_pre_hook(lambda *_: began.append(time.perf_counter())),
        model.base_model.register_forward_hook(after),
    ]
    learner.update, learner.optimizer.step = updating, timed("step", step)
    torch.Tensor.backward = timed("backward", backward)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()
        learner.update, learner.optimizer.step, torch.Tensor.backward = update, step, backward


if __name__ == "__main__":
    main()
