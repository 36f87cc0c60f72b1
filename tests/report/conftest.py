"""A run folder as a run writes it, small and made up."""

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tomli_w


def interval(mean: float, half: float = 0.02) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def policy(headline: float, *, success: bool = True, score: bool = False) -> dict[str, Any]:
    return {
        "success": interval(headline) if success else None,
        "score": interval(headline) if score else None,
        "return": interval(headline),
        "length": interval(6.0),
        "valid": interval(1.0, 0.0),
        "tokens_per_step": interval(1.0, 0.0),
    }


@pytest.fixture(scope="session")
def make_evaluation() -> Callable[..., dict[str, Any]]:
    """The object of `eval --json`: policy → headline mean, all with intervals of ± 0.02."""

    def make(*, success: bool = True, score: bool = False, **means: float) -> dict[str, Any]:
        policies = {name: policy(mean, success=success, score=score) for name, mean in means.items()}
        return {"game": "frozen_lake", "episodes": 500, "seed": 1_000_003, "policies": policies}

    return make


def row(stage: str, i: int, *, evaluated: bool) -> dict[str, Any]:
    success = 1 - math.exp(-i / 20)
    measured = {
        "evaluation/success": success,
        "evaluation/return": success,
        "evaluation/valid": 1.0,
        "time/evaluation": 0.6,
    }
    return {
        "stage": stage,
        "iteration": i,
        "rollout/return_mean": success - 0.01,
        "rollout/domain_return_mean": success,
        "rollout/success": success,
        "rollout/length": 6.0 + 4 * math.cos(i),
        "rollout/valid": 1 - 0.05 * math.exp(-i),
        "rollout/tokens_per_step": 1.0,
        "rollout/zero_spread_groups": success / 2,
        "rollout/dropped": 0,
        "rollout/episodes": 512.0 * (i + 1),
        "rollout/steps": 3_000.0 * (i + 1),
        "rollout/tokens": 3_000.0 * (i + 1),
        "selection/episodes": 256,
        "policy/entropy": 1.4 * math.exp(-i / 30),
        "policy/kl": 0.002 * (1 + math.sin(i)),
        "policy/clip_share": 0.03 * (1 + math.cos(i)),
        "update/loss": 2 * math.exp(-i / 10) + 1.4,
        "update/gradient_norm": 0.3 + math.exp(math.sin(i)),
        "update/count": 1.0,
        "update/skipped": 0.0,
        "time/play": 0.2,
        "time/credit": 0.01,
        "time/update": 0.15,
        "time/learning": 0.36 * (i + 1),
        **(measured if evaluated else {}),
    }


RECIPE = {
    "name": "frozen_lake_tiny",
    "seed": 0,
    "stage": [
        {"name": "warm_start", "iterations": 20, "loss": {"name": "negative_log_likelihood"}},
        {
            "name": "main",
            "iterations": 60,
            "credit": {"name": "grpo"},
            "evaluation": {"development_episodes": 200, "every": 10, "episodes": 500},
        },
    ],
}
MANIFEST = {
    "recipe": "frozen_lake_tiny",
    "seed": 0,
    "status": "finished",
    "lapwing": "0.1.0",
    "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
    "created": "2026-11-21T10:13:30+00:00",
    "commit": "9f3e267",
    "resumed_at": [],
    "parameters": 570_368,
    "seconds": {"warm_start": 9.0, "main": 21.6, "evaluation": 26.0, "total": 60.0},
    "warm_start_cached": True,
}


@pytest.fixture(scope="session")
def write_run(make_evaluation: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """Writes a run into a folder.

    Args of the function: `folder`; `iterations` of the main stage that are logged, None for no log at all; `manifest`
    and `recipe` entries that differ; `evaluation` of the run, or None; `transfer` by label.
    """

    def write(
        folder: Path,
        *,
        iterations: int | None = 60,
        manifest: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
        evaluation: dict[str, Any] | str | None = "default",
        transfer: dict[str, dict[str, Any]] | None = None,
    ) -> Path:
        folder.mkdir()
        if evaluation == "default":
            evaluation = make_evaluation(
                trained=0.9, trained_greedy=0.95, random=0.03, heuristic=0.66, optimal=0.98, untrained=0.06
            )
        (folder / "recipe.toml").write_text(tomli_w.dumps({**RECIPE, **(recipe or {})}), encoding="utf-8")
        (folder / "manifest.json").write_text(json.dumps({**MANIFEST, **(manifest or {})}), encoding="utf-8")
        if iterations is not None:
            rows = [row("warm_start", i, evaluated=False) for i in range(20)]
            rows += [row("main", i, evaluated=i % 10 == 9) for i in range(iterations)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        if evaluation is not None:
            (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
        for label, result in (transfer or {}).items():
            (folder / f"evaluation_{label}.json").write_text(json.dumps(result), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def make_run(tmp_path: Path, write_run: Callable[..., Path]) -> Callable[..., Path]:
    """`write_run` into a folder of the test, by its name."""

    def make(name: str = "run", **settings: Any) -> Path:
        return write_run(tmp_path / name, **settings)

    return make


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    """A finished run with its page; not to be changed."""
    from lapwing.report.page import write_report

    folder = write_run(tmp_path_factory.mktemp("report") / "run")
    write_report(folder)
    return folder


_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page as a browser would: its elements, identifiers, text; notes tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    @property
    def ids(self) -> list[str]:
        return [value or "" for name, value in self.attributes if name == "id"]


@pytest.fixture(scope="session")
def read() -> Callable[[Path], tuple[str, Page]]:
    """The page of a run as text and as its elements; it is written if there is none."""
    from lapwing.report.page import write_report

    def read_page(folder: Path) -> tuple[str, Page]:
        path = folder / "report.html"
        if not path.exists():
            assert write_report(folder) == path
        text = path.read_text(encoding="utf-8")
        return text, Page(text)

    return read_page
