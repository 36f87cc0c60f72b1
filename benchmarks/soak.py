"""The long forms of the fault tests: `make soak`; figures go to docs/soak.json, and from there to docs/reliability.md.

Every part may be stopped and started again: what was tried is kept under --folder, one line a trial, and is tried again
only when the sources have changed. A part's figures are written when it is complete.

kills        runs that are killed with SIGKILL at random moments and continued, compared bit for bit
corruptions  flipped bits, cut files, tails of zeros, missing files in checkpoints, through what `lapwing resume` asks
interrupts   SIGINT and SIGTERM at random moments: time to the end of the process, what is left, bits after the resume
parents      runs with worker processes that are killed: no worker may outlive them
deaths       worker processes that die or are killed while they play
replies      invented replies and tool calls through parsers and tools
tests        all other tests that have a long form, ten times as much
actors       Ray actors that are killed while they play
ranks        one of two ranks is killed, torchrun starts both again
memory       one long run: resident memory and file descriptors over time
mutants      the faults that the tests must find, put into a copy of the sources one by one
"""

import argparse
import contextlib
import datetime
import functools
import hashlib
import importlib.util
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "faults"), str(ROOT / "tests")]

import harness  # noqa: E402
import trials  # noqa: E402

from toys import make_toy  # noqa: E402

Figures = dict[str, Any]


@dataclass(frozen=True)
class Soak:
    """Where trials are kept, and how many are wanted."""

    folder: Path
    minutes: float
    count: int | None

    def wanted(self, usual: int) -> int:
        """How many trials a part is to have."""
        return self.count or usual

    def tried(self, part: str) -> list[dict[str, Any]]:
        """The trials of a part that were made with these sources."""
        path = self.folder / f"{part}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [row for row in rows if row["sources"] == sources()]

    def keep(self, part: str, row: dict[str, Any]) -> None:
        """Add a trial."""
        with (self.folder / f"{part}.jsonl").open("a") as file:
            file.write(json.dumps({"sources": sources(), **row}) + "\n")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for runs, gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="scratch-") as name:
            yield Path(name)


@functools.cache
def sources() -> str:
    """A hash of the package's sources, as they are when the soak begins."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted((ROOT / "src" / "lapwing").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def small_recipes(scratch: Path) -> dict[str, trials.Small]:
    return trials.recipes(make_toy(scratch / "toy", "qwen2"))


def say(text: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Crashes and signals.


class Goldens:
    """Runs that nothing interrupted, made when they are asked for."""

    def __init__(self, server: harness.Server, small: dict[str, trials.Small], folder: Path) -> None:
        self._server, self._small, self._folder = server, small, folder
        self._made: dict[str, trials.Golden] = {}

    def __getitem__(self, name: str) -> trials.Golden:
        if name not in self._made:
            self._made[name] = trials.make_golden(self._server, self._small[name], self._folder / f"golden-{name}")
        return self._made[name]


def kills(soak: Soak) -> Figures:
    wanted = soak.wanted(100)
    with soak.scratch() as scratch, harness.Server(scratch) as server:
        small = small_recipes(scratch)
        goldens = Goldens(server, small, scratch)
        rows = soak.tried("kills")
        while sum(len(row["places"]) for row in rows) < wanted:
            seed = len(rows)
            name = list(small)[seed % len(small)]
            folder = scratch / f"run-{seed}"
            folder.mkdir()
            left = wanted - sum(len(row["places"]) for row in rows)
            outcome = trials.kill_and_continue(server, goldens[name], folder, seed, kills=min(left, 1 + seed % 3))
            row = {"recipe": name, "seed": seed, "places": outcome.places, "differs": outcome.differs}
            row["differs"] += [f"left: {title}" for title in server.left_after(1.0)]
            soak.keep("kills", row)
            rows.append(row)
            say(f"kills {sum(len(r['places']) for r in rows)}: {name} in {outcome.places}, differs: {row['differs']}")
            shutil.rmtree(folder)
    places = [place for row in rows for place in row["places"]]
    return {
        "kills": len(places),
        "kills of runs that ended bit-equal": sum(len(row["places"]) for row in rows if not row["differs"]),
        "runs": len(rows),
        "recipes": sorted({row["recipe"] for row in rows}),
        "killed in": trials.names_of(places),
        "failures": [row for row in rows if row["differs"]][:5],
    }


def interrupts(soak: Soak) -> Figures:
    wanted = soak.wanted(50)
    with soak.scratch() as scratch, harness.Server(scratch) as server:
        small = small_recipes(scratch)
        goldens = Goldens(server, small, scratch)
        rows = soak.tried("interrupts")
        for seed in range(len(rows), wanted):
            draw = random.Random(seed)
            name, number = list(small)[seed % len(small)], (signal.SIGINT, signal.SIGTERM)[seed // len(small) % 2]
            folder = scratch / f"run-{seed}"
            folder.mkdir()
            golden = goldens[name]
            moment = draw.uniform(0.0, golden.work if draw.random() < 0.1 else golden.learning)
            outcome = trials.interrupt_and_continue(server, golden, folder, number, moment)
            row = {
                "recipe": name, "signal": number.name, "places": outcome.places, "seconds": outcome.seconds,
                "left": outcome.left, "differs": outcome.differs,
            }  # fmt: skip
            soak.keep("interrupts", row)
            rows.append(row)
            say(f"interrupts {seed + 1}: {name}, {number.name} in {outcome.places}, {outcome.seconds:.2f} s, {row}")
            shutil.rmtree(folder)
    seconds = [row["seconds"] for row in rows]
    return {
        "signals": len(rows),
        "processes left": sum(len(row["left"]) for row in rows),
        "runs that went on bit-equal": sum(not row["differs"] for row in rows),
        "seconds from signal to end, median": round(float(np.median(seconds)), 2),
        "seconds from signal to end, longest": round(max(seconds), 2),
        "signalled in": trials.names_of([place for row in rows for place in row["places"]]),
        "failures": [row for row in rows if row["differs"]][:5],
    }


def parents(soak: Soak) -> Figures:
    wanted = soak.wanted(20)
    with soak.scratch() as scratch, harness.Server(scratch) as server:
        small = trials.recipes()["isolated"]
        rows = soak.tried("parents")
        for seed in range(len(rows), wanted):
            run = scratch / f"run-{seed}"
            command = server.start(
                *small.words(run, "iterations=4000"),
                environment={"LAPWING_CACHE": str(scratch / "cache")},
            )
            harness.wait_for(lambda run=run: len(server.left()) >= 3 and trials.logged(run) > 3, command)
            time.sleep(random.Random(seed).uniform(0.0, 0.5))
            workers = len(server.left()) - 1
            command.kill()
            started = time.monotonic()
            left = server.left_after(5.0)
            row = {"processes": workers, "left": left, "seconds": time.monotonic() - started}
            soak.keep("parents", row)
            rows.append(row)
            say(f"parents {seed + 1}: {row}")
    return {
        "runs killed": len(rows),
        "worker processes and their guards": sum(row["processes"] for row in rows),
        "processes left after 5 s": sum(len(row["left"]) for row in rows),
        "seconds until the last of them had ended, longest": round(max(row["seconds"] for row in rows), 2),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints.


def flip(content: bytes, draw: random.Random) -> bytes:
    """One bit."""
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, draw: random.Random) -> bytes:
    """Any number of bytes from the end."""
    return content[: draw.choice([0, 1, len(content) - 1, draw.randrange(len(content))])]


def zero(content: bytes, draw: random.Random) -> bytes:
    """A tail of zeros, as of pages that were never written."""
    at = draw.randrange(len(content))
    return content[:at] + bytes(len(content) - at)


def corruptions(soak: Soak) -> Figures:
    from lapwing.training.resumption import find_position
    from lapwing.training.run_folder import RunFolder

    wanted = soak.wanted(1000)
    rows = soak.tried("corruptions")
    with soak.scratch() as scratch, harness.Server(scratch) as server:
        golden = Goldens(server, small_recipes(scratch), scratch)["ppo"]
        newest = max((golden.run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
        files = sorted(path for path in newest.rglob("*") if path.is_file())
        stages = ["warm_start", "main"]
        assert find_position(RunFolder(golden.run), stages).checkpoint == newest
        for seed in range(len(rows), wanted):
            draw = random.Random(seed)
            path, kind = files[seed % len(files)], draw.choice(["flip", "flip", "cut", "zero", "missing"])
            content = path.read_bytes()
            changed = {"flip": flip, "cut": cut, "zero": zero}[kind](content, draw) if kind != "missing" else None
            path.unlink()
            if changed is not None:
                path.write_bytes(changed)
            position = find_position(RunFolder(golden.run), stages)
            path.write_bytes(content)
            name = str(path.relative_to(newest))
            row = {
                "file": name, "kind": kind, "same": changed == content,
                "found": position.checkpoint != newest,
                # A hash that was changed in the manifest cannot be told from a file that was.
                "named": any(name in reason for reason in position.skipped.get(newest.name, ()))
                or (name == "manifest.json" and newest.name in position.skipped),
            }  # fmt: skip
            soak.keep("corruptions", row)
            rows.append(row)
        assert find_position(RunFolder(golden.run), stages).checkpoint == newest
    # Zeros over zeros, and the like, change nothing.
    real = [row for row in rows if not row["same"]]
    return {
        "corruptions": len(real),
        "found": sum(row["found"] for row in real),
        "found and the file named": sum(row["found"] and row["named"] for row in real),
        "loaded silently": sum(not row["found"] for row in real),
        "files": sorted({row["file"] for row in real}),
        "failures": [row for row in real if not (row["found"] and row["named"])][:5],
    }


# ---------------------------------------------------------------------------------------------------------------------
# The long forms of tests.


def module_of(file: str) -> Any:
    """A test file as a module."""
    path = ROOT / "tests" / file
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def pytest(*words: str, times: int) -> Figures:
    """What became of tests in their long form."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rN", *words],
        cwd=ROOT,
        env={**os.environ, "LAPWING_SOAK": str(times), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    last = done.stdout.strip().splitlines()[-1]
    counts = {name: int(number) for number, name in re.findall(r"(\d+) (passed|failed|error)", last)}
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout[-4000:] + done.stderr[-4000:])
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "E  "))]
    return {
        "tests passed": counts.get("passed", 0),
        "tests failed": counts.get("failed", 0) + counts.get("error", 0),
        "failures": failures[:20],
    }


def replies(soak: Soak) -> Figures:
    del soak
    file = "games/tools/test_tool_fuzz.py"
    os.environ["LAPWING_SOAK"] = "1"
    calls = module_of(file).CALLS
    return {"tool calls": calls + calls // 10, "replies": 3 * calls, **pytest(f"tests/{file}", times=1)}


def tests(soak: Soak) -> Figures:
    """Every test file that can be told to try more, ten times as much."""
    del soak
    files = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if '"LAPWING_SOAK"' in p.read_text("utf-8")]
    names = [str(path.relative_to(ROOT)) for path in files]
    return {"files": names, **pytest(*names, times=10)}


# ---------------------------------------------------------------------------------------------------------------------
# Worker processes and actors.


def deaths(soak: Soak) -> Figures:
    """Workers of an `isolated` collector that crash, are killed, leave and hang: one in fifty episodes."""
    wanted = soak.wanted(200)
    with soak.scratch() as scratch:
        found = module_of("faults/test_games.py").soak(50 * wanted, wanted, 0, scratch)
    return {
        "episodes": found["episodes"],
        "deaths": found["deaths"],
        "episodes lost": found["lost"],
        "episodes counted twice": found["twice"],
        "episodes that went another way": found["different"],
    }


def actors(soak: Soak) -> Figures:
    """Two Ray actors; in every iteration a match kills the actor that plays it, once."""
    light = module_of("distributed/test_ray_collector.py")
    from lapwing.distributed.cluster import Cluster
    from lapwing.distributed.ray_collector import RayCollector

    cluster = Cluster()
    import ray

    ray.cloudpickle.register_pickle_by_value(light)
    wanted = soak.wanted(50)
    collector = RayCollector(
        light.make_light, light.two_layers(), actors=2, cpus_per_actor=0.25, timeout_seconds=60.0, max_deaths=wanted + 9
    )
    usual, seconds, equal, played = [], [], 0, 0
    try:
        with soak.scratch() as scratch:
            for iteration in range(2 * wanted):
                kills = iteration % 2
                game = light.Walk("die", (str(scratch / f"{iteration}"),)) if kills else light.Walk()
                matches = light.matches_of(game, iteration=iteration)
                started = time.monotonic()
                episodes = collector.play(matches)
                (seconds if kills else usual).append(time.monotonic() - started)
                equal += light.told(episodes) == light.locally(matches)
                played += len(episodes)
                say(f"actors {iteration + 1}: {collector.metrics['collector/deaths']} deaths, {equal} equal")
        ledger = collector.ledger
        figures = {
            "actors killed": int(collector.metrics["collector/deaths"]),
            "episodes": played,
            "episodes lost": ledger.issued - ledger.finished,
            "episodes counted twice": max(played - ledger.finished, 0),
            "iterations with other episodes than one process plays": 2 * wanted - equal,
            "seconds that a death costs, median": round(float(np.median(seconds) - np.median(usual)), 2),
            "seconds that a death costs, longest": round(max(seconds) - float(np.median(usual)), 2),
        }
    finally:
        collector.close()
        cluster.close()
        ray.shutdown()
    return figures


# ---------------------------------------------------------------------------------------------------------------------
# Memory.


def memory(soak: Soak) -> Figures:
    """One long run of the default recipe, with its evaluations and checkpoints; sampled every five seconds."""
    with soak.scratch() as scratch:
        run = scratch / "run"
        command = [
            *(sys.executable, "-m", "lapwing", "train", "frozen_lake_tiny", "--run", str(run)),
            *("--set", "iterations=1000000", "--set", "evaluation.every=50"),
        ]
        with (scratch / "log").open("w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True
            )
        samples, started = [], time.monotonic()
        while time.monotonic() - started < 60.0 * soak.minutes:
            time.sleep(5.0)
            assert process.poll() is None, (scratch / "log").read_text()[-2000:]
            if trials.logged(run):
                samples.append((time.monotonic() - started, resident(process.pid), descriptors(process.pid)))
            if len(samples) % 60 == 1:
                say(f"memory: {samples[-1]}, {trials.logged(run)} iterations")
        process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        code = process.wait(timeout=60)
        stopping = time.monotonic() - stopped
        iterations = trials.logged(run)
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    seconds, megabytes, open_files = np.array(samples).T
    # Caches fill and the warm start ends before that.
    settled = seconds > min(600.0, 0.25 * seconds[-1])
    slope = float(np.polyfit(seconds[settled] / 60.0, megabytes[settled], 1)[0])
    return {
        "minutes": round(seconds[-1] / 60.0, 1),
        "iterations": iterations,
        "resident memory after warm-up, MB": round(float(megabytes[settled][0])),
        "resident memory at the end, MB": round(float(megabytes[-1])),
        "slope after warm-up, MB a minute": round(slope, 4),
        "open files, fewest and most after warm-up": [int(open_files[settled].min()), int(open_files[settled].max())],
        "exit code after SIGTERM": code,
        "seconds from SIGTERM to end": round(stopping, 2),
        "size of the run, MB": round(size / 2**20, 1),
    }


def resident(number: int) -> float:
    """Resident memory of a process, in MiB."""
    text = Path(f"/proc/{number}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def descriptors(number: int) -> int:
    return len(list(Path(f"/proc/{number}/fd").iterdir()))


# ---------------------------------------------------------------------------------------------------------------------
# Several processes.


def ranks(soak: Soak) -> Figures:
    """A run of two ranks, one of which is killed; torchrun starts both again, and the run must end with the same bits.

    Afterwards a run of two ranks is stopped and continued by one.
    """
    wanted = soak.wanted(20)
    with soak.scratch() as scratch:
        golden = scratch / "golden"
        ended(launch(golden, scratch))
        rows = soak.tried("ranks")
        for seed in range(len(rows), wanted):
            run, draw = scratch / f"run-{seed}", random.Random(seed)
            launcher = launch(run, scratch, "--max-restarts", "1")
            until_logged(run, launcher, draw.randint(1, 12))
            time.sleep(draw.uniform(0.0, 0.1))
            place = trials.status_of(run)
            found = of_ranks(launcher)
            if found and launcher.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found[draw.choice(sorted(found))], signal.SIGKILL)
            code, errors = ended(launcher, check=False)
            differs = trials.differences(run, golden) if code == 0 else [f"stuck: {code} {errors[-2000:]}"]
            row = {"killed": bool(found), "status": place, "differs": differs}
            soak.keep("ranks", row)
            rows.append(row)
            say(f"ranks {seed + 1}: {row}")
            shutil.rmtree(run)
        gap = loss_gap(scratch, golden)
    return {
        "ranks killed": sum(row["killed"] for row in rows),
        "runs that ended bit-equal": sum(not row["differs"] for row in rows),
        "largest relative gap of the loss when one rank goes on from two": gap,
        "failures": [row for row in rows if row["differs"]][:5],
    }


RANKS = (
    *("iterations=12", "checkpoint_every=2", "warm_start.iterations=2", "evaluation.every=0", "evaluation.episodes=4"),
    *("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32", "sampler.group_size=4"),
    *("learner.ranks=2", "learner.timeout_seconds=60", "evaluation.transfer=[]"),
)


def launch(run: Path, scratch: Path, *options: str, processes: int = 2, words: tuple[str, ...] = ()) -> Any:
    launched = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    variables = {name: value for name, value in os.environ.items() if name not in launched}
    sets = [part for setting in RANKS for part in ("--set", setting)]
    what = words or ("train", "frozen_lake_tiny", "--run", str(run), *sets)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
            *(*options, "-m", "--", "lapwing", *what),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**variables, "OMP_NUM_THREADS": "1", "LAPWING_CACHE": str(scratch / "cache")},
        start_new_session=True,
    )


def ended(launcher: Any, *, check: bool = True) -> tuple[int, str]:
    _, errors = launcher.communicate(timeout=600)
    if check and launcher.returncode != 0:
        raise SystemExit(errors[-4000:])
    return launcher.returncode, errors


def until_logged(run: Path, launcher: Any, lines: int) -> None:
    while trials.logged(run) < lines:
        if launcher.poll() is not None:
            raise SystemExit(launcher.communicate()[1][-4000:])
        time.sleep(0.02)


def of_ranks(launcher: Any) -> dict[int, int]:
    """The processes of the ranks by number."""
    found = {}
    with contextlib.suppress(OSError):
        for number in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                variables = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
                found |= {int(v[5:]): int(number) for v in variables if v.startswith(b"RANK=")}
    return found


def loss_gap(scratch: Path, golden: Path) -> float:
    """The largest relative gap of the loss between two ranks and one that goes on after them."""
    run = scratch / "fewer"
    launcher = launch(run, scratch)
    until_logged(run, launcher, 8)
    launcher.terminate()
    ended(launcher, check=False)
    ended(launch(run, scratch, processes=1, words=("resume", str(run))))
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["ranks"] == [2, 1], manifest["ranks"]
    losses = [
        [row["update/loss"] for row in trials.rows_of(folder) if "update/loss" in row and row["stage"] == "main"]
        for folder in (run, golden)
    ]
    return max(abs(a - b) / max(abs(b), 1e-3) for a, b in zip(*losses, strict=True))


# ---------------------------------------------------------------------------------------------------------------------


def mutants(soak: Soak) -> Figures:
    """Every mutant of benchmarks/mutants.py and what became of it."""
    import mutants as table

    rows = soak.tried("mutants")
    done = {row["mutant"] for row in rows}
    for mutant in table.MUTANTS:
        if mutant.name not in done:
            row = {"mutant": mutant.name, "test": mutant.test, "outcome": table.judge(mutant)}
            soak.keep("mutants", row)
            rows.append(row)
            say(f"mutants: {row}")
    return {
        "mutants": len(rows),
        "found by their test": sum(row["outcome"] == table.FOUND for row in rows),
        "failures": [row for row in rows if row["outcome"] != table.FOUND],
    }


# What must hold of a part's figures.
PARTS: dict[str, tuple[Callable[[Soak], Figures], Callable[[Figures], bool]]] = {
    "kills": (kills, lambda f: f["kills"] == f["kills of runs that ended bit-equal"]),
    "corruptions": (corruptions, lambda f: f["corruptions"] == f["found and the file named"]),
    "interrupts": (
        interrupts,
        lambda f: (
            f["processes left"] == 0
            and f["runs that went on bit-equal"] == f["signals"]
            and f["seconds from signal to end, longest"] <= 10.0
        ),
    ),
    "parents": (parents, lambda f: f["processes left after 5 s"] == 0),
    "deaths": (
        deaths,
        lambda f: f["episodes lost"] == f["episodes counted twice"] == f["episodes that went another way"] == 0,
    ),
    "replies": (replies, lambda f: f["tests failed"] == 0 and f["replies"] >= 10_000),
    "tests": (tests, lambda f: f["tests failed"] == 0),
    "actors": (
        actors,
        lambda f: (
            f["episodes lost"] == f["episodes counted twice"] == 0
            and f["iterations with other episodes than one process plays"] == 0
        ),
    ),
    "ranks": (
        ranks,
        lambda f: f["largest relative gap of the loss when one rank goes on from two"] < 1e-5 and not f["failures"],
    ),
    "memory": (
        memory,
        lambda f: (
            f["slope after warm-up, MB a minute"] < 1.0
            # A log or a checkpoint that is being written is open for a moment; what is left open adds up.
            and np.ptp(f["open files, fewest and most after warm-up"]) <= 8
        ),
    ),
    "mutants": (mutants, lambda f: f["mutants"] == f["found by their test"]),
}


def record(part: str, command: str, seconds: float, figures: Figures, *, holds: bool) -> dict[str, Any]:
    """The figures of a part with what they were found on."""
    import torch
    import transformers

    import lapwing

    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(["git", "-C", str(ROOT), "status", "--short", "src"], capture_output=True, text=True)
    return {
        "part": part,
        "holds": holds,
        "date": datetime.date.today().isoformat(),
        "command": command,
        "commit": commit.stdout.strip() + (" with changes" if changed.stdout.strip() else ""),
        "sources": sources(),
        "versions": {
            "lapwing": lapwing.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), {gigabytes:.0f} GiB, {platform.system()}",
        "seconds": round(seconds),
        "figures": figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "soak.json")
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"), help="keeps the trials")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=120.0, help="of training, for memory")
    parser.add_argument("--count", type=int, help="trials of a part, instead of as many as it usually has")
    parser.add_argument("--judge", action="store_true", help="judge the figures in --out again, and try nothing")
    given = parser.parse_args()
    if given.judge:
        records = json.loads(given.out.read_text())
        judged = [{**one, "holds": bool(PARTS[one["part"]][1](one["figures"]))} for one in records]
        given.out.write_text(json.dumps(judged, indent=2, ensure_ascii=False) + "\n")
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    given.folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(given.folder.resolve(), given.minutes, given.count)
    failed = []
    for part in given.only:
        say(f"{part} begins")
        started = time.monotonic()
        run, check = PARTS[part]
        figures = run(soak)
        holds = check(figures)
        further = [f"--minutes {given.minutes:g}"] if part == "memory" else []
        further += [f"--count {given.count}"] if given.count else []
        command = " ".join(["python benchmarks/soak.py --only", part, *further])
        found = record(part, command, time.monotonic() - started, figures, holds=holds)
        records = json.loads(given.out.read_text()) if given.out.exists() else []
        given.out.write_text(json.dumps([*records, found], indent=2, ensure_ascii=False) + "\n")
        say(f"{part}: {json.dumps(figures)}")
        failed += [] if holds else [part]
    if failed:
        raise SystemExit(f"what is promised does not hold: {', '.join(failed)}")


if __name__ == "__main__":
    main()
