"""Runs that are killed, interrupted and continued, and what must be equal afterwards."""

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import Command, Server

# Recipes that are small enough to be run a thousand times, each with another kind of state.

_SHORT = (
    *("iterations=8", "checkpoint_every=3", "warm_start.iterations=2", "optimizer.epochs=2"),
    *("sampler.groups=3", "sampler.group_size=6", "warm_start.sampler.groups=4"),
    *("evaluation.episodes=6", "evaluation.development_episodes=4", "evaluation.every=2", "evaluation.transfer=[]"),
)
_MODEL = ("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32")


@dataclass(frozen=True)
class Small:
    """A recipe and what makes it small."""

    recipe: str
    settings: tuple[str, ...] = ()

    def words(self, run: Path, *more: str) -> list[str]:
        """The command line that trains it into a folder."""
        sets = [word for setting in (*self.settings, *more) for word in ("--set", setting)]
        return ["train", self.recipe, "--run", str(run), *sets]


def recipes(toy: Path | None = None) -> dict[str, Small]:
    """The small recipes by name.

    Args:
      toy: the folder of a toy model, for the recipe with LoRA; it is left out without one.
    """
    found = {
        # Play on a table, AAW, an entropy bonus whose weight falls.
        "tiny": Small("frozen_lake_tiny", (*_SHORT, *_MODEL)),
        # Thoughts of several tokens, and each step's context is the whole episode before it.
        "think": Small(
            "frozen_lake_think_tiny",
            (*_SHORT, *_MODEL, "policy.context={name='transcript'}", "generation.max_tokens=8", "sampler.max_steps=4",
             "warm_start.sampler.max_steps=4"),
        ),
        # A critic with an optimiser of its own.
        "ppo": Small(
            "frozen_lake_fixed_token_gae", (*_SHORT, *_MODEL, "sampler.max_steps=5", "warm_start.sampler.max_steps=5")
        ),
        # Several updates an iteration, a running average of the weights, starts that are visited again.
        "average": Small(
            "frozen_lake_tiny",
            (*_SHORT, *_MODEL, "optimizer.minibatches=2", "optimizer.average=0.5", "sampler.revisit=0.5",
             "sampler.groups=4"),
        ),
        # A sampler with an estimator, a credit with tracked quantiles, a bonus whose weight follows the entropy.
        "memory": Small(
            "frozen_lake_tiny_pcl",
            (*_SHORT, *_MODEL, "sampler.groups=4", "credit={name='riskpo', bundle=2}",
             "regularisers=[{name='entropy_adaptive', coefficient=1.0, target=0.5}]"),
        ),
    }  # fmt: skip
    # A pool of past versions in the second seat of a game.
    found["past"] = Small(
        "frozen_lake_tiny",
        (*_SHORT, *_MODEL, "game={name='rotated'}", "opponents.1={name='past', every=2, size=2, latest=0.4}",
         "sampler.max_steps=9", "warm_start.sampler.max_steps=9"),
    )  # fmt: skip
    # Two models that learn beside each other, each with a critic, an optimiser and an average of its own.
    found["separate"] = Small(
        "frozen_lake_fixed_token_gae",
        (*_SHORT, *_MODEL, "game={name='rotated'}", "opponents.1={name='separate'}", "optimizer.average=0.5",
         "sampler.max_steps=9", "warm_start.sampler.max_steps=9"),
    )  # fmt: skip
    # Games in two worker processes.
    found["isolated"] = Small(
        found["think"].recipe, (*found["think"].settings, "collector={name='isolated', workers=2}")
    )
    if toy is not None:
        found["lora"] = Small(
            "frozen_lake_tiny",
            (*_SHORT, "iterations=4", "sampler.groups=2", "sampler.group_size=4", "sampler.max_steps=4",
             "warm_start.sampler.groups=2", "warm_start.sampler.max_steps=4", "generation.max_tokens=4",
             "credit={name='reinforce'}", "selection={name='all_episodes'}", "annotate=[{name='reference_logprob'}]",
             "regularisers=[{name='kl_k3', coefficient=0.5}]", f"model.name='{toy}'",
             "model.lora={rank=4, alpha=8, targets=['q_proj', 'v_proj', 'up_proj']}"),
        )  # fmt: skip
    return found


# ---------------------------------------------------------------------------------------------------------------------
# What must be equal.

_CLOCKS = {"seconds"}
# Metrics of what it took: times, and processes that were waited for or replaced.
_OF_PROCESSES = ("time/", "collector/")


def what_counts(run: Path) -> dict[str, Any]:
    """All of a run that must repeat to the last bit: everything but what it took and the history in the manifest.

    Args:
      run: its folder.

    Returns:
      Metrics, the state of the newest checkpoint, and the bytes of recipe, evaluations, episodes and tensors by name.
    """
    rows = rows_of(run)
    # A save that died leaves a hidden folder behind.
    last = max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    state = json.loads((last / "state" / "state.json").read_text("utf-8"))
    state["totals"] = {name: total for name, total in state["totals"].items() if name not in _CLOCKS}
    files = [
        run / "recipe.toml",
        *run.glob("evaluation*.json"),
        *run.glob("episodes/[!.]*"),
        *last.rglob("*.safetensors"),
    ]
    return {
        "metrics": [{name: v for name, v in row.items() if not name.startswith(_OF_PROCESSES)} for row in rows],
        "state": state,
        **{str(path.relative_to(run)): path.read_bytes() for path in files},
    }


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The log of a run."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


def differences(run: Path, golden: Path) -> list[str]:
    """The names of what counts in which two runs differ."""
    found, wanted = what_counts(run), what_counts(golden)
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def status_of(run: Path) -> str:
    """The status in the manifest; "" where there is none yet."""
    try:
        return str(json.loads((run / "manifest.json").read_text("utf-8")).get("status", ""))
    except (OSError, ValueError):
        return ""


# ---------------------------------------------------------------------------------------------------------------------
# Trials.


@dataclass(frozen=True)
class Golden:
    """A run that nothing interrupted.

    Attributes:
      run: its folder.
      small: what was run.
      learning: processor seconds until it was called finished.
      work: processor seconds until its end, the report included.
    """

    run: Path
    small: Small
    learning: float
    work: float


def make_golden(server: Server, small: Small, folder: Path, *, wait_for_report: bool = True) -> Golden:
    """Run a recipe to its end and measure what it takes.

    Args:
      server: what forks.
      small: the recipe.
      folder: a new one; the cache of warm starts is in it too, and cold.
      wait_for_report: else the process is killed as soon as the run is called finished.
    """
    run = folder / "run"
    command = server.start(*small.words(run), environment={"LAPWING_CACHE": str(folder / "cache")})
    learning = _until_finished(command, run)
    if not wait_for_report:
        command.kill()
        return Golden(run, small, learning, learning)
    work = learning
    while command.wait(0.0) is None:
        work = max(work, command.work())
        time.sleep(0.002)
    if command.wait() != 0:
        raise AssertionError(f"the run without a fault ended with {command.wait()}: {command.errors}")
    return Golden(run, small, learning, work)


def _until_finished(command: Command, run: Path) -> float:
    """Wait for the status; the processor seconds so far."""
    while status_of(run) != "finished":
        if (code := command.wait(0.002)) is not None and status_of(run) != "finished":
            raise AssertionError(f"ended with {code}, {status_of(run) or 'before it began'}: {command.errors}")
    return command.work()


@dataclass
class Outcome:
    """What became of a run that was killed.

    Attributes:
      places: what it was doing at each kill.
      differs: what differs from the run that nothing interrupted; "stuck: …" where it could not be continued.
      left: the processes that the command left behind.
      seconds: from a signal to the end of the process.
    """

    places: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0


def moments(seed: int, golden: Golden) -> Iterator[float]:
    """Processor seconds at which to stop a run and its continuations, without end.

    Five of six lie anywhere before the end of the evaluation, the sixth in the report, which is longer than all else
    in a run so small.
    """
    draw = random.Random(f"{golden.small} {seed}")
    while True:
        in_report = draw.random() < 1 / 6
        low, high = (golden.learning, golden.work) if in_report else (0.0, golden.learning)
        yield draw.uniform(low, high)


def kill_and_continue(
    server: Server, golden: Golden, folder: Path, seed: int, *, kills: int = 2, to_the_end: bool = True
) -> Outcome:
    """Kill a run at random moments, continue it until it is finished, and compare.

    Args:
      server: what forks.
      golden: the same recipe without a kill.
      folder: a new one.
      seed: of the moments; odd ones begin without the cache of the warm start.
      kills: how many at most; a run may end before the last.
      to_the_end: wait for the last command's own end; else it is killed as soon as the run is called finished.
    """
    run = folder / "run"
    cache = folder / "cache" if seed % 2 else golden.run.parent / "cache"
    outcome = Outcome()
    when = moments(seed, golden)
    while True:
        # What died before it was a run begins anew.
        words = ["resume", str(run)] if status_of(run) else golden.small.words(run)
        command = server.start(*words, environment={"LAPWING_CACHE": str(cache)})
        if len(outcome.places) == kills or not command.wait_for_work(next(when)):
            break
        outcome.places.append(command.place())
        command.kill()
        if status_of(run) == "finished":
            command = server.start("resume", run)
            break
    try:
        _until_finished(command, run)
    except AssertionError as stuck:
        outcome.differs.append(f"stuck: {stuck}")
        return outcome
    if to_the_end and (code := command.wait()) != 0:
        outcome.differs.append(f"stuck: ended with {code}: {command.errors}")
    command.kill()
    outcome.differs += differences(run, golden.run)
    return outcome


def interrupt_and_continue(server: Server, golden: Golden, folder: Path, number: int, moment: float) -> Outcome:
    """Send a signal to a run, look at how it ends, continue it until it is finished, and compare.

    Args:
      server: what forks.
      golden: the same recipe without a signal.
      folder: a new one.
      number: SIGINT or SIGTERM.
      moment: processor seconds after which it comes.
    """
    run = folder / "run"
    variables = {"LAPWING_CACHE": str(golden.run.parent / "cache")}
    outcome = Outcome()
    command = server.start(*golden.small.words(run), environment=variables)
    if not command.wait_for_work(moment):
        outcome.differs.append("the run ended before the signal")
        return outcome
    outcome.places.append(command.place())
    began = bool(status_of(run))
    started = time.monotonic()
    command.send(number)
    code = command.wait(60.0)
    outcome.seconds = time.monotonic() - started
    outcome.left = server.left_after(1.0)
    outcome.differs += [f"left: {title}" for title in outcome.left]
    if code == 0 and status_of(run) == "finished":
        pass  # it was about to end
    elif code != 128 + number or "Traceback" in command.errors:
        outcome.differs.append(f"stuck: ended with {code}: {command.errors}")
    elif began and f"lapwing resume {run}" not in command.errors:
        outcome.differs.append(f"the command to go on was not printed: {command.errors}")
    words = ["resume", str(run)] if status_of(run) else golden.small.words(run)
    command = server.start(*words, environment=variables)
    try:
        _until_finished(command, run)
    except AssertionError as stuck:
        outcome.differs.append(f"stuck: {stuck}")
        return outcome
    command.kill()
    outcome.differs += differences(run, golden.run)
    return outcome


def logged(run: Path) -> int:
    """Lines in the log of a run."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def names_of(places: Sequence[str]) -> dict[str, int]:
    """How often each place is there, most often first."""
    return {name: places.count(name) for name in sorted(set(places), key=lambda n: (-places.count(n), n))}
