"""The commands that train, measure and compare."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lapwing.cli.options import AllowCode, Json, Quiet, Recipe, RunPath, Sets, TrustRemoteCode, app, put
from lapwing.core.errors import UserError


@app.command()
def train(
    recipe: Recipe,
    settings: Sets = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run, new or empty.")] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
    start_from: Annotated[
        Path | None, typer.Option("--from", help="An earlier run whose last weights the main stage begins with.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Check the recipe, show it with every default and what it takes, and stop.")
    ] = False,
    mirrors: Annotated[
        list[str] | None,
        typer.Option(
            "--mirror", metavar="NAME", help="Copy the metrics to tensorboard, wandb or trackio; may be repeated."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    allow_code: AllowCode = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Train a recipe, evaluate the result, write a report."""
    given = {
        "run": run,
        "seed": seed,
        "overrides": settings or [],
        "start_from": start_from,
        "allow_code": allow_code or [],
        "mirrors": mirrors or [],
    }
    if dry_run:
        if as_json or quiet:
            raise UserError("--dry-run prints a recipe in TOML and runs nothing; leave --json and --quiet out.")
        from lapwing.api.dry_run import dry_run as look_ahead

        put(look_ahead(recipe, **given))
        return
    from lapwing.console import reporter

    with reporter(quiet=quiet, as_json=as_json) as progress:
        progress.greet(recipe)
        # Seconds, after the first line.
        from lapwing import api

        finished = api.train(recipe, trust_remote_code=trust_remote_code, watch=progress.watch, **given)
    progress.conclude(finished)


@app.command()
def resume(
    run: RunPath,
    accept_changes: Annotated[
        bool, typer.Option(help="Go on though the run's recipe.toml, or a file that it names, has changed.")
    ] = False,
    anew: Annotated[bool, typer.Option(help="Train from the beginning if no checkpoint can be used any more.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    allow_code: AllowCode = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Continue an interrupted run to its end."""
    from lapwing.console import reporter
    from lapwing.training.run_folder import RunFolder

    was_finished = RunFolder.open(run).read_manifest().get("status") == "finished"
    with reporter(quiet=quiet, as_json=as_json) as progress:
        progress.greet(str(run))
        from lapwing import api

        finished = api.resume(
            run,
            watch=progress.watch,
            allow_code=allow_code or [],
            trust_remote_code=trust_remote_code,
            accept_changes=accept_changes,
            anew=anew,
        )
    if was_finished and not accept_changes and not as_json:
        put(f"{run} has finished already; nothing was done. Its report: {run / 'report.html'}")
    else:
        progress.conclude(finished)


@app.command("eval")
def evaluate(
    what: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, a Hugging Face folder, or a hub id.")],
    game: Annotated[str | None, typer.Option(help="Another game for the same weights.")] = None,
    settings: Sets = None,
    episodes: Annotated[int, typer.Option(help="Number of test matches.")] = 500,
    seed: Annotated[int | None, typer.Option(help="Of the matches.")] = None,
    baselines: Annotated[bool, typer.Option(help="Measure random, heuristic and optimal play too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    allow_code: AllowCode = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Measure a run or a model on test matches."""
    from lapwing import api
    from lapwing.console import show_evaluation

    result = api.evaluate(
        what,
        game=game,
        overrides=settings or [],
        episodes=episodes,
        seed=seed,
        baselines=baselines,
        allow_code=allow_code or [],
        trust_remote_code=trust_remote_code,
    )
    if as_json:
        put(json.dumps(result, indent=2, allow_nan=False))
    else:
        show_evaluation(result)


@app.command()
def compare(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE…", help="Two or more recipes, by name or by path.")],
    seeds: Annotated[int, typer.Option(help="Every recipe is trained with the seeds 0 … N − 1.")],
    run: Annotated[
        Path | None, typer.Option(help="Folder of the comparison; one of an earlier comparison is gone on with.")
    ] = None,
    settings: Sets = None,
    measure: Annotated[
        str | None, typer.Option(help="success, score or return; the first that the game has if left out.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at once; the number of cores if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; progress goes to stderr.")] = False,
    allow_code: AllowCode = None,
) -> None:
    """Train recipes with the same seeds and say which is better, if the seeds can tell."""
    import contextlib

    from lapwing.console import ComparisonProgress, show_comparison

    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        ComparisonProgress() as progress,
    ):
        progress.greet(", ".join(recipes))
        from lapwing import api

        finished = api.compare(
            recipes,
            seeds=seeds,
            run=run,
            overrides=settings or [],
            measure=measure,
            workers=workers,
            allow_code=allow_code or [],
            watch=progress.watch,
        )
    if as_json:
        put(json.dumps(finished.result, indent=2, allow_nan=False))
    else:
        show_comparison(finished)


@app.command()
def audit(
    what: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="A recipe (after its warm start) or a run.")],
    methods: Annotated[str | None, typer.Option(help="Credit methods, separated by commas; all if left out.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Group sizes, separated by commas; 8, 32, 128 and the recipe's if left out.")
    ] = None,
    episodes: Annotated[int, typer.Option(help="How many are played.")] = 4096,
    settings: Sets = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="SECTION.KEY=VALUE,…", help="Audit once for each value; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; progress goes to stderr.")] = False,
    allow_code: AllowCode = None,
) -> None:
    """Hold every credit method against the exact answer, on the same episodes."""
    import contextlib

    from lapwing.console import Progress, show_audit

    sizes = None if groups is None else [_whole_number("--groups", part) for part in groups.split(",")]
    names = None if methods is None else [part.strip() for part in methods.split(",")]
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(), Progress() as progress:
        progress.greet(what)
        from lapwing import api

        result = api.audit(
            what,
            methods=names,
            groups=sizes,
            episodes=episodes,
            overrides=settings or [],
            vary=vary or [],
            allow_code=allow_code or [],
            watch=progress.watch,
        )
    if as_json:
        put(json.dumps(result, indent=2, allow_nan=False))
    else:
        show_audit(result)


@app.command()
def exploit(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|RECIPE|POLICY",
            help="A run, a recipe (after its warm start), or random, heuristic, scripted, optimal.",
        ),
    ],
    game: Annotated[str | None, typer.Option(help="What such a policy plays, or another game for a run.")] = None,
    checkpoints: Annotated[str, typer.Option(help="Of a run: last, or all that were kept.")] = "last",
    settings: Sets = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; progress goes to stderr.")] = False,
    allow_code: AllowCode = None,
) -> None:
    """Compute exactly what a best response gains against a policy that plays all seats of a game."""
    import contextlib

    from lapwing.console import Progress, show_exploitability

    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(), Progress() as progress:
        progress.greet(what)
        from lapwing import api

        result = api.exploit(
            what,
            game=game,
            checkpoints=checkpoints,
            overrides=settings or [],
            allow_code=allow_code or [],
            watch=progress.watch,
        )
    if as_json:
        put(json.dumps(result, indent=2, allow_nan=False))
    else:
        show_exploitability(result)


def _whole_number(option: str, text: str) -> int:
    if not text.strip().isdecimal():
        raise UserError(f"{option} takes whole numbers separated by commas, not '{text.strip()}'.")
    return int(text)
