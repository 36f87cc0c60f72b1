"""What a person sees at the terminal: progress, the verdict and its table, games to play, episodes, lists."""

from lapwing.console.checking import check_at_terminal
from lapwing.console.cross_play import show_cross_play
from lapwing.console.diagnosis import show_diagnosis
from lapwing.console.exploitability import show_exploitability
from lapwing.console.listing import listing
from lapwing.console.playing import play_at_terminal
from lapwing.console.progress import ComparisonProgress, Progress
from lapwing.console.reporters import Reporter, reporter
from lapwing.console.results import show_audit, show_comparison, show_evaluation, show_result, show_score
from lapwing.console.watching import watch_at_terminal

__all__ = [
    "ComparisonProgress",
    "Progress",
    "Reporter",
    "check_at_terminal",
    "listing",
    "play_at_terminal",
    "reporter",
    "show_audit",
    "show_comparison",
    "show_cross_play",
    "show_diagnosis",
    "show_evaluation",
    "show_exploitability",
    "show_result",
    "show_score",
    "watch_at_terminal",
]
