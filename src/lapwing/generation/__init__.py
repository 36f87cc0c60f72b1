"""Generators: contexts to sampled replies with log-probabilities."""
