"""The model card of an exported model, filled in from the files of its run."""

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lapwing.core.clean_text import printable
from lapwing.core.errors import UserError
from lapwing.core.storage import read_json
from lapwing.report.verdict import HEADLINES, interval_text, label, matches, ordered_policies, verdict

# What Markdown and HTML read as their own.
_SYNTAX = re.compile(r"([\\`*_{}\[\]<>#!|&~]|(?<=\])\()")
_TUNING = ("learning_rate", "betas", "weight_decay", "clip_norm", "epochs", "minibatches")


def model_card(run_folder: Path, *, name: str, adapter: bool) -> str:
    """The card of a run's model as Markdown with a YAML head; a line that nothing is known for is left out.

    Args:
      run_folder: the folder of a finished run.
      name: of the exported model.
      adapter: the export is a PEFT adapter and no whole model.

    Raises:
      UserError: the run has not been evaluated, so that a card could claim nothing.
    """
    evaluation_file = run_folder / "evaluation.json"
    if not evaluation_file.is_file():
        raise UserError(f"{run_folder} has no evaluation yet; let it finish first: lapwing resume {run_folder}")
    evaluation = read_json(evaluation_file)
    manifest = read_json(run_folder / "manifest.json")
    recipe = tomllib.loads((run_folder / "recipe.toml").read_text("utf-8"))
    main = recipe["stage"][-1]
    sections = [
        _head(evaluation, main, name=name, adapter=adapter),
        f"# {_plain(name)}",
        _plain(verdict(evaluation).sentence),
        _scores(evaluation),
        _how(manifest, recipe, main),
        "## Limits\n\n"
        f"It was trained and measured on one game, `{_code(evaluation['game'])}`, with one seed. Nothing is known "
        "about its behaviour in any other task, nor about its safety as an assistant.",
        _repeat(manifest, recipe),
    ]
    return "\n\n".join(sections) + "\n"


def _head(evaluation: Mapping[str, Any], main: Mapping[str, Any], *, name: str, adapter: bool) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    measures = evaluation["policies"]["trained"]
    headline = next(key for key in HEADLINES if measures.get(key))
    base = main["model"]["name"]
    data = ModelCardData(
        # A folder of this machine is nobody's base model.
        base_model=base if base != "tiny" and not Path(base).is_dir() else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["reinforcement-learning", "lapwing", evaluation["game"]],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="reinforcement-learning",
                task_name=f"{evaluation['episodes']} test matches, seed {evaluation['seed']}",
                dataset_type=evaluation["game"],
                dataset_name=evaluation["game"],
                metric_type=headline,
                metric_name=f"{headline}, 95 % interval {interval_text(measures[headline])}",
                metric_value=measures[headline]["mean"],
            )
        ],
    )
    return f"---\n{printable(data.to_yaml())}\n---"


def _scores(evaluation: Mapping[str, Any]) -> str:
    policies = ordered_policies(evaluation)
    shown = [key for key in HEADLINES if any(measures.get(key) for measures in policies.values())]
    rows = [
        [label(policy), *(interval_text(measures[key]) if measures.get(key) else "–" for key in shown)]
        for policy, measures in policies.items()
    ]
    note = f"Over {matches(evaluation)} (seed {evaluation['seed']}), means with 95 % intervals."
    return f"## Scores\n\n{_plain(note)}\n\n{_table(['policy', *shown], rows)}"


def _how(manifest: Mapping[str, Any], recipe: Mapping[str, Any], main: Mapping[str, Any]) -> str:
    optimizer = main.get("optimizer", {})
    known = {
        "recipe": recipe["name"],
        "training seed": recipe["seed"],
        "parameters": f"{manifest['parameters']:,}" if "parameters" in manifest else None,
        "LoRA": ", ".join(f"{key} {value}" for key, value in main["model"].get("lora", {}).items()) or None,
        "iterations": main["iterations"],
        "credit": main.get("credit", {}).get("name"),
        "selection": main.get("selection", {}).get("name"),
        "loss": main.get("loss", {}).get("name"),
        **{key.replace("_", " "): optimizer.get(key) for key in _TUNING},
        "Lapwing": manifest.get("lapwing"),
        "commit": manifest.get("commit"),
        **manifest.get("versions", {}),
        "resumed at iteration": ", ".join(map(str, manifest.get("resumed_at", []))) or None,
    }
    rows = [[key, str(value)] for key, value in known.items() if value is not None]
    return f"## How it was trained\n\n{_table(['', ''], rows)}"


def _repeat(manifest: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    further = ""
    if manifest.get("start_from"):
        further = " The run began with the weights of another run, which the recipe alone does not repeat."
    command = shlex.join(["lapwing", "train", "recipe.toml", "--seed", str(recipe["seed"])])
    return f"## Repeat it\n\nThe resolved recipe is in this folder as `recipe.toml`.{further}\n\n```\n{command}\n```"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    escaped = [[cell if cell == "---" else _plain(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no links, one line."""
    return _SYNTAX.sub(r"\\\1", " ".join(printable(text).split()))


def _code(text: str) -> str:
    """Text between backticks, which an empty line would end as well."""
    return " ".join(printable(text).replace("`", "'").split())
