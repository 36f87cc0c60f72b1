"""What went wrong in a run and what was done about it; whether the run repeats to the last bit, and if not, why."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.report.series import MAIN, Rows
from lapwing.training.metrics import METRICS

_LONGEST_EXAMPLE = 300
# More would be a page of their own.
_MOST_KINDS, _MOST_RESUMES, _MOST_TEXTS = 20, 20, 5
_KINDS = {
    "game": "match left out: its game failed twice",
    "update": "update left out",
    "rollback": "weights put back",
    "sampling": "sampling with damaged weights",
}
# Counted in every iteration, and since the stage began.
_EACH = ("rollout/dropped", "rollout/failed", "rollout/reissued", "update/nonfinite", "update/out_of_memory")
_SINCE = (
    *("rollout/stale", "collector/deaths", "collector/recycled", "collector/slow", "collector/reissued"),
    "collector/duplicates",
)


class Section(NamedTuple):
    """The faults of a run on its page.

    Attributes:
      kinds: of faults.jsonl: what, how often, first and last iteration, an example.
      counts: of the metrics: what, how many, first and last iteration.
      resumes: one sentence for each time the run was resumed.
      is_exact: whether the run repeats bit for bit; None where nobody can tell.
      exactness: on which conditions it does, or why not, a sentence each.
    """

    kinds: list[list[str]]
    counts: list[list[str]]
    resumes: list[str]
    is_exact: bool | None
    exactness: list[str]


def faults_section(
    faults: Rows, rows: Rows, manifest: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]
) -> Section:
    """Everything that the page says of what went wrong.

    Args:
      faults: the lines of faults.jsonl.
      rows: the lines of metrics.jsonl, of all stages.
      manifest: the object of manifest.json; empty where there is none.
      stages: of the resolved recipe.
    """
    reasons = _reasons(rows, manifest, stages)
    if not manifest:
        is_exact, said = None, ["There is no manifest.json that says how it was trained."]
    elif reasons:
        is_exact, said = False, reasons
    else:
        is_exact, said = True, [_promise(manifest)]
    return Section(_kinds(faults), _counts(rows), _resumes(manifest), is_exact, said)


def _kinds(faults: Rows) -> list[list[str]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for fault in faults:
        kind = str(fault.get("kind", "unknown"))
        what = f"alarm: {fault.get('alarm', '?')}" if kind == "alarm" else _KINDS.get(kind, kind)
        groups.setdefault(what, []).append(fault)
    return [
        [_cut(what, 60), f"{len(found):,}", _where(found[0]), _where(found[-1]), _cut(str(found[0].get("text", "")))]
        for what, found in list(groups.items())[:_MOST_KINDS]
    ]


def _where(row: Mapping[str, Any]) -> str:
    """An iteration, with its stage where that is not the main one."""
    stage, iteration = row.get("stage", MAIN), row.get("iteration", "?")
    return f"{iteration}" if stage == MAIN else _cut(f"{iteration} of {stage}", 60)


def _counts(rows: Rows) -> list[list[str]]:
    found = []
    for name in (*_EACH, *_SINCE):
        for stage in dict.fromkeys(row["stage"] for row in rows):
            of_stage = [row for row in rows if row["stage"] == stage and row.get(name) is not None]
            amounts = np.array([row[name] for row in of_stage], dtype=np.float64)
            if name in _SINCE:
                # What is counted by a process begins anew where the run was resumed.
                grown = np.diff(amounts, prepend=0.0)
                amounts = np.where(grown < 0, amounts, grown)
            places = np.flatnonzero(amounts > 0)
            if len(places):
                first, last = _where(of_stage[places[0]]), _where(of_stage[places[-1]])
                unit, meaning = METRICS[name].unit, METRICS[name].meaning
                found.append([f"{unit}: {_brief(meaning)}", f"{amounts.sum():,.0f}", first, last])
    return found


def _brief(meaning: str) -> str:
    return meaning.removesuffix(", since the stage began")


def _resumes(manifest: Mapping[str, Any]) -> list[str]:
    resumes = manifest.get("resumes", [])
    if not resumes:  # of a version that did not keep them
        resumes = [{"iteration": at} for at in manifest.get("resumed_at", [])]
    said = [_resume(one) for one in resumes[:_MOST_RESUMES]]
    more = len(resumes) - len(said)
    return [*said, f"And {more} more times; see manifest.json."] if more else said


def _resume(one: Mapping[str, Any]) -> str:
    stage = one.get("stage", MAIN)
    parts = [f"Resumed at iteration {one.get('iteration', '?')} of {stage}"]
    lines = one.get("cut_lines", 0) + one.get("cut_half_lines", 0)
    if lines:
        parts.append(f"{lines} line{'s' if lines > 1 else ''} of the logs had no checkpoint and were made again")
    if one.get("leftovers"):
        parts.append("half-written folders of the process before were removed")
    for name, why in list(one.get("skipped", {}).items())[:_MOST_TEXTS]:
        parts.append(f"checkpoint {name} was skipped ({'; '.join(map(str, why))})")
    parts += [f"changed: {text}" for text in one.get("changes", [])[:_MOST_TEXTS]]
    parts += list(one.get("warnings", [])[:_MOST_TEXTS])
    return "; ".join(_cut(str(part)) for part in parts) + "."


def _promise(manifest: Mapping[str, Any]) -> str:
    threads = manifest.get("threads")
    counted = "" if threads is None else f", {threads} thread{'' if threads == 1 else 's'}"
    ranks = manifest.get("ranks", [1])[-1:] or [1]
    several = "" if ranks == [1] else f", {ranks[0]} ranks"
    return (
        f"With this recipe, these versions{counted}{several} and a processor of the same kind it can be trained again, "
        "or killed and resumed, and ends with the same weights, metrics and episodes."
    )


def _reasons(rows: Rows, manifest: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why a run is not promised to repeat to the last bit, a sentence each."""
    found = [*_of_resumes(manifest), *_of_place(manifest, stages), *_of_parts(stages), *_of_play(rows, stages)]
    return list(dict.fromkeys(_cut(text) for text in found))


def _of_resumes(manifest: Mapping[str, Any]) -> Iterator[str]:
    ranks = manifest.get("ranks", [])
    if len(set(ranks)) > 1:
        yield f"It was trained by {', then '.join(map(str, ranks))} ranks: with another number sums have another order."
    for one in manifest.get("resumes", []):
        at = one.get("iteration", "?")
        for text in one.get("warnings", [])[:_MOST_TEXTS]:
            yield f"At iteration {at}, {text}."
        if one.get("changes"):
            yield f"Its recipe, or a file that it names, was changed when it was resumed at iteration {at}."


def _of_place(manifest: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    device = manifest.get("device")
    if device is None:
        wanted = {str(stage.get("model", {}).get("device", "cpu")) for stage in stages}
        # A run of an older version; a torch for the CPU alone has no other device.
        could = not str(manifest.get("versions", {}).get("torch", "")).endswith("+cpu")
        if wanted - {"cpu"} and could:
            yield "It may have been trained on a GPU, whose kernels sum in an order of their own."
    elif not str(device).startswith("cpu"):
        yield f"It was trained on {device}: kernels of a GPU sum in an order of their own."
    if manifest.get("start_from"):
        yield f"It began with the weights of another run, {manifest['start_from']}, which its recipe does not name."


def _of_parts(stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for name in dict.fromkeys(_names(stages)):
        if name == "openai_api":
            yield "Replies came from a model behind an API, which need not say the same twice."
        elif ":" in name:
            yield (
                f"{name} is code of its own: the promise holds if it is a function of its seed and its settings, which "
                "lapwing check-game finds out for games."
            )


def _names(value: Any) -> Iterator[str]:
    """The names of all things that a recipe names."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "name" and isinstance(inner, str):
                yield inner
            else:
                yield from _names(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _names(inner)


def _of_play(rows: Rows, stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    collectors = [stage.get("collector", {}) for stage in stages]
    collectors = [one for one in collectors if isinstance(one, Mapping)]
    if any(one.get("ahead") for one in collectors):
        yield (
            "An iteration was played ahead: a run that a signal stops between two regular checkpoints plays the next "
            "one with newer weights."
        )
    lost = any((row.get(name) or 0) > 0 for row in rows for name in ("rollout/dropped", "collector/deaths"))
    if lost and any(one.get("name") in ("isolated", "ray") for one in collectors):
        yield "Matches were cut, or workers were lost: how far a match comes before a deadline depends on the machine."


def _cut(text: str, most: int = _LONGEST_EXAMPLE) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
