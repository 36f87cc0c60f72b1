"""Measure a policy on matches it never trained on."""
