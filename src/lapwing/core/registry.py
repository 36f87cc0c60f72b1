"""From a name in a recipe to the function or class that it means.

In most rooms file name = function name = recipe key: `lapwing/credit/grpo.py` holds `grpo`. In the rooms that keep
several things in one module, the key is the name of a public member of that module in snake case.
"""

import ast
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.errors import UserError, nearest, shown

_ROOT = Path(__file__).parent.parent

# Rooms with one method per file.
FOLDERS = (
    "annotate",
    "credit",
    "modulation",
    "selection",
    "filters",
    "shaping",
    "aggregation",
    "losses",
    "corrections",
    "preferences",
    "pairing",
    "games",
    "samplers",
)
# Names that several papers share, with what Lapwing calls each of them.
_AMBIGUOUS = {
    "apo": "'apo_asymmetric' (a loss: a KL penalty weighted by difficulty, View-R1), with the modulation 'stcr', and "
    "'a2fm_adaptive' (a shaping: adaptive policy optimisation of A²FM)",
    "dapo": "the system with clip-higher, whose recipe is 'frozen_lake_fixed_dapo', and 'direct_advantage' (a loss: "
    "Direct Advantage Policy Optimization)",
    "mpo": "'frozen_lake_fixed_mpo_mixed' (a recipe: Mixed Preference Optimization, with the pairing 'split_by_gap'); "
    "others of that name are not here",
    "rpo": "'rpo_dpo_sft' (a preference loss: DPO with a supervised term), and 'dr_rpo' (a credit: distributionally "
    "robust)",
    "p3o": "'p3o_pairwise' (a loss: Pairwise Proximal Policy Optimization); others of that name are not here",
}
_NOT_METHODS = {"games": {"game", "contract"}}
# Folders inside a room whose files count as the room's own.
_INSIDE = {"games": ("adapters",)}


class Entry(NamedTuple):
    """What `lapwing list` shows of a method."""

    name: str
    summary: str
    source: str
    level: str | None
    scope: str | None
    needs: tuple[str, ...]
    kind: str = ""
    provenance: str = ""


def names(folder: str) -> list[str]:
    """The methods that a folder holds, by listing it."""
    folders = (folder, *(f"{folder}/{inner}" for inner in _INSIDE.get(folder, ())))
    found = {path.stem for one in folders for path in (_ROOT / one).glob("*.py") if not path.stem.startswith("_")}
    return sorted(found - _NOT_METHODS.get(folder, set()))


def home(folder: str, name: str) -> Path:
    """The file that holds a method."""
    inner = [path for one in _INSIDE.get(folder, ()) if (path := _ROOT / folder / one / f"{name}.py").is_file()]
    return inner[0] if inner else _ROOT / folder / f"{name}.py"


def resolve(folder: str, name: str, *, allow_code: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Import the method that a recipe names.

    Args:
      folder: a room with one method per file, such as "credit".
      name: the method, or `my_pkg.my_file:my_method` for code outside Lapwing: installed, or in the current folder.
      allow_code: packages outside Lapwing whose code may be imported.

    Raises:
      UserError: there is no such method, or its package was not allowed.
    """
    if ":" in name:
        return _resolve_outside(name, allow_code)
    known = names(folder)
    refuse_ambiguous(name)
    if name not in known:
        raise UserError(f"There is no {shown(name)} in {folder}; {nearest(name, known)}")
    inside = home(folder, name).relative_to(_ROOT).with_suffix("")
    module = importlib.import_module(".".join(("lapwing", *inside.parts)))
    found = getattr(module, name, None) or getattr(module, class_name(name))
    return found


def refuse_ambiguous(name: str) -> None:
    """Raise if several papers gave their method this name.

    Args:
      name: as a recipe or a person says it.
    """
    if name in _AMBIGUOUS:
        raise UserError(f"{shown(name)} is the name of several methods: {_AMBIGUOUS[name]}.")


def _resolve_outside(name: str, allow_code: tuple[str, ...]) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    package = module_name.partition(".")[0]
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UserError(f"There is no {shown(name)}; code outside Lapwing is named as my_pkg.my_file:my_method.")
    if package not in allow_code:
        raise UserError(f"{shown(name)} is code outside Lapwing; allow it with --allow-code {package}.")
    try:
        _look_here()
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        # A module that this one imports is not the one that was named.
        where = f"no {package}.py in the current folder, and no package {package} is installed"
        why = where if error.name == package else str(error)
        raise UserError(f"{shown(name)} could not be imported: {why}.") from error
    except Exception as error:  # whatever that code does when it is imported
        raise UserError(f"{shown(name)} could not be imported: {type(error).__name__}: {error}.") from error
    if not callable(found):
        raise UserError(f"{shown(name)} is no function and no class, but {shown(found)}.")
    return found


def _look_here() -> None:
    """Let allowed code lie in the current folder; after all that is installed, so that nothing there is replaced."""
    here = os.getcwd()  # noqa: PTH109  (a text, as the others are)
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def class_name(name: str) -> str:
    """The class that a snake-case key stands for: frozen_lake → FrozenLake."""
    return "".join(part.capitalize() for part in name.split("_"))


def describe(folder: str, name: str) -> Entry:
    """Read a method's line, source and constants from its file without importing it."""
    tree = ast.parse(home(folder, name).read_text(encoding="utf-8"))
    constants: dict[str, Any] = {}
    docstring = ""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in {"NEEDS", "LEVEL", "SCOPE", "MERGEABLE"}:
                constants[node.targets[0].id] = ast.literal_eval(node.value)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in {name, class_name(name)}:
            docstring = ast.get_docstring(node) or ""
    return Entry(
        name=name,
        summary=docstring.partition("\n")[0],
        source=_paragraph(docstring, "Reference:"),
        level=constants.get("LEVEL"),
        scope=constants.get("SCOPE"),
        needs=tuple(constants.get("NEEDS", ())),
        kind=folder,
        provenance=_paragraph(docstring, "Provenance:", "Reference:"),
    )


def _paragraph(docstring: str, head: str, end: str = "") -> str:
    """What a docstring says after a head, up to a blank line or another head, in one line."""
    lines = inspect.cleandoc(docstring).splitlines()
    for number, line in enumerate(lines):
        if line.strip().startswith(head):
            text = [line.strip().removeprefix(head).strip()]
            for following in lines[number + 1 :]:
                if not following.strip() or (end and following.strip().startswith(end)):
                    break
                text.append(following.strip())
            return " ".join(text)
    return ""
