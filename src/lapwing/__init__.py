"""Lapwing post-trains language models into agents that decide well over many steps."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lapwing.api import Run, evaluate, load, play, resume, train

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "evaluate", "load", "play", "resume", "train"]


def __getattr__(name: str) -> Any:
    # Imports cost seconds, so that the interface is loaded at its first use.
    if name in {"Run", "evaluate", "load", "play", "resume", "train"}:
        from lapwing import api

        return getattr(api, name)
    raise AttributeError(f"module 'lapwing' has no attribute '{name}'")
