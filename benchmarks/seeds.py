"""Train recipes over seeds and show what each claims: `make bench-seeds`.

Every run is a `lapwing train` of its own, on one thread, as many at once as there are cores. A finished run is not
run again and an interrupted one is resumed, so that the script may be stopped and started at will. A recipe's
learning seconds are play, credit and updates; warm start and evaluation are left out and shown beside.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

# recipe → (measure, threshold of a seed, seeds that must reach it, learning seconds allowed)
CLAIMS: dict[str, tuple[str, float, int, float]] = {
    "frozen_lake_fixed_tiny": ("success", 0.95, 8, 10.0),
    "frozen_lake_tiny": ("success", 0.85, 6, 150.0),
    "frozen_lake_think_tiny": ("success", 0.95, 6, 90.0),
    "snake_5x5_tiny": ("score", 2.0, 6, 300.0),
    "bandit_tiny": ("success", 0.75, 8, 10.0),
    "frozen_lake_slippery_tiny": ("success", 0.33, 8, 60.0),
    "snake_10x10_tiny": ("score", 4.0, 6, 420.0),
}
MAIN = (
    "frozen_lake_fixed_tiny",
    "frozen_lake_tiny",
    "frozen_lake_think_tiny",
    "snake_5x5_tiny",
    "frozen_lake_slippery_tiny",
)
# Variants that `--recipes all` adds to each recipe, where they exist.
VARIANTS = ("", "_uniform", "_all", "_top_k", "_all_half")


def train(recipe: str, seed: int, folder: Path) -> Path:
    run = folder / recipe / str(seed)
    manifest = run / "manifest.json"
    if manifest.exists():
        if json.loads(manifest.read_text())["status"] == "finished":
            return run
        command = ["resume", str(run)]
    else:
        command = ["train", recipe, "--seed", str(seed), "--run", str(run)]
    run.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with run.with_suffix(".log").open("a") as log:
        subprocess.run(
            [sys.executable, "-m", "lapwing.cli", *command], stdout=log, stderr=log, env=environment, check=True
        )
    return run


def curve(run: Path) -> list[dict[str, float]]:
    """Development measure against episodes and learning seconds."""
    points = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        value = row.get("evaluation/score", row.get("evaluation/success"))
        if row["stage"] == "main" and value is not None:
            points.append(
                {"episodes": row["rollout/episodes"], "seconds": round(row["time/learning"], 1), "value": value}
            )
    return points


def row_of(run: Path, recipe: str) -> dict[str, Any]:
    measure, threshold, _, limit = CLAIMS[_claim_of(recipe)]
    evaluation = json.loads((run / "evaluation.json").read_text())["policies"]
    manifest = json.loads((run / "manifest.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["stage"] == "main"][-1]
    reached = evaluation["trained"][measure]["mean"] >= threshold and manifest["seconds"]["main"] <= limit
    return {
        "seed": manifest["seed"],
        "untrained": evaluation["untrained"][measure]["mean"],
        "trained": evaluation["trained"][measure],
        "trained_greedy": evaluation["trained_greedy"][measure]["mean"],
        "learning_seconds": manifest["seconds"]["main"],
        "warm_start_seconds": None if manifest["warm_start_cached"] else manifest["seconds"]["warm_start"],
        "episodes": last["rollout/episodes"],
        "steps_per_second": last["rollout/steps"] / last["time/learning"],
        "reached": reached,
        "curve": curve(run),
    }


def _seconds(value: float | None) -> str:
    return "cached" if value is None else f"{value:.1f}"


def _claim_of(recipe: str) -> str:
    """The recipe whose claim a variant is held against: the longest name that it begins with."""
    return max((name for name in CLAIMS if recipe.startswith(name)), key=len)


def show(recipe: str, rows: list[dict[str, Any]]) -> None:
    measure, threshold, wanted, limit = CLAIMS[_claim_of(recipe)]
    reached = sum(row["reached"] for row in rows)
    print(f"\n{recipe}: {measure} at the end, on test matches; claim: >= {threshold} within {limit:g} s of learning")
    print("seed  untrained  trained [95 %]          greedy  learning s  episodes  steps/s  reached")
    for row in rows:
        interval = row["trained"]
        print(
            f"{row['seed']:>4}  {row['untrained']:>9.3f}  "
            f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]  {row['trained_greedy']:>6.3f}"
            f"  {row['learning_seconds']:>10.1f}  {row['episodes']:>8,.0f}  {row['steps_per_second']:>7,.0f}"
            f"  {'yes' if row['reached'] else 'no'}"
        )
    values = np.array([row["trained"]["mean"] for row in rows])
    verdict = "not tested with all 8" if len(rows) < 8 else "holds" if reached >= wanted else "DOES NOT HOLD"
    print(
        f"median {np.median(values):.3f}, worst {values.min():.3f}; reached by {reached} of {len(rows)} seeds "
        f"(claimed: {wanted} of 8): {verdict}"
    )


def markdown(summary: dict[str, list[dict[str, Any]]]) -> str:
    """The seeds and their learning curves as Markdown tables, for EXPERIMENTS.md."""
    parts = []
    for recipe, rows in summary.items():
        measure, threshold, wanted, limit = CLAIMS[_claim_of(recipe)]
        reached = sum(row["reached"] for row in rows)
        parts += [
            f"### {recipe}",
            f"{measure.capitalize()} on the test matches at the end; claim: at least {threshold} within {limit:g} s of "
            f"learning in {wanted} of 8 seeds; reached by {reached} of {len(rows)}.",
            "| seed | untrained | trained [95 %] | greedy | learning s | warm start s | episodes | steps/s | "
            "development curve: value @ episodes (seconds) |\n" + "|" + " --- |" * 9,
        ]
        for row in rows:
            points = ", ".join(
                f"{p['value']:.2f} @ {p['episodes'] / 1000:.1f}k ({p['seconds']:.0f})" for p in row["curve"]
            )
            low, high = row["trained"]["low"], row["trained"]["high"]
            parts[-1] += (
                f"\n| {row['seed']} | {row['untrained']:.3f} | {row['trained']['mean']:.3f} [{low:.3f}, {high:.3f}] | "
                f"{row['trained_greedy']:.3f} | {row['learning_seconds']:.1f} | "
                f"{_seconds(row['warm_start_seconds'])} | "
                f"{row['episodes']:,.0f} | {row['steps_per_second']:,.0f} | {points} |"
            )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=["main"], help="main, all, or names of recipes")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    from lapwing import build

    recipes: list[str] = []
    for name in given.recipes:
        if name == "all":
            shipped = set(build.recipe_names())
            recipes += [r + variant for r in CLAIMS for variant in VARIANTS if r + variant in shipped]
        else:
            recipes += MAIN if name == "main" else [name]
    summary = {}
    with ThreadPoolExecutor(given.jobs) as pool:
        for recipe in recipes:
            runs = list(pool.map(lambda seed, recipe=recipe: train(recipe, seed, given.folder), range(given.seeds)))
            summary[recipe] = [row_of(run, recipe) for run in runs]
            show(recipe, summary[recipe])
            (given.folder / "seeds.json").write_text(json.dumps(summary, indent=2) + "\n")
            (given.folder / "seeds.md").write_text(markdown(summary))


if __name__ == "__main__":
    main()
