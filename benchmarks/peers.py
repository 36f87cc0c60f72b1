"""Lapwing against TRL's `GRPOTrainer` in its multi-turn mode, like for like, and against a plainly written loop.

Part of `make bench`. All arms play the same 4x4 Frozen Lake with the same network, starting weights, tokenizer, words
and replies of four tokens, 4 groups of 16 episodes an update, float32, the same AdamW, advantage and clip; each
is a process of its own with as many threads, and they work turn and turn about. `lapwing_state` reads the current board
only and begins with weights of its own, made by the same recipe.

Like for like are the arms that train on all their episodes: `trl`, `plain` and those of Lapwing that end in
`_every_token`. Lapwing's others leave out groups without spread, whose gradient is exactly 0. How much that spares
depends on the policy: at weights that hardly ever win it is most of the update. `trained_tokens` says how many tokens
the loss was evaluated for, `tokens` how many were sampled.

Rows: `fixed` and `random` maps begin with weights that cloned random play and do not learn (the learning rate is
1e-12), so that all arms go on playing the same policy; in `fixed_learnt` learning is on, from weights that already win
four of five episodes, whose narrow policies repeat themselves.

`--learn SEEDS` measures success against seconds and episodes instead, one arm and seed after the other; finished ones
under runs/peers are not run again.
"""

import argparse
import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import harness

LEARNING_RATE = 5e-4
BASE = "trl"
# Name, work and settings of each arm. A fast one does several updates a turn, so that its seconds can be measured.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "trl": ("peer_arms/trl_arm.py:make", {}),
    "plain": ("peer_arms/plain_arm.py:make", {}),
    "lapwing_transcript": ("peer_arms/lapwing_arm.py:make", {"context": "transcript"}),
    "lapwing_transcript_unshared": (
        "peer_arms/lapwing_arm.py:make",
        {"context": "transcript", "every_token": True, "share": False},
    ),
    "lapwing_transcript_every_token": (
        "peer_arms/lapwing_arm.py:make",
        {"context": "transcript", "every_token": True},
    ),
    "lapwing_state_every_token": (
        "peer_arms/lapwing_arm.py:make",
        {"context": "state_only", "updates": 10, "every_token": True},
    ),
    "lapwing_state": ("peer_arms/lapwing_arm.py:make", {"context": "state_only", "updates": 10}),
}
LEARNERS = ("trl", "lapwing_transcript", "lapwing_state")
ROWS: dict[str, dict[str, Any]] = {
    "fixed": {"maps": "fixed"},
    "random": {"maps": "random"},
    "fixed_learnt": {"maps": "fixed", "learnt": True, "learning_rate": LEARNING_RATE},
}
# A learning run ends early once this many evaluations in a row are this good.
SOLVED, IN_A_ROW = 0.95, 3
EVALUATION_EPISODES = 200
RUNS = harness.HERE.parent / "runs" / "peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", default=",".join(ROWS), help="rows to measure: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="measured turns of each arm; one more warms up")
    parser.add_argument("--only", help=f"arms, of {', '.join(ARMS)}; all by default")
    parser.add_argument("--threads", type=int, default=1, help="of each arm")
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    parser.add_argument("--learn", metavar="SEEDS", help="measure learning with these seeds, say 0,1,2")
    parser.add_argument("--budget", type=float, default=900.0, help="seconds of learning of each run (%(default)s)")
    parser.add_argument("--every", type=int, default=5, help="updates between evaluations (%(default)s)")
    given = parser.parse_args()
    here = [name for name in ARMS if name != "trl" or importlib.util.find_spec("trl")]
    if "trl" not in here:
        print("TRL is not installed, so that its arm is left out: pip install trl", flush=True)
    if given.learn:
        arms = chosen(given.only or ",".join(name for name in LEARNERS if name in here), LEARNERS)
        figures = learn(arms, [int(seed) for seed in given.learn.split(",")], given)
        harness.write_results("learning", figures, threads=given.threads, path=given.out)
        return
    arms, rows = chosen(given.only or ",".join(here), ARMS), chosen(given.maps, ROWS)
    for row in rows:
        figures = measure(row, arms, given.rounds, given.threads)
        harness.write_results("peers", figures, part=row, threads=given.threads, path=given.out)


def chosen(text: str, known: Any) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise SystemExit(f"There is no {name!r}; choose of {', '.join(known)}.")
    return names


def measure(row: str, names: list[str], rounds: int, threads: int) -> dict[str, Any]:
    """Let the arms work turn and turn about; prints and returns their figures."""
    print(f"{row}: {', '.join(names)}", flush=True)
    arms = [harness.Arm(name, ARMS[name][0], {**ROWS[row], **ARMS[name][1]}, threads=threads) for name in names]
    found = harness.interleave(arms, rounds, report=report)
    base = BASE if BASE in names else names[0]
    figures = {
        "matmul_flops": harness.matmul_rate(threads),
        "base": base,
        "arms": found,
        "ratio": harness.ratios(found, "episodes_per_second", base),
        # Policies that learn come to play episodes of unlike length.
        "step_ratio": harness.ratios(found, "steps_per_second", base),
        # On a machine that others use too, seconds of the processor vary less than those of the clock.
        "cpu_ratio": harness.ratios(found, "episodes_per_cpu_second", base),
    }
    print(table(figures), flush=True)
    return figures


def report(arm: str, number: int, row: Mapping[str, Any]) -> None:
    print(
        f"  {'warm-up' if number < 0 else f'round {number + 1}':<8} {arm:<30} {row['seconds'] / row['updates']:8.3f} s "
        f"an update ({row['cpu_seconds'] / row['updates']:.3f} s of processor), "
        f"{row['steps'] / row['episodes']:.1f} steps an episode, success {row['success']:.2f}, "
        f"{row['trained_tokens'] / row['tokens']:.0%} of the tokens trained on",
        flush=True,
    )


def table(figures: Mapping[str, Any]) -> str:
    """The medians over rounds, an arm a line."""
    head = (
        "arm",
        "s/update",
        "of it play",
        "episodes/s",
        "steps/s",
        "sampled/s",
        "trained/s",
        "peak GB",
        f"times {figures['base']}",
    )
    lines = ["  ".join([f"{head[0]:<30}", *(f"{name:>10}" for name in head[1:])])]
    for name, arm in figures["arms"].items():
        median, ratio, cpu = arm["median"], figures["ratio"][name], figures["cpu_ratio"][name]
        numbers = [
            f"{median['seconds'] / median['updates']:.3f}",
            f"{median['play_seconds'] / median['updates']:.3f}",
            *(f"{median[f'{count}_per_second']:.1f}" for count in harness.COUNTS),
            f"{median['peak_bytes'] / 1e9:.2f}",
            f"{ratio['median']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f}), by processor {cpu['median']:.1f}",
        ]
        lines.append("  ".join([f"{name:<30}", *(f"{number:>10}" for number in numbers)]))
    return "\n".join(lines)


def learn(names: list[str], seeds: list[int], given: argparse.Namespace) -> dict[str, Any]:
    """Learning curves on the fixed map; each finished (arm, seed) is a file."""
    RUNS.mkdir(parents=True, exist_ok=True)
    curves: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        for name in names:
            # Whatever the run depends on is in its name.
            path = RUNS / f"learn_fixed_{name}_{seed}_{given.budget:g}s_{given.threads}t.json"
            if not path.exists():
                curve = learning_curve(name, seed, given)
                path.with_suffix(".new").write_text(json.dumps(curve))
                path.with_suffix(".new").replace(path)
            curves.setdefault(name, {})[str(seed)] = json.loads(path.read_text())
    solved = {name: {seed: time_to(curve) for seed, curve in of.items()} for name, of in curves.items()}
    print(json.dumps(solved, indent=2))
    return {
        "learning_rate": LEARNING_RATE,
        "evaluation_episodes": EVALUATION_EPISODES,
        "solved": SOLVED,
        "first_solved": solved,
        "curves": curves,
    }


def learning_curve(name: str, seed: int, given: argparse.Namespace) -> list[dict[str, float]]:
    """Success on matches of their own against seconds of learning, evaluation left out, and episodes."""
    work, settings = ARMS[name]
    settings = {**settings, "updates": 1} if "updates" in settings else settings
    arm = harness.Arm(
        name, work, {"maps": "fixed", "learning_rate": LEARNING_RATE, "seed": seed, **settings}, threads=given.threads
    )
    seconds = cpu_seconds = 0.0
    updates = episodes = steps = 0
    points: list[dict[str, float]] = []
    with harness.started([arm]):
        while True:
            if updates % given.every == 0 or seconds >= given.budget:
                success = arm.step(evaluate=EVALUATION_EPISODES)["success"]
                points.append(
                    {
                        "updates": updates,
                        "episodes": episodes,
                        "steps": steps,
                        "seconds": seconds,
                        "cpu_seconds": cpu_seconds,
                        "success": success,
                    }
                )
                print(
                    f"  {name} seed {seed}: {seconds:7.1f} s, {episodes:6d} episodes, success {success:.3f}", flush=True
                )
                last = points[-IN_A_ROW:]
                solved = len(last) == IN_A_ROW and min(point["success"] for point in last) >= SOLVED
                if solved or seconds >= given.budget:
                    return points
            row = arm.step()
            seconds, cpu_seconds = seconds + row["seconds"], cpu_seconds + row["cpu_seconds"]
            updates, episodes, steps = updates + 1, episodes + row["episodes"], steps + row["steps"]


def time_to(curve: list[dict[str, float]]) -> dict[str, float] | None:
    """The first of the evaluations in a row that were good enough; None where the budget ended before."""
    good = math.inf
    for at, point in enumerate(curve):
        good = min(good, at) if point["success"] >= SOLVED else math.inf
        if at - good + 1 >= IN_A_ROW:
            first = curve[int(good)]
            return {"seconds": first["seconds"], "episodes": first["episodes"]}
    return None


if __name__ == "__main__":
    main()
