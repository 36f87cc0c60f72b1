"""Whole-command figures of the default recipe: wall time, peak memory, first metric, environment steps per second.

Part of `make bench-seeds`. Runs `lapwing train frozen_lake_tiny` once with a cold warm-start cache and reads what the
run measured of itself; peak memory is the operating system's figure for the finished process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="frozen_lake_tiny")
    recipe = parser.parse_args().recipe
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        environment = {**os.environ, "LAPWING_CACHE": str(Path(scratch) / "cache"), "PYTHONUNBUFFERED": "1"}
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "lapwing.cli", "train", recipe, "--run", str(run)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        first_metric = None
        assert process.stdout is not None
        for line in process.stdout:
            if first_metric is None and (" loss " in line or " return " in line):
                first_metric = time.monotonic() - started
        if process.wait() != 0:
            raise SystemExit(f"lapwing train {recipe} ended with {process.returncode}")
        wall = time.monotonic() - started
        seconds = json.loads((run / "manifest.json").read_text())["seconds"]
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["stage"] == "main"][-1]
    # Linux counts in KiB, macOS in bytes.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    print(f"{recipe}: {wall:.0f} s in all, peak memory {peak:.2f} GiB, first metric after {first_metric:.1f} s")
    print(
        f"  warm start {seconds['warm_start']:.1f} s, learning {seconds['main']:.1f} s, "
        f"{last['rollout/steps'] / last['time/learning']:,.0f} environment steps/s of learning"
    )


if __name__ == "__main__":
    main()
