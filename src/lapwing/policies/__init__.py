"""Policies: renderer, generator and parser; and baselines that are no language models."""
