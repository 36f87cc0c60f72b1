"""Whatever a run tells its watcher, its mirrors are told too."""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lapwing.api.finishing import Run, Watcher
from lapwing.report.mirrors import Mirrors, about_run, check_mirrors
from lapwing.training.run_folder import Onlooker, RunFolder


def mirrors_entry(names: Sequence[str]) -> dict[str, Any]:
    """What a manifest keeps of the mirrors: their names, and the identifier of the run there; nothing without any."""
    return {"mirrors": {"names": check_mirrors(names), "id": uuid.uuid4().hex[:12]}} if names else {}


@contextlib.contextmanager
def mirrored(
    folder: RunFolder, manifest: Mapping[str, Any], watch: Watcher
) -> Iterator[tuple[Watcher, Callable[[Run], Run]]]:
    """Mirror a run while it goes on, if its manifest says so; only the process that writes the run does.

    Args:
      folder, manifest: of the run.
      watch: is told everything, and in warnings what a mirror lost.

    Yields:
      What to tell everything to in its place, and what the finished run is to be handed through.
    """
    names = manifest.get("mirrors", {}).get("names", [])
    if not names or isinstance(folder, Onlooker):
        yield watch, lambda run: run
        return

    def say(text: str) -> None:
        watch({"event": "warning", "text": text})

    import tomllib

    text = folder.recipe.read_text("utf-8")
    about = about_run(folder.path, manifest, tomllib.loads(text), text)
    with Mirrors(_there(names, say), about, say) as mirrors:

        def tell(row: dict[str, Any]) -> None:
            if "event" not in row:
                mirrors.tell(row)
            elif row["event"] == "cached":
                for earlier in folder.read_metrics():
                    mirrors.tell(earlier)
            watch(row)

        def conclude(run: Run) -> Run:
            mirrors.conclude(run.evaluation, run.transfer)
            return run

        yield tell, conclude


def _there(names: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Those that can be used here: a run that is resumed elsewhere goes on without the others."""
    from lapwing.core.errors import UserError

    found = []
    for name in names:
        try:
            found += check_mirrors([name])
        except UserError as error:
            say(f"{error}; the run goes on without it")
    return found
