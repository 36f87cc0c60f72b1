"""The command line."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import typer

from lapwing.cli import authoring, training, viewing
from lapwing.cli.options import app
from lapwing.core.clean_text import printable
from lapwing.core.errors import LapwingError, UserError

__all__ = ["app", "authoring", "main", "training", "viewing"]


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
