"""Lapwing post-trains language models into agents that decide well over many steps."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lapwing.api import (
        Comparison,
        Run,
        compare,
        cross_play,
        evaluate,
        export,
        from_gymnasium,
        from_pettingzoo,
        load,
        play,
        resume,
        score,
        to_gymnasium,
        to_pettingzoo,
        train,
    )

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "Run",
    "__version__",
    "compare",
    "cross_play",
    "evaluate",
    "export",
    "from_gymnasium",
    "from_pettingzoo",
    "load",
    "play",
    "resume",
    "score",
    "to_gymnasium",
    "to_pettingzoo",
    "train",
]


def __getattr__(name: str) -> Any:
    # Imports cost seconds, so that the interface is loaded at its first use.
    if name in __all__:
        from lapwing import api

        return getattr(api, name)
    raise AttributeError(f"module 'lapwing' has no attribute '{name}'")
