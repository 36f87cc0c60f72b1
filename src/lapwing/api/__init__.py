"""The Python interface: what the command line can do, as functions."""

from lapwing.api.playing import LoadedPolicy, evaluate, load, play
from lapwing.api.training import Run, resume, train

__all__ = ["LoadedPolicy", "Run", "evaluate", "load", "play", "resume", "train"]
