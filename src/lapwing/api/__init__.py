"""The Python interface: what the command line can do, as functions."""

from lapwing.api.audit import audit
from lapwing.api.comparison import Comparison, compare
from lapwing.api.cross_play import cross_play
from lapwing.api.exploiting import exploit
from lapwing.api.export import export
from lapwing.api.gymnasium_env import to_gymnasium
from lapwing.api.playing import LoadedPolicy, evaluate, load, play
from lapwing.api.score import Score, score
from lapwing.api.training import Run, resume, train
from lapwing.games.adapters.gymnasium import from_gymnasium
from lapwing.games.adapters.pettingzoo import from_pettingzoo, to_pettingzoo

__all__ = [
    "Comparison",
    "LoadedPolicy",
    "Run",
    "Score",
    "audit",
    "compare",
    "cross_play",
    "evaluate",
    "exploit",
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
