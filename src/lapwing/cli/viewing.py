"""The commands that look at what is there: transcripts, games, episodes, reports, names, this machine."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lapwing.cli.options import AllowCode, RunPath, Sets, TrustRemoteCode, app, put


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
    allow_code: AllowCode = None,
) -> None:
    """Play a game yourself."""
    from lapwing.console import play_at_terminal

    play_at_terminal(game, settings or [], seed, max_steps, allow_code or [])


@app.command("cross-play")
def cross_play(
    players: Annotated[
        list[str],
        typer.Argument(metavar="PLAYER…", help="Runs, checkpoints of runs, random, heuristic, scripted, optimal."),
    ],
    game: Annotated[str, typer.Option(help="A game of two players.")],
    matches: Annotated[int, typer.Option(help="Of each pair in each seating.")] = 100,
    settings: Sets = None,
    seed: Annotated[int, typer.Option(help="Of the matches.")] = 1_000_003,
    max_steps: Annotated[int, typer.Option(help="A match is cut after so many steps.")] = 100,
    anchor: Annotated[
        str | None, typer.Option(help="Whose rating is 1000; random if it plays, else the first.")
    ] = None,
    greedy: Annotated[bool, typer.Option(help="Models reply with their most probable tokens.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    allow_code: AllowCode = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Let everybody play everybody in every seat, and rate them by Elo."""
    from lapwing import api
    from lapwing.console import show_cross_play

    result = api.cross_play(
        players,
        game=game,
        matches=matches,
        overrides=settings or [],
        seed=seed,
        max_steps=max_steps,
        anchor=anchor,
        greedy=greedy,
        allow_code=allow_code or [],
        trust_remote_code=trust_remote_code,
    )
    if as_json:
        put(json.dumps(result, indent=2, allow_nan=False))
    else:
        show_cross_play(result)


@app.command()
def watch(
    run: RunPath,
    pick: Annotated[str, typer.Option(help="best, worst, failed, longest or random.")] = "best",
    policy: Annotated[str | None, typer.Option(help="trained or untrained: whose episodes.")] = None,
    credit: Annotated[str | None, typer.Option(help="The credit method whose advantages are shown.")] = None,
    iteration: Annotated[int | None, typer.Option(help="Recorded training episodes of this iteration.")] = None,
    delay: Annotated[float, typer.Option(help="Seconds between two boards, at a terminal.")] = 0.7,
    step: Annotated[bool, typer.Option("--step", help="Wait for the return key after each board.")] = False,
) -> None:
    """Replay an episode of a run, board by board."""
    from lapwing.console import watch_at_terminal

    watch_at_terminal(run, pick=pick, policy=policy, credit=credit, iteration=iteration, delay=delay, step=step)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False) -> None:
    """Print what a bug report needs; nothing is asked of the network, and no secret is shown."""
    from lapwing.api.doctor import diagnose
    from lapwing.console import show_diagnosis

    found = diagnose()
    if as_json:
        put(json.dumps(found, indent=2, allow_nan=False))
    else:
        show_diagnosis(found)


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
    allow_code: AllowCode = None,
) -> None:
    """Give a run or a model an OpenAI-compatible endpoint, until Ctrl-C."""
    from lapwing.api.serving import serve as serve_until_signal

    raise typer.Exit(
        serve_until_signal(
            what,
            host=host,
            port=port,
            token_env=token_env,
            has_token=not no_token,
            greedy=greedy,
            allow_code=allow_code or [],
        )
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
    allow_code: AllowCode = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a run's model as a folder that other tools load, with a model card."""
    from lapwing.api.export import export as write

    written = write(
        run,
        folder,
        adapter=adapter,
        push=push,
        public=public,
        allow_code=allow_code or [],
        trust_remote_code=trust_remote_code,
    )
    put(str(written))


@app.command()
def report(
    run: RunPath,
    replay: Annotated[bool, typer.Option("--replay", help="Play the episodes of the replay anew first.")] = False,
    allow_code: AllowCode = None,
) -> None:
    """Write the report page of a run again."""
    from lapwing.report.page import write_report
    from lapwing.training.run_folder import RunFolder

    folder = RunFolder.open(run).path
    if replay:
        from lapwing.api.replay import remake_replay

        remake_replay(folder, allow_code=allow_code or [])
    put(str(write_report(folder)))


@app.command("list")
def list_names(
    what: Annotated[
        str, typer.Argument(help="recipes, methods, games, credit, selection, filters, losses, samplers, …")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
    long: Annotated[bool, typer.Option("--long", help="With source and provenance, or where it lives.")] = False,
) -> None:
    """List what can be named in a recipe, and the published methods with their state."""
    from lapwing.console import listing

    rows = listing(what)
    if as_json:
        put(json.dumps(rows, indent=2, allow_nan=False))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        put(f"{row['name']:<{width}}  {row['summary']}")
        for text in _further(row) if long else ():
            put(f"{'':<{width}}  {text}")


def _further(row: Mapping[str, Any]) -> Iterator[str]:
    """What `list --long` says of a name below its line."""
    if row.get("state"):
        yield f"{row['state']}: {', '.join(row['where']) or row['reason']}"
    if row.get("provenance"):
        yield f"Provenance: {row['provenance']}"
    if row.get("source"):
        yield f"Source: {row['source']}"
