"""Turn-level credit on search and answer: arms × warm starts × seeds, and what they ended with.

    python benchmarks/search_qa.py --workers 2            all of it, about two hours on two cores
    python benchmarks/search_qa.py --report               only the table of what is finished
    python benchmarks/search_qa.py --hops RUN             success of one run by the hops of its test questions

Every warm start is trained once and kept; every arm of a seed begins with the same weights and plays the same
questions. Runs are `lapwing train` processes on one thread. A finished run is not run again and an interrupted one is
resumed, so that the script may be stopped and started at will.
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

from lapwing.stats.bootstrap import bootstrap
from lapwing.stats.sign_flip import sign_flip, smallest_p
from lapwing.stats.wilson import wilson

WARM = "search_qa_mt_grpo"
ARMS = {
    "search_qa_grpo_outcome": "GRPO, outcome only",
    "search_qa_ppo": "PPO, outcome only",
    "search_qa_grpo": "GRPO, merged rewards",
    "search_qa_mt_grpo": "MT-GRPO",
    "search_qa_mt_ppo": "MT-PPO",
}
PARTS = ("tool_execution", "exact_query", "answer_in_result", "exact_match", "format")
# A run has collapsed if it ends with less tool execution than this.
COLLAPSED = 0.5


def finished(run: Path) -> bool:
    manifest = run / "manifest.json"
    return manifest.exists() and json.loads(manifest.read_text())["status"] == "finished"


def train(run: Path, *command: str) -> Path:
    if finished(run):
        return run
    run.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["resume", str(run)] if (run / "manifest.json").exists() else ["train", *command, "--run", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with run.with_suffix(".log").open("a") as log:
        subprocess.run(
            [sys.executable, "-m", "lapwing.cli", *arguments], stdout=log, stderr=log, env=environment, check=True
        )
    return run


def warm_start(folder: Path, number: int) -> Path:
    nothing = ("--set", "iterations=0", "--set", "evaluation.every=0")
    return train(folder / "warm" / str(number), WARM, "--seed", str(number), *nothing)


def run_of(folder: Path, arm: str, warm: int, seed: int) -> Path:
    return folder / arm / f"{warm}-{seed}"


def measures(run: Path) -> dict[str, Any]:
    policies = json.loads((run / "evaluation.json").read_text())["policies"]
    manifest = json.loads((run / "manifest.json").read_text())

    def part(policy: str, name: str) -> float:
        return policies[policy]["parts"].get(name, {"mean": 0.0})["mean"]

    found = {name: part("trained", name) for name in PARTS}
    found |= {f"greedy_{name}": part("trained_greedy", name) for name in PARTS}
    found |= {f"untrained_{name}": part("untrained", name) for name in PARTS}
    return found | {"guess": policies["guess"]["success"]["mean"], "seconds": manifest["seconds"]["main"]}


def interval(values: list[float]) -> str:
    found = bootstrap(np.array(values))
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def table(folder: Path, pairs: list[tuple[int, int]]) -> str:
    rows = {arm: {pair: measures(run) for pair in pairs if finished(run := run_of(folder, arm, *pair))} for arm in ARMS}
    guesses = [row["guess"] for runs in rows.values() for row in runs.values()]
    lines = [
        f"Guess floor: exact match {np.mean(guesses):.3f}.",
        "",
        "| arm | runs | collapsed | tool execution, mean, worst | exact query | answer in result "
        "| exact match | greedy | worst | format | learning s, median |",
        "| --- " * 11 + "|",
    ]
    for arm, label in ARMS.items():
        runs = list(rows[arm].values())
        if not runs:
            continue
        of = {name: [row[name] for row in runs] for name in runs[0]}
        collapsed = sum(value < COLLAPSED for value in of["tool_execution"])
        share = wilson(collapsed, len(runs))
        lines.append(
            f"| {label} (`{arm}`) | {len(runs)} | {collapsed} [{share.low:.2f}, {share.high:.2f}] "
            f"| {interval(of['tool_execution'])}, {min(of['tool_execution']):.3f} | {interval(of['exact_query'])} "
            f"| {interval(of['answer_in_result'])} | {interval(of['exact_match'])} "
            f"| {interval(of['greedy_exact_match'])} | {min(of['exact_match']):.3f} | {interval(of['format'])} "
            f"| {np.median(of['seconds']):.0f} |"
        )
    lines += ["", *_against_merged(rows), "", *_by_warm_start(rows)]
    return "\n".join(lines)


def _against_merged(rows: dict[str, dict[tuple[int, int], dict[str, Any]]]) -> list[str]:
    base = rows["search_qa_grpo"]
    lines = [
        "| against GRPO with merged rewards | pairs | exact match [95 %] | p | smallest p possible |",
        "| --- " * 5 + "|",
    ]
    for arm, label in ARMS.items():
        common = sorted(set(base) & set(rows[arm]))
        if arm == "search_qa_grpo" or len(common) < 2:
            continue
        differences = np.array([rows[arm][pair]["exact_match"] - base[pair]["exact_match"] for pair in common])
        lines.append(
            f"| {label} | {len(common)} | {interval(differences.tolist())} | {sign_flip(differences):.2g} "
            f"| {smallest_p(len(common)):.2g} |"
        )
    return lines


def _by_warm_start(rows: dict[str, dict[tuple[int, int], dict[str, Any]]]) -> list[str]:
    warm_starts = sorted({warm for runs in rows.values() for warm, _ in runs})
    lines = [
        f"| exact match by warm start | {' | '.join(map(str, warm_starts))} |",
        "| --- " * (1 + len(warm_starts)) + "|",
    ]
    any_run = {
        warm: next(row for runs in rows.values() for (w, _), row in runs.items() if w == warm) for warm in warm_starts
    }
    for name in ("tool_execution", "exact_match"):
        lines.append(
            f"| before: {name} | " + " | ".join(f"{any_run[w][f'untrained_{name}']:.3f}" for w in warm_starts) + " |"
        )
    for arm, label in ARMS.items():
        cells = []
        for warm in warm_starts:
            values = [row["exact_match"] for (w, _), row in rows[arm].items() if w == warm]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})" if values else "")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def by_hops(run: Path) -> str:
    from lapwing import build
    from lapwing.api.loading import plan_and_shop
    from lapwing.evaluation.evaluate import evaluation_matches

    plan, shop = plan_and_shop(str(run), None, ())
    agent = build.make_agent(plan, shop)
    settings = plan.evaluation.settings
    matches = evaluation_matches(
        build.make_game(plan.game),
        split="test",
        seed=settings["seed"],
        episodes=settings["episodes"],
        max_steps=plan.sampler.settings["max_steps"],
    )
    lines = ["| hops | questions | sampled | greedy | searches, sampled |", "| --- " * 5 + "|"]
    sampled, greedy = (build.make_play(plan)(policy, matches) for policy in (agent, build.greedy(agent)))
    hops = np.array([episode.steps[0].state.task.hops for episode in sampled])
    success = [np.array([bool(episode.success) for episode in played]) for played in (sampled, greedy)]
    searches = np.array([len(episode.steps) - 1 for episode in sampled])
    for number in np.unique(hops):
        of = hops == number
        shares = " | ".join(f"{one[of].mean():.3f}" for one in success)
        lines.append(f"| {number} | {of.sum()} | {shares} | {searches[of].mean():.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/search_qa"))
    parser.add_argument("--warm-starts", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--hops", type=Path, help="a finished run")
    arguments = parser.parse_args()
    if arguments.hops:
        print(by_hops(arguments.hops))
        return
    folder = arguments.run
    pairs = [(warm, seed) for seed in range(arguments.seeds) for warm in range(arguments.warm_starts)]
    if not arguments.report:
        with ThreadPoolExecutor(arguments.workers) as pool:
            list(pool.map(lambda warm: warm_start(folder, warm), range(arguments.warm_starts)))
            jobs = [
                pool.submit(
                    train,
                    run_of(folder, arm, *pair),
                    arm,
                    "--seed",
                    str(pair[1]),
                    "--from",
                    str(folder / "warm" / str(pair[0])),
                )
                for pair in pairs
                for arm in ARMS
            ]
            for job in jobs:
                job.result()
    print(table(folder, pairs))


if __name__ == "__main__":
    main()
