"""Transcripts made elsewhere, read into a batch: our episodes, and the dumps of TRL, verl and verifiers."""

from lapwing.evaluation.transcripts.builder import ShownEpisode, ShownStep, Transcripts
from lapwing.evaluation.transcripts.read import FORMATS, VIEWS, read_transcripts

__all__ = ["FORMATS", "VIEWS", "ShownEpisode", "ShownStep", "Transcripts", "read_transcripts"]
