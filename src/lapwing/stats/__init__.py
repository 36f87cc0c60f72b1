"""Intervals and summaries."""
