"""The end of a run: its evaluation, its report, and what is read of it afterwards."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapwing import build
from lapwing.api.loading import last_model
from lapwing.api.playing import measure, with_references
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.protocols import Policy
from lapwing.core.storage import read_json, write_json
from lapwing.training.run_folder import RunFolder

Watcher = Callable[[dict[str, Any]], None]

_REPLAY = "lapwing report RUN --replay"
# Kuhn poker has 108.
_FEW_STATES = 1000


@dataclass(frozen=True)
class Run:
    """A finished run on disk.

    Attributes:
      path: its folder.
      evaluation: the object of `evaluation.json`.
      transfer: evaluations of the same weights on further games, by label.
      start_from: the run whose weights it began with, if any; its recipe alone does not repeat such a run.
    """

    path: Path
    evaluation: dict[str, Any]
    transfer: dict[str, dict[str, Any]]
    start_from: str | None = None

    @property
    def model(self) -> Path:
        """The Hugging Face folder of the last checkpoint."""
        return last_model(self.path)


def finish(
    folder: RunFolder, plans: Sequence[build.StagePlan], shop: build.Workshop, watch: Watcher, started: float
) -> Run:
    """Evaluate a run whose iterations are made, write its report, and mark it finished.

    Args:
      folder: of the run.
      plans: of its stages.
      shop: the model, trained.
      watch: is told of it.
      started: when this process began with the run, of the monotonic clock.

    Raises:
      Interrupted: a signal came; resuming the run evaluates it again.
    """
    from lapwing.report.page import write_report
    from lapwing.training.heartbeat import Heartbeat
    from lapwing.training.interruption import Interrupted, Interruption

    clock = time.monotonic()
    heartbeat = Heartbeat(lambda text: watch({"event": "waiting", "text": text}), lambda: "evaluation on test matches")
    # A signal waits for the next safe point: raised at any moment, it can be lost inside an import.
    with Interruption() as interruption, heartbeat:
        watch({"event": "evaluation", "episodes": plans[-1].evaluation.settings["episodes"]})
        together = functools.partial(_check_together, shop.team, interruption)
        try:
            check = interruption.check if shop.team is None else together
            before = _evaluate_run(folder, plans[-1], shop, check)
            _replay(folder, plans[-1], shop, before, check, watch)
            _exploitability(folder, plans[-1], shop, check)
        except Interrupted as stopped:
            saved = "All iterations are saved; only the last evaluation is made again."
            raise Interrupted(stopped.signal_number, run=folder.path, saved=saved) from None
    manifest = folder.read_manifest()
    rows = [row for row in folder.read_metrics() if row["stage"] == "main"]
    manifest["seconds"] |= {
        "main": rows[-1]["time/learning"] if rows else 0.0,
        "evaluation": time.monotonic() - clock,
        "total": manifest["seconds"].get("total", 0.0) + time.monotonic() - started,
    }
    # One of an earlier time would hide that this one is missing, if the run is killed now.
    on_first(shop.team, lambda: (folder.path / "report.html").unlink(missing_ok=True), "the report of before")
    folder.write_manifest(manifest | {"status": "finished"})
    on_first(shop.team, lambda: str(write_report(folder.path)), "the report")
    if shop.team is not None:
        shop.team.leave()
    return read_run(folder)


def _evaluate_run(
    folder: RunFolder, plan: build.StagePlan, shop: build.Workshop, check: Callable[[], None]
) -> build.Workshop:
    """Measure the last weights, the first ones and the baselines on the test matches, and the last on each transfer.

    Returns:
      The model with the first weights.
    """
    settings = plan.evaluation.settings
    trusted = shop.origin is not None and shop.origin.trust_remote_code
    first = folder.path / "checkpoints" / "0" / "model"
    before = build.make_earlier_workshop(plan, shop, first, trust_remote_code=trusted)

    def policies(stage: build.StagePlan) -> dict[str, Policy]:
        agent = build.make_agent(stage, shop)
        return {"trained": agent, "trained_greedy": build.greedy(agent), **build.make_baselines(stage)}

    check()
    untrained: dict[str, Policy] = {"untrained": build.make_agent(plan, before)}
    # Ranks must stop at the same point; one process may stop anywhere.
    further: dict[str, Any] = {"team": shop.team} if shop.team is not None else {"safe_point": check}
    result = measure(plan, policies(plan) | untrained, episodes=settings["episodes"], **further)
    folder.write_evaluation(with_references(plan, result))
    check()
    for entry in settings["transfer"]:
        other = build.with_game(plan, entry)
        steps = entry.get("max_steps")
        result = measure(other, policies(other), episodes=settings["episodes"], max_steps=steps, **further)
        folder.write_evaluation(with_references(other, result, max_steps=steps), _label(entry))
        check()
    return before


def _replay(
    folder: RunFolder,
    plan: build.StagePlan,
    shop: build.Workshop,
    before: build.Workshop,
    check: Callable[[], None],
    watch: Watcher,
) -> None:
    """Record the replay; a run whose games or methods refuse is finished without one, and says so."""
    from lapwing.api.replay import make_replay

    if shop.team is not None:
        watch({"event": "warning", "text": f"no replay: several ranks trained; {_REPLAY} makes it in one process"})
        return
    checkpoints = {
        "trained": (shop, last_model(folder.path).parent),
        "untrained": (before, folder.path / "checkpoints" / "0"),
    }
    try:
        folder.write_replay(make_replay(plan, checkpoints, safe_point=check))
    except LapwingError as error:
        watch({"event": "warning", "text": f"no replay: {error}"})


def _exploitability(folder: RunFolder, plan: build.StagePlan, shop: build.Workshop, check: Callable[[], None]) -> None:
    """Compute how far self-play came, where that takes seconds; elsewhere the report names the command that does."""
    if shop.team is not None or not any(build.is_learnt(part) for part in plan.opponents.values()):
        return
    from lapwing.api.exploiting import EXPLOITABILITY, exploit_run

    # A larger game, or one that has no exact answer, is no fault of the run.
    with contextlib.suppress(UserError):
        result = exploit_run(plan, shop, folder.path, max_states=_FEW_STATES, safe_point=check)
        write_json(folder.path / EXPLOITABILITY, result)


def _check_together(team: Any, interruption: Any) -> None:
    """A safe point at which all ranks end if any of them received a signal."""
    interruption.signal_number = team.ranks.largest(interruption.signal_number, "whether to stop")
    interruption.check()


def _label(entry: Mapping[str, Any]) -> str:
    if "size" in entry and set(entry) <= {"size", "max_steps"}:
        return f"{entry['size']}x{entry['size']}"
    return "_".join(f"{key}-{value}" for key, value in sorted(entry.items()))


def read_run(folder: RunFolder) -> Run:
    """What a finished run holds; a report that is missing is written."""
    if not (folder.path / "report.html").is_file():
        from lapwing.report.page import write_report

        write_report(folder.path)
    transfer = {
        path.stem.removeprefix("evaluation_"): read_json(path) for path in sorted(folder.path.glob("evaluation_*.json"))
    }
    return Run(folder.path, read_json(folder.evaluation), transfer, folder.read_manifest().get("start_from"))


def on_first(team: Any, call: Callable[[], Any], what: str) -> Any:
    """Do what one process of a run must do for all of them.

    Args:
      team: the processes; None for this one alone.
      call: what to do.
      what: is done, for error messages.
    """
    return call() if team is None else team.on_first(call, what)
