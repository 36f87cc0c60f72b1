"""Replay the metrics of runs through the alarms: `python benchmarks/alarms.py RUN…`; folders are searched.

A run counts as collapsed if it ends (mean of its last 15 iterations) with a success below `--collapsed`; one whose game
knows no success counts as healthy. For limits of your own: `--set entropy=0.1 --set patience=5`.
"""

import argparse
import ast
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from lapwing.core.storage import read_json_lines
from lapwing.training.alarms import Alarms


def raised(rows: list[dict[str, Any]], settings: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    alarms = Alarms(**settings)
    return [(row["iteration"], alarm) for row in rows for alarm in alarms.check(row)]


def has_collapsed(rows: list[dict[str, Any]], below: float) -> bool:
    success = [row["rollout/success"] for row in rows[-15:] if "rollout/success" in row]
    return bool(success) and float(np.mean(success)) < below


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="+", type=Path)
    parser.add_argument("--collapsed", type=float, default=0.0)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    settings = {key: ast.literal_eval(value) for key, _, value in (text.partition("=") for text in given.settings)}
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    gap = 0.0
    for path in sorted(path for run in given.run for path in run.rglob("metrics.jsonl")):
        rows = [row for row in read_json_lines(path) if row["stage"] == "main"]
        collapsed = has_collapsed(rows, given.collapsed)
        found = raised(rows, settings)
        gap = max([gap, *(row["policy/gap"] for row in rows if "policy/gap" in row)])
        counts[collapsed].update({"runs": 1, "iterations": len(rows)})
        counts[collapsed].update({alarm["alarm"] for _, alarm in found} | ({"any"} if found else set()))
        for iteration, alarm in found:
            print(f"{path.parent} {'collapsed' if collapsed else 'healthy'} {iteration}: {alarm['text']}")
    for collapsed, count in counts.items():
        print("collapsed" if collapsed else "healthy", dict(count))
    print(f"largest policy/gap: {gap:.2g} nats")


if __name__ == "__main__":
    main()
