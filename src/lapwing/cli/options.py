"""What all commands share: the application, and options that several of them have."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lapwing import __version__
from lapwing.core.clean_text import printable

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
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the verdict and the paths at the end, and nothing else.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line: all that happens, then the result.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model. It can do anything.")
]


def put(text: str) -> None:
    """Write a text and a newline to stdout at once."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def _version(value: bool) -> None:
    if value:
        put(f"lapwing {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
