"""Documentation in the code that cannot rot: docstrings and registered metrics; tests/docs looks at the pages."""

import ast
import functools
import re
from pathlib import Path

from lapwing.core.storage import read_json_lines
from lapwing.training.metrics import METRICS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lapwing"


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text("utf-8"))


def public(body, prefix):
    """Public functions, classes and their methods with their address."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield f"{prefix}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}.{node.name}")


def test_everything_public_has_a_docstring():
    missing = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = tree_of(path)
        name = str(path.relative_to(SOURCE))
        found = [(name, tree), *public(tree.body, name)]
        missing += [address for address, node in found if not ast.get_docstring(node)]
    assert missing == []


def test_every_docstring_begins_with_a_sentence():
    for path in sorted(SOURCE.rglob("*.py")):
        for address, node in public(tree_of(path).body, str(path.relative_to(SOURCE))):
            first = (ast.get_docstring(node) or "").partition("\n\n")[0].rstrip()
            assert first.endswith((".", "?", ":")), f"{address}: {first!r}"


# ---------------------------------------------------------------------------------------------------------------------
# Metrics.

METRIC = re.compile(r"(rollout|collector|sampler|selection|policy|update|critic|evaluation|time)/([a-z_]+(:<[a-z]+>)?)")
# Amounts of one iteration, which become totals before they are logged.
INTERNAL = re.compile(r"rollout/new_[a-z]+")
# What `columns.py` names are rooms and files.
ROOMS = {f"{path.parent.name}/{path.stem}" for path in SOURCE.rglob("*.py")}


def test_every_metric_that_the_code_names_is_registered():
    named = {
        node.value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if METRIC.fullmatch(node.value) and not INTERNAL.fullmatch(node.value)
    }
    assert named - set(METRICS) - ROOMS == set()


def test_every_registered_metric_has_a_unit_and_a_meaning():
    for name, metric in METRICS.items():
        assert METRIC.fullmatch(name)
        assert metric.unit
        assert len(metric.meaning.split()) >= 3, name


def test_every_registered_metric_is_logged_by_some_run(small_run):
    logged = {name for row in read_json_lines(small_run / "metrics.jsonl") for name in row}
    # Games without a notion of success have a score instead, and no lake has, nor has it named parts of the reward;
    # tests/training/test_critic.py has those of critics, tests/distributed/test_ray_collector.py those of actors, and
    # tests/samplers those of samplers that review.
    elsewhere = {"evaluation/part:<name>", "rollout/part:<name>", "rollout/stale"}
    elsewhere |= {f"evaluation/{name}{bound}" for name in ("score", "not_lost") for bound in ("", "_low", "_high")}
    # One player alone has no other seats; tests/build/test_seats.py has those of several.
    elsewhere |= {name for name in METRICS if name.startswith(("rollout/seat_", "rollout/past_"))}
    assert {
        name for name in set(METRICS) - logged if not name.startswith(("critic/", "collector/", "sampler/"))
    } <= elsewhere
