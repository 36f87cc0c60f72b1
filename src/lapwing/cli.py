"""The command line."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lapwing import __version__
from lapwing.core.clean_text import printable
from lapwing.core.errors import LapwingError, UserError

app = typer.Typer(
    name="lapwing",
    help="Post-train language models into agents that decide well over many steps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Recipe = Annotated[
    str, typer.Argument(help="A shipped recipe (see `lapwing list recipes`) or the path of a TOML file.")
]
RunPath = Annotated[Path, typer.Argument(help="The folder of a run.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="[STAGE.]SECTION.KEY=VALUE", help="Change a setting; may be repeated."),
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option("--allow-code", metavar="PACKAGE", help="A package outside Lapwing whose code the recipe may name."),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model. It can do anything.")
]


def _print(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def _version(value: bool) -> None:
    if value:
        _print(f"lapwing {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


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
    allow_code: AllowCode = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Train a recipe, evaluate the result, write a report."""
    if dry_run:
        from lapwing.api.dry_run import dry_run as look_ahead

        _print(
            look_ahead(
                recipe,
                run=run,
                seed=seed,
                overrides=settings or [],
                start_from=start_from,
                allow_code=allow_code or [],
            )
        )
        return
    from lapwing import api
    from lapwing.console import Progress, show_result

    with Progress() as progress:
        progress.greet(recipe)
        finished = api.train(
            recipe,
            run=run,
            seed=seed,
            overrides=settings or [],
            start_from=start_from,
            allow_code=allow_code or [],
            trust_remote_code=trust_remote_code,
            watch=progress.watch,
        )
    show_result(finished)


@app.command()
def resume(
    run: RunPath,
    accept_changes: Annotated[
        bool, typer.Option(help="Go on though the run's recipe.toml, or a file that it names, has changed.")
    ] = False,
    anew: Annotated[bool, typer.Option(help="Train from the beginning if no checkpoint can be used any more.")] = False,
    allow_code: AllowCode = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Continue an interrupted run to its end."""
    from lapwing import api
    from lapwing.console import Progress, show_result
    from lapwing.training.run_folder import RunFolder

    was_finished = RunFolder.open(run).read_manifest().get("status") == "finished"
    if was_finished and not accept_changes:
        api.resume(run, allow_code=allow_code or [])
        _print(f"{run} has finished already; nothing was done. Its report: {run / 'report.html'}")
        return
    with Progress() as progress:
        progress.greet(str(run))
        finished = api.resume(
            run,
            watch=progress.watch,
            allow_code=allow_code or [],
            trust_remote_code=trust_remote_code,
            accept_changes=accept_changes,
            anew=anew,
        )
    show_result(finished)


@app.command("eval")
def evaluate(
    what: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, a Hugging Face folder, or a hub id.")],
    game: Annotated[str | None, typer.Option(help="Another game for the same weights.")] = None,
    settings: Sets = None,
    episodes: Annotated[int, typer.Option(help="Number of test matches.")] = 500,
    seed: Annotated[int | None, typer.Option(help="Of the matches.")] = None,
    baselines: Annotated[bool, typer.Option(help="Measure random, heuristic and optimal play too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
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
        trust_remote_code=trust_remote_code,
    )
    if as_json:
        _print(json.dumps(result, indent=2, allow_nan=False))
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
        _print(json.dumps(finished.result, indent=2, allow_nan=False))
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
            watch=progress.watch,
        )
    if as_json:
        _print(json.dumps(result, indent=2, allow_nan=False))
    else:
        show_audit(result)


def _whole_number(option: str, text: str) -> int:
    if not text.strip().isdecimal():
        raise UserError(f"{option} takes whole numbers separated by commas, not '{text.strip()}'.")
    return int(text)


@app.command()
def score(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A JSONL file (.gz too), a folder of them, or the folder of a run.")
    ],
    format: Annotated[str, typer.Option(help="auto, lapwing, trl, verl or verifiers.")] = "auto",
    methods: Annotated[str | None, typer.Option(help="Credit methods, separated by commas; all if left out.")] = None,
    modulation: Annotated[
        str | None, typer.Option(help="Modulations of grpo, separated by commas; all if left out, none for none.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.SETTING=VALUE", help="Change a setting; may be repeated."),
    ] = None,
    mapping: Annotated[
        list[str] | None, typer.Option("--map", metavar="FIELD=PLACE", help="Where the rows hold a field.")
    ] = None,
    views: Annotated[
        str, typer.Option(help="What a chat's assistant saw: last (messages since its last one) or history.")
    ] = "last",
    out: Annotated[Path | None, typer.Option(help="Folder for score.json and score.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Score transcripts made elsewhere by every credit method; no model is needed."""
    from lapwing import api
    from lapwing.console import show_score

    found = api.score(
        file,
        format=format,
        methods=_names(methods),
        modulations=_names(modulation),
        overrides=settings or [],
        mapping=mapping or [],
        views=views,
        out=out,
    )
    if as_json:
        sys.stdout.writelines(found.json_chunks())
    else:
        show_score(found, out)


def _names(text: str | None) -> list[str] | None:
    """Names between commas; "none" is the empty list."""
    return None if text is None else [] if text == "none" else [part.strip() for part in text.split(",")]


@app.command()
def play(
    game: Annotated[str, typer.Argument(help="A game, such as frozen_lake or snake.")],
    settings: Sets = None,
    seed: Annotated[int, typer.Option(help="Of the match.")] = 0,
    max_steps: Annotated[int, typer.Option(help="The match is cut after so many steps.")] = 100,
) -> None:
    """Play a game yourself."""
    from lapwing.console import play_at_terminal

    play_at_terminal(game, settings or [], seed, max_steps)


@app.command()
def serve(
    what: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, a Hugging Face folder, or a hub id.")],
    host: Annotated[str, typer.Option(help="Address to listen on; others reach only what you name.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    token_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable with the token; a random one if left out.")
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Answer everybody who reaches the port.")] = False,
    greedy: Annotated[bool, typer.Option(help="Answer with the most probable tokens.")] = False,
) -> None:
    """Give a run or a model an OpenAI-compatible endpoint, until Ctrl-C."""
    from lapwing.api.serving import serve as serve_until_signal

    raise typer.Exit(
        serve_until_signal(what, host=host, port=port, token_env=token_env, has_token=not no_token, greedy=greedy)
    )


@app.command()
def export(
    run: RunPath,
    folder: Annotated[Path, typer.Argument(help="Where to; new or empty.")],
    adapter: Annotated[bool, typer.Option(help="Of a run with LoRA the PEFT adapter alone, not merged.")] = False,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload the folder to this model on the Hugging Face hub.")
    ] = None,
    public: Annotated[bool, typer.Option(help="A repository that --push makes is visible to everybody.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a run's model as a folder that other tools load, with a model card."""
    from lapwing.api.export import export as write

    _print(str(write(run, folder, adapter=adapter, push=push, public=public, trust_remote_code=trust_remote_code)))


@app.command()
def report(run: RunPath) -> None:
    """Write the report page of a run again."""
    from lapwing.report.page import write_report
    from lapwing.training.run_folder import RunFolder

    _print(str(write_report(RunFolder.open(run).path)))


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help="recipes, games, credit, selection, filters, aggregation, losses, …")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List what can be named in a recipe."""
    from lapwing.console import listing

    rows = listing(what)
    if as_json:
        _print(json.dumps(rows, indent=2, allow_nan=False))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        _print(f"{row['name']:<{width}}  {row['summary']}")


def main() -> Any:
    """Entry point: exit code 0 done, 2 the input was wrong, 130 and 143 stopped by a signal, 1 a fault of ours."""
    from lapwing.training.interruption import Interrupted, StoppedAtOnce

    before = signal.signal(signal.SIGTERM, _terminated)
    if int(os.environ.get("RANK", "0")) > 0:
        # Of several processes that train together, rank 0 speaks for all; each still says what went wrong.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        return app(standalone_mode=False) or 0
    except typer.Exit as done:
        return done.exit_code
    except (Exception, KeyboardInterrupt, StoppedAtOnce) as error:
        sentence, code = _ending(error)
        if not code:
            raise
        # Of several processes that train together, one says that they were stopped.
        if not isinstance(error, Interrupted) or os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"lapwing: {printable(sentence)}\n")
        return code
    finally:
        signal.signal(signal.SIGTERM, before)


def _ending(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the exit code; 0 for one that nobody foresaw."""
    from lapwing.training.interruption import Interrupted, StoppedAtOnce

    if isinstance(error, Interrupted):
        return error.sentence, error.exit_code
    if isinstance(error, StoppedAtOnce):
        return "stopped at once; what was saved before is kept, and lapwing resume goes on from there.", error.exit_code
    if isinstance(error, LapwingError):
        return str(error), 2 if isinstance(error, UserError) else 1
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return "stopped by SIGINT.", 130
    # Typer raises its own errors for wrong options; they carry the message.
    show = getattr(error, "format_message", None)
    return ("", 0) if show is None else (show(), 2)


def _terminated(number: int, _: object) -> None:
    """SIGTERM where no session can stop at a safe point: while libraries load and during the evaluation."""
    from lapwing.training.interruption import Interrupted

    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main())
